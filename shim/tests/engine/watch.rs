//! Watches while others write: nothing lost, nothing twice, in order; slow and late watchers included.

use std::sync::Arc;
use std::time::Duration;

use crate::database::Database;
use crate::support::{open, prefix, put};
use sluice_shim::engine::*;
use sluice_shim::selector::Selection;
use tokio::time::timeout;

fn spec(id: i64, start_revision: Revision) -> WatchSpec {
    WatchSpec { id, range: prefix("/r/"), start_revision, no_put: false, no_delete: false, selection: None }
}

async fn events(session: &mut WatchSession) -> (i64, Vec<Arc<Event>>) {
    match timeout(Duration::from_secs(20), session.next()).await.expect("no event came") {
        WatchMessage::Events { id, events, .. } => (id, events),
        other => panic!("{other:?}"),
    }
}

/// Reads until the watcher has seen the revision.
async fn revisions_until(session: &mut WatchSession, last: Revision) -> Vec<Revision> {
    let mut seen = Vec::new();
    while seen.last() != Some(&last) {
        seen.extend(events(session).await.1.iter().map(|event| event.kv.mod_revision));
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_watcher_sees_every_event_once_in_order() {
    let database = Database::new();
    let (engine, metrics) = open(&database).await;
    const WRITERS: usize = 8;
    const WRITES: usize = 300;
    // With values of 16 KiB the ring holds only a part of it: late watchers begin in the database.
    let last = 1 + (WRITERS * WRITES) as Revision;
    let mut watchers = Vec::new();
    for number in 0..4 {
        let engine = engine.clone();
        watchers.push(tokio::spawn(async move {
            if number >= 2 {
                // Starts when others are under way.
                while engine.revision() < last * number / 4 {
                    tokio::task::yield_now().await;
                }
            }
            let mut session = engine.watch();
            session.create(spec(number, 2));
            revisions_until(&mut session, last).await
        }));
    }
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let engine = engine.clone();
        writers.push(tokio::spawn(async move {
            for _ in 0..WRITES {
                put(&engine, format!("/r/{writer}"), vec![7u8; 16 << 10]).await;
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    for watcher in watchers {
        assert!(watcher.await.unwrap().into_iter().eq(2..=last));
    }
    assert!(metrics.replays.get() > 0, "no watcher had to read the database");
    let mut late = engine.watch();
    late.create(spec(9, 2));
    assert!(revisions_until(&mut late, last).await.into_iter().eq(2..=last));
    assert_eq!(late.progress(9), Some(last));
}

/// A thousand events could hold two gigabytes.
#[tokio::test]
async fn a_watcher_that_catches_up_reads_long_values_in_parts() {
    let database = Database::new();
    let (engine, metrics) = open(&database).await;
    // More than the ring holds.
    let last = 1 + 60;
    for _ in 1..last {
        put(&engine, "/r/large", vec![7u8; 1 << 20]).await;
    }
    let mut session = engine.watch();
    session.create(spec(1, 2));
    let bytes = |kv: &KeyValue| kv.key.len() + kv.value.len();
    let mut revisions = Vec::new();
    while revisions.last() != Some(&last) {
        let replays = metrics.replays.get();
        let events = events(&mut session).await.1;
        let long: usize =
            events.iter().flat_map(|event| [Some(&event.kv), event.prev_kv.as_ref()]).flatten().map(bytes).sum();
        assert!(metrics.replays.get() == replays || long <= 33 << 20, "{long} bytes of the database at once");
        revisions.extend(events.iter().map(|event| event.kv.mod_revision));
    }
    assert!(metrics.replays.get() > 0);
    assert!(revisions.into_iter().eq(2..=last));
}

#[tokio::test]
async fn a_watch_without_start_begins_after_the_last_answer() {
    let database = Database::new();
    let (engine, _) = open(&database).await;
    put(&engine, "/r/a", "1").await;
    let mut session = engine.watch();
    assert_eq!(session.create(spec(1, 0)), 2);
    assert_eq!(session.progress(1), Some(2));
    put(&engine, "/other", "1").await;
    put(&engine, "/r/a", "2").await;
    let (id, seen) = events(&mut session).await;
    assert_eq!((id, seen.len(), seen[0].kv.mod_revision), (1, 1, 4));
    assert_eq!(seen[0].prev_kv.as_ref().unwrap().value, "1");
    assert_eq!(session.progress_all(), Some(4));
    assert!(session.cancel(1));
    assert!(!session.cancel(1));
}

#[tokio::test]
async fn a_start_in_the_future_waits_for_it() {
    let database = Database::new();
    let (engine, _) = open(&database).await;
    let mut session = engine.watch();
    session.create(spec(1, 4));
    for _ in 0..4 {
        put(&engine, "/r/a", "x").await;
    }
    assert_eq!(revisions_until(&mut session, 5).await, [4, 5]);
}

#[tokio::test]
async fn kinds_of_events_can_be_left_out() {
    let database = Database::new();
    let (engine, _) = open(&database).await;
    let mut session = engine.watch();
    session.create(WatchSpec { no_put: true, ..spec(1, 0) });
    session.create(WatchSpec { no_delete: true, range: KeyRange::single("/r/a"), ..spec(2, 0) });
    put(&engine, "/r/a", "x").await;
    engine.write(Op::Delete(DeleteRange { range: prefix("/r/"), prev_kv: false })).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..2 {
        let (id, found) = events(&mut session).await;
        seen.push((id, found.len(), found[0].kind));
    }
    seen.sort_by_key(|seen| seen.0);
    assert_eq!(seen, [(1, 1, EventKind::Delete), (2, 1, EventKind::Put)]);
}

/// An object enters the selection, stays, leaves, comes back and goes: seen live and replayed alike.
#[tokio::test]
async fn a_selective_watch_sees_what_enters_and_what_leaves() {
    let database = Database::new();
    let (engine, _) = open(&database).await;
    let selection = Selection::parse(Some("color=green"), None, None).unwrap().map(Arc::new);
    let selective = |start| WatchSpec { selection: selection.clone(), ..spec(1, start) };
    let mut live = engine.watch();
    live.create(selective(0));
    for color in ["red", "green", "green", "blue", "red", "green"] {
        put(&engine, "/r/shirt", shirt(color)).await;
    }
    put(&engine, "/r/sealed", "k8s:enc:unreadable").await;
    engine.write(Op::Delete(DeleteRange { range: KeyRange::single("/r/shirt"), prev_kv: false })).await.unwrap();
    // Not the creation as red, and not blue to red.
    let expected = [3, 4, 5, 7, 8, 9];
    assert_eq!(revisions_until(&mut live, 9).await, expected);
    let mut ring = engine.watch();
    ring.create(selective(2));
    assert_eq!(revisions_until(&mut ring, 9).await, expected);
    engine.shutdown().await;
    let (engine, metrics) = open(&database).await;
    let mut replayed = engine.watch();
    replayed.create(selective(2));
    assert_eq!(revisions_until(&mut replayed, 9).await, expected);
    assert_eq!(metrics.replays.get(), 1);
}

/// What others want costs a watcher nothing: it stays in the ring's reach, and rests.
#[tokio::test]
async fn each_of_thousands_of_selective_watchers_sees_its_own() {
    const WATCHERS: usize = 2000;
    let database = Database::new();
    let (engine, metrics) = open(&database).await;
    let mut sessions: Vec<WatchSession> = (0..WATCHERS)
        .map(|number| {
            let selector = format!("app=shop,color=c{number}");
            let selection = Selection::parse(Some(&selector), None, None).unwrap().map(Arc::new);
            let session = engine.watch();
            session.create(WatchSpec { selection, ..spec(1, 0) });
            session
        })
        .collect();
    let colored = |color: &str, bytes| {
        let note = "x".repeat(bytes);
        format!(
            r#"{{"apiVersion":"stable.example.com/v1","kind":"Shirt","metadata":{{"name":"shirt","labels":{{"app":"shop","color":"{color}"}}}},"note":"{note}"}}"#
        )
    };
    // More than the ring holds.
    for _ in 0..40 {
        put(&engine, "/r/large", colored("other", 500_000)).await;
    }
    for number in [0, 7, 1999] {
        let entered = put(&engine, "/r/shirt", colored(&format!("c{number}"), 0)).await;
        let left = put(&engine, "/r/shirt", colored("other", 0)).await;
        assert_eq!(revisions_until(&mut sessions[number], left).await, [entered, left]);
    }
    let newest = engine.revision();
    assert!(sessions.iter().all(|session| session.progress(1) == Some(newest)), "somebody was woken for nothing");
    assert_eq!(metrics.replays.get(), 0);
}

fn shirt(color: &str) -> String {
    format!(
        r#"{{"apiVersion":"stable.example.com/v1","kind":"Shirt","metadata":{{"name":"shirt","labels":{{"color":"{color}"}}}}}}"#
    )
}
