//! The checker finds what is wrong in small histories.

use bytes::Bytes;
use sluice_shim::pb::mvccpb::{Event, KeyValue};

use super::checker::check;
use super::history::{Answer, Call, History, Keys, Message, Operation, Outcome, Refusal, WatchRecord, Write};
use super::model::{States, apply};

const A: Bytes = Bytes::from_static(b"a");
const B: Bytes = Bytes::from_static(b"b");

fn both() -> Keys {
    Keys { from: A, end: Bytes::from_static(b"c") }
}

fn put(key: Bytes, value: &'static str) -> Call {
    Call::Put { key, value: value.into(), lease: 0 }
}

fn read(keys: Keys) -> Call {
    Call::Range { keys, revision: 0 }
}

fn cas(key: Bytes, expected: i64, value: &'static str) -> Call {
    Call::Cas { key: key.clone(), expected, writes: vec![Write::Put(key, value.into())] }
}

/// A correct history: one call after the other, and a watch of all.
fn history(calls: &[Call]) -> History {
    let mut history = History::default();
    let mut states = States::new();
    for (i, call) in calls.iter().enumerate() {
        let newest = states.newest();
        let (answer, events) = apply(call, states.at(newest).unwrap(), newest + 1);
        let revision = newest + i64::from(!events.is_empty());
        if !events.is_empty() {
            states.push(&events);
        }
        history.events.extend(events);
        let outcome = Outcome::Answered(revision, answer);
        let began = i as u64 * 2;
        history.operations.push(Operation {
            client: 0,
            began,
            ended: began + 1,
            sent: began * 1000,
            done: began * 1000 + 1,
            call: call.clone(),
            outcome,
        });
    }
    let messages = history.events.iter().map(|event| Message::Events(states.newest(), vec![event.clone()])).collect();
    history.watches.push(WatchRecord { keys: both(), prev_kv: true, from: 1, messages, failed: None });
    history
}

/// Revisions 2 to 5: put a, put b, a compared and put, a and b deleted; and reads.
fn good() -> History {
    let delete = Call::Delete { keys: both() };
    history(&[
        put(A, "1"),
        read(both()),
        put(B, "2"),
        cas(A, 2, "3"),
        cas(A, 2, "4"),
        read(Keys::one(A)),
        delete.clone(),
        delete,
        read(both()),
    ])
}

fn outcome(history: &mut History, operation: usize) -> (&mut i64, &mut Answer) {
    match &mut history.operations[operation].outcome {
        Outcome::Answered(revision, answer) => (revision, answer),
        other => panic!("{other:?}"),
    }
}

fn events(history: &mut History, message: usize) -> &mut Vec<Event> {
    match &mut history.watches[0].messages[message] {
        Message::Events(_, events) => events,
        Message::Progress(_) | Message::Gap(_) => panic!("no events"),
    }
}

#[test]
fn correct_histories_pass() {
    assert_eq!(check(&good()), Ok(5));
    // Calls at the same time may be answered in any order.
    let mut concurrent = good();
    concurrent.operations.iter_mut().for_each(|operation| operation.ended += 100);
    concurrent.operations.reverse();
    assert_eq!(check(&concurrent), Ok(5));
    // An unknown call may have happened, or not.
    for happened in [0, 2, 3, 6] {
        let mut unknown = good();
        unknown.operations[happened].outcome = Outcome::Unknown;
        assert_eq!(check(&unknown), Ok(5), "{happened}");
    }
    let mut unknown = good();
    let lost = Operation { call: put(A, "lost"), outcome: Outcome::Unknown, ..unknown.operations[0].clone() };
    unknown.operations.push(lost);
    assert_eq!(check(&unknown), Ok(5));
}

/// The owners of two deletes that look alike are found in either order.
#[test]
fn unknown_deletes_are_matched() {
    let delete = || Call::Delete { keys: Keys::one(A) };
    let calls = [put(A, "1"), delete(), put(A, "2"), delete(), read(both())];
    for swapped in [false, true] {
        let mut history = history(&calls);
        history.operations[1].outcome = Outcome::Unknown;
        history.operations[3].outcome = Outcome::Unknown;
        if swapped {
            history.operations.swap(1, 3);
        }
        assert_eq!(check(&history), Ok(5));
        // One delete cannot be two, nor can it happen before it began.
        let late = history.operations.iter().position(|operation| operation.began == 6).unwrap();
        let early = history.operations.iter().position(|operation| operation.began == 2).unwrap();
        let mut one =
            History { operations: history.operations.clone(), events: history.events.clone(), ..History::default() };
        one.operations.remove(late);
        assert!(check(&one).unwrap_err().starts_with("nobody made revision 5"));
        history.operations.remove(early);
        assert!(check(&history).unwrap_err().starts_with("nobody made revision 3"));
    }
}

