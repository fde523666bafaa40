//! Random batches, and everything read after each, beside a model in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::super::Tables;
use super::super::testing::database;
use super::super::text::Packet;
use crate::engine::store::{Footprint, Lease, Row, Superseded};
use crate::engine::{KeyRange, KeyValue, Revision};
use crate::sql::session::{Commit as _, Delta, Find, Log, NewHead, Read as _, Source, StoredRow};

/// What happens to a key: a value with a lease, or none.
type Op = (usize, Option<(Vec<u8>, i64)>);

const KEYS: [&str; 6] = ["/a/1", "/a/2", "/b/1", "/b/it's", "c", "/\u{e9}/\\"];

/// Everything that ever was, in memory.
#[derive(Debug, Clone)]
struct Model {
    /// All changes, in order; a value that is deleted is none.
    log: Vec<(Revision, i64, Bytes, Option<KeyValue>)>,
    live: BTreeMap<Bytes, Row>,
    revision: Revision,
    compacted: Revision,
}

impl Model {
    fn at(&self, revision: Revision) -> BTreeMap<Bytes, KeyValue> {
        let mut state = BTreeMap::new();
        for (at, _, key, kv) in &self.log {
            if *at <= revision {
                match kv {
                    Some(kv) => drop(state.insert(key.clone(), kv.clone())),
                    None => drop(state.remove(key)),
                }
            }
        }
        state
    }
}

/// Carries a batch out, each request of one or two keys in a revision of its own.
fn commit(tables: &mut Tables, model: &mut Model, batch: &[Vec<Op>]) {
    let keys: BTreeSet<Bytes> =
        batch.iter().flatten().map(|(key, _)| Bytes::from_static(KEYS[*key].as_bytes())).collect();
    let begun = tables.begin(&Footprint { keys: keys.clone(), ..Footprint::default() }).unwrap();
    assert_eq!(begun.head.revision, model.revision);
    let before: BTreeMap<Bytes, Row> =
        model.live.iter().filter(|(key, _)| keys.contains(*key)).map(|(key, row)| (key.clone(), row.clone())).collect();
    assert_eq!(begun.rows, before);
    let mut history = Vec::new();
    for request in batch {
        let (revision, mut sub) = (model.revision + 1, 0);
        let mut used = BTreeSet::new();
        for (key, value) in request.iter().filter(|(key, _)| used.insert(*key)) {
            let key = Bytes::from_static(KEYS[*key].as_bytes());
            let old = model.live.remove(&key);
            let new = value.as_ref().map(|(value, lease)| KeyValue {
                key: key.clone(),
                value: value.clone().into(),
                create_revision: old.as_ref().map_or(revision, |old| old.kv.create_revision),
                mod_revision: revision,
                version: old.as_ref().map_or(1, |old| old.kv.version + 1),
                lease: *lease,
            });
            if old.is_none() && new.is_none() {
                continue;
            }
            history.extend(old.map(|row| Superseded {
                row,
                end_revision: revision,
                end_sub: sub,
                deleted: new.is_none(),
            }));
            model.log.push((revision, sub, key.clone(), new.clone()));
            model.live.extend(new.map(|kv| (key, Row { kv, sub })));
            sub += 1;
        }
        model.revision += i64::from(sub > 0);
    }
    let mut delta = Delta { history: &history, ..Delta::default() };
    let after = model.live.clone();
    for key in &keys {
        let old_lease = before.get(key).map_or(0, |row| row.kv.lease);
        match (before.get(key), after.get(key)) {
            (old, Some(row)) if old != Some(row) => {
                let stored = StoredRow { row, hidden: Some(false), uid: None, new_uid: false, old_lease };
                if old.is_some() { delta.updated.push(stored) } else { delta.created.push(stored) }
            }
            (Some(_), None) => delta.removed.push((key, old_lease)),
            _ => {}
        }
    }
    let batch = begun.head.batch + 1;
    let head = NewHead { revision: model.revision, compact_revision: 0, now: begun.head.now, batch };
    assert!(!tables.apply(&delta, Some(&head)).unwrap());
}

