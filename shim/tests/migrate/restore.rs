//! Export and restore are each other's inverse, and refuse what is not whole.

use std::sync::Arc;
use std::time::Duration;

use crate::database::Database;
use crate::support::*;
use proptest::prelude::*;
use sluice_shim::endpoint::Endpoint;
use sluice_shim::engine::load::Loader;
use sluice_shim::engine::store::Lease;
use sluice_shim::engine::{EventKind, Op, Txn, WatchMessage, WatchSpec};
use sluice_shim::sql;
use tokio::time::timeout;

/// The path of a file in the folder of a database.
fn beside(database: &Database, name: &str) -> String {
    database.folder().join(name).display().to_string()
}

/// The commands from one database to another by way of a file.
async fn round_trip(from: &Database, to: &Database, more: &[&str]) -> std::result::Result<bool, String> {
    let snapshot = beside(from, "snapshot");
    assert_eq!(run(&["export", "--endpoint", from.url(), "--to", &snapshot]).await, Ok(true));
    run(&[&["restore", "--endpoint", to.url(), "--from", &snapshot], more].concat()).await
}

#[tokio::test]
async fn all_of_it_comes_back() {
    // 1: nothing is compacted; 5: a history with both; 10: a deletion is the last change, and is compacted too.
    for compact in [None, Some(2), Some(5), Some(8), Some(10)] {
        let [from, to] = Database::several();
        let before = filled(&from, compact).await;
        assert_eq!(before.revision, 10);
        assert_eq!(round_trip(&from, &to, &[]).await, Ok(true));
        assert_eq!(content_of(&to).await, before, "compacted at {compact:?}");
        for database in [&from, &to] {
            assert_eq!(run(&["fsck", "--endpoint", database.url()]).await, Ok(true), "{}", database.url());
        }
    }
}

#[tokio::test]
async fn an_empty_store_comes_back() {
    let [from, to] = Database::several();
    open(&from).await.unwrap().shutdown().await;
    assert_eq!(round_trip(&from, &to, &[]).await, Ok(true));
    assert_eq!(content_of(&to).await, content_of(&from).await);
}

