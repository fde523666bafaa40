//! What the server says of its plans, in tables of any size that nobody analyzed.

use std::fmt::Write as _;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::super::Tables;
use super::super::text::Packet;
use super::plans::load;
use super::store::{create, next, serve};
use crate::clock::StoreTime;
use crate::engine::store::{Footprint, Row, Superseded};
use crate::engine::{KeyRange, KeyValue};
use crate::gc::Uid;
use crate::sql::session::{
    Commit as _, Delta, Field, Find, Graph as _, Log, Odd, Postings, Probe as _, Read as _, Source, StoredRow, Which,
};

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
    let range = KeyRange::from_wire("/r/".into(), "/r0".into());
    let footprint = Footprint {
        ranges: vec![KeyRange::single("/a/1")],
        past: vec![(KeyRange::single("/a/1"), 1)],
        leases: [1].into(),
        lease_keys: [1].into(),
        blocked: [uid.clone()].into(),
        ..Footprint::default()
    };
    tables.begin(&footprint).unwrap();
    tables.rollback();
    tables.compact(1).unwrap();
    tables.forget(StoreTime::default(), 0, 1).unwrap();
    tables.extend_leases(StoreTime::default(), std::time::Duration::ZERO).unwrap();
    tables.newest(&[&b"/a/1"[..]]).unwrap();
    tables.snapshot().unwrap();
    tables.rows(&[&b"/a/1"[..]]).unwrap();
    let one = |value: &str| Postings { name: 1, value: value.into() };
    let probe = [Postings { name: 2, value: "w1".into() }];
    let sources = [
        Source::Scan,
        Source::Visible,
        Source::Postings(vec![one("v1")]),
        Source::Postings(vec![one("v1"), one("v2")]),
        Source::Keys(vec![b"/r/1".to_vec()]),
    ];
    for source in &sources {
        for probes in [&[][..], &[&probe[..]]] {
            let find = Find { range: &range, source, probes, until: i64::MAX, values: true, wanted: 20 };
            tables.find(&find, &mut |_| ControlFlow::Continue(())).unwrap();
        }
    }
    tables.counts(&range, &sources.iter().map(|source| (source, 64)).collect::<Vec<_>>()).unwrap();
    for behind in [1, i64::MAX] {
        tables.superseded(&KeyRange::single("/a/1"), 3, behind, &mut |_| ControlFlow::Continue(())).unwrap();
    }
    for previous in [false, true] {
        tables.log(&Log { range: Some(&range), after: (1, 9), until: 9, above: 1, limit: 9, previous }).unwrap();
    }
    tables.count(&range).unwrap();
    tables.count(&KeyRange::single("/a/1")).unwrap();
    tables.count_difference(&range, 3).unwrap();
    tables.lease(1).unwrap();
    tables.lease_keys(1).unwrap();
    tables.leases(1).unwrap();
    tables.odd(&range, &[b"/"], Odd::Opaque).unwrap();
    tables.odd(&range, &[b"/"], Odd::Misplaced).unwrap();
    tables.directories(&range, 9).unwrap();
    tables.live(b"/r/").unwrap();
    tables.label("x").unwrap();
    tables.values(1, 9).unwrap();
    tables.entries(1, 9, &mut |_, _| ()).unwrap();
    tables.index(&[b"/r/"], Field { api_version: "g/v1", field: "a" }).unwrap();
    for which in [Which::Due(StoreTime::default()), Which::ForegroundAfter(1), Which::Of(&uid)] {
        tables.tasks(which, 9).unwrap();
    }
    tables.next_due().unwrap();
    tables.with_uids(&[&uid]).unwrap();
    tables.dependents(&uid, (true, b""), 9).unwrap();
    tables.tombstones(&[&uid]).unwrap();
    tables.orphaning(&[&uid]).unwrap();
    tables.below(&[&uid], 9).unwrap();
    tables.heard(&[&uid], &[&uid]).unwrap();
    tables.end();
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

#[test]
fn no_statement_of_a_request_reads_or_sorts_a_table() {
    for objects in [10, 100_000] {
        let mut tables = serve();
        load(&mut tables, objects);
        tables.connection.texts = Some(Vec::new());
        exercise(&mut tables);
        let texts = tables.connection.texts.take().unwrap();
        let statements = texts.iter().flat_map(|text| text.split(';')).map(str::trim);
        let mut explained: Vec<&str> = statements
            .filter(|text| {
                ["SELECT", "(SELECT", "INSERT", "UPDATE", "DELETE"].iter().any(|word| text.starts_with(word))
            })
            .collect();
        explained.sort_unstable();
        explained.dedup();
        assert!(explained.len() > 50, "{}", explained.len());
        let mut wrong = String::new();
        for statement in explained {
            let found = faults(&mut tables, statement);
            if !found.is_empty() {
                write!(wrong, "{statement}\n{}\n", found.join("\n")).unwrap();
            }
        }
        assert!(wrong.is_empty(), "{objects} objects: {wrong}");
        // The test itself sees a plan that is none of ours.
        let whole = faults(&mut tables, "SELECT value FROM current ORDER BY version");
        assert_eq!(whole.len(), 1, "{whole:?}");
        drop(tables.connection.run(&Packet::of("end", "ROLLBACK")));
    }
}
