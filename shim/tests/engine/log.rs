//! The log of changes, read in parts as a watcher that catches up and a backup do.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use sluice_shim::clock::Steady;
use sluice_shim::engine::store::{Reader, Store};
use sluice_shim::engine::*;

use crate::database::Database;
use crate::support::{open, open_on, put};

/// Keys that are put anew, that go and come again, and several of them in one revision: with the value before.
const EVENTS: [&str; 11] = [
    "2 a: none, 1",
    "3 b: none, 1",
    "4 a: 1, 2",
    "4 b: 1, 2",
    "4 c: none, 2",
    "4 d: none, 2",
    "4 e: none, 2",
    "5 b: 2, none",
    "6 c: 2, none",
    "6 f: none, 1",
    "7 b: none, 3",
];

/// The same as a backup sees it after a compaction at revision 5, whose deletion is still there for watchers.
const RECORDS: [&str; 7] = ["4.0 a: 2", "4.2 c: 2", "4.3 d: 2", "4.4 e: 2", "6.0 c: none", "6.1 f: 1", "7.0 b: 3"];

fn put_op(key: &'static str, value: &'static str) -> Op {
    Op::Put(Put { key: key.into(), value: value.into(), ..Put::default() })
}

fn delete(key: &'static str) -> Op {
    Op::Delete(DeleteRange { range: KeyRange::single(key), ..DeleteRange::default() })
}

fn together(success: Vec<Op>) -> Op {
    Op::Txn(Txn { success, ..Txn::default() })
}

fn text(value: Option<&Bytes>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| String::from_utf8_lossy(value).into_owned())
}

/// All events, a part at a time.
fn events(reader: &mut dyn Reader, last: Revision, limit: usize) -> Vec<Event> {
    let range = KeyRange::from_wire(Bytes::from_static(&[0]), Bytes::from_static(&[0]));
    let (mut found, mut from) = (Vec::new(), 2);
    while from <= last {
        let (events, until) = reader.events(&range, from, limit).unwrap();
        assert!(events.iter().all(|event| (from..=until).contains(&event.kv.mod_revision)), "{events:?} to {until}");
        assert!(until >= from);
        found.extend(events);
        from = until + 1;
    }
    found
}

/// All records, a part at a time.
fn records(reader: &mut dyn Reader, last: Revision, limit: usize) -> Vec<Record> {
    let (mut found, mut after) = (Vec::new(), (0, 0));
    loop {
        let records = reader.records(after, last, None, limit).unwrap();
        assert!(records.len() <= limit);
        let Some(end) = records.last() else { return found };
        after = (end.revision, end.sub);
        found.extend(records);
    }
}

fn shown_event(event: Event) -> String {
    let (before, kv) = (event.prev_kv.map(|kv| kv.value), event.kv);
    let after = Some(&kv.value).filter(|_| event.kind == EventKind::Put);
    format!("{} {}: {}, {}", kv.mod_revision, text(Some(&kv.key)), text(before.as_ref()), text(after))
}

fn shown_record(Record { revision, sub, tombstone, kv }: Record) -> String {
    format!("{revision}.{sub} {}: {}", text(Some(&kv.key)), text(Some(&kv.value).filter(|_| !tombstone)))
}

#[tokio::test]
async fn the_log_is_the_same_in_parts_of_any_size() {
    let (database, opened) = (Database::new(), OnceLock::new());
    let keep = |store: Arc<dyn Store>| Arc::clone(opened.get_or_init(|| store));
    let (engine, _) = open_on(&database, Arc::new(Steady::default()), keep).await;
    let many = ["a", "b", "c", "d", "e"].map(|key| put_op(key, "2"));
    let last = vec![delete("c"), put_op("f", "1")];
    for op in [put_op("a", "1"), put_op("b", "1"), together(many.into()), delete("b"), together(last), put_op("b", "3")]
    {
        engine.write(op).await.unwrap();
    }
    let mut reader = opened.get().unwrap().reader().unwrap();
    let (last, _) = reader.begin().unwrap();
    for limit in 1..=EVENTS.len() + 1 {
        let events: Vec<_> = events(&mut *reader, last, limit).into_iter().map(shown_event).collect();
        assert_eq!(events, EVENTS, "at most {limit}");
    }
    reader.end();
    engine.compact(5, true).await.unwrap();
    reader.begin().unwrap();
    for limit in 1..=RECORDS.len() + 1 {
        let records: Vec<_> = records(&mut *reader, last, limit).into_iter().map(shown_record).collect();
        assert_eq!(records, RECORDS, "at most {limit}");
    }
    reader.end();
    engine.shutdown().await;
}

/// Whoever makes a snapshot of large values does not hold hundreds of them.
#[tokio::test]
async fn a_chunk_of_the_history_has_some_megabytes() {
    const VALUE: usize = 256 << 10;
    let database = Database::new();
    let (engine, _) = open(&database).await;
    for key in 0..120 {
        put(&engine, format!("/a/{key}"), vec![b'v'; VALUE]).await;
    }
    let (mut chunks, mut sizes) = (engine.records(0), Vec::new());
    while let Some(chunk) = chunks.recv().await {
        sizes.push(chunk.unwrap().len());
    }
    assert_eq!(sizes.iter().sum::<usize>(), 120);
    assert!(sizes.iter().all(|size| size * VALUE <= 16 << 20), "{sizes:?}");
    engine.shutdown().await;
}

/// Otherwise a backup would have the put of a key, and not its deletion.
#[tokio::test]
async fn a_compaction_takes_nothing_of_a_history_that_is_being_read() {
    let database = Database::new();
    let (engine, _) = open(&database).await;
    let key = |number: usize| format!("/a/{number}");
    // More than the chunks that are read ahead.
    for number in 0..150 {
        put(&engine, key(number), vec![b'v'; 256 << 10]).await;
    }
    let delete = DeleteRange { range: KeyRange::single(key(0)), prev_kv: false };
    let (last, _) = engine.write(Op::Delete(delete)).await.unwrap();
    let mut chunks = engine.records(0);
    let mut records = chunks.recv().await.unwrap().unwrap();
    let compaction = tokio::spawn({
        let engine = engine.clone();
        async move { engine.compact(last, true).await }
    });
    while engine.status().await.unwrap().compact_revision < last {
        tokio::task::yield_now().await;
    }
    // Behind each commit rows are freed.
    for _ in 0..20 {
        put(&engine, "/b", "later").await;
    }
    while let Some(chunk) = chunks.recv().await {
        records.extend(chunk.unwrap());
    }
    let of_first = records.iter().filter(|record| record.kv.key == key(0).as_bytes());
    assert!(of_first.map(|record| record.tombstone).eq([false, true]));
    assert_eq!((records.len(), records.last().unwrap().revision), (151, last));
    // Nobody reads it any more.
    compaction.await.unwrap().unwrap();
    engine.shutdown().await;
}
