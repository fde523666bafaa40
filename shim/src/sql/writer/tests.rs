//! Whatever fails, and how: nothing that was acknowledged is lost, and nothing is there twice.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::super::numbers::MOST;
use super::double::{Double, Server, Stored, Way};
use super::*;
use crate::clock::Steady;
use crate::engine::store::{Facets, Row, RowChange};
use crate::engine::{KeyValue, Revision};
use crate::gc::{Signal, Uid, What};

/// A commit of which an object comes, with a label, and another one is gone.
fn changes(revision: Revision, key: &Bytes, signals: bool) -> Changes {
    let kv = KeyValue {
        key: key.clone(),
        mod_revision: revision,
        create_revision: revision,
        version: 1,
        ..KeyValue::default()
    };
    let facets = Facets { labels: vec![("app".into(), "web".into())], ..Facets::default() };
    let rows = vec![RowChange { key: key.clone(), before: None, after: Some((Row { kv, sub: 0 }, facets)) }];
    let what = What::Removed { namespaced: true, begun: false };
    let uid = Uid::parse("u").expect("a UID");
    let gone = Signal { uid, key: "/gone".into(), revision, hidden: false, what };
    Changes { revision, rows, signals: if signals { vec![gone] } else { Vec::new() }, ..Changes::default() }
}

struct World {
    server: Arc<Mutex<Server>>,
    writer: SqlWriter,
    /// What the engine was told last: the newest revision before a commit.
    seen: Vec<Revision>,
}

impl World {
    fn new() -> Self {
        let server = Arc::new(Mutex::new(Server { revision: 1, ..Server::default() }));
        let clock = StoreClock::from(StoreTime::default(), Arc::new(Steady::default()));
        let mut writer =
            SqlWriter::new(Box::new(Double::new(&server)), clock, Arc::default(), Turn::fixed(Duration::ZERO));
        writer.sleep = |_| {};
        Self { server, writer, seen: Vec::new() }
    }

    fn put(&mut self, key: &'static str, signals: bool) -> engine::Result<Committed> {
        let (key, seen) = (Bytes::from_static(key.as_bytes()), &mut self.seen);
        self.writer.commit(&Footprint::default(), &mut |before| {
            seen.push(before.revision);
            Ok(changes(before.revision + 1, &key, signals))
        })
    }

    fn set(&self, change: impl FnOnce(&mut Server)) {
        change(&mut self.server.lock().unwrap());
    }

    /// The keys that are stored, in order of their revisions, which have no gap; each with its label under the number
    /// that the name has.
    fn stored(&self) -> Vec<Bytes> {
        let server = self.server.lock().unwrap();
        let mut keys = Vec::new();
        for (at, Stored { revision, rows, postings, .. }) in server.commits.iter().enumerate() {
            assert_eq!(*revision, 2 + at as Revision, "{:?}", server.commits);
            let [key] = &rows[..] else { panic!("{rows:?}") };
            let [(number, of)] = &postings[..] else { panic!("{postings:?}") };
            assert_eq!((*number, of), (server.commits[0].postings[0].0, key), "the name has one number");
            keys.push(key.clone());
        }
        keys
    }
}

/// Puts a key while calls fail as said, then another one when all is well again.
fn with_faults(faults: &[(usize, Way)], signals: bool) {
    let mut world = World::new();
    world.set(|server| server.faults = faults.iter().copied().collect());
    let first = world.put("a", signals);
    let seen = world.seen.clone();
    let calls = world.server.lock().unwrap().calls.len();
    let shown = format!("{faults:?} {signals} {first:?} {:?}", world.server.lock().unwrap().calls);
    world.set(|server| server.faults.clear());
    let second = world.put("b", signals).expect(&shown);
    let stored = world.stored();
    assert!(seen.iter().all(|before| *before == 1), "{shown}");
    match first {
        Ok(committed) => {
            assert_eq!((stored, committed.before, second.before), (vec!["a".into(), "b".into()], 1, 2), "{shown}");
        }
        Err(Error::Unknown(_)) => {
            // Whoever comes next is told.
            let happened = second.before == 2;
            let expected: &[Bytes] = if happened { &["a".into(), "b".into()] } else { &["b".into()] };
            assert_eq!(stored, expected, "{shown}");
        }
        Err(_) => assert_eq!((stored, second.before), (vec![Bytes::from("b")], 1), "{shown}"),
    }
    let is_final = faults.iter().any(|(call, way)| *way == Way::Final && *call < calls);
    assert_eq!(world.seen.last(), Some(&second.before), "{shown}");
    assert!(is_final || seen.len() <= 3, "{shown}");
}

#[test]
fn whatever_fails_nothing_is_lost_and_nothing_is_there_twice() {
    for signals in [false, true] {
        // A commit is at most six calls, and three with all their failures see each pair of them.
        for first in 0..8 {
            for way in Way::ALL {
                with_faults(&[(first, way)], signals);
                for second in first + 1..first + 10 {
                    for then in Way::ALL {
                        with_faults(&[(first, way), (second, then)], signals);
                    }
                }
            }
        }
    }
}

