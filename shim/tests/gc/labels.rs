//! The label comes and goes.

use serde_json::json;

use crate::world::*;

#[tokio::test]
async fn t20_an_object_that_becomes_hidden_is_looked_at() {
    let world = World::new().await;
    let owner = configmap(1);
    let owned = shirt(2).visible().owned_by(&owner);
    world.create_all([&owner, &owned]).await;
    world.delete(&owner).await;
    world.settle().await;
    assert!(world.exists(&owned).await);
    world.update(&owned.key(), |metadata| metadata["labels"] = json!({LABEL: "x"})).await;
    world.settle().await;
    assert!(!world.exists(&owned).await);
}

#[tokio::test]
async fn t20_a_deletion_under_way_of_an_object_that_becomes_hidden_goes_on() {
    let world = World::new().await;
    for (number, finalizer) in [(1, FOREGROUND), (11, ORPHAN)] {
        let owner = shirt(number).visible();
        let owned = shirt(number + 1).visible().blocking(&owner);
        world.create_all([&owner, &owned]).await;
        world.delete_with(&owner, finalizer).await;
        world.settle().await;
        assert!(world.exists(&owner).await && world.exists(&owned).await);
        world.update(&owner.key(), |metadata| metadata["labels"] = json!({LABEL: "x"})).await;
        world.settle().await;
        assert!(!world.exists(&owner).await);
        assert_eq!(world.exists(&owned).await, finalizer == ORPHAN);
    }
}

#[tokio::test]
async fn t21_an_object_that_becomes_visible_is_left_alone() {
    let mut world = World::with(idle()).await;
    let owner = configmap(1);
    let (owned, other) = (shirt(2).owned_by(&owner), shirt(3).owned_by(&owner));
    world.create_all([&owner, &owned, &other]).await;
    world.delete(&owner).await;
    world.update(&owned.key(), |metadata| metadata["labels"] = json!({})).await;
    world.restart(Some(eager())).await;
    world.settle().await;
    assert_eq!(world.keys().await, [owned.key()]);
}

#[tokio::test]
async fn t21_a_dependent_that_becomes_visible_no_longer_holds_its_visible_owner() {
    let world = World::new().await;
    let owner = configmap(1);
    let owned = shirt(2).blocking(&owner).finalizer("example.com/x");
    world.create_all([&owner, &owned]).await;
    world.delete_with(&owner, FOREGROUND).await;
    world.settle().await;
    assert_eq!(world.finalizers(&owner).await, [FOREGROUND, HOLD]);
    world.update(&owned.key(), |metadata| metadata["labels"] = json!({})).await;
    world.settle().await;
    assert_eq!(world.finalizers(&owner).await, [FOREGROUND]);
}
