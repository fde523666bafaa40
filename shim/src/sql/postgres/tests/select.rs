//! Reads by the index, and the graph of owners.

use std::ops::ControlFlow;

use super::*;
use crate::clock::StoreTime;
use crate::engine::store::Footprint;
use crate::engine::{KeyRange, RangeEnd};
use crate::gc::{Progress, TaskChange, TaskKind, TaskState, Uid};
use crate::sql::failure::Failure;
use crate::sql::session::{
    Commit as _, Delta, EdgeRow, Field, Find, Graph as _, IndexChange, IndexState, NewHead, Odd, Postings, Probe as _,
    Source, Started, Which,
};

/// 300 objects: name 1 has the parity of the number, 2 the number modulo 5, 3 the number itself; each third is hidden.
const FILL: &str = "
    INSERT INTO current SELECT convert_to('/r/' || lpad(i::text, 5, '0'), 'UTF8'), 1, 1 + i % 4, i, 1, 0, i % 3 =
        0, NULL, 'v'
        FROM generate_series(0, 299) i;
    INSERT INTO attribute SELECT n, convert_to(CASE n WHEN 1 THEN i % 2 WHEN 2 THEN i % 5 ELSE i END::text, 'UTF8'),
        convert_to('/r/' || lpad(i::text, 5, '0'), 'UTF8') FROM generate_series(0, 299) i, generate_series(1, 3) n;
    INSERT INTO directory VALUES ('/r/', 300, 2, 1), ('/s/', 7, 0, 0);
    UPDATE meta SET revision = 9, next_id = 100";

fn filled() -> Session {
    let name = Server::get().database();
    drop(opened(&address(&name)).unwrap());
    Server::get().psql(&name, FILL).unwrap();
    opened(&address(&name)).unwrap().0
}

fn lists(of: &[(i64, &str)]) -> Vec<Postings> {
    of.iter().map(|(name, value)| Postings { name: *name, value: (*value).into() }).collect()
}

fn range(start: &str, end: &str) -> KeyRange {
    KeyRange { start: start.as_bytes().to_vec().into(), end: RangeEnd::Before(end.as_bytes().to_vec().into()) }
}

/// Where keys come from, what they are looked up in besides, and which numbers should be found.
type Case<'a> = (Source, &'a [&'a [Postings]], &'a dyn Fn(i64) -> bool);

#[test]
fn live_keys_are_found_in_order_wherever_they_come_from() {
    let mut session = filled();
    session.snapshot().unwrap();
    let part = range("/r/00010", "/r/00250");
    let (even, fives) = (lists(&[(1, "0")]), lists(&[(2, "0"), (2, "1"), (2, "4")]));
    // A key that is in two lists comes once.
    let twice = lists(&[(1, "1"), (2, "1"), (2, "3")]);
    let some: Vec<Vec<u8>> = (0..300).step_by(7).chain([9999]).map(|i| format!("/r/{i:05}").into_bytes()).collect();
    let probe: [&[Postings]; 2] = [&even, &fives];
    let in_fives = |i: i64| [0, 1, 4].contains(&(i % 5));
    let table: [Case<'_>; 8] = [
        (Source::Scan, &[], &|_| true),
        (Source::Visible, &[], &|i| i % 3 != 0),
        (Source::Postings(even.clone()), &[], &|i| i % 2 == 0),
        (Source::Postings(fives.clone()), &[], &in_fives),
        (Source::Postings(twice), &[], &|i| i % 2 == 1 || [1, 3].contains(&(i % 5))),
        (Source::Postings(even.clone()), &probe[1..], &|i| i % 2 == 0 && in_fives(i)),
        (Source::Postings(fives.clone()), &probe, &|i| i % 2 == 0 && in_fives(i)),
        (Source::Keys(some), &probe[..1], &|i| i % 7 == 0 && i % 2 == 0),
    ];
    for (source, probes, expected) in &table {
        for (until, wanted, most) in [(i64::MAX, 1, 300), (i64::MAX, 500, 300), (2, 20, 300), (i64::MAX, 3, 3)] {
            let find = Find { range: &part, source, probes, until, values: false, wanted };
            let mut keys = Vec::new();
            session
                .find(&find, &mut |row| {
                    assert!(row.value.is_empty());
                    keys.push(String::from_utf8(row.key.to_vec()).unwrap());
                    if keys.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                })
                .unwrap();
            let matching = (10..250).filter(|i| expected(*i) && i % 4 < until);
            let matching: Vec<String> = matching.take(most).map(|i| format!("/r/{i:05}")).collect();
            assert_eq!(keys, matching, "{source:?} {probes:?} until {until}, {wanted}");
        }
    }
    let counts: Vec<(&Source, i64)> =
        table[..5].iter().flat_map(|(source, ..)| [(source, 17), (source, 1000)]).collect();
    let lists = 240 / 5 * 3;
    assert_eq!(session.counts(&part, &counts).unwrap(), [17, 240, 17, 160, 17, 120, 17, lists, 17, 120 + 96]);
}

