//! The queue: what it survives, and what it does not hold up.

use std::time::Duration;

use serde_json::Value;
use sluice_shim::engine::collector::Collector;
use sluice_shim::engine::*;
use sluice_shim::gc::{Audit, TaskKind, TaskState};

use crate::hand::Hand;
use crate::world::*;

#[tokio::test]
async fn t31_a_cascade_goes_on_after_each_stop() {
    let slow = Collector { rate: 2000, ..Collector::default() };
    let mut world = World::with(slow).await;
    let owner = shirt(0);
    let owned: Vec<_> = (1..1200).map(|number| shirt(number).owned_by(&owner)).collect();
    world.create_all([&owner].into_iter().chain(&owned)).await;
    world.delete(&owner).await;
    let mut left = vec![world.keys().await.len()];
    while left.last() != Some(&0) {
        world.restart(None).await;
        let before = *left.last().unwrap();
        // Each run does something.
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while world.keys().await.len() == before {
            assert!(std::time::Instant::now() < deadline);
        }
        left.push(world.keys().await.len());
    }
    assert!(left.len() > 3, "{left:?}");
    world.settle().await;
    let deleted = world.events(2).await.into_iter().filter(|event| event.kind == EventKind::Delete).count();
    assert_eq!(deleted, 1200, "each once");
}

#[tokio::test]
async fn t32_clients_write_while_a_large_fan_out_goes() {
    let world = World::new().await;
    let owner = shirt(0);
    let owned: Vec<_> = (1..2000).map(|number| shirt(number).owned_by(&owner)).collect();
    world.create_all([&owner].into_iter().chain(&owned)).await;
    world.delete(&owner).await;
    let mut written = 0;
    while world.engine.collector().await.unwrap().tasks.iter().any(|(_, state, _)| *state == TaskState::Ready) {
        world.create(&configmap(10_000)).await;
        written += 1;
    }
    assert!(written > 3, "the collector works in portions");
    assert_eq!(world.keys().await, [configmap(10_000).key()]);
}

