//! How many rows the statements look at, in tables that are large and that nobody analyzed.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::super::Tables;
use super::store::{next, serve, serve_as};
use crate::clock::StoreTime;
use crate::endpoint::Layout;
use crate::engine::store::{Footprint, Row, Superseded};
use crate::engine::{KeyRange, KeyValue};
use crate::gc::Uid;
use crate::sql::session::{
    Commit as _, Delta, Find, Graph as _, Log, NewHead, Odd, Postings, Probe as _, Read as _, Source, StoredRow, Which,
};

/// So many keys, each superseded once and owned by one of a thousand.
const LOAD: &str = "
    INSERT INTO current SELECT CONCAT('/r/', LPAD(seq, 6, '0')), seq, seq + OBJECTS, 0, 2, seq % 2, seq % 3 = 0, UNHEX(MD5(seq)), 'v'
        FROM seq_1_to_OBJECTS;
    INSERT INTO history SELECT k, create_revision, create_revision, 0, 1, 0, mod_revision, 0, 0, 'w' FROM current;
    INSERT INTO `change` SELECT mod_revision, 0, 0, k FROM history;
    INSERT INTO `change` SELECT mod_revision, 0, 0, k FROM current;
    INSERT INTO attribute SELECT 1, CONCAT('v', create_revision % 7), k FROM current;
    INSERT INTO attribute SELECT 2, CONCAT('w', create_revision % 3), k FROM current;
    INSERT INTO attached SELECT lease, k FROM current WHERE lease <> 0;
    INSERT INTO owner SELECT LPAD(create_revision % 1000, 16, '0'), 1, k, 0, 0 FROM current;
    INSERT INTO directory SELECT CONCAT('/r/', seq, '/'), 1, seq = 5, 0 FROM seq_1_to_OBJECTS;
    INSERT INTO gc_task SELECT seq, 1 + seq % 4, LPAD(seq, 16, '0'), '/k', 1, 1, seq, seq % 3, seq, 0, NULL, NULL, 0, 0, ''
        FROM seq_1_to_OBJECTS;
    INSERT INTO gc_tombstone SELECT seq, LPAD(seq % 1000, 16, '0'), '/k', 1, 1, seq FROM seq_1_to_OBJECTS;
    UPDATE meta SET revision = 2 * OBJECTS, next_id = 1 + OBJECTS;
";

/// Fills an empty store.
pub(super) fn load(tables: &mut Tables, objects: usize) {
    let statements = LOAD.replace("OBJECTS", &objects.to_string());
    let packet = super::super::text::Packet::of("load", statements.trim_end().trim_end_matches(';'));
    tables.connection.run(&packet).unwrap();
}

/// How many rows a call reads.
fn rows_read(tables: &mut Tables, call: &mut dyn FnMut(&mut Tables)) -> i64 {
    let status = "SELECT CAST(SUM(variable_value) AS SIGNED) FROM information_schema.session_status
        WHERE variable_name LIKE 'Handler_read%'";
    let mut counted = |call: &mut dyn FnMut(&mut Tables)| {
        let before = tables.connection.number("status", status).unwrap();
        call(tables);
        tables.connection.number("status", status).unwrap() - before
    };
    let nothing = counted(&mut |_| {});
    counted(call) - nothing
}

fn key(number: i64) -> Bytes {
    format!("/r/{number:06}").into()
}