/// Compacts, in steps of two.
fn compact(tables: &mut Tables, model: &mut Model, revision: Revision) {
    let begun = tables.begin(&Footprint::default()).unwrap();
    let batch = begun.head.batch + 1;
    let head = NewHead { revision: model.revision, compact_revision: revision, now: begun.head.now, batch };
    tables.apply(&Delta::default(), Some(&head)).unwrap();
    model.compacted = revision;
    while tables.compact(2).unwrap() == 2 {}
}

fn found(tables: &mut Tables, range: &KeyRange, at: Revision) -> BTreeMap<Bytes, KeyValue> {
    let mut all = BTreeMap::new();
    let mut take = |row: crate::sql::session::RowRef<'_>| {
        let kv = row.to_key_value();
        assert!(all.insert(kv.key.clone(), kv).is_none(), "a key twice");
        ControlFlow::Continue(())
    };
    let find = Find { range, source: &Source::Scan, probes: &[], until: at, values: true, wanted: 2 };
    tables.find(&find, &mut take).unwrap();
    for behind in [1, i64::MAX] {
        let mut superseded = Vec::new();
        tables
            .superseded(range, at, behind, &mut |row| {
                superseded.push(row.to_key_value());
                ControlFlow::Continue(())
            })
            .unwrap();
        assert!(superseded.is_sorted_by(|a, b| a.key < b.key));
        if behind == 1 {
            for kv in superseded {
                assert!(all.insert(kv.key.clone(), kv).is_none(), "a key twice");
            }
        } else {
            assert!(superseded.iter().all(|kv| all.get(&kv.key) == Some(kv)), "both ways find the same");
        }
    }
    all
}

/// Reads everything, and compares.
fn compare(tables: &mut Tables, model: &Model) {
    let head = tables.snapshot().unwrap();
    assert_eq!((head.revision, head.compact_revision), (model.revision, model.compacted));
    let everything = KeyRange::from_wire(Bytes::from_static(b"\0"), Bytes::from_static(b"\0"));
    let ranges = [
        everything.clone(),
        KeyRange::from_wire("/a/".into(), "/a0".into()),
        KeyRange::from_wire("/a/2".into(), "/b/2".into()),
        KeyRange::single("c"),
    ];
    for range in &ranges {
        let in_range = |state: BTreeMap<Bytes, KeyValue>| -> BTreeMap<Bytes, KeyValue> {
            state.into_iter().filter(|(key, _)| range.contains(key)).collect()
        };
        let now = in_range(model.at(model.revision)).len() as i64;
        for at in model.compacted.max(1)..=model.revision {
            let expected = in_range(model.at(at));
            assert_eq!(found(tables, range, at), expected, "{range:?} at {at}");
            let difference = tables.count_difference(range, at).unwrap();
            assert_eq!(now + difference, expected.len() as i64, "{range:?} at {at}");
        }
        for after in model.compacted.max(1)..=model.revision {
            let log = Log {
                range: Some(range),
                after: (after, -1),
                until: model.revision,
                above: 0,
                limit: 1000,
                previous: true,
            };
            let told = tables.log(&log).unwrap();
            // What a compaction freed at its revision is no event of it.
            let is_told = |(at, _, key, kv): &&(Revision, i64, Bytes, Option<KeyValue>)| {
                let superseded = model.at(model.compacted).get(key) != kv.as_ref();
                *at >= after && range.contains(key) && !(kv.is_some() && *at <= model.compacted && superseded)
            };
            let expected: Vec<_> = model.log.iter().filter(is_told).collect();
            assert_eq!(told.len(), expected.len(), "{range:?} after {after}: {told:?}");
            for (told, (at, sub, key, kv)) in told.iter().zip(expected) {
                assert_eq!((told.at, told.deleted), ((*at, *sub), kv.is_none()));
                let deletion = KeyValue { key: key.clone(), mod_revision: *at, ..KeyValue::default() };
                assert_eq!(&told.kv, kv.as_ref().unwrap_or(&deletion));
                if *at > model.compacted {
                    assert_eq!(told.previous, model.at(at - 1).get(key).cloned());
                }
            }
        }
    }
    for lease in [1, 2] {
        let expected: Vec<_> =
            model.live.values().filter(|row| row.kv.lease == lease).map(|row| row.kv.key.clone()).collect();
        assert_eq!(tables.lease_keys(lease).unwrap(), expected);
    }
    tables.end();
    // One row for each value, and one for each deletion that is not compacted.
    let deletions = model.log.iter().filter(|(at, .., kv)| kv.is_none() && *at >= model.compacted).count();
    let counted =
        "SELECT (SELECT COUNT(*) FROM `change`) - (SELECT COUNT(*) FROM current) - (SELECT COUNT(*) FROM history)";
    assert_eq!(tables.connection.number("counts", counted).unwrap(), deletions as i64);
}