/// Whether these are all entries of name 3, and how many came.
fn entries(session: &mut Session, most: usize) -> (bool, usize) {
    let mut came = 0;
    (session.entries(3, most, &mut |_, _| came += 1).unwrap(), came)
}

#[test]
fn what_the_planner_asks() {
    let mut session = filled();
    session.snapshot().unwrap();
    let all = range("/r/", "/r0");
    assert_eq!(session.values(2, 5).unwrap().unwrap(), ["0", "1", "2", "3", "4"]);
    assert_eq!((session.values(3, 299).unwrap(), session.values(77, 5).unwrap()), (None, Some(vec![])));
    assert_eq!(entries(&mut session, 300), (true, 300));
    assert_eq!((entries(&mut session, 299), session.entries_count(3).unwrap()), ((false, 299), 300));
    assert_eq!(session.odd(&all, &[], Odd::Opaque).unwrap(), 2);
    assert_eq!(session.odd(&range("/r/1", "/r/2"), &[b"/r/"], Odd::Misplaced).unwrap(), 1);
    assert_eq!(session.directories(&range("/", "0"), 1).unwrap(), [b"/r/"]);
    assert_eq!((session.live(b"/").unwrap(), session.label("none").unwrap()), (307, None));
    session.end();
    let head = session.begin(&Footprint::default()).unwrap().head;
    let add = |field: &str| IndexChange::Add {
        prefix: "/r/".into(),
        api_version: "g/v1".into(),
        field: field.into(),
        state: IndexState::Ready,
    };
    let head = NewHead { revision: 9, compact_revision: 0, now: head.now, batch: 1 };
    session.apply(&Delta { indexes: vec![add("a"), add("b")], ..Delta::default() }, Some(&head)).unwrap();
    session.snapshot().unwrap();
    let found = session.indexes().unwrap();
    assert_eq!(
        found.iter().map(|found| (found.index.id, &found.index.field[..])).collect::<Vec<_>>(),
        [(100, "a"), (101, "b")]
    );
    let field = Field { api_version: "g/v1", field: "b" };
    assert_eq!(session.index(&[b"/r/x/", b"/r/", b"/"], field).unwrap().as_ref(), Some(&found[1]));
    session.end();
    session.begin(&Footprint::default()).unwrap();
    let gone = IndexChange::Set { id: 100, state: IndexState::Dropping, cursor: vec![], objects: 0 };
    session
        .apply(&Delta { indexes: vec![gone, add("a")], ..Delta::default() }, Some(&NewHead { batch: 2, ..head }))
        .unwrap();
    session.remove_index(100, 10).unwrap();
    session.snapshot().unwrap();
    assert_eq!(session.indexes().unwrap().iter().map(|found| found.index.id).collect::<Vec<_>>(), [101, 102]);
}