fn find(tables: &mut Tables, source: Source, probes: &[&[Postings]]) {
    let range = KeyRange::from_wire(key(9_000), key(19_000));
    let mut found = 0;
    let find = Find { range: &range, source: &source, probes, until: i64::MAX, values: true, wanted: 20 };
    tables
        .find(&find, &mut |_| {
            found += 1;
            if found == 20 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!(found, 20);
}

fn update(tables: &mut Tables) {
    let keys: Vec<Bytes> = (0..20).map(|number| key(7_000 + number)).collect();
    let begun = tables.begin(&Footprint { keys: keys.into_iter().collect(), ..Footprint::default() }).unwrap();
    assert_eq!(begun.rows.len(), 20);
    let head = NewHead { revision: begun.head.revision + 20, ..next(&begun) };
    let revisions = begun.head.revision + 1..;
    let new: Vec<Row> = begun
        .rows
        .values()
        .zip(revisions)
        .map(|(row, revision)| {
            let kv = KeyValue { mod_revision: revision, version: 3, value: "new".into(), ..row.kv.clone() };
            Row { kv, sub: 0 }
        })
        .collect();
    let history: Vec<Superseded> = begun
        .rows
        .values()
        .zip(&new)
        .map(|(row, new)| Superseded {
            row: row.clone(),
            end_revision: new.kv.mod_revision,
            end_sub: 0,
            deleted: false,
        })
        .collect();
    let stored = |row| StoredRow { row, hidden: Some(false), uid: None, new_uid: true, old_lease: 1 };
    let delta = Delta { history: &history, updated: new.iter().map(stored).collect(), ..Delta::default() };
    tables.apply(&delta, Some(&head)).unwrap();
}

#[test]
fn no_statement_reads_much_more_than_it_gives() {
    reads_little(serve(), 1);
}

/// Each list begins in each part; what is in order in all parts is merged.
#[test]
fn nor_does_one_of_a_partitioned_store() {
    let ranges = Layout::Ranges(["/r/", "/r0"].map(Into::into).to_vec());
    reads_little(serve_as(ranges), 1);
    reads_little(serve_as(Layout::Hashed(3)), 3);
}

/// `parts`: into how many a statement may have to look for each row.
fn reads_little(mut tables: Tables, parts: i64) {
    load(&mut tables, 20_000);
    let range = KeyRange::from_wire(key(9_000), key(19_000));
    let list = |name: i64, value: &str| Postings { name, value: value.into() };
    let [owner, other] = [17, 18].map(|number| Uid::from_blob(format!("{number:016}").as_bytes()).unwrap());
    let log = |after: i64, previous: bool| Log {
        range: Some(&range),
        after: (after, 0),
        until: 40_000,
        above: 0,
        limit: 20,
        previous,
    };
    type Call<'a> = (&'a str, i64, Box<dyn FnMut(&mut Tables) + 'a>);
    let few = |tables: &mut Tables| {
        let keys: Vec<Bytes> = (0..20).map(|number| key(number * 900 + 1)).collect();
        assert_eq!(tables.rows(&keys.iter().map(|key| &key[..]).collect::<Vec<_>>()).unwrap().len(), 20);
    };
    let newest = |tables: &mut Tables| {
        let keys: Vec<Bytes> = (0..20).map(|number| key(number * 900 + 1)).collect();
        let (head, rows) = tables.newest(&keys.iter().map(|key| &key[..]).collect::<Vec<_>>()).unwrap();
        assert_eq!((head.revision, rows.len()), (40_000, 20));
    };
    let calls: Vec<Call<'_>> = vec![
        ("newest", 45, Box::new(newest)),
        ("rows", 45, Box::new(few)),
        ("scan", 45, Box::new(|tables| find(tables, Source::Scan, &[]))),
        ("visible", 65, Box::new(|tables| find(tables, Source::Visible, &[]))),
        ("one list", 65, Box::new(|tables| find(tables, Source::Postings(vec![list(1, "v3")]), &[]))),
        ("two lists", 250, Box::new(|tables| find(tables, Source::Postings(vec![list(1, "v3"), list(1, "v4")]), &[]))),
        ("a probe", 200, Box::new(|tables| find(tables, Source::Postings(vec![list(1, "v3")]), &[&[list(2, "w1")]]))),
        (
            "a probe of two",
            250,
            Box::new(|tables| find(tables, Source::Postings(vec![list(1, "v3")]), &[&[list(2, "w1"), list(2, "w2")]])),
        ),
        (
            "keys",
            65,
            Box::new(|tables| {
                find(tables, Source::Keys((0..20).map(|number| key(number + 9_500).to_vec()).collect()), &[]);
            }),
        ),
        ("log", 250, Box::new(|tables| assert_eq!(tables.log(&log(30_000, true)).unwrap().len(), 20))),
        ("old log", 250, Box::new(|tables| assert_eq!(tables.log(&log(10_000, false)).unwrap().len(), 20))),
        (
            "recent past",
            1_000,
            Box::new(|tables| tables.superseded(&range, 39_700, 300, &mut |_| ControlFlow::Continue(())).unwrap()),
        ),
        (
            "counts",
            300,
            Box::new(|tables| {
                let counts = [(&Source::Scan, 64), (&Source::Postings(vec![list(1, "v3")]), 64)];
                assert_eq!(tables.counts(&range, &counts).unwrap(), [64, 64]);
            }),
        ),
        ("values", 40, Box::new(|tables| assert_eq!(tables.values(1, 64).unwrap().unwrap().len(), 7))),
        ("odd", 10, Box::new(|tables| assert_eq!(tables.odd(&range, &[], Odd::Opaque).unwrap(), 0))),
        (
            "due",
            120,
            Box::new(|tables| {
                assert_eq!(tables.tasks(Which::Due(StoreTime::from_millis(i64::MAX)), 20).unwrap().len(), 20);
            }),
        ),
        ("next due", 10, Box::new(|tables| assert!(tables.next_due().unwrap().is_some()))),
        (
            "foreground",
            180,
            Box::new(|tables| assert_eq!(tables.tasks(Which::ForegroundAfter(100), 20).unwrap().len(), 20)),
        ),
        (
            "dependents",
            45,
            Box::new(|tables| assert_eq!(tables.dependents(&owner, (true, b""), 20).unwrap().len(), 20)),
        ),
        ("below", 100, Box::new(|tables| assert_eq!(tables.below(&[&owner, &other], 20).unwrap().len(), 2))),
        (
            "heard",
            200,
            Box::new(|tables| assert_eq!(tables.heard(&[&owner, &other], &[&owner]).unwrap().dependents.len(), 2)),
        ),
        ("tombstones", 60, Box::new(|tables| assert_eq!(tables.tombstones(&[&owner]).unwrap().len(), 1))),
        ("update", 300, Box::new(update)),
        (
            "begin for no keys",
            5,
            Box::new(|tables| {
                tables.begin(&Footprint::default()).unwrap();
                tables.rollback();
            }),
        ),
        ("attached", 10, Box::new(|tables| assert_eq!(tables.leases(5).unwrap().len(), 0))),
        ("compaction", 400, Box::new(|tables| assert_eq!(tables.compact(20).unwrap(), 0))),
    ];
    let mut wrong = Vec::new();
    for (name, most, mut call) in calls {
        let read = rows_read(&mut tables, &mut *call);
        let most = most * parts;
        if read > most {
            wrong.push(format!("{name}: {read} rows instead of {most}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    tables
        .connection
        .run(&super::super::text::Packet::of(
            "compacted",
            "UPDATE meta SET compact_revision = 39000; UPDATE sweep SET revision = 30000",
        ))
        .unwrap();
    let read = rows_read(&mut tables, &mut |tables| assert_eq!(tables.compact(20).unwrap(), 20));
    assert!(read <= 300 * parts, "compaction: {read} rows");
}
