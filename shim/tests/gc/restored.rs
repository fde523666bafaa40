//! What was to be collected where a backup was made is collected where it is restored.

use clap::Parser as _;
use sluice_shim::cli::Cli;

use crate::database::Database;
use crate::world::*;

async fn run(args: &[&str]) {
    let command = Cli::try_parse_from([&["sluice-shim"], args].concat()).unwrap().command.unwrap();
    let done = tokio::task::spawn_blocking(move || command.run(&mut std::io::sink())).await.unwrap();
    assert!(done.unwrap(), "{args:?}");
}

/// The store as it is after an export and a restoration.
async fn restored(world: World) -> World {
    world.engine.shutdown().await;
    let to = Database::new();
    let snapshot = to.folder().join("snapshot").display().to_string();
    run(&["export", "--endpoint", world.database.url(), "--to", &snapshot]).await;
    run(&["restore", "--endpoint", to.url(), "--from", &snapshot]).await;
    run(&["fsck", "--endpoint", to.url()]).await;
    World::at(to, eager()).await
}

#[tokio::test]
async fn a_restored_store_goes_on_collecting() {
    let world = World::with(idle()).await;
    let [gone, waits, orphans, kept] = [1, 2, 3, 4].map(shirt);
    let objects = [
        shirt(11).owned_by(&gone),
        shirt(12).blocking(&waits),
        shirt(13).owned_by(&orphans),
        shirt(14).owned_by(&gone).owned_by(&kept),
        shirt(15).owned_by(&kept),
    ];
    world.create_all([&gone, &waits, &orphans, &kept].into_iter().chain(&objects)).await;
    world.delete(&gone).await;
    world.delete_with(&waits, FOREGROUND).await;
    world.delete_with(&orphans, ORPHAN).await;
    // Loaded after the deletion of its owner.
    world.update(&objects[0].key(), |metadata| metadata["annotations"] = serde_json::json!({"a": "b"})).await;

    let restored = restored(world).await;
    restored.settle().await;
    assert_eq!(restored.keys().await, [kept.key(), objects[2].key(), objects[3].key(), objects[4].key()]);
    assert_eq!(restored.owners(&objects[3]).await, [uid(4)]);
    assert_eq!(restored.owners(&objects[2]).await, [""; 0]);
}

/// The controller manager has done its part of the owner's deletion, the collector has not begun.
#[tokio::test]
async fn dependents_of_an_owner_that_left_them_alone_are_left_alone_where_it_is_restored() {
    let world = World::with(idle()).await;
    let owner = configmap(1);
    let owned = shirt(2).owned_by(&owner);
    world.create_all([&owner, &owned]).await;
    world.delete_with(&owner, ORPHAN).await;
    world.lift(&owner, ORPHAN).await;
    assert!(!world.exists(&owner).await);
    let restored = restored(world).await;
    restored.settle().await;
    assert_eq!(restored.owners(&owned).await, [""; 0]);
}

#[tokio::test]
async fn what_was_held_is_let_go_where_it_is_restored() {
    let world = World::new().await;
    let owner = configmap(1);
    let owned = shirt(2).blocking(&owner).finalizer("example.com/x");
    world.create_all([&owner, &owned]).await;
    world.delete_with(&owner, FOREGROUND).await;
    world.lift(&owner, FOREGROUND).await;
    world.settle().await;
    assert_eq!(world.finalizers(&owner).await, [HOLD]);
    let restored = restored(world).await;
    restored.lift(&owned, "example.com/x").await;
    restored.settle().await;
    assert_eq!(restored.keys().await, [""; 0]);
}