#[test]
fn wrong_calls_are_found() {
    type Damage = fn(&mut History);
    let table: &[(&str, Damage, &str)] = &[
        (
            "a stale read",
            |history| {
                let old = outcome(history, 1).1.clone();
                *outcome(history, 5).1 = old;
                *outcome(history, 5).0 = 2;
            },
            "stale: revision 4 had been seen",
        ),
        (
            "a watch that begins in the past",
            |history| {
                history.operations[5].call = Call::Watch { keys: both() };
                history.operations[5].outcome = Outcome::Answered(3, Answer::Watching);
            },
            "stale: revision 4 had been seen",
        ),
        (
            "a stale read under a new revision",
            |history| *outcome(history, 5).1 = outcome(history, 1).1.clone(),
            "wrong answer",
        ),
        ("a lost write at the end", |history| history.events.truncate(3), "lost: the history ends at 4"),
        ("a lost write in the middle", |history| drop(history.events.remove(1)), "goes on with revision 4"),
        ("a write of nobody", |history| drop(history.operations.remove(2)), "nobody made revision 3"),
        ("reordered revisions", |history| history.events.swap(0, 1), "goes on with revision 3"),
        (
            "writes in another order than their revisions",
            |history| {
                history.operations[0].began = 4;
                history.operations[0].ended = 5;
                history.operations[2].began = 0;
                history.operations[2].ended = 1;
            },
            "seen, but wrote before",
        ),
        ("one revision twice", |history| *outcome(history, 2).0 = 2, "two writes got revision 2"),
        (
            "another value than was written",
            |history| history.operations[0].call = put(A, "x"),
            "not what made revision 2",
        ),
        (
            "a previous value that was not",
            |history| *outcome(history, 2).1 = Answer::Put(Some(KeyValue::default())),
            "wrong answer",
        ),
        (
            "a comparison that was false",
            |history| *outcome(history, 4).1 = Answer::Succeeded(vec![None]),
            "two writes got revision 4",
        ),
        (
            "a wrong previous value in a transaction",
            |history| *outcome(history, 3).1 = Answer::Succeeded(vec![None]),
            "wrong answer",
        ),
        (
            "a comparison that was true",
            |history| *outcome(history, 3).1 = Answer::NotEqual(None),
            "nobody made revision 4",
        ),
        (
            "a range that misses a key",
            |history| *outcome(history, 1).1 = Answer::Range { kvs: vec![], count: 0 },
            "wrong answer",
        ),
        ("a wrong version", |history| history.events[2].kv.as_mut().unwrap().version = 7, "not what made revision 4"),
        (
            "an unknown write that happened before it began",
            |history| {
                history.operations[0].outcome = Outcome::Unknown;
                history.operations[0].began = 100;
            },
            "nobody made revision 2",
        ),
        (
            "an error without a kill",
            |history| history.operations[1].outcome = Outcome::Failed("no".to_owned()),
            "failed: no",
        ),
    ];
    for (name, damage, expected) in table {
        let mut history = good();
        history.watches.clear();
        damage(&mut history);
        let found = check(&history).expect_err(name);
        assert!(found.contains(expected), "{name}: {found}");
    }
}

#[test]
fn wrong_watches_are_found() {
    type Damage = fn(&mut History);
    let table: &[(&str, Damage, &str)] = &[
        (
            "a duplicated event",
            |history| {
                let again = events(history, 1)[0].clone();
                events(history, 1).push(again);
            },
            "got Event",
        ),
        ("a missing event", |history| drop(history.watches[0].messages.remove(1)), "got Event"),
        ("a missing last event", |history| drop(history.watches[0].messages.pop()), "never got"),
        ("events out of order", |history| history.watches[0].messages.swap(1, 2), "got Event"),
        ("an event of another key", |history| history.watches[0].keys = Keys::one(A), "got Event"),
        ("an event before the start", |history| history.watches[0].from = 3, "got Event"),
        ("no previous value", |history| events(history, 2)[0].prev_kv = None, "got Event"),
        ("an unwanted previous value", |history| history.watches[0].prev_kv = false, "got Event"),
        (
            "progress too far",
            |history| history.watches[0].messages.insert(1, Message::Progress(3)),
            "progress to 3 was said before",
        ),
        (
            "a header from the past",
            |history| {
                let events = events(history, 1).clone();
                history.watches[0].messages[1] = Message::Events(2, events);
            },
            "the header has revision 2",
        ),
        ("an error without a kill", |history| history.watches[0].failed = Some("no".to_owned()), "failed: no"),
    ];
    for (name, damage, expected) in table {
        let mut history = good();
        damage(&mut history);
        let found = check(&history).expect_err(name);
        assert!(found.contains(expected), "{name}: {found}");
    }
    let mut progress = good();
    progress.watches[0].messages.insert(1, Message::Progress(2));
    assert_eq!(check(&progress), Ok(5));
}

/// Revisions 2 to 5: a put under lease 7, b put, the lease revoked, b put under lease 8. Compacted at 3, and replays of
/// 2 and 3 after that.
fn leased() -> History {
    let under = |key, lease| Call::Put { key, value: "x".into(), lease };
    let mut history = history(&[
        Call::Grant { lease: 7, ttl: 2 },
        under(A, 7),
        put(B, "1"),
        Call::Revoke { lease: 7 },
        Call::Compact { revision: 3 },
        Call::Replay { revision: 2 },
        Call::Replay { revision: 3 },
        Call::Grant { lease: 8, ttl: 2 },
        under(B, 8),
        under(A, 7),
    ]);
    history.operations[5].outcome = Outcome::Refused(Refusal::Compacted);
    let event = Event { prev_kv: None, ..history.events[1].clone() };
    *outcome(&mut history, 6).1 = Answer::Replayed(vec![event]);
    // What the model does not refuse.
    history.operations[9].outcome = Outcome::Refused(Refusal::NoLease);
    history.events.truncate(4);
    history.watches.clear();
    history
}

