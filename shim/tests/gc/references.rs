//! References that lead nowhere, or elsewhere.

use crate::world::*;

#[tokio::test]
async fn t11_an_owner_that_was_never_there_keeps_its_dependent() {
    let world = World::new().await;
    let owned = shirt(2).owned_by(&shirt(99));
    world.create(&owned).await;
    // Looked at because it is labelled now.
    let relabelled = shirt(3).visible().owned_by(&shirt(99));
    world.create(&relabelled).await;
    world.update(&relabelled.key(), |metadata| metadata["labels"] = serde_json::json!({LABEL: ""})).await;
    world.settle().await;
    assert!(world.exists(&owned).await && world.exists(&relabelled).await);
    world.counts("gc_unknown_owner_refs_total", 1.0).await;
}

#[tokio::test]
async fn t12_a_dependent_of_a_living_owner_in_another_namespace_goes_at_once() {
    let world = World::new().await;
    let (owner, good) = (shirt(1), shirt(2).within("b"));
    world.create_all([&owner, &good]).await;
    let lost = shirt(3).within("b").owned_by(&owner);
    let mixed = shirt(4).within("b").owned_by(&owner).owned_by(&good);
    let named = shirt(5).owned_by(&Object { name: "other".to_owned(), ..owner.clone() });
    world.create_all([&lost, &mixed, &named]).await;
    world.settle().await;
    assert!(!world.exists(&lost).await && !world.exists(&named).await);
    assert_eq!(world.owners(&mixed).await, [uid(2)]);
    assert!(world.exists(&owner).await && world.exists(&good).await);
}

#[tokio::test]
async fn t12_an_owner_in_another_namespace_or_of_another_name_is_none() {
    let world = World::new().await;
    let (owner, doomed) = (shirt(1), shirt(9));
    let elsewhere = shirt(2).within("b").owned_by(&owner).owned_by(&doomed);
    let renamed = Object { name: "other".to_owned(), ..owner.clone() };
    let misnamed = shirt(3).owned_by(&renamed).owned_by(&doomed);
    let half = shirt(4).owned_by(&owner).owned_by(&renamed).owned_by(&doomed);
    world.create_all([&owner, &doomed, &elsewhere, &misnamed, &half]).await;
    world.delete(&doomed).await;
    world.settle().await;
    assert!(!world.exists(&elsewhere).await && !world.exists(&misnamed).await);
    assert!(world.exists(&owner).await);
    assert_eq!(world.owners(&half).await, [uid(1), uid(1)], "a reference goes with its UID, and one of them is good");
}

#[tokio::test]
async fn t12_an_owner_of_another_kind_is_not_judged() {
    let world = World::new().await;
    let (owner, doomed) = (shirt(1), shirt(9));
    let other_kind = Object { kind: "Skirt", ..owner.clone() };
    let owned = shirt(2).owned_by(&other_kind).owned_by(&doomed);
    world.create_all([&owner, &doomed, &owned]).await;
    world.delete(&doomed).await;
    world.settle().await;
    assert_eq!(world.owners(&owned).await, [uid(1)]);
    // Without a definition in the store nothing is known of versions.
    let owned = shirt(3);
    let mut json = owned.json();
    let mut reference = owner.reference(true);
    reference["apiVersion"] = "example.com/v1beta7".into();
    json["metadata"]["ownerReferences"] = serde_json::json!([reference]);
    world.put(&owned.key(), &json).await;
    world.delete(&owner).await;
    world.settle().await;
    assert!(!world.exists(&owned).await);
}

fn in_version(object: &Object, owner: &Object, api_version: &str) -> serde_json::Value {
    let mut json = object.json();
    let mut reference = owner.reference(true);
    reference["apiVersion"] = api_version.into();
    json["metadata"]["ownerReferences"] = serde_json::json!([reference]);
    json
}

/// Kubernetes' collector can't look at an owner in such a version, and keeps what it owns.
#[tokio::test]
async fn t12_an_owner_named_in_a_version_that_is_not_served_keeps_its_dependent() {
    let world = World::new().await;
    let definition = "/registry/apiextensions.k8s.io/customresourcedefinitions/shirts.example.com";
    let versions = |second: bool| {
        let of =
            |name: &str, served: bool| serde_json::json!({"name": name, "served": served, "storage": name == "v1"});
        let versions = [of("v1", true), of("v2", second), of("v1beta1", false)];
        serde_json::json!({"spec": {"group": "example.com", "names": {"kind": "Shirt", "plural": "shirts"}, "versions": versions}})
    };
    world.put(definition, &versions(true)).await;
    let (first, second, built_in) = (shirt(1), shirt(2), configmap(3));
    world.create_all([&first, &second, &built_in]).await;
    // The numbers of the objects that go with each owner, and of those that stay.
    let table = [
        (11, &first, "example.com/v1", true),
        (12, &first, "example.com/v2", true),
        (13, &first, "example.com/v1beta1", false),
        (14, &first, "example.com/v3", false),
        (21, &second, "example.com/v1", true),
        (22, &second, "example.com/v2", false),
        (31, &built_in, "v1", true),
        (32, &built_in, "v2", false),
    ];
    for (number, owner, api_version, _) in table {
        world.put(&shirt(number).key(), &in_version(&shirt(number), owner, api_version)).await;
    }
    world.delete(&first).await;
    world.settle().await;
    // A version that is no longer served.
    world.put(definition, &versions(false)).await;
    for owner in [&second, &built_in] {
        world.delete(owner).await;
    }
    world.settle().await;
    for (number, _, api_version, goes) in table {
        assert_eq!(world.exists(&shirt(number)).await, !goes, "{number} in {api_version}");
    }
}

#[tokio::test]
async fn t14_a_cluster_wide_owner_has_dependents_everywhere() {
    let world = World::new().await;
    let owner = shirt(1).within("");
    let everywhere = [
        shirt(2).within("a").owned_by(&owner),
        shirt(3).within("b").owned_by(&owner),
        shirt(4).within("").owned_by(&owner),
    ];
    world.create_all([&owner].into_iter().chain(&everywhere)).await;
    world.delete(&owner).await;
    world.settle().await;
    assert_eq!(world.keys().await, [""; 0]);
}

#[tokio::test]
async fn t15_a_cluster_wide_dependent_of_a_namespaced_owner_is_never_collected() {
    let world = World::new().await;
    let (owner, doomed) = (shirt(1), shirt(2).within(""));
    let owned = shirt(3).within("").owned_by(&owner);
    let both = shirt(4).within("").owned_by(&owner).owned_by(&doomed);
    world.create_all([&owner, &doomed, &owned, &both]).await;
    world.delete(&doomed).await;
    world.settle().await;
    assert_eq!(world.owners(&both).await, [uid(1), uid(2)]);
    world.delete(&owner).await;
    world.settle().await;
    assert_eq!(world.owners(&owned).await, [uid(1)]);
    assert_eq!(world.owners(&both).await, [uid(1), uid(2)]);
}
