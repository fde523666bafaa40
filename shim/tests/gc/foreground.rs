//! Deletions in the foreground: owners that wait for their dependents.

use sluice_shim::engine::collector::Collector;
use sluice_shim::engine::*;
use sluice_shim::gc::Rules;

use crate::world::*;

#[tokio::test]
async fn t05_a_chain_goes_from_its_end() {
    let world = World::new().await;
    let a = shirt(1);
    let b = shirt(2).blocking(&a);
    let c = shirt(3).blocking(&b);
    world.create_all([&a, &b, &c]).await;
    world.delete_with(&a, FOREGROUND).await;
    world.settle().await;
    assert_eq!(world.keys().await, [""; 0]);
    let events = world.events(2).await;
    let gone: Vec<_> =
        events.iter().filter(|event| event.kv.value.is_empty()).map(|event| event.kv.key.clone()).collect();
    assert_eq!(gone, [c.key(), b.key(), a.key()]);
}

#[tokio::test]
async fn t05_a_dependent_with_a_finalizer_holds_its_owner_unless_it_does_not_block() {
    let world = World::new().await;
    let (patient, hasty) = (shirt(1), shirt(2));
    let held = shirt(3).blocking(&patient).finalizer("example.com/x");
    let loose = shirt(4).owned_by(&hasty).finalizer("example.com/x");
    world.create_all([&patient, &hasty, &held, &loose]).await;
    world.delete_with(&patient, FOREGROUND).await;
    world.delete_with(&hasty, FOREGROUND).await;
    world.settle().await;
    assert!(world.exists(&patient).await && !world.exists(&hasty).await);
    for object in [&held, &loose] {
        assert!(world.metadata(object).await.get("deletionTimestamp").is_some());
    }
    world.lift(&held, "example.com/x").await;
    world.settle().await;
    assert_eq!(world.keys().await, [loose.key()]);
}

#[tokio::test]
async fn t05_a_dependent_with_another_owner_is_let_go() {
    let world = World::new().await;
    let (owner, other) = (shirt(1), shirt(2));
    let shared = shirt(3).blocking(&owner).blocking(&other);
    world.create_all([&owner, &other, &shared]).await;
    world.delete_with(&owner, FOREGROUND).await;
    world.settle().await;
    assert!(!world.exists(&owner).await);
    assert_eq!(world.owners(&shared).await, [uid(2)]);
}

#[tokio::test]
async fn t05_a_dependent_that_comes_while_its_owner_waits_is_deleted_too() {
    let world = World::new().await;
    let owner = shirt(1);
    let held = shirt(2).blocking(&owner).finalizer("example.com/x");
    world.create_all([&owner, &held]).await;
    world.delete_with(&owner, FOREGROUND).await;
    world.settle().await;
    let late = shirt(3).blocking(&owner);
    world.create(&late).await;
    world.settle().await;
    assert!(!world.exists(&late).await && world.exists(&owner).await);
    // Its own finalizers hold the owner also when nobody waits for its dependents any more.
    world.lift(&held, "example.com/x").await;
    world.settle().await;
    assert_eq!(world.keys().await, [""; 0]);
}

#[tokio::test]
async fn t05_the_owner_keeps_its_other_finalizers() {
    let world = World::new().await;
    let owner = shirt(1).finalizer("example.com/x");
    let owned = shirt(2).blocking(&owner);
    world.create_all([&owner, &owned]).await;
    world.delete_with(&owner, FOREGROUND).await;
    world.settle().await;
    assert!(!world.exists(&owned).await);
    assert_eq!(world.finalizers(&owner).await, ["example.com/x"]);
}

#[tokio::test]
async fn t05_a_visible_dependent_of_a_typed_group_holds_nobody() {
    let world = World::new().await;
    let owner = shirt(1);
    let pod = configmap(2).blocking(&owner);
    world.create_all([&owner, &pod]).await;
    world.delete_with(&owner, FOREGROUND).await;
    world.settle().await;
    assert_eq!(world.keys().await, [pod.key()]);
}

