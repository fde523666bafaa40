//! Deletions in the background: owners that are gone.

use bytes::Bytes;
use sluice_shim::engine::*;

use crate::world::*;

#[tokio::test]
async fn t01_a_tree_goes_with_its_root_parents_before_children() {
    let world = World::new().await;
    // Each has three dependents, four deep.
    let mut objects = vec![shirt(0)];
    for number in 1..40 {
        let parent = objects[(number as usize - 1) / 3].clone();
        objects.push(shirt(number).owned_by(&parent));
    }
    let stranger = shirt(100);
    world.create_all(objects.iter().chain([&stranger])).await;
    world.settle().await;
    let before = world.engine.status().await.unwrap().revision;
    world.delete(&objects[0]).await;
    world.settle().await;
    assert_eq!(world.keys().await, [stranger.key()]);
    let events = world.events(before + 1).await;
    assert_eq!(events.len(), objects.len());
    // Each is a revision of its own, and a client can't tell it from a deletion of its own.
    assert!(events.iter().zip(before + 1..).all(|(event, revision)| event.kv.mod_revision == revision));
    let at = |object: &Object| events.iter().position(|event| event.kv.key == object.key().as_bytes()).unwrap();
    for (number, object) in objects.iter().enumerate().skip(1) {
        assert!(at(&objects[(number - 1) / 3]) < at(object), "{number}");
        let event = &events[at(object)];
        assert_eq!(event.kind, EventKind::Delete);
        assert_eq!(
            event.kv,
            KeyValue { key: event.kv.key.clone(), mod_revision: event.kv.mod_revision, ..KeyValue::default() }
        );
        assert_eq!(event.prev_kv.as_ref().unwrap().value, object.json().to_string());
    }
    world.counts("gc_actions_total{action=\"delete\"}", 39.0).await;
}

#[tokio::test]
async fn t02_a_living_owner_keeps_its_dependent_and_dead_references_go() {
    let world = World::new().await;
    let (first, second) = (shirt(1), configmap(2));
    let owned = shirt(3).owned_by(&first).owned_by(&second);
    world.create_all([&first, &second, &owned]).await;
    world.delete(&first).await;
    world.settle().await;
    assert_eq!(world.owners(&owned).await, [uid(2)]);
    world.delete(&second).await;
    world.settle().await;
    assert!(!world.exists(&owned).await);
}

#[tokio::test]
async fn t02_an_unknown_owner_counts_as_living() {
    let world = World::new().await;
    let owner = shirt(1);
    let owned = shirt(3).owned_by(&owner).owned_by(&shirt(99));
    world.create_all([&owner, &owned]).await;
    world.delete(&owner).await;
    world.settle().await;
    assert_eq!(world.owners(&owned).await, [uid(99)]);
}

#[tokio::test]
async fn t03_a_hidden_dependent_of_a_visible_owner_goes() {
    let world = World::new().await;
    let owner = configmap(1);
    let (owned, visible) = (shirt(2).owned_by(&owner), configmap(3).owned_by(&owner));
    world.create_all([&owner, &owned, &visible]).await;
    world.delete(&owner).await;
    world.settle().await;
    assert!(!world.exists(&owned).await);
    assert!(world.exists(&visible).await, "that is the controller manager's");
}

#[tokio::test]
async fn t04_a_visible_custom_resource_of_a_hidden_owner_goes_others_are_left() {
    let world = World::new().await;
    let owner = shirt(1);
    let (visible, typed) = (shirt(2).visible().owned_by(&owner), configmap(3).owned_by(&owner));
    world.create_all([&owner, &visible, &typed]).await;
    world.delete(&owner).await;
    world.settle().await;
    assert!(!world.exists(&visible).await);
    assert!(world.exists(&typed).await);
}

