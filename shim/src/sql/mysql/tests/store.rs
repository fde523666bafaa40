//! A store to write to.

use std::sync::Arc;

use bytes::Bytes;

use super::super::row::Cells;
use super::super::testing::database;
use super::super::{Tables, text};
use crate::endpoint::{Address, Layout};
use crate::engine::KeyValue;
use crate::engine::store::{Footprint, Row};
use crate::gc::Uid;
use crate::sql::session::{Begun, Commit as _, Delta, NewHead, Read as _, StoredRow};

/// An empty one.
pub(super) fn serve() -> Tables {
    Tables::serve(database(), Arc::default()).unwrap()
}

/// An empty one whose tables are divided.
pub(super) fn serve_as(layout: Layout) -> Tables {
    let address = Address { layout: Some(layout), ..Arc::unwrap_or_clone(database()) };
    Tables::serve(address.into(), Arc::default()).unwrap()
}

/// The head behind one more revision.
pub(super) fn next(begun: &Begun) -> NewHead {
    let (revision, batch) = (begun.head.revision + 1, begun.head.batch + 1);
    NewHead { revision, compact_revision: 0, now: begun.head.now, batch }
}

/// Commits a delta.
pub(super) fn commit(tables: &mut Tables, delta: &Delta<'_>) -> bool {
    let begun = tables.begin(&Footprint::default()).unwrap();
    tables.apply(delta, Some(&next(&begun))).unwrap()
}

/// Creates keys in a revision, each visible or not, or not readable, and with a UID or without.
pub(super) fn create(tables: &mut Tables, keys: &[(&str, Option<bool>, Option<&Uid>)]) {
    let begun = tables.begin(&Footprint::default()).unwrap();
    let head = next(&begun);
    let row = |(sub, (key, ..)): (usize, &(&str, Option<bool>, Option<&Uid>))| Row {
        kv: KeyValue {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(key.as_bytes()),
            create_revision: head.revision,
            mod_revision: head.revision,
            version: 1,
            lease: 0,
        },
        sub: sub as i64,
    };
    let rows: Vec<Row> = keys.iter().enumerate().map(row).collect();
    let stored = rows.iter().zip(keys);
    let stored = stored.map(|(row, (_, hidden, uid))| StoredRow {
        row,
        hidden: *hidden,
        uid: *uid,
        new_uid: uid.is_some(),
        old_lease: 0,
    });
    tables.apply(&Delta { created: stored.collect(), ..Delta::default() }, Some(&head)).unwrap();
}

/// `Connection::longest_value` reckons with that.
#[test]
fn a_byte_of_a_value_is_at_most_two_in_a_packet() {
    for byte in 0..=u8::MAX {
        let text = text::Bytes(&[byte; 100]).to_string();
        assert!(text.len() <= 210, "{byte}: {text}");
    }
}

/// Who moves a store compares all of another database with one snapshot.
#[test]
fn a_snapshot_beside_a_server_may_be_left_alone_for_long() {
    let address = database();
    drop(Tables::serve(address.clone(), Arc::default()).unwrap());
    let mut reader = Tables::read(address, Arc::default()).unwrap();
    reader.snapshot().unwrap();
    for limit in ["wait_timeout", "idle_transaction_timeout"] {
        let seconds = reader.connection.first("limit", format!("SELECT @@{limit}"), Cells::int).unwrap();
        assert!(seconds >= Some(3600), "{limit} is {seconds:?}");
    }
}