#[tokio::test]
async fn t06_a_visible_owner_is_held_until_its_hidden_dependents_are_gone() {
    let world = World::new().await;
    let owner = configmap(1);
    let owned = shirt(2).blocking(&owner).finalizer("example.com/x");
    world.create_all([&owner, &owned]).await;
    world.delete_with(&owner, FOREGROUND).await;
    assert_eq!(world.finalizers(&owner).await, [FOREGROUND, HOLD], "in the revision after the client's");
    let kv = world.get(&owner.key()).await.unwrap();
    assert_eq!(kv.version, 3);
    world.settle().await;
    // The controller manager sees no dependents.
    world.lift(&owner, FOREGROUND).await;
    world.settle().await;
    assert_eq!(world.finalizers(&owner).await, [HOLD]);
    assert!(world.metadata(&owned).await.get("deletionTimestamp").is_some());
    world.lift(&owned, "example.com/x").await;
    world.settle().await;
    assert_eq!(world.keys().await, [""; 0]);
}

#[tokio::test]
async fn t06_nothing_is_held_for_dependents_that_do_not_block_or_are_visible() {
    let world = World::new().await;
    let owner = configmap(1);
    let (owned, visible) = (shirt(2).owned_by(&owner), configmap(3).blocking(&owner));
    world.create_all([&owner, &owned, &visible]).await;
    world.delete_with(&owner, FOREGROUND).await;
    world.settle().await;
    assert_eq!(world.finalizers(&owner).await, [FOREGROUND]);
    assert_eq!(world.keys().await, [owner.key(), visible.key()]);
}

/// The controller of namespaces empties it, and needs it until then.
#[tokio::test]
async fn t06_a_namespace_is_its_controllers() {
    let world = World::new().await;
    let owner = Object { kind: "Namespace", ..configmap(1).within("") };
    let owned = shirt(2).blocking(&owner).finalizer("example.com/x");
    world.create_all([&owner, &owned]).await;
    world.delete_with(&owner, FOREGROUND).await;
    world.settle().await;
    assert_eq!(world.finalizers(&owner).await, [FOREGROUND]);
    world.lift(&owned, "example.com/x").await;
    world.settle().await;
    assert_eq!(world.keys().await, [owner.key()]);
}

/// Only the API server gives back what a Service has.
#[tokio::test]
async fn t06_a_service_is_the_api_servers() {
    let world = World::new().await;
    let owner = Object { kind: "Service", ..configmap(1) };
    let owned = shirt(2).blocking(&owner).finalizer("example.com/x");
    world.create_all([&owner, &owned]).await;
    world.delete_with(&owner, FOREGROUND).await;
    world.settle().await;
    assert_eq!(world.finalizers(&owner).await, [FOREGROUND]);
}

/// The last dependent that blocks goes in the same commit in which the owner is held for it.
#[tokio::test]
async fn t06_what_was_held_for_nothing_is_let_go() {
    let world = World::new().await;
    let owner = configmap(1);
    let owned = shirt(2).blocking(&owner);
    world.create_all([&owner, &owned]).await;
    let mut deleted = owner.json();
    mark(&mut deleted["metadata"], Some(FOREGROUND));
    let put = Put { key: owner.key().into(), value: deleted.to_string().into(), ..Put::default() };
    let delete = DeleteRange { range: KeyRange::single(owned.key()), prev_kv: false };
    let success = vec![Op::Put(put), Op::Delete(delete)];
    world.engine.write(Op::Txn(Txn { compares: Vec::new(), success, failure: Vec::new() })).await.unwrap();
    world.settle().await;
    assert_eq!(world.finalizers(&owner).await, [FOREGROUND]);
}

#[tokio::test]
async fn t06_an_owner_of_very_many_is_held_and_let_go_again_if_none_blocks() {
    let world = World::new().await;
    let owner = configmap(0);
    let owned: Vec<_> = (1..1200).map(|number| shirt(number).owned_by(&owner)).collect();
    world.create_all([&owner].into_iter().chain(&owned)).await;
    world.delete_with(&owner, FOREGROUND).await;
    world.settle().await;
    assert_eq!(world.finalizers(&owner).await, [FOREGROUND]);
    assert_eq!(world.keys().await, [owner.key()]);
}