/// The same with the end of lease 8 at revision 6, heard of at that time.
fn expired(heard: u64) -> History {
    let mut history = leased();
    let previous = history.events[3].kv.clone();
    let kv = KeyValue { key: B, mod_revision: 6, ..KeyValue::default() };
    history.events.push(Event { r#type: 1, kv: Some(kv), prev_kv: previous });
    history.heard.insert(6, heard);
    history
}

#[test]
fn leases_and_compactions_that_can_be_pass() {
    assert_eq!(check(&leased()), Ok(5));
    // Lease 8 was granted at 14,000 ms for 2 s.
    assert_eq!(check(&expired(16_000)), Ok(6));
    for unknown in [0, 1, 3, 4, 7] {
        let mut history = leased();
        history.operations[unknown].outcome = Outcome::Unknown;
        assert_eq!(check(&history), Ok(5), "{unknown}");
    }
    let mut gap = good();
    gap.operations.push(Operation { call: Call::Compact { revision: 3 }, ..gap.operations[1].clone() });
    gap.operations[9].outcome = Outcome::Answered(5, Answer::Compacted);
    (gap.operations[9].began, gap.operations[9].ended) = (20, 21);
    gap.watches[0].messages.splice(0..2, [Message::Gap(3)]);
    assert_eq!(check(&gap), Ok(5));
    // At the compaction's revision the previous value may be gone, after it not.
    for (revision, passes) in [(4, true), (3, false)] {
        let mut without = good();
        without.operations.push(Operation { call: Call::Compact { revision }, ..gap.operations[9].clone() });
        events(&mut without, 2)[0].prev_kv = None;
        assert_eq!(check(&without).is_ok(), passes, "compacted at {revision}");
    }
}

#[test]
fn wrong_leases_and_compactions_are_found() {
    type Damage = fn(&mut History);
    let table: &[(&str, Damage, &str)] = &[
        (
            "a replay of what is compacted",
            |history| history.operations[5].outcome = Outcome::Answered(4, Answer::Replayed(vec![])),
            "wrong answer",
        ),
        (
            "a read of what is compacted",
            |history| {
                history.operations[5].call = Call::Range { keys: Keys::one(B), revision: 2 };
                history.operations[5].outcome = Outcome::Answered(4, Answer::Range { kvs: vec![], count: 0 });
            },
            "compacted at 3 before it began",
        ),
        ("an error without a compaction", |history| drop(history.operations.remove(4)), "nobody compacted that"),
        (
            "a refusal at the revision of the compaction",
            |history| history.operations[6].outcome = Outcome::Refused(Refusal::Compacted),
            "nobody compacted that",
        ),
        (
            "a compaction that goes back",
            |history| {
                history.operations[9].call = Call::Compact { revision: 2 };
                history.operations[9].outcome = Outcome::Answered(5, Answer::Compacted);
            },
            "compacted at 3 before it began",
        ),
        ("a replay that misses an event", |history| *outcome(history, 6).1 = Answer::Replayed(vec![]), "wrong answer"),
        (
            "a write under a lease that is revoked",
            |history| {
                history.operations[9].outcome = Outcome::Answered(6, Answer::Put(None));
                let kv =
                    KeyValue { key: A, value: "x".into(), create_revision: 6, mod_revision: 6, version: 1, lease: 7 };
                history.events.push(Event { r#type: 0, kv: Some(kv), prev_kv: None });
            },
            "the lease was revoked before",
        ),
        (
            "a lease that is lost",
            |history| {
                history.operations[7].call = Call::Grant { lease: 8, ttl: 100 };
                history.operations[8].outcome = Outcome::Refused(Refusal::NoLease);
                history.events.truncate(3);
            },
            "the lease is not there",
        ),
        (
            "keys that outlive their lease",
            |history| {
                history.events.truncate(2);
                *outcome(history, 3).0 = 3;
                history.operations.truncate(5);
            },
            "keys are attached to the lease still",
        ),
        (
            "a revocation that is lost",
            |history| {
                history.operations.remove(3);
                history.heard.insert(4, 1000);
            },
            "nobody made revision 4",
        ),
    ];
    for (name, damage, expected) in table {
        let mut history = leased();
        damage(&mut history);
        let found = check(&history).expect_err(name);
        assert!(found.contains(expected), "{name}: {found}");
    }
    assert!(check(&expired(15_900)).unwrap_err().starts_with("nobody made revision 6"), "a lease ended early");
    let mut gap = good();
    gap.watches[0].messages.splice(0..2, [Message::Gap(3)]);
    assert!(check(&gap).unwrap_err().contains("nobody did that"));
}