/// A request that changes nothing is no commit.
#[test]
fn only_a_commit_tells_how_long_a_step_may_take() {
    let mut world = World::new();
    let most = Duration::from_secs(3600);
    world.writer.turn = Turn::new(Duration::ZERO..=most);
    let nothing = world.writer.commit(&Footprint::default(), &mut |_| Ok(Changes::default()));
    assert!(!nothing.unwrap().work);
    assert_eq!(world.writer.turn.may_take(), most);
    world.put("a", false).unwrap();
    assert!(world.writer.turn.may_take() < most);
}

/// What was decided the first time stands, and is not decided again.
#[test]
fn a_commit_that_happened_is_found_by_its_number() {
    for happened in [true, false] {
        let mut world = World::new();
        world.put("a", true).unwrap();
        world.set(|server| server.commit_fails = Some(Way::Unknown(happened)));
        let committed = world.put("b", true).unwrap();
        assert_eq!((world.stored(), committed.before), (vec!["a".into(), "b".into()], 2));
        assert_eq!(world.seen, if happened { vec![1, 2] } else { vec![1, 2, 2] });
        let server = world.server.lock().unwrap();
        assert_eq!(server.batch, 2, "the second try had the same number");
        assert!(server.commits.iter().all(|stored| stored.gone == 1), "the collector hears of each once");
    }
}

#[test]
fn whoever_gave_up_on_a_commit_is_told_by_the_next() {
    for happened in [true, false] {
        let mut world = World::new();
        world.put("a", false).unwrap();
        world.set(|server| server.commit_fails = Some(Way::Unknown(happened)));
        let calls = world.server.lock().unwrap().calls.len();
        // Behind the call that begins and the one that commits.
        world.set(|server| server.faults = (calls + 2..calls + 1000).map(|call| (call, Way::Lost)).collect());
        let unknown = world.put("b", false).unwrap_err();
        assert!(matches!(unknown, Error::Unknown(_)), "{unknown:?}");
        let tries = world.server.lock().unwrap().calls.len() - calls;
        assert!((50..200).contains(&tries), "{tries} calls in ten seconds");
        let nothing = world.put("c", false).unwrap_err();
        assert!(matches!(nothing, Error::Unavailable(_)), "{nothing:?}");
        world.set(|server| server.faults.clear());
        let committed = world.put("d", false).unwrap();
        assert_eq!(committed.before, if happened { 3 } else { 2 });
        let expected: &[Bytes] =
            if happened { &["a".into(), "b".into(), "d".into()] } else { &["a".into(), "d".into()] };
        assert_eq!(world.stored(), expected);
    }
}

/// All that is not a commit may be done twice.
#[test]
fn duties_are_tried_again() {
    for way in [Way::Again, Way::Lost] {
        let mut world = World::new();
        let mut at = 0;
        let mut failing = |world: &World| {
            at = world.server.lock().unwrap().calls.len();
            world.set(|server| server.faults = [(at, way)].into());
        };
        failing(&world);
        world.writer.try_commit().unwrap();
        failing(&world);
        assert!(world.writer.compact_step().unwrap());
        failing(&world);
        assert!(!world.writer.index_step(Duration::ZERO).unwrap());
        failing(&world);
        assert!(world.writer.tidy(true).unwrap());
        failing(&world);
        world.writer.defragment().unwrap();
        failing(&world);
        assert!(world.writer.forget(StoreTime::default()).unwrap());
        assert_eq!(world.writer.forgotten, 7);
        failing(&world);
        assert_eq!(world.writer.extend_leases(Duration::ZERO).unwrap(), 3);
        world.set(|server| (server.faults, server.all_fail) = (Default::default(), Some(way)));
        assert!(matches!(world.writer.try_commit(), Err(Error::Unavailable(_))));
    }
}

#[test]
fn what_can_not_be_decided_changes_nothing() {
    let mut world = World::new();
    let refused = world.writer.commit(&Footprint::default(), &mut |_| Err(Error::Broken("no".into())));
    assert_eq!(refused, Err(Error::Broken("no".into())));
    let empty = world.writer.commit(&Footprint::default(), &mut |_| Ok(Changes::default()));
    assert_eq!(empty, Ok(Committed { before: 1, work: false }));
    assert!(world.stored().is_empty());
    assert_eq!(world.put("a", false), Ok(Committed { before: 1, work: false }));
}

/// Each object may have a label of its own.
#[test]
fn the_names_of_labels_do_not_fill_the_memory() {
    let mut world = World::new();
    for batch in 0..3 {
        let committed = world.writer.commit(&Footprint::default(), &mut |before| {
            let mut changes = changes(before.revision + 1, &Bytes::from_static(b"a"), false);
            let labels = (0..MOST).map(|label| (format!("{batch}-{label}").into(), "".into()));
            if let Some((_, facets)) = &mut changes.rows[0].after {
                facets.labels = labels.collect();
            }
            Ok(changes)
        });
        committed.unwrap();
        assert!(world.writer.numbers.len() <= MOST, "{}", world.writer.numbers.len());
    }
}
