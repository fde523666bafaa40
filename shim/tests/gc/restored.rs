//! What was to be collected where a backup was made is collected where it is restored.

use clap::Parser as _;
use sluice_shim::cli::Cli;

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

    let folder = tempfile::tempdir().unwrap();
    let path = |folder: &std::path::Path, name: &str| folder.join(name).display().to_string();
    let (from, snapshot) = (path(world.folder.path(), "state.db"), path(folder.path(), "snapshot"));
    run(&["export", "--endpoint", &format!("sqlite://{from}"), "--to", &snapshot]).await;
    let to = format!("sqlite://{}", path(folder.path(), "state.db"));
    run(&["restore", "--endpoint", &to, "--from", &snapshot]).await;
    run(&["fsck", "--endpoint", &to]).await;

    let restored = World::at(folder, eager()).await;
    restored.settle().await;
    assert_eq!(restored.keys().await, [kept.key(), objects[2].key(), objects[3].key(), objects[4].key()]);
    assert_eq!(restored.owners(&objects[3]).await, [uid(4)]);
    assert_eq!(restored.owners(&objects[2]).await, [""; 0]);
}
