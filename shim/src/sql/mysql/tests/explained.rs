//! What the server says of its plans, in tables of any size that nobody analyzed.

use std::fmt::Write as _;

use bytes::Bytes;

use super::super::Tables;
use super::super::text::Packet;
use super::plans::load;
use super::store::{create, next, serve_as};
use crate::endpoint::Layout;
use crate::engine::KeyValue;
use crate::engine::store::{Footprint, Row, Superseded};
use crate::gc::Uid;
use crate::sql::compared::requests;
use crate::sql::session::{Commit as _, Delta, StoredRow};

/// An update and a deletion in one batch.
fn change(tables: &mut Tables) {
    let keys = ["/a/1", "/a/2"].map(Bytes::from);
    let begun = tables.begin(&Footprint { keys: keys.clone().into(), ..Footprint::default() }).unwrap();
    let head = next(&begun);
    let ended = |(row, deleted): (&Row, bool)| Superseded {
        row: row.clone(),
        end_revision: head.revision,
        end_sub: i64::from(deleted),
        deleted,
    };
    let history: Vec<Superseded> = begun.rows.values().zip([false, true]).map(ended).collect();
    let old = &begun.rows[&keys[0]];
    let kv = KeyValue { mod_revision: head.revision, version: 2, ..old.kv.clone() };
    let row = Row { kv, sub: 0 };
    let updated = vec![StoredRow { row: &row, hidden: Some(true), uid: None, new_uid: true, old_lease: 0 }];
    let delta = Delta { history: &history, updated, removed: vec![(&keys[1], 0)], ..Delta::default() };
    tables.apply(&delta, Some(&head)).unwrap();
}

/// Does all that a server does with its requests.
fn exercise(tables: &mut Tables) {
    let uid = Uid::Uuid([7; 16]);
    create(tables, &[("/a/1", Some(false), Some(&uid)), ("/a/2", None, None)]);
    change(tables);
    requests(tables, [(1, "v1"), (1, "v2"), (2, "w1")]);
}

/// What is wrong with a plan: tables that are read whole, rows that are sorted though a table has them in order.
fn faults(tables: &mut Tables, statement: &str) -> Vec<String> {
    let text = |bytes: Option<Vec<u8>>| String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
    let rows = tables.connection.all("explain", format_args!("EXPLAIN {statement}"), |cells| {
        let mut next = || cells.maybe_bytes().map(text);
        let (_id, _kind, table, access) = (next()?, next()?, next()?, next()?);
        let (_possible, key, _length, _ref, rows) = (next()?, next()?, next()?, next()?, next()?);
        Ok((table, access, key, rows, next()?))
    });
    let rows = rows.unwrap_or_else(|error| panic!("{error:?}: {statement}"));
    // What a statement itself has put together, of no more rows than are wanted, stands between `<` and `>`. Nothing is
    // read of a table in which rows are only put, and `field_index` has a row for each field that is declared.
    let ours = rows.into_iter().filter(|(table, _, _, rows, _)| {
        !table.is_empty() && !table.starts_with('<') && !rows.is_empty() && table != "field_index"
    });
    let wrong = ours.filter(|(_, access, _, _, extra)| access == "ALL" || extra.contains("filesort"));
    wrong.map(|row| format!("{row:?}")).collect()
}

/// What is wrong with the plans of all statements of requests, in tables of a size.
fn check(layout: &Layout, objects: usize) {
    let mut tables = serve_as(layout.clone());
    load(&mut tables, objects);
    tables.connection.texts = Some(Vec::new());
    exercise(&mut tables);
    let texts = tables.connection.texts.take().unwrap();
    let statements = texts.iter().flat_map(|text| text.split(';')).map(str::trim);
    let mut explained: Vec<&str> = statements
        .filter(|text| ["SELECT", "(SELECT", "INSERT", "UPDATE", "DELETE"].iter().any(|word| text.starts_with(word)))
        .collect();
    explained.sort_unstable();
    explained.dedup();
    assert!(explained.len() > 50, "{}", explained.len());
    let mut wrong = String::new();
    for statement in explained {
        // The objects with a UID are put in order, who are few: an index that is divided has them so only in its parts.
        if *layout != Layout::Whole && statement.starts_with("SELECT uid, k FROM current WHERE uid IN") {
            continue;
        }
        let found = faults(&mut tables, statement);
        if !found.is_empty() {
            write!(wrong, "{statement}\n{}\n", found.join("\n")).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{layout}, {objects} objects: {wrong}");
    // The test itself sees a plan that is none of ours.
    let whole = faults(&mut tables, "SELECT value FROM current ORDER BY version");
    assert_eq!(whole.len(), 1, "{whole:?}");
    drop(tables.connection.run(&Packet::of("end", "ROLLBACK")));
}

#[test]
fn no_statement_of_a_request_reads_or_sorts_a_table() {
    for objects in [10, 100_000] {
        check(&Layout::Whole, objects);
    }
}

#[test]
fn nor_does_one_of_a_partitioned_store() {
    let ranges = Layout::Ranges(["/r/", "/r0"].map(Into::into).to_vec());
    for (layout, objects) in
        [(Layout::Hashed(3), 10), (Layout::Hashed(3), 30_000), (ranges.clone(), 10), (ranges, 30_000)]
    {
        check(&layout, objects);
    }
}
