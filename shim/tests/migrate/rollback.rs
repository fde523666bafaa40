//! A database that went back is served again, and no revision means two things.

use std::time::Duration;

use sluice_shim::engine::{Error, KeyValue, RangeQuery, WatchMessage, WatchSpec};
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