#[tokio::test]
async fn t10_a_dependent_that_comes_after_its_owner_went_is_deleted() {
    let world = World::new().await;
    let (owner, alive) = (shirt(1), shirt(2));
    world.create_all([&owner, &alive]).await;
    world.delete(&owner).await;
    let late = shirt(3).owned_by(&owner);
    let kept = shirt(4).owned_by(&owner).owned_by(&alive);
    world.create_all([&late, &kept]).await;
    world.settle().await;
    assert!(!world.exists(&late).await);
    assert_eq!(world.owners(&kept).await, [uid(2)]);
}

#[tokio::test]
async fn t10_a_dependent_that_is_given_an_owner_that_is_gone_is_deleted() {
    let world = World::new().await;
    let (owner, owned) = (shirt(1), shirt(2));
    world.create_all([&owner, &owned]).await;
    world.delete(&owner).await;
    world.update(&owned.key(), |metadata| metadata["ownerReferences"] = [owner.reference(false)].into()).await;
    world.settle().await;
    assert!(!world.exists(&owned).await);
}

#[tokio::test]
async fn t13_an_owner_of_the_same_name_is_another() {
    let world = World::new().await;
    let old = shirt(1);
    let new = Object { uid: uid(2), ..old.clone() };
    let (of_old, of_new) = (shirt(3).owned_by(&old), shirt(4).owned_by(&new));
    world.create_all([&old, &of_old, &of_new]).await;
    // In one transaction: the key never is without a value.
    let delete = Op::Delete(DeleteRange { range: KeyRange::single(old.key()), prev_kv: false });
    let put = Op::Put(Put { key: new.key().into(), value: new.json().to_string().into(), ..Put::default() });
    world.engine.write(delete).await.unwrap();
    world.engine.write(put).await.unwrap();
    world.settle().await;
    assert!(!world.exists(&of_old).await);
    assert!(world.exists(&of_new).await && world.exists(&new).await);
    // By a put that replaces the object, which no API server does.
    let third = Object { uid: uid(5), ..old.clone() };
    world.create(&third).await;
    world.settle().await;
    assert!(!world.exists(&of_new).await);
}

#[tokio::test]
async fn t16_finalizers_hold_a_dependent_which_is_marked() {
    let world = World::new().await;
    let owner = shirt(1);
    let owned = shirt(2).owned_by(&owner).finalizer("example.com/x");
    let below = shirt(3).owned_by(&owned);
    world.create_all([&owner, &owned, &below]).await;
    world.delete(&owner).await;
    world.settle().await;
    let metadata = world.metadata(&owned).await;
    let time = metadata["deletionTimestamp"].as_str().unwrap();
    assert!(time.len() == 20 && time.ends_with('Z'), "{time}");
    assert_eq!((&metadata["deletionGracePeriodSeconds"], &metadata["generation"]), (&0.into(), &2.into()));
    let kv = world.get(&owned.key()).await.unwrap();
    assert_eq!(kv.version, 2);
    assert!(world.exists(&below).await);
    world.lift(&owned, "example.com/x").await;
    world.settle().await;
    assert_eq!(world.keys().await, [""; 0]);
}

#[tokio::test]
async fn t17_a_dependent_under_deletion_is_not_marked_again() {
    let world = World::new().await;
    let owner = shirt(1);
    let owned = shirt(2).owned_by(&owner).finalizer("example.com/x");
    world.create_all([&owner, &owned]).await;
    world.delete(&owned).await;
    let version = world.get(&owned.key()).await.unwrap().version;
    world.delete(&owner).await;
    world.settle().await;
    assert_eq!(world.get(&owned.key()).await.unwrap().version, version);
}

#[tokio::test]
async fn t17_a_dependent_s_own_finalizer_says_how_it_is_deleted() {
    let world = World::new().await;
    let owner = shirt(1);
    let (orphans, waits) =
        (shirt(2).owned_by(&owner).finalizer(ORPHAN), shirt(3).owned_by(&owner).finalizer(FOREGROUND));
    let (orphaned, deleted) = (shirt(4).owned_by(&orphans), shirt(5).blocking(&waits));
    world.create_all([&owner, &orphans, &waits, &orphaned, &deleted]).await;
    world.delete(&owner).await;
    world.settle().await;
    assert_eq!(world.keys().await, [orphaned.key()]);
    assert_eq!(world.owners(&orphaned).await, [""; 0]);
}