#[tokio::test]
async fn t06_without_strictness_nothing_is_held() {
    let rules = Rules { strict_foreground: false, ..Rules::default() };
    let world = World::with(Collector { rules, ..eager() }).await;
    let owner = configmap(1);
    let owned = shirt(2).blocking(&owner).finalizer("example.com/x");
    world.create_all([&owner, &owned]).await;
    world.delete_with(&owner, FOREGROUND).await;
    world.lift(&owner, FOREGROUND).await;
    world.settle().await;
    assert!(!world.exists(&owner).await);
    assert!(world.metadata(&owned).await.get("deletionTimestamp").is_some());
}

#[tokio::test]
async fn t06_a_collector_that_is_turned_off_lets_go() {
    let mut world = World::new().await;
    let owner = configmap(1);
    let owned = shirt(2).blocking(&owner).finalizer("example.com/x");
    world.create_all([&owner, &owned]).await;
    world.delete_with(&owner, FOREGROUND).await;
    world.lift(&owner, FOREGROUND).await;
    world.settle().await;
    assert!(world.exists(&owner).await);
    world.restart(Some(idle())).await;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while world.exists(&owner).await {
        assert!(std::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn t09_another_policy_takes_over() {
    let world = World::new().await;
    let owner = shirt(1);
    let held = shirt(2).blocking(&owner).finalizer("example.com/x");
    let kept = shirt(3).blocking(&owner).finalizer(FOREGROUND);
    world.create_all([&owner, &held, &kept]).await;
    world.delete_with(&owner, FOREGROUND).await;
    world.settle().await;
    assert!(world.exists(&owner).await);
    world.delete_with(&owner, ORPHAN).await;
    world.settle().await;
    // What was marked stays marked, and what is left loses its reference; the owner goes at once.
    assert!(!world.exists(&owner).await);
    assert_eq!(world.owners(&held).await, [""; 0]);
}

/// An owner that waits makes its dependents go, so one that leaves them alone must not seem to wait.
#[tokio::test]
async fn t09_what_is_held_and_then_leaves_its_dependents_alone_is_held_no_more() {
    let world = World::new().await;
    let owner = configmap(1);
    let owned = shirt(2).blocking(&owner).finalizer("example.com/x");
    world.create_all([&owner, &owned]).await;
    world.delete_with(&owner, FOREGROUND).await;
    world.settle().await;
    world.lift(&owned, "example.com/x").await;
    world.delete_with(&owner, ORPHAN).await;
    assert_eq!(world.finalizers(&owner).await, [ORPHAN]);
    world.lift(&owner, ORPHAN).await;
    world.settle().await;
    assert_eq!(world.keys().await, [""; 0]);
}

#[tokio::test]
async fn t09_orphaning_that_is_replaced_by_foreground_deletes() {
    let mut world = World::with(idle()).await;
    let owner = shirt(1);
    let owned = shirt(2).blocking(&owner);
    world.create_all([&owner, &owned]).await;
    world.delete_with(&owner, ORPHAN).await;
    world.delete_with(&owner, FOREGROUND).await;
    world.restart(Some(eager())).await;
    world.settle().await;
    assert_eq!(world.keys().await, [""; 0]);
}

#[tokio::test]
async fn t18_owners_of_each_other_both_go() {
    let world = World::new().await;
    let (mut a, mut b) = (shirt(1), shirt(2));
    a.owners.push(b.reference(true));
    b.owners.push(a.reference(true));
    world.create_all([&a, &b]).await;
    world.delete_with(&a, FOREGROUND).await;
    world.settle().await;
    assert_eq!(world.keys().await, [""; 0]);
}

#[tokio::test]
async fn t18_a_ring_of_three_goes() {
    let world = World::new().await;
    let mut ring = [shirt(1), shirt(2), shirt(3)];
    for at in 0..3 {
        let owner = ring[(at + 2) % 3].clone();
        ring[at].owners.push(owner.reference(true));
    }
    world.create_all(&ring).await;
    world.delete_with(&ring[1], FOREGROUND).await;
    world.settle().await;
    assert_eq!(world.keys().await, [""; 0]);
}
