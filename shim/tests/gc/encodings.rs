//! Objects as kube-apiserver stores them besides JSON.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use sluice_shim::engine::*;
use sluice_shim::object;

use crate::database::Database;
use crate::world::*;

/// A field of a protobuf message that holds bytes.
fn bytes(number: u8, value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    let mut field = vec![number << 3 | 2];
    let mut length = value.len();
    while length >= 0x80 {
        field.push(length as u8 | 0x80);
        length >>= 7;
    }
    field.push(length as u8);
    [field, value.to_vec()].concat()
}

fn number(number: u8, value: u8) -> Vec<u8> {
    vec![number << 3, value]
}

/// An object in Kubernetes' protobuf envelope, being deleted or not.
fn protobuf(object: &Object, deleting: bool) -> Vec<u8> {
    let mut meta = [bytes(1, &object.name), bytes(3, object.namespace), bytes(5, &object.uid), number(7, 1)].concat();
    if deleting {
        meta.extend(bytes(9, [8, 1]));
        meta.extend(number(10, 0));
    }
    for owner in &object.owners {
        let text = |field: &str| owner[field].as_str().unwrap().to_owned();
        let reference = [
            bytes(1, text("kind")),
            bytes(3, text("name")),
            bytes(4, text("uid")),
            bytes(5, text("apiVersion")),
            number(7, owner["blockOwnerDeletion"].as_bool().unwrap().into()),
        ];
        meta.extend(bytes(13, reference.concat()));
    }
    for finalizer in &object.finalizers {
        meta.extend(bytes(14, finalizer));
    }
    let kind = [bytes(1, "v1"), bytes(2, object.kind)].concat();
    [b"k8s\0".to_vec(), bytes(1, kind), bytes(2, [bytes(1, meta), bytes(2, "data")].concat())].concat()
}

async fn put(world: &World, object: &Object, deleting: bool) {
    let put = Put { key: object.key().into(), value: protobuf(object, deleting).into(), ..Put::default() };
    world.engine.write(Op::Put(put)).await.unwrap();
}

async fn value(world: &World, object: &Object) -> Vec<u8> {
    world.get(&object.key()).await.unwrap().value.to_vec()
}

#[tokio::test]
async fn t27_a_pod_in_protobuf_loses_the_reference_to_an_orphaning_owner() {
    let world = World::new().await;
    let owner = shirt(1);
    let other = configmap(9);
    let pod = Object { kind: "Pod", ..configmap(2) }.owned_by(&owner).owned_by(&other);
    world.create(&owner).await;
    put(&world, &pod, false).await;
    world.delete_with(&owner, ORPHAN).await;
    world.settle().await;
    assert!(!world.exists(&owner).await);
    let expected = Object { owners: vec![other.reference(false)], ..pod.clone() };
    assert_eq!(value(&world, &pod).await, protobuf(&expected, false));
}

#[tokio::test]
async fn t27_a_configmap_in_protobuf_is_held_until_its_hidden_dependents_are_gone() {
    let world = World::new().await;
    let owner = configmap(1);
    let owned = shirt(2).blocking(&owner).finalizer("example.com/x");
    put(&world, &owner, false).await;
    world.create(&owned).await;
    let waiting = owner.clone().finalizer(FOREGROUND);
    put(&world, &waiting, true).await;
    world.settle().await;
    assert_eq!(value(&world, &owner).await, protobuf(&waiting.clone().finalizer(HOLD), true));
    // The controller manager takes its own away.
    put(&world, &owner.clone().finalizer(HOLD), true).await;
    world.lift(&owned, "example.com/x").await;
    world.settle().await;
    assert_eq!(world.keys().await, [""; 0]);
}

