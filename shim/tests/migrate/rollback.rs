//! A database that went back is served again, and no revision means two things.

use std::time::Duration;

use sluice_shim::engine::*;
use tokio::time::timeout;

use crate::database::Database;
use crate::support::*;

#[tokio::test]
async fn a_rollback_that_is_accepted_raises_the_revision_and_compacts() {
    let database = Database::new();
    let before = filled(&database, None).await;
    assert_eq!(before.revision, 10);
    let accept = ["accept-rollback", "--endpoint", database.url(), "--bump-revision", "1000"];
    assert_eq!(run(&accept).await, Ok(true));
    assert_eq!(run(&["fsck", "--endpoint", database.url()]).await, Ok(true));
    let engine = open(&database).await.unwrap();
    let found = engine.range(RangeQuery { range: all(), ..RangeQuery::default() }).await.unwrap();
    assert_eq!((found.revision, engine.compact_revision()), (1010, 1010));
    let newest = |key: &bytes::Bytes| before.records.iter().rev().find(|record| record.kv.key == key);
    let is_as_before = |kv: &KeyValue| newest(&kv.key).is_some_and(|record| !record.tombstone && record.kv == *kv);
    assert!(!found.kvs.is_empty() && found.kvs.iter().all(is_as_before), "{:?}", found.kvs);
    let old = engine.range(RangeQuery { range: all(), revision: 10, ..RangeQuery::default() }).await;
    assert_eq!(old.unwrap_err(), Error::Compacted { compact_revision: 1010 });
    let mut session = engine.watch();
    let (no_put, no_delete) = (false, false);
    session.create(WatchSpec { id: 1, range: all(), start_revision: 11, no_put, no_delete, selection: None });
    let told = timeout(Duration::from_secs(60), session.next()).await.unwrap();
    assert!(matches!(told, WatchMessage::Compacted { compact_revision: 1010, .. }), "{told:?}");
    assert_eq!(engine.write(put("/new", "1", 0)).await.unwrap().0, 1011);
    // A server that has it open is not disturbed.
    let refused = run(&accept).await.unwrap_err();
    assert!(refused.contains("has the database") || refused.contains("serves"), "{refused}");
    assert_eq!(engine.write(put("/new", "2", 0)).await.unwrap().0, 1012);
}

#[tokio::test]
async fn a_database_without_a_store_is_left_as_it_is() {
    let database = Database::new();
    let accept = ["accept-rollback", "--endpoint", database.url()];
    for _ in 0..2 {
        let refused = run(&accept).await.unwrap_err();
        assert!(refused.contains("there is no"), "{refused}");
    }
}

/// More than 32 bits hold, and more than a number with 53 bits of precision does.
const LARGE: Revision = (1 << 53) + 1;

/// What a store holds whose revisions are larger by that much.
fn larger(content: Content, by: Revision) -> Content {
    let add = |revision: Revision| if revision == 0 { 0 } else { revision + by };
    let records = content.records.into_iter().map(|record| {
        let KeyValue { create_revision, mod_revision, .. } = record.kv;
        let kv = KeyValue { create_revision: add(create_revision), mod_revision: add(mod_revision), ..record.kv };
        Record { revision: record.revision + by, kv, ..record }
    });
    Content {
        revision: content.revision + by,
        compact_revision: add(content.compact_revision),
        records: records.collect(),
        ..content
    }
}

#[tokio::test]
async fn large_revisions_are_as_good_as_small_ones() {
    let [small, large, restored] = Database::several();
    let expected = larger(filled(&small, Some(5)).await, LARGE);
    open(&large).await.unwrap().shutdown().await;
    let bump = ["accept-rollback", "--endpoint", large.url(), "--bump-revision", &LARGE.to_string()];
    assert_eq!(run(&bump).await, Ok(true));
    assert_eq!(filled(&large, Some(LARGE + 5)).await, expected);
    let file = large.folder().join("snapshot").display().to_string();
    assert_eq!(run(&["export", "--endpoint", large.url(), "--to", &file]).await, Ok(true));
    assert_eq!(run(&["restore", "--endpoint", restored.url(), "--from", &file]).await, Ok(true));
    assert_eq!(content_of(&restored).await, expected);
    assert_eq!(run(&["fsck", "--endpoint", large.url()]).await, Ok(true));

    let engine = open(&large).await.unwrap();
    let past = RangeQuery { range: all(), revision: LARGE + 8, ..RangeQuery::default() };
    assert_eq!(engine.range(past).await.unwrap().kvs.len(), 4);
    let mut session = engine.watch();
    let (no_put, no_delete) = (false, false);
    let start_revision = LARGE + 10;
    session.create(WatchSpec { id: 1, range: all(), start_revision, no_put, no_delete, selection: None });
    let told = timeout(Duration::from_secs(60), session.next()).await.unwrap();
    assert!(matches!(told, WatchMessage::Events { revision, .. } if revision == start_revision), "{told:?}");
    for (known, succeeds) in [(LARGE + 9, true), (LARGE + 9, false), (LARGE + 11, true)] {
        let range = KeyRange::single("/registry/shirts/c");
        let compare = Compare { range, result: CompareResult::Equal, target: CompareTarget::Mod(known) };
        let success = vec![put("/registry/shirts/c", "changed", 0)];
        let txn = Txn { compares: vec![compare], success, ..Txn::default() };
        let (_, result) = engine.write(Op::Txn(txn)).await.unwrap();
        assert!(matches!(result, OpResult::Txn(TxnResult { succeeded, .. }) if succeeded == succeeds), "{result:?}");
    }
    engine.shutdown().await;
}