#[test]
fn the_collectors_queue_and_what_it_knows_of_owners() {
    let name = Server::get().database();
    let (mut session, _) = opened(&address(&name)).unwrap();
    let uid = |n: u8| Uid::Uuid([n; 16]);
    let (a, b, c) = (uid(1), uid(2), uid(3));
    let now = session.begin(&Footprint::default()).unwrap().head.now;
    let edge = |owner, labelled, key, block, waits| EdgeRow { owner, labelled, key, block, waits };
    let edges = vec![
        edge(&a, false, b"/1", false, false),
        edge(&a, true, b"/2", true, true),
        edge(&b, true, b"/1", false, false),
    ];
    let delta = Delta { edges_new: edges.clone(), ..Delta::default() };
    assert!(!session.apply(&delta, None).unwrap());
    let (key, head) = ("/o".into(), NewHead { revision: 2, compact_revision: 0, now, batch: 1 });
    let started = Started {
        tombstones: vec![(&c, &key, true, 2)],
        tasks: vec![(&a, TaskKind::Foreground, &key, true, 2), (&c, TaskKind::Cascade, &key, true, 2)],
        ..Started::default()
    };
    session.tell(&started, head.now, Some(&head)).unwrap();
    session.snapshot().unwrap();
    let heard = session.heard(&[&a, &b, &c], &[&c, &a]).unwrap();
    assert_eq!(
        heard.dependents.into_iter().collect::<Vec<_>>(),
        [(a.clone(), (true, true)), (b.clone(), (false, true))]
    );
    assert_eq!(heard.tasks[&a].keys().collect::<Vec<_>>(), [&TaskKind::Foreground]);
    assert_eq!(heard.tombstones, [c.clone()].into());
    let below = session.below(&[&a, &b, &c], 1000).unwrap();
    let of = |uid: &Uid| (below[uid].any, below[uid].waits, below[uid].blocks);
    assert_eq!((of(&a), of(&b), of(&c)), ((true, true, true), (true, false, false), (false, false, false)));
    assert!(session.below(&[&b], 1).unwrap()[&b].blocks, "among very many it is taken for granted");
    let keys = |found: Vec<crate::gc::Dependent>| {
        found.into_iter().map(|one| (one.place.labelled, one.place.key)).collect::<Vec<_>>()
    };
    assert_eq!(keys(session.dependents(&a, (false, b""), 9).unwrap()), [(false, "/1".into()), (true, "/2".into())]);
    assert_eq!(keys(session.dependents(&a, (true, b""), 9).unwrap()), [(true, "/2".into())]);
    assert_eq!(session.tombstones(&[&a, &c]).unwrap()[&c], (true, "/o".into()));
    assert_eq!(session.deleted(b"/o").unwrap(), Some((c.clone(), 2)));
    assert_eq!((session.unknown_owners().unwrap(), session.dependents_count(&a).unwrap()), ((2, 2), (1, 1)));
    let due = session.tasks(Which::Due(now), 9).unwrap();
    assert_eq!(
        due.iter().map(|task| (task.kind, task.created_at)).collect::<Vec<_>>(),
        [(TaskKind::Foreground, now), (TaskKind::Cascade, now)]
    );
    assert_eq!(session.next_due().unwrap(), Some(now));
    let status = session.queue().unwrap();
    assert_eq!((status.tasks.len(), status.oldest, status.tombstones), (2, Some(now), 1));
    session.end();
    // It waits for a dependent; when that goes it can go on.
    session.begin(&Footprint::default()).unwrap();
    let progress = Progress { state: TaskState::Waiting, swept: true, reason: "\0".into(), ..Progress::default() };
    let change =
        [TaskChange { id: due[0].id, progress: Some(progress.clone()) }, TaskChange { id: due[1].id, progress: None }];
    let head = NewHead { batch: 2, ..head };
    assert!(!session.apply(&Delta { tasks: &change, ..Delta::default() }, Some(&head)).unwrap());
    session.snapshot().unwrap();
    let tasks = session.tasks(Which::Of(&a), 9).unwrap();
    assert_eq!((tasks.len(), &tasks[0].progress), (1, &progress));
    assert!(session.tasks(Which::ForegroundAfter(due[0].id), 9).unwrap().is_empty());
    session.end();
    session
        .begin(&Footprint { blocked: [a.clone(), b.clone()].into(), ..Footprint::default() })
        .map(|begun| assert_eq!(begun.blocked, [a.clone()].into()))
        .unwrap();
    let delta = Delta { edges_gone: vec![edges[1].clone()], wake_foreground: vec![&a], ..Delta::default() };
    assert!(session.apply(&delta, Some(&NewHead { batch: 3, ..head })).unwrap());
    assert_eq!(session.forget(now.after(std::time::Duration::from_secs(1)), 0, 9).unwrap(), None);
    session.snapshot().unwrap();
    assert_eq!(session.tasks(Which::Of(&a), 9).unwrap()[0].progress.state, TaskState::Ready);
    assert_eq!((session.queue().unwrap().tombstones, session.tasks(Which::Parked, 9).unwrap().len()), (0, 0));
    assert_eq!(session.next_due().unwrap(), Some(StoreTime::default()));
}

#[test]
fn rows_that_do_not_come_are_not_waited_for_without_end() {
    let name = Server::get().database();
    let second = Some(Duration::from_secs(1));
    let (mut session, _) = open(&address(&name), Arc::default(), second, Opened::ToServe).unwrap();
    let all = range("", "~");
    let find = Find { range: &all, source: &Source::Scan, probes: &[], until: i64::MAX, values: true, wanted: 9 };
    let look = |session: &mut Session| session.find(&find, &mut |_| ControlFlow::Continue(()));
    session.snapshot().unwrap();
    look(&mut session).unwrap();
    session.end();
    let mut other = Database::new(&address(&name), 0, Arc::default(), None).unwrap().connect().unwrap();
    other.long("lock", "BEGIN; LOCK TABLE current").unwrap();
    session.snapshot().unwrap();
    assert!(matches!(look(&mut session), Err(Failure::Lost(_))));
    other.long("unlock", "COMMIT").unwrap();
    session.snapshot().unwrap();
    look(&mut session).unwrap();
}