#[tokio::test]
async fn t27_a_custom_resource_in_cbor_is_marked_and_deleted() {
    let text = |text: &str| [vec![0x40 + text.len() as u8], text.as_bytes().to_vec()].concat();
    let long = |text: &str| [vec![0x58, text.len() as u8], text.as_bytes().to_vec()].concat();
    let owner = shirt(1);
    let entry = |name: &str, value: Vec<u8>| [text(name), value].concat();
    let map = |entries: &[Vec<u8>]| [vec![0xa0 + entries.len() as u8], entries.concat()].concat();
    let reference = map(&[
        entry("apiVersion", text("example.com/v1")),
        entry("kind", text("Shirt")),
        entry("name", text(&owner.name)),
        entry("uid", long(&owner.uid)),
    ]);
    let owned = shirt(2);
    let object = |finalizers: Vec<u8>| {
        let metadata = map(&[
            entry("name", text(&owned.name)),
            entry("namespace", text("a")),
            entry("uid", long(&owned.uid)),
            entry("labels", map(&[[long(LABEL), text("")].concat()])),
            entry("finalizers", finalizers),
            entry("ownerReferences", [vec![0x81], reference.clone()].concat()),
        ]);
        let entries =
            [entry("apiVersion", text("example.com/v1")), entry("kind", text("Shirt")), entry("metadata", metadata)];
        [b"\xd9\xd9\xf7".to_vec(), map(&entries)].concat()
    };
    let write = |key: String, value: Vec<u8>| Op::Put(Put { key: key.into(), value: value.into(), ..Put::default() });
    let world = World::new().await;
    world.create(&owner).await;
    let held = object([vec![0x81], text("x")].concat());
    assert!(object::decode(&held).is_some());
    world.engine.write(write(owned.key(), held)).await.unwrap();
    let free = Object { name: "free".to_owned(), ..owned.clone() }.key();
    world.engine.write(write(free.clone(), object(vec![0x80]))).await.unwrap();
    world.delete(&owner).await;
    world.settle().await;
    assert!(world.get(&free).await.is_none());
    let marked = value(&world, &owned).await;
    let meta = object::decode(&marked).unwrap();
    assert!(meta.deletion_timestamp.is_some() && meta.deletion_grace_period_seconds == Some(0));
}

#[tokio::test]
async fn t27_a_server_warns_of_encrypted_custom_resources() {
    let world = World::new().await;
    let put = |key: &str| Put { key: key.to_owned().into(), value: "k8s:enc:aescbc:v1:k:x".into(), ..Put::default() };
    let serve = |database: &Database, args: &[&str]| {
        let socket = format!("unix://{}", database.folder().join("client.sock").display());
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-shim"));
        command.env_clear().args(["--endpoint", database.url(), "--listen-client-urls", &socket]).args(args);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        // All that it has to say of the database comes before it serves.
        let mut said = String::new();
        for line in BufReader::new(child.stderr.take().unwrap()).lines() {
            said = said + &line.unwrap() + "\n";
            if said.contains("serving") {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        said
    };
    for key in ["/registry/secrets/a/b", "/my.app/x/y", "/registry/example.com/shirts/a/b"] {
        world.engine.write(Op::Put(put(key))).await.unwrap();
    }
    world.engine.shutdown().await;
    let warned = |said: &str| said.contains("is encrypted") && said.contains("/registry/example.com/shirts/a/b");
    let said = serve(&world.database, &[]);
    assert!(warned(&said) && said.contains("serving"), "{said}");
    let said = serve(&world.database, &["--gc=off"]);
    assert!(!warned(&said) && said.contains("serving"), "{said}");
    let mut world = world;
    world.restart(None).await;
    let delete = DeleteRange { range: KeyRange::single("/registry/example.com/shirts/a/b"), prev_kv: false };
    world.engine.write(Op::Delete(delete)).await.unwrap();
    world.engine.shutdown().await;
    let said = serve(&world.database, &[]);
    assert!(!warned(&said), "{said}");
}

/// Encryption at rest is turned on while the cluster runs, and the owners are written again.
#[tokio::test]
async fn t27_an_owner_that_is_encrypted_now_keeps_its_dependents() {
    let world = World::new().await;
    let owners = [configmap(1), shirt(2)];
    let owned = [shirt(11).blocking(&owners[0]), shirt(12).blocking(&owners[1])];
    world.create_all(owners.iter().chain(&owned)).await;
    for owner in &owners {
        let put = Put { key: owner.key().into(), value: "k8s:enc:aescbc:v1:key:x".into(), ..Put::default() };
        world.engine.write(Op::Put(put)).await.unwrap();
    }
    world.settle().await;
    for (owner, owned) in owners.iter().zip(&owned) {
        assert_eq!(world.owners(owned).await, std::slice::from_ref(&owner.uid));
    }
}