fn op() -> impl Strategy<Value = Op> {
    let value = (proptest::collection::vec(any::<u8>(), 0..20), 0..3_i64);
    (0..KEYS.len(), proptest::option::weighted(0.7, value))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Whatever is committed and compacted.
    #[test]
    fn all_that_is_read_is_what_was_committed(
        steps in proptest::collection::vec((proptest::collection::vec(proptest::collection::vec(op(), 1..3), 1..8), any::<u8>()), 1..6)
    ) {
        let address = database();
        let mut tables = Tables::serve(address, Arc::default()).unwrap();
        let mut model = Model { log: Vec::new(), live: BTreeMap::new(), revision: 1, compacted: 0 };
        for (batch, more) in steps {
            commit(&mut tables, &mut model, &batch);
            compare(&mut tables, &model);
            if more % 3 == 0 && model.revision > model.compacted.max(1) {
                let revision = model.compacted.max(1) + i64::from(more) % (model.revision - model.compacted.max(1)) + 1;
                compact(&mut tables, &mut model, revision);
                compare(&mut tables, &model);
            }
        }
    }
}

#[test]
fn a_transaction_leaves_nothing_when_it_is_rolled_back() {
    let mut tables = Tables::serve(database(), Arc::default()).unwrap();
    tables.begin(&Footprint::default()).unwrap();
    assert_eq!(tables.labels(&["a", "b", "a"]).unwrap(), [1, 2, 1]);
    let lease = Lease { id: 7, ttl: 60, expires_at: crate::clock::StoreTime::from_millis(5) };
    let delta = Delta { leases: vec![(7, Some(&lease))], ..Delta::default() };
    tables.apply(&delta, None).unwrap();
    tables.rollback();
    assert_eq!(tables.lease(7).unwrap(), None);
    let begun = tables.begin(&Footprint::default()).unwrap();
    assert_eq!(tables.labels(&["b"]).unwrap(), [1], "a number that nobody has");
    let head = NewHead { revision: 1, compact_revision: 0, now: begun.head.now, batch: 1 };
    tables.apply(&delta, Some(&head)).unwrap();
    assert_eq!(tables.lease(7).unwrap(), Some(lease));
    assert_eq!(tables.begin(&Footprint::default()).unwrap().head.batch, 1);
    assert_eq!(tables.labels(&["b", "c"]).unwrap(), [1, 2]);
}

#[test]
fn whoever_lost_the_store_to_another_process_commits_nothing() {
    let address = database();
    let mut first = Tables::serve(address.clone(), Arc::default()).unwrap();
    let mut other = super::super::connection::Connection::open(address, Arc::default()).unwrap();
    other.run(&Packet::of("other", "UPDATE meta SET owner = 5, address = 'elsewhere'")).unwrap();
    let Err(crate::sql::failure::Failure::Final(error)) = first.begin(&Footprint::default()) else { panic!() };
    assert!(error.to_string().contains("serves this database now: elsewhere"), "{error}");
    first.rollback();
    assert!(first.try_commit().is_err());
    drop(first);
    assert_eq!(other.number("owner", "SELECT owner FROM meta").unwrap(), 5, "and takes nothing from the other");
}