#[tokio::test]
async fn t32_a_small_task_does_not_wait_for_a_large_one() {
    let world = World::with(Collector { rate: 3000, ..Collector::default() }).await;
    let (large, small) = (shirt(0), shirt(10_000));
    let owned: Vec<_> = (1..2000).map(|number| shirt(number).owned_by(&large)).collect();
    let alone = shirt(10_001).owned_by(&small);
    world.create_all([&large, &small, &alone].into_iter().chain(&owned)).await;
    world.delete(&large).await;
    world.delete(&small).await;
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while world.exists(&alone).await {
        assert!(std::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    assert!(!world.keys().await.is_empty());
    world.settle().await;
    assert_eq!(world.keys().await, [""; 0]);
}

#[tokio::test]
async fn t37_a_compaction_right_after_a_deletion_takes_nothing_from_the_collector_or_the_watchers() {
    let mut world = World::with(idle()).await;
    let owner = shirt(1);
    let owned = [shirt(2).owned_by(&owner), shirt(3).owned_by(&owner).finalizer("example.com/x")];
    world.create_all([&owner].into_iter().chain(&owned)).await;
    world.delete(&owner).await;
    let revision = world.engine.status().await.unwrap().revision;
    world.engine.compact(revision, true).await.unwrap();
    world.restart(Some(eager())).await;
    world.settle().await;
    assert_eq!(world.keys().await, [owned[1].key()]);
    let events = world.events(revision + 1).await;
    assert_eq!(events.len(), 2);
    for (event, object) in events.iter().zip(&owned) {
        let before: Value = serde_json::from_slice(&event.prev_kv.as_ref().unwrap().value).unwrap();
        assert_eq!(before, object.json());
    }
}

#[tokio::test]
async fn an_object_that_can_t_be_changed_is_parked_and_holds_up_nobody() {
    let world = World::new().await;
    let owner = shirt(1);
    // The generation can't grow.
    let poison = shirt(2).owned_by(&owner).finalizer("example.com/x");
    let mut json = poison.json();
    json["metadata"]["generation"] = i64::MAX.into();
    let others: Vec<_> = (3..300).map(|number| shirt(number).owned_by(&owner)).collect();
    world.put(&poison.key(), &json).await;
    world.create_all([&owner].into_iter().chain(&others)).await;
    world.delete(&owner).await;
    let parked = |status: &sluice_shim::gc::Status| status.tasks == [(TaskKind::Cascade, TaskState::Parked, 1)];
    world.until("the task is parked", parked).await;
    assert_eq!(world.keys().await, [poison.key()]);
    world.counts("gc_failures_total", 1.0).await;
    // It is tried again, and done when somebody mended the object.
    json["metadata"]["generation"] = 1.into();
    world.put(&poison.key(), &json).await;
    world.until("nothing is left", |status| status.tasks.is_empty()).await;
    assert!(world.metadata(&poison).await.get("deletionTimestamp").is_some());
}

#[tokio::test]
async fn tombstones_are_forgotten_after_their_time_unless_they_are_needed() {
    let mut world = World::with(idle()).await;
    let (needed, other) = (shirt(1), shirt(2));
    let owned = shirt(3).owned_by(&needed);
    world.create_all([&needed, &other, &owned]).await;
    world.delete(&other).await;
    world.delete(&needed).await;
    assert_eq!(world.engine.collector().await.unwrap().tombstones, 2);
    world.restart(Some(Collector { tombstone_ttl: Duration::from_millis(1), ..idle() })).await;
    world.until("the one is forgotten", |status| status.tombstones == 1).await;
    world.restart(Some(eager())).await;
    world.settle().await;
    assert_eq!(world.keys().await, [""; 0]);
}

/// Whether the time passes while the store is served or while it is not, what was deleted is remembered for an hour
/// of service.
#[tokio::test]
async fn a_tombstone_lasts_as_long_as_the_store_is_served() {
    let (hand, minutes) = (Hand::new(), |minutes: u64| Duration::from_secs(60 * minutes));
    let mut world = World::in_file(idle(), &hand).await;
    let (first, second) = (shirt(1), shirt(2));
    world.create_all([&first, &second]).await;
    world.delete(&first).await;
    hand.pass(minutes(40));
    world.delete(&second).await;
    for (served, stopped, left) in [(19, 600, 2), (2, 0, 1), (38, 600, 1), (2, 0, 0)] {
        hand.pass(minutes(served));
        world.engine.shutdown().await;
        hand.pass(minutes(stopped));
        // At its start it forgets, and shows the rest.
        world.restart(None).await;
        world.counts("gc_oldest_task_seconds ", 0.0).await;
        world.until("the others are forgotten", |status| status.tombstones == left).await;
    }
}

#[tokio::test]
async fn every_change_is_written_down() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let world = World::with(Collector { audit: Audit::to_file(&path).unwrap(), ..eager() }).await;
    let owner = shirt(1);
    let (goes, held) = (shirt(2).owned_by(&owner), shirt(3).owned_by(&owner).finalizer("example.com/x"));
    world.create_all([&owner, &goes, &held]).await;
    world.delete(&owner).await;
    world.settle().await;
    let revision = world.engine.status().await.unwrap().revision;
    // It is written after the commit that others see already, and before the writer takes its next request.
    world.engine.defragment().await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> =
        lines.iter().map(|line| (line["action"].as_str().unwrap(), line["key"].as_str().unwrap())).collect();
    assert_eq!(told, [("delete", goes.key().as_str()), ("mark", held.key().as_str())]);
    assert_eq!(lines[1]["revision"], revision);
    assert_eq!((&lines[0]["cause_uid"], &lines[0]["cause_key"]), (&uid(1).into(), &owner.key().into()));
}

#[tokio::test]
async fn values_that_are_no_objects_cost_and_mean_nothing() {
    let world = World::new().await;
    for value in ["", "plain", "{\"metadata\":{\"uid\":\"x\"}}", "k8s:enc:aescbc:v1:x"] {
        world
            .engine
            .write(Op::Put(Put { key: "/k".into(), value: value.to_owned().into(), ..Put::default() }))
            .await
            .unwrap();
    }
    let delete = DeleteRange { range: KeyRange::single("/k"), prev_kv: false };
    world.engine.write(Op::Delete(delete)).await.unwrap();
    let status = world.engine.collector().await.unwrap();
    assert_eq!((status.tasks.len(), status.tombstones), (0, 0));
}
