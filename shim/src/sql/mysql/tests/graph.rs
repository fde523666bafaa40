//! The graph of owners, and the collector's queue.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::super::Tables;
use super::store::{commit, create, next, serve};
use crate::clock::StoreTime;
use crate::engine::store::{Footprint, Lease};
use crate::gc::{Below, Place, Progress, TaskChange, TaskKind, TaskState, Uid};
use crate::sql::session::{Commit as _, Delta, EdgeRow, Graph as _, Read as _, Started, Which};

fn uid(text: &str) -> Uid {
    Uid::parse(text).unwrap()
}

fn tell(tables: &mut Tables, started: &Started<'_>) {
    let begun = tables.begin(&Footprint::default()).unwrap();
    assert!(!tables.apply(&Delta::default(), None).unwrap());
    let next = next(&begun);
    tables.tell(started, next.now, Some(&next)).unwrap();
}

fn kinds(tables: &mut Tables, which: Which<'_>) -> Vec<(i64, TaskKind, TaskState)> {
    tables.tasks(which, 10).unwrap().into_iter().map(|task| (task.id, task.kind, task.progress.state)).collect()
}

#[test]
fn owners_and_their_dependents() {
    let mut tables = serve();
    let [a, b, c] = ["6ba7b810-9dad-11d1-80b4-00c04fd430c8", "sixteen-bytes-ok", "c"].map(uid);
    create(&mut tables, &[("/a", Some(false), Some(&a)), ("/b", Some(true), Some(&b)), ("/b2", None, Some(&b))]);
    let edge = |owner, labelled, key, block| EdgeRow { owner, labelled, key, block, waits: false };
    let edges = vec![
        edge(&a, false, &b"/1"[..], false),
        edge(&a, true, b"/0", false),
        edge(&a, true, b"/2", true),
        edge(&b, true, b"/3", false),
    ];
    commit(&mut tables, &Delta { edges_new: edges, ..Delta::default() });
    let places = |tables: &mut Tables, after: (bool, &[u8]), limit| -> Vec<(bool, Bytes, bool)> {
        let found = tables.dependents(&a, after, limit).unwrap();
        found.into_iter().map(|found| (found.place.labelled, found.place.key, found.block)).collect()
    };
    let all = [(false, "/1".into(), false), (true, "/0".into(), false), (true, "/2".into(), true)];
    assert_eq!(places(&mut tables, (false, b""), 10), all);
    assert_eq!(places(&mut tables, (true, b""), 1), all[1..2]);
    assert_eq!(places(&mut tables, (true, b"/0"), 10), all[2..]);
    let below = tables.below(&[&a, &b, &c], 1000).unwrap();
    let known = |any, blocks| Below { any, waits: false, blocks };
    assert_eq!(
        below,
        BTreeMap::from([
            (a.clone(), known(true, true)),
            (b.clone(), known(true, false)),
            (c.clone(), known(false, false))
        ])
    );
    assert!(tables.below(&[&b], 1).unwrap()[&b].blocks, "as many as are looked at");
    let footprint = Footprint { blocked: [a.clone(), b.clone(), c.clone()].into(), ..Footprint::default() };
    assert_eq!(tables.begin(&footprint).unwrap().blocked, [a.clone()].into());
    tables.rollback();
    let mut found = tables.with_uids(&[&b, &c]).unwrap();
    found.sort_by(|a, b| a.1.kv.key.cmp(&b.1.kv.key));
    assert_eq!(
        found.iter().map(|(uid, row)| (uid, &row.kv.key[..])).collect::<Vec<_>>(),
        [(&b, &b"/b"[..]), (&b, b"/b2")]
    );
    let waits = vec![EdgeRow { waits: true, ..edge(&b, true, b"/3", true) }];
    commit(&mut tables, &Delta { edges_gone: vec![edge(&a, true, b"/2", true)], edges_new: waits, ..Delta::default() });
    assert_eq!(tables.below(&[&b], 1000).unwrap()[&b], Below { any: true, waits: true, blocks: true });
    assert_eq!(tables.dependents_count(&a).unwrap(), (1, 1));
    assert_eq!(tables.unknown_owners().unwrap(), (0, 0));
    commit(
        &mut tables,
        &Delta { edges_new: vec![edge(&c, true, b"/4", false), edge(&c, true, b"/5", false)], ..Delta::default() },
    );
    assert_eq!(tables.unknown_owners().unwrap(), (1, 2));
    let heard = tables.heard(&[&a, &c, &uid("d")], &[&b, &c]).unwrap();
    assert_eq!(heard.dependents, BTreeMap::from([(a.clone(), (true, true)), (c.clone(), (false, true))]));
    assert_eq!(heard.keys, BTreeMap::from([(b.clone(), vec!["/b".into(), "/b2".into()])]));
    assert!(heard.tasks.is_empty() && heard.tombstones.is_empty());
    let everything = crate::engine::KeyRange::from_wire(Bytes::from_static(b"\0"), Bytes::from_static(b"\0"));
    assert_eq!(tables.opaque_key(&everything, b"/b").unwrap(), Some("/b2".into()));
    assert_eq!(tables.opaque_key(&everything, b"/x").unwrap(), None);
}