/// A watch that begins before the restore sees what it would have seen, and selectors use the index.
#[tokio::test]
async fn a_restored_store_serves() {
    let [from, to] = Database::several();
    filled(&from, Some(4)).await;
    round_trip(&from, &to, &[]).await.unwrap();
    let engine = open(&to).await.unwrap();
    let mut session = engine.watch();
    let spec = |id, start_revision| WatchSpec {
        id,
        range: all(),
        start_revision,
        no_put: false,
        no_delete: false,
        selection: None,
    };
    session.create(spec(1, 5));
    let mut seen = Vec::new();
    while seen.len() < 8 {
        match timeout(Duration::from_secs(20), session.next()).await.unwrap() {
            WatchMessage::Events { events, .. } => {
                seen.extend(events.iter().map(|event| (event.kind == EventKind::Put, event.kv.mod_revision)));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, [(true, 5), (true, 6), (false, 7), (true, 8), (true, 8), (false, 8), (true, 9), (false, 10)]);
    session.create(spec(2, 3));
    let message = timeout(Duration::from_secs(20), session.next()).await.unwrap();
    assert!(matches!(message, WatchMessage::Compacted { id: 2, compact_revision: 4 }), "{message:?}");

    let (revision, _) = engine.write(put("/registry/shirts/d", object("red"), 7)).await.unwrap();
    assert_eq!(revision, 11);
    let lease = engine.lease_time_to_live(7, true).await.unwrap();
    assert_eq!(lease.keys, ["/registry/shirts/b", "/registry/shirts/d"]);
    assert!((3590..=3600).contains(&lease.remaining_ttl));
    engine.shutdown().await;
}

/// etcd shows more than it granted after a restart, if its members take long to elect a leader.
#[tokio::test]
async fn a_loaded_lease_has_no_more_time_than_was_granted() {
    let database = Database::new();
    let store = sql::open(database.endpoint(), Arc::default()).unwrap();
    let mut loader = Loader::begin(store.as_ref(), 0).unwrap();
    let ends = [(1, 600, 500), (2, 600, 700), (3, i64::MAX, i64::MAX)];
    let of = |(id, ttl, left)| Lease { ttl, ..Lease::full(id, left, store.clock().now()) };
    loader.leases(ends.map(of).to_vec()).unwrap();
    loader.finish(1, 0).unwrap();
    drop(store);
    assert_eq!(run(&["fsck", "--endpoint", database.url()]).await, Ok(true));
    let engine = open(&database).await.unwrap();
    for (lease, (from, to)) in [(1, (490, 500)), (2, (590, 600)), (3, (9_000_000_000, i64::MAX / 1000))] {
        let left = engine.lease_time_to_live(lease, false).await.unwrap().remaining_ttl;
        assert!((from..=to).contains(&left), "lease {lease}: {left}");
    }
    let longest = engine.lease_keep_alive(3).await.unwrap();
    assert_eq!(longest, i64::MAX, "its end is as late as can be, and no overflow");
    engine.shutdown().await;
}

#[tokio::test]
async fn a_raised_revision_forgets_the_history() {
    let [from, to, again] = Database::several();
    let before = filled(&from, None).await;
    let flags = ["--bump-revision", "1000", "--mark-compacted"];
    assert_eq!(round_trip(&from, &to, &flags).await, Ok(true));
    let raised = content_of(&to).await;
    assert_eq!((raised.revision, raised.compact_revision), (1010, 1010));
    assert_eq!(raised.leases, before.leases);
    let live: Vec<_> = raised.records.iter().map(|record| (&record.kv.key[..], record.revision)).collect();
    let expected: [(&[u8], i64); 3] =
        [(b"/registry/events/x/1", 4), (b"/registry/shirts/b", 8), (b"/registry/shirts/c", 9)];
    assert_eq!(live, expected);
    std::fs::remove_file(beside(&from, "snapshot")).unwrap();
    assert_eq!(round_trip(&to, &again, &[]).await, Ok(true));
    assert_eq!(content_of(&again).await, raised);
    for flags in [&flags[..2], &flags[2..], &["--bump-revision", "0", "--mark-compacted"], &["--bump-revision", "-1"]] {
        assert!(
            run(&[&["restore", "--endpoint", to.url(), "--from", "x"], flags].concat()).await.is_err(),
            "{flags:?}"
        );
    }
}

#[tokio::test]
async fn what_is_there_is_not_overwritten() {
    let [from, to] = Database::several();
    filled(&from, None).await;
    let engine = open(&to).await.unwrap();
    engine.lease_grant(9, 600).await.unwrap();
    engine.shutdown().await;
    let refused = round_trip(&from, &to, &[]).await.unwrap_err();
    assert!(refused.contains("not empty"), "{refused}");
    assert_eq!(content_of(&to).await.leases, [(9, 600)], "and it can be used as before");
    let snapshot = beside(&from, "snapshot");
    let refused = run(&["export", "--endpoint", from.url(), "--to", &snapshot]).await.unwrap_err();
    assert!(refused.contains("exists already"), "{refused}");
    let missing = from.folder().join("missing.db");
    let endpoint = Endpoint::Sqlite(missing.clone()).to_string();
    for command in [&["export", "--to", "x"][..], &["fsck"]] {
        let refused = run(&[command, &["--endpoint", &endpoint]].concat()).await.unwrap_err();
        assert!(refused.contains("there is no database"), "{refused}");
    }
    assert!(!missing.exists());
}

#[tokio::test]
async fn a_damaged_snapshot_is_refused_and_what_was_built_of_it_too() {
    let from = Database::new();
    filled(&from, None).await;
    let snapshot = beside(&from, "snapshot");
    run(&["export", "--endpoint", from.url(), "--to", &snapshot]).await.unwrap();
    let whole = std::fs::read(&snapshot).unwrap();
    let restore = async |to: &Database, more: &[&str]| {
        run(&[&["restore", "--endpoint", to.url(), "--from", &snapshot], more].concat()).await
    };

    let mut changed = whole.clone();
    let at = changed.windows(6).position(|window| window == b"opaque").unwrap();
    changed[at] = b'O';
    std::fs::write(&snapshot, &changed).unwrap();
    assert!(restore(&Database::new(), &[]).await.unwrap_err().contains("SHA-256"));
    assert_eq!(restore(&Database::new(), &["--skip-hash-check"]).await, Ok(true));

    std::fs::write(&snapshot, &whole[..whole.len() - 32]).unwrap();
    assert!(restore(&Database::new(), &[]).await.unwrap_err().contains("--skip-hash-check"));
    assert_eq!(restore(&Database::new(), &["--skip-hash-check"]).await, Ok(true));

    // A key without its revision: found when half of it is loaded.
    let mut changed = whole;
    let wanted = b"\x0a\x12/registry/shirts/c\x10";
    let at = changed.windows(wanted.len()).rposition(|window| window == wanted).unwrap();
    changed[at + 20] = 0x20;
    std::fs::write(&snapshot, &changed).unwrap();
    let half = Database::new();
    let refused = restore(&half, &["--skip-hash-check"]).await.unwrap_err();
    assert!(refused.contains("is not sound"), "{refused}");
    for refused in [
        open(&half).await.unwrap_err().to_string(),
        restore(&half, &["--skip-hash-check"]).await.unwrap_err(),
        run(&["export", "--endpoint", half.url(), "--to", &beside(&half, "x")]).await.unwrap_err(),
    ] {
        assert!(refused.contains("was not loaded to its end"), "{refused}");
    }
    assert_eq!(run(&["fsck", "--endpoint", half.url()]).await, Ok(false));
}

#[tokio::test]
async fn a_database_that_is_served_is_left_alone() {
    let [other, served] = [Database::sqlite(), Database::sqlite()];
    let [snapshot, to] = ["snapshot", "to"].map(|name| beside(&other, name));
    filled(&other, None).await;
    run(&["export", "--endpoint", other.url(), "--to", &snapshot]).await.unwrap();
    let engine = open(&served).await.unwrap();
    for command in [&["export", "--to", &to][..], &["fsck"], &["restore", "--from", &snapshot]] {
        let refused = run(&[command, &["--endpoint", served.url()]].concat()).await.unwrap_err();
        assert!(refused.contains("another process"), "{refused}");
    }
    engine.shutdown().await;
}

/// A connection string may hold a password.
#[tokio::test]
async fn a_wrong_endpoint_is_not_shown() {
    let endpoint = "postgres://me:secret@db/x";
    for command in [
        &["restore", "--from", "x"][..],
        &["export", "--to", "x"],
        &["import", "--from-etcd", "http://127.0.0.1:1"],
        &["fsck"],
    ] {
        let refused = run(&[command, &["--endpoint", endpoint]].concat()).await.unwrap_err();
        assert!(!refused.contains("secret"), "{command:?}: {refused}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever was done to a store: it is sound, and it comes back.
    #[test]
    fn any_history_comes_back(steps in prop::collection::vec((0u8..5, 0u8..4, any::<bool>()), 1..60), compact in 0i64..60) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let [from, to] = Database::several();
            let engine = open(&from).await.unwrap();
            for (key, what, again) in steps {
                let [one, other] = [key, (key + 1) % 5].map(|key| format!("/registry/{}/{key}", key % 2));
                let op = match what {
                    0 => delete(&one),
                    1 => put(&one, object(if again { "red" } else { "blue" }), 0),
                    2 => put(&one, if again { "text" } else { "" }, 0),
                    _ => Op::Txn(Txn { success: vec![put(&one, object("white"), 0), delete(&other)], ..Txn::default() }),
                };
                engine.write(op).await.unwrap();
            }
            // Refused when it is in the future.
            let _ = engine.compact(compact, true).await;
            let before = content(&engine).await;
            engine.shutdown().await;
            round_trip(&from, &to, &[]).await.unwrap();
            assert_eq!(content_of(&to).await, before);
            for database in [&from, &to] {
                assert_eq!(run(&["fsck", "--endpoint", database.url()]).await, Ok(true), "{}", database.url());
            }
        });
    }
}
