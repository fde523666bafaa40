//! A store moves while it is served.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sluice_shim::engine::collector::Collector;
use sluice_shim::engine::*;
use sluice_shim::sql;
use tokio::time::timeout;

use super::{has_moved, migrate, pairs};
use crate::database::Database;
use crate::support::*;

/// How many clients write.
const WRITERS: usize = 4;

/// Writes until that fails; returns what was acknowledged, and why it ended.
async fn write_on(engine: Engine, writer: usize, begun: Arc<AtomicBool>) -> (BTreeMap<String, String>, Error) {
    let mut written = BTreeMap::new();
    for number in 0.. {
        let key = format!("/registry/w{writer}/{}", number % 50);
        let op = if number % 7 == 6 { delete(&key) } else { put(&key, number.to_string(), 0) };
        match engine.write(op).await {
            Ok(_) if number % 7 == 6 => drop(written.remove(&key)),
            Ok(_) => drop(written.insert(key, number.to_string())),
            Err(error) => return (written, error),
        }
        begun.store(true, Ordering::Relaxed);
    }
    unreachable!("it never ends")
}

/// No write that was acknowledged is missing, none comes after the move, and the server ends and says why.
#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_write_is_lost() {
    for (from, to) in pairs() {
        let engine = open(&from).await.unwrap();
        fill(&engine).await;
        let begun = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> =
            (0..WRITERS).map(|writer| tokio::spawn(write_on(engine.clone(), writer, Arc::clone(&begun)))).collect();
        // Compactions come on the way, up to what may not be copied yet.
        let compacting = engine.clone();
        let compactor = tokio::spawn(async move {
            for _ in 0..5 {
                // Of a store that has moved by then that is refused.
                let _ = compacting.compact(compacting.revision() - 20, false).await;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        assert_eq!(migrate(&from, &to, &[]).await, Ok(true));
        assert!(begun.load(Ordering::Relaxed));
        let mut acknowledged = BTreeMap::new();
        for writer in writers {
            let (written, why) = timeout(Duration::from_secs(60), writer).await.unwrap().unwrap();
            assert!(matches!(why, Error::Replaced(_)), "{why:?}");
            acknowledged.extend(written);
        }
        compactor.await.unwrap();
        let why = timeout(Duration::from_secs(60), engine.ended()).await.unwrap().to_string();
        assert!(why.contains(&format!("start with --endpoint {}", to.endpoint())), "{why}");
        let query = RangeQuery { range: all(), ..RangeQuery::default() };
        assert!(matches!(engine.range(query.clone()).await, Err(Error::Replaced(_))), "reads end too");
        engine.shutdown().await;

        let engine = open(&to).await.unwrap();
        let found = engine.range(query).await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let theirs = found.kvs.iter().filter(|kv| kv.key.starts_with(b"/registry/w"));
        let theirs: BTreeMap<_, _> = theirs.map(|kv| (text(&kv.key), text(&kv.value))).collect();
        assert_eq!(theirs, acknowledged);
        let content = content(&engine).await;
        engine.shutdown().await;
        has_moved(&content, &from, &to).await;
    }
}

/// A server that has nothing to do notices as well.
#[tokio::test]
async fn an_idle_server_ends() {
    for (from, to) in pairs() {
        filled(&from, None).await;
        let engine = open(&from).await.unwrap();
        assert_eq!(migrate(&from, &to, &[]).await, Ok(true));
        let why = timeout(Duration::from_secs(60), engine.ended()).await.unwrap().to_string();
        assert!(why.contains("the store has moved to"), "{why}");
        engine.shutdown().await;
    }
}

const LABEL: &str = "skip-controller-manager-metadata-caching";

/// A labelled object with an owner, or without.
pub(super) fn owned(name: &str, uid: &str, owner: Option<(&str, &str)>) -> String {
    let owners: Vec<_> = owner
        .iter()
        .map(|(name, uid)| serde_json::json!({"apiVersion": "example.com/v1", "kind": "Shirt", "name": name, "uid": uid}))
        .collect();
    serde_json::json!({"apiVersion": "example.com/v1", "kind": "Shirt", "metadata": {
        "name": name, "namespace": "a", "uid": uid, "labels": {LABEL: ""}, "ownerReferences": owners,
    }})
    .to_string()
}

pub(super) async fn open_with(database: &Database, enabled: bool) -> Engine {
    let store = sql::open(database.endpoint(), Arc::default()).unwrap();
    let collector = Collector { enabled, ..Collector::default() };
    let threads = ReaderThreads { small: 1, large: 1 };
    Engine::start_with(store, threads, Arc::default(), collector).await.unwrap()
}

/// A deletion whose dependents were not collected yet is finished where the store is now; and one that comes later to
/// an owner that was deleted before the move is recognised.
#[tokio::test]
async fn the_collectors_work_goes_on() {
    for (from, to) in pairs() {
        let engine = open_with(&from, false).await;
        let [owner, dependent, late] = [1, 2, 3].map(|number| format!("00000000-0000-4000-8000-00000000000{number}"));
        let key = |name: &str| format!("/registry/example.com/shirts/a/{name}");
        engine.write(put(&key("owner"), owned("owner", &owner, None), 0)).await.unwrap();
        let value = owned("dependent", &dependent, Some(("owner", &owner)));
        engine.write(put(&key("dependent"), value, 0)).await.unwrap();
        engine.write(delete(&key("owner"))).await.unwrap();
        // The deletion itself is no longer known, but to the collector.
        engine.compact(4, true).await.unwrap();
        let work = engine.collector().await.unwrap();
        assert_eq!((work.tasks.len(), work.tombstones), (1, 1), "{work:?}");
        engine.shutdown().await;
        assert_eq!(migrate(&from, &to, &[]).await, Ok(true));

        let engine = open_with(&to, false).await;
        assert_eq!(engine.collector().await.unwrap().tasks, work.tasks);
        assert_eq!(engine.collector().await.unwrap().tombstones, 1);
        engine.write(put(&key("late"), owned("late", &late, Some(("owner", &owner))), 0)).await.unwrap();
        engine.shutdown().await;
        let engine = open_with(&to, true).await;
        let left = async || {
            let range = KeyRange::tree(b"/registry/example.com/");
            engine.range(RangeQuery { range, ..RangeQuery::default() }).await.unwrap().count
        };
        let gone = async {
            while left().await > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(60), gone).await.unwrap();
        engine.shutdown().await;
    }
}