#[test]
fn tasks_come_wait_go_on_and_go() {
    let mut tables = serve();
    let (a, b, key) = (uid("a"), uid("b"), Bytes::from_static(b"/k"));
    let started = Started {
        tombstones: vec![(&a, &key, true, 7), (&a, &key, false, 8)],
        tasks: vec![
            (&a, TaskKind::Cascade, &key, true, 8),
            (&b, TaskKind::Foreground, &key, true, 8),
            (&b, TaskKind::Recheck, &key, true, 8),
        ],
        ..Started::default()
    };
    tell(&mut tables, &started);
    assert_eq!(tables.tombstones(&[&a, &b]).unwrap(), BTreeMap::from([(a.clone(), (false, key.clone()))]));
    assert_eq!(tables.deleted(b"/k").unwrap(), Some((a.clone(), 8)));
    let due = Which::Due(StoreTime::from_millis(i64::MAX));
    let ready = TaskState::Ready;
    assert_eq!(
        kinds(&mut tables, due),
        [(3, TaskKind::Cascade, ready), (4, TaskKind::Foreground, ready), (5, TaskKind::Recheck, ready)]
    );
    assert_eq!(kinds(&mut tables, Which::Due(StoreTime::from_millis(0))), []);
    assert_eq!(kinds(&mut tables, Which::ForegroundAfter(3)), [(4, TaskKind::Foreground, ready)]);
    assert!(tables.next_due().unwrap().is_some());
    let cursor = Some(Place { labelled: true, key: "/x'".into() });
    let waiting =
        Progress { state: TaskState::Waiting, swept: true, cursor: cursor.clone(), failures: 2, ..Progress::default() };
    let parked = Progress {
        state: TaskState::Parked,
        not_before: StoreTime::from_millis(9),
        reason: "it's \\".into(),
        attempts: 1,
        ..Progress::default()
    };
    let tasks = [
        TaskChange { id: 3, progress: None },
        TaskChange { id: 4, progress: Some(waiting.clone()) },
        TaskChange { id: 5, progress: Some(parked.clone()) },
    ];
    assert!(!commit(&mut tables, &Delta { tasks: &tasks, ..Delta::default() }));
    assert_eq!(kinds(&mut tables, due), [(5, TaskKind::Recheck, TaskState::Parked)]);
    assert_eq!(tables.next_due().unwrap(), Some(StoreTime::from_millis(9)));
    let of_b: Vec<Progress> = tables.tasks(Which::Of(&b), 10).unwrap().into_iter().map(|task| task.progress).collect();
    assert_eq!(of_b, [waiting, parked]);
    assert_eq!(kinds(&mut tables, Which::Parked), [(5, TaskKind::Recheck, TaskState::Parked)]);
    let status = tables.queue().unwrap();
    assert_eq!(
        status.tasks,
        [(TaskKind::Foreground, TaskState::Waiting, 1), (TaskKind::Recheck, TaskState::Parked, 1)]
    );
    assert_eq!((status.tombstones, status.oldest.is_some()), (2, true));
    // Of what waits, the foreground task is woken once.
    assert!(commit(&mut tables, &Delta { wake_foreground: vec![&a, &b], ..Delta::default() }));
    assert!(!commit(&mut tables, &Delta { wake_foreground: vec![&b], ..Delta::default() }));
    assert!(commit(&mut tables, &Delta { restart: vec![&b], ..Delta::default() }));
    assert_eq!(tables.tasks(Which::Of(&b), 1).unwrap()[0].progress.cursor, None);
    tell(
        &mut tables,
        &Started {
            dropped: vec![(&b, TaskKind::Foreground)],
            tasks: vec![(&b, TaskKind::Orphan, &key, false, 9)],
            woken: vec![&b],
            ..Started::default()
        },
    );
    assert_eq!(kinds(&mut tables, Which::Of(&b)), [(6, TaskKind::Orphan, ready), (5, TaskKind::Recheck, ready)]);
    assert_eq!(tables.orphaning(&[&a, &b]).unwrap(), [b].into());
    assert_eq!(tables.orphaning(&[]).unwrap(), [].into());
    // A recheck that is older than the tombstones keeps them.
    let late = StoreTime::from_millis(i64::MAX);
    assert_eq!(tables.forget(late, 0, 1).unwrap(), Some(1));
    assert_eq!(tables.tombstones(&[&a]).unwrap().len(), 1);
    commit(&mut tables, &Delta { tasks: &[TaskChange { id: 5, progress: None }], ..Delta::default() });
    assert_eq!(tables.forget(late, 0, 5).unwrap(), None);
    assert_eq!(tables.tombstones(&[&a]).unwrap().len(), 0);
}

