//! Deletions that leave the dependents alone.

use crate::world::*;

#[tokio::test]
async fn t07_all_dependents_of_a_hidden_owner_lose_their_references() {
    let world = World::new().await;
    let owner = shirt(1);
    let objects = [
        shirt(2).blocking(&owner),
        shirt(3).visible().owned_by(&owner),
        Object { kind: "Pod", ..configmap(4) }.owned_by(&owner),
        shirt(5).owned_by(&owner).owned_by(&shirt(99)),
    ];
    world.create_all([&owner].into_iter().chain(&objects)).await;
    world.delete_with(&owner, ORPHAN).await;
    world.settle().await;
    assert!(!world.exists(&owner).await);
    for object in &objects[..3] {
        let metadata = world.metadata(object).await;
        assert!(metadata.get("ownerReferences").is_none() && metadata.get("deletionTimestamp").is_none());
    }
    assert_eq!(world.owners(&objects[3]).await, [uid(99)]);
}

#[tokio::test]
async fn t07_the_owner_keeps_its_other_finalizers() {
    let world = World::new().await;
    let owner = shirt(1).finalizer("example.com/x");
    let owned = shirt(2).owned_by(&owner);
    world.create_all([&owner, &owned]).await;
    world.delete_with(&owner, ORPHAN).await;
    world.settle().await;
    assert_eq!(world.finalizers(&owner).await, ["example.com/x"]);
    world.lift(&owner, "example.com/x").await;
    world.settle().await;
    assert_eq!(world.keys().await, [owned.key()]);
}

#[tokio::test]
async fn t08_hidden_dependents_of_a_visible_owner_survive_whoever_is_first() {
    // The controller manager strips what it sees and lets the owner go, long before the collector wakes up.
    let mut world = World::with(idle()).await;
    let owner = configmap(1).finalizer("example.com/x");
    let (owned, visible) = (shirt(2).blocking(&owner), configmap(3).owned_by(&owner));
    world.create_all([&owner, &owned, &visible]).await;
    world.delete_with(&owner, ORPHAN).await;
    world.update(&visible.key(), |metadata| metadata["ownerReferences"] = serde_json::json!([])).await;
    world.lift(&owner, ORPHAN).await;
    world.lift(&owner, "example.com/x").await;
    assert!(!world.exists(&owner).await);
    world.restart(Some(eager())).await;
    world.settle().await;
    assert_eq!(world.owners(&owned).await, [""; 0]);
    assert!(world.exists(&visible).await);
}

#[tokio::test]
async fn t08_a_visible_owner_s_finalizer_and_dependents_are_left_to_the_controller_manager() {
    let world = World::new().await;
    let owner = configmap(1);
    let (owned, visible) = (shirt(2).blocking(&owner), shirt(3).visible().owned_by(&owner));
    world.create_all([&owner, &owned, &visible]).await;
    world.delete_with(&owner, ORPHAN).await;
    world.settle().await;
    assert_eq!(world.finalizers(&owner).await, [ORPHAN]);
    assert_eq!(world.owners(&owned).await, [""; 0]);
    assert_eq!(world.owners(&visible).await, [uid(1)]);
}

#[tokio::test]
async fn t08_a_dependent_that_is_orphaned_by_one_owner_and_lost_by_another_is_deleted() {
    let mut world = World::with(idle()).await;
    let (orphans, goes) = (configmap(1), configmap(2));
    let both = shirt(3).owned_by(&orphans).owned_by(&goes);
    world.create_all([&orphans, &goes, &both]).await;
    world.delete_with(&orphans, ORPHAN).await;
    world.lift(&orphans, ORPHAN).await;
    world.delete(&goes).await;
    world.restart(Some(eager())).await;
    world.settle().await;
    assert!(!world.exists(&both).await);
}

#[tokio::test]
async fn t19_all_references_to_an_owner_go() {
    let world = World::new().await;
    let owner = shirt(1);
    let twice = shirt(2).owned_by(&owner).owned_by(&shirt(99)).blocking(&owner);
    world.create_all([&owner, &twice]).await;
    world.delete_with(&owner, ORPHAN).await;
    world.settle().await;
    assert!(!world.exists(&owner).await);
    assert_eq!(world.owners(&twice).await, [uid(99)]);
}