#[tokio::test]
async fn t22_events_are_no_part_of_it() {
    let world = World::new().await;
    let event = |number, group| Object { group, kind: "Event", ..shirt(number) };
    let owner = configmap(1);
    let (core, newer) = (event(2, ""), event(3, "events.k8s.io"));
    let (of_event, of_owner) = (shirt(4).owned_by(&core), event(5, "").owned_by(&owner));
    world.create_all([&owner, &core, &newer, &of_event, &of_owner]).await;
    let tombstones = world.engine.collector().await.unwrap().tombstones;
    world.delete(&core).await;
    world.delete(&newer).await;
    world.settle().await;
    assert_eq!(world.engine.collector().await.unwrap().tombstones, tombstones);
    world.delete(&owner).await;
    world.settle().await;
    assert!(world.exists(&of_event).await && world.exists(&of_owner).await);
}

#[tokio::test]
async fn t23_t24_labelled_objects_of_typed_groups_are_the_controller_manager_s() {
    let world = World::new().await;
    let owner = configmap(1);
    let labelled = |kind, group, number| Object { kind, group, labelled: true, ..shirt(number) };
    let lease = labelled("Lease", "coordination.k8s.io", 2).owned_by(&owner);
    let child = labelled("ConfigMap", "", 3).owned_by(&owner);
    world.create_all([&owner, &lease, &child]).await;
    world.delete(&owner).await;
    world.settle().await;
    let revision = world.engine.status().await.unwrap().revision;
    assert!(world.exists(&lease).await && world.exists(&child).await);
    assert_eq!(revision, 5, "three creations and a deletion");
}

#[tokio::test]
async fn t36_a_key_that_goes_with_its_lease_counts_as_deleted() {
    let world = World::new().await;
    let lease = world.engine.lease_grant(0, 3600).await.unwrap().id;
    let owner = shirt(1);
    let owned = shirt(2).owned_by(&owner);
    let value: Bytes = owner.json().to_string().into();
    world.engine.write(Op::Put(Put { key: owner.key().into(), value, lease, ..Put::default() })).await.unwrap();
    world.create(&owned).await;
    world.engine.lease_revoke(lease).await.unwrap();
    world.settle().await;
    assert_eq!(world.keys().await, [""; 0]);
}

#[tokio::test]
async fn a_rewritten_object_keeps_its_lease() {
    let world = World::new().await;
    let lease = world.engine.lease_grant(0, 3600).await.unwrap().id;
    let owner = shirt(1);
    let owned = shirt(2).owned_by(&owner).owned_by(&shirt(9));
    let value: Bytes = owned.json().to_string().into();
    world.engine.write(Op::Put(Put { key: owned.key().into(), value, lease, ..Put::default() })).await.unwrap();
    world.create(&owner).await;
    world.delete(&owner).await;
    world.settle().await;
    let kv = world.get(&owned.key()).await.unwrap();
    assert_eq!((kv.lease, kv.version), (lease, 2));
}

/// The API server deletes the objects of a definition before the definition.
#[tokio::test]
async fn a_definition_is_the_api_servers() {
    let world = World::new().await;
    let owner = shirt(1).within("");
    let definition =
        |number| Object { group: "apiextensions.k8s.io", kind: "CustomResourceDefinition", ..shirt(number) };
    let [labelled, visible] = [definition(2), definition(3).visible()].map(|it| it.within("").owned_by(&owner));
    world.create_all([&owner, &labelled, &visible]).await;
    world.delete(&owner).await;
    world.settle().await;
    assert_eq!(world.keys().await, [labelled.key(), visible.key()]);
}