#[test]
fn leases_get_a_little_time_but_never_more_than_was_granted() {
    let mut tables = serve();
    let lease = |id, ttl, ends| Lease { id, ttl, expires_at: StoreTime::from_millis(ends) };
    let leases = [lease(1, 60, 5_000), lease(2, 2, 11_000), lease(3, 60, 50_000)];
    commit(
        &mut tables,
        &Delta { leases: leases.iter().map(|lease| (lease.id, Some(lease))).collect(), ..Delta::default() },
    );
    assert_eq!(tables.extend_leases(StoreTime::from_millis(10_000), Duration::from_secs(5)).unwrap(), 2);
    let after = [lease(2, 2, 12_000), lease(1, 60, 15_000), lease(3, 60, 50_000)];
    assert_eq!(tables.leases(0).unwrap(), after);
    assert_eq!(tables.leases(1).unwrap(), after[..1]);
    commit(&mut tables, &Delta { leases: vec![(2, None)], ..Delta::default() });
    assert_eq!(tables.lease(2).unwrap(), None);
}

#[test]
fn tombstones_are_counted_whatever_else_has_numbers() {
    let mut tables = serve();
    let (uid, key) = (uid("a"), Bytes::from_static(b"/a"));
    for revision in [2, 3] {
        let started = Started {
            tombstones: vec![(&uid, &key, true, revision)],
            tasks: vec![(&uid, TaskKind::Cascade, &key, true, revision)],
            ..Started::default()
        };
        tell(&mut tables, &started);
    }
    tables.snapshot().unwrap();
    assert_eq!(tables.queue().unwrap().tombstones, 2);
}

/// What a large deletion asks for at once is more than a packet of the server holds.
#[test]
fn very_many_objects_may_go_at_once() {
    let mut tables = serve();
    let owner = uid("6ba7b810-9dad-11d1-80b4-00c04fd430c8");
    let edge = EdgeRow { owner: &owner, labelled: true, key: b"/1", block: false, waits: false };
    commit(&mut tables, &Delta { edges_new: vec![edge], ..Delta::default() });
    let mut uids: Vec<Uid> =
        (0..80_000_u32).map(|number| uid(&format!("ffffffff-ffff-11d1-80b4-00c0{number:08x}"))).collect();
    uids.push(owner.clone());
    let uids: Vec<&Uid> = uids.iter().collect();
    tables.begin(&Footprint::default()).unwrap();
    assert_eq!(tables.heard(&uids, &uids).unwrap().dependents, BTreeMap::from([(owner.clone(), (false, true))]));
    let below = tables.below(&uids, 1000).unwrap();
    assert_eq!(below.values().filter(|below| below.any).count(), 1);
    tables.rollback();
}
