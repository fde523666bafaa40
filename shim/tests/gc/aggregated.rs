//! Kinds of an aggregated API server: here on the engine, with the keys and the form that Kubernetes' own sample stores
//! them in (k8s.io/sample-apiserver: pkg/cmd/server/start.go, `defaultEtcdPathPrefix`; JSON in v1alpha1). No such
//! server runs here.

use crate::world::*;

/// A labelled object of the sample's kind.
fn flunder(number: u64) -> Object {
    Object { group: "wardle.example.com", kind: "Flunder", name: format!("flunder-{number:06}"), ..shirt(number) }
}

/// Its server has a prefix of its own before all keys.
fn key(flunder: &Object) -> String {
    format!("/registry/wardle.example.com/wardle.example.com/flunders/{}/{}", flunder.namespace, flunder.name)
}

async fn create(world: &World, flunder: &Object) {
    world.put(&key(flunder), &flunder.json()).await;
}

async fn exists(world: &World, flunder: &Object) -> bool {
    world.get(&key(flunder)).await.is_some()
}

/// With a store of its own: neither shim knows the other's objects, so nothing that is labelled is collected over them,
/// living or not. A labelled object of the aggregated server leaks when its owner is gone, as the documentation says.
#[tokio::test]
async fn t25_objects_of_a_server_with_its_own_store_are_neither_living_nor_dead() {
    let (cluster, aggregated) = (World::new().await, World::new().await);
    let (living, doomed) = (flunder(1), flunder(2));
    let (gone, other) = (shirt(11), shirt(12));
    for flunder in [&living, &doomed, &flunder(3).owned_by(&gone), &flunder(4).owned_by(&doomed)] {
        create(&aggregated, flunder).await;
    }
    let of_living = shirt(13).owned_by(&living);
    let of_doomed = shirt(14).owned_by(&doomed);
    let of_both = shirt(15).owned_by(&doomed).owned_by(&gone);
    cluster.create_all([&gone, &other, &of_living, &of_doomed, &of_both]).await;
    aggregated.update(&key(&doomed), |metadata| mark(metadata, None)).await;
    cluster.delete(&gone).await;
    cluster.settle().await;
    aggregated.settle().await;

    assert!(!exists(&aggregated, &doomed).await && !exists(&aggregated, &flunder(4)).await, "on one side all goes");
    assert!(exists(&aggregated, &flunder(3)).await, "its owner was never there, as far as this store knows");
    assert!(cluster.exists(&of_living).await && cluster.exists(&of_doomed).await);
    assert_eq!(cluster.owners(&of_both).await, [uid(2)], "only what is known to be gone is taken away");
    cluster.counts("gc_unknown_owner_refs_total", 1.0).await;
}

/// In the same database UIDs are all that counts, wherever the keys are.
#[tokio::test]
async fn t25_objects_of_a_server_in_the_same_database_are_collected_by_their_uids() {
    let world = World::new().await;
    let (doomed, waits, gone) = (flunder(1), flunder(2), shirt(11));
    for flunder in [&doomed, &waits, &flunder(3).owned_by(&gone), &flunder(4).owned_by(&gone).owned_by(&waits)] {
        create(&world, flunder).await;
    }
    let held = shirt(12).blocking(&waits).finalizer("example.com/x");
    let of_doomed = shirt(13).owned_by(&doomed);
    let shared = shirt(14).owned_by(&doomed).owned_by(&waits);
    world.create_all([&gone, &held, &of_doomed, &shared]).await;

    world.update(&key(&doomed), |metadata| mark(metadata, None)).await;
    world.delete(&gone).await;
    world.settle().await;
    assert!(!world.exists(&of_doomed).await && !exists(&world, &flunder(3)).await);
    assert_eq!(world.owners(&shared).await, [uid(2)]);
    assert!(exists(&world, &flunder(4)).await, "another owner lives");

    world.update(&key(&waits), |metadata| mark(metadata, Some(FOREGROUND))).await;
    world.settle().await;
    assert!(exists(&world, &waits).await, "it waits for what blocks it");
    assert!(!exists(&world, &flunder(4)).await && !world.exists(&shared).await);
    world.lift(&held, "example.com/x").await;
    world.settle().await;
    assert_eq!(world.keys().await, [""; 0]);
}
