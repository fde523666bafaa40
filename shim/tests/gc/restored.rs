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
    world.engine.shutdown().await;

    let to = Database::new();
    let snapshot = to.folder().join("snapshot").display().to_string();
    run(&["export", "--endpoint", world.database.url(), "--to", &snapshot]).await;
    run(&["restore", "--endpoint", to.url(), "--from", &snapshot]).await;
    run(&["fsck", "--endpoint", to.url()]).await;

    let restored = World::at(to, eager()).await;
    restored.settle().await;
    assert_eq!(restored.keys().await, [kept.key(), objects[2].key(), objects[3].key(), objects[4].key()]);
    assert_eq!(restored.owners(&objects[3]).await, [uid(4)]);
    assert_eq!(restored.owners(&objects[2]).await, [""; 0]);
}
