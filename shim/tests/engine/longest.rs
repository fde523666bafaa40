//! Objects with UIDs, labels and fields that no index can hold: they are stored like all others, and so are those
//! beside them.

use std::sync::Arc;

use sluice_shim::engine::*;
use sluice_shim::gc::Uid;
use sluice_shim::selector::Selection;

use crate::database::Database;
use crate::fields::{DEFINITION, SHIRTS, close_sound, definition};
use crate::support::{open, prefix, put};

/// The longest label that is indexed, in name and in value.
const LABEL: usize = 1024;
/// The longest key that every database takes.
const KEY: usize = 1536;

/// Text that no database can make shorter.
fn text(length: usize) -> String {
    let mut state = length as u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_"[(state >> 58) as usize % 63]
    };
    (0..length).map(|_| char::from(next())).collect()
}

/// An object whose labels are `of=test` and another one.
fn object(name: &str, uid: &str, owner: &str, label: (&str, &str)) -> String {
    format!(
        r#"{{"apiVersion":"stable.example.com/v1","kind":"Shirt","metadata":{{"name":"{name}","namespace":"a","uid":"{uid}",
            "labels":{{"of":"test","skip-controller-manager-metadata-caching":"","{}":"{}"}},
            "ownerReferences":[{{"apiVersion":"v1","kind":"ConfigMap","name":"o","uid":"{owner}"}}]}}}}"#,
        label.0, label.1
    )
}

fn put_op(key: &str, value: String) -> Op {
    Op::Put(Put { key: key.to_owned().into(), value: value.into(), ..Put::default() })
}

fn together(success: Vec<Op>) -> Op {
    Op::Txn(Txn { success, ..Txn::default() })
}

async fn listed(engine: &Engine, selector: &str) -> Vec<String> {
    let selection = Selection::parse(Some(selector), None, None).unwrap().map(Arc::new);
    let query = RangeQuery { range: prefix(SHIRTS), selection, ..RangeQuery::default() };
    let found = engine.range(query).await.unwrap().kvs;
    found.into_iter().map(|kv| String::from_utf8(kv.key.to_vec()).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_index_can_hold_is_stored_with_what_is_beside_it() {
    let database = Database::new();
    let (engine, _) = open(&database).await;
    let (uid, label) = (text(Uid::LONGEST), text(LABEL));
    let (long_uid, long_label) = (text(3000), text(3000));
    let table = [
        ("the longest that are indexed", &*uid, &*uid, (&*label, &*label)),
        ("a UID", &*long_uid, "owner", ("a", "b")),
        ("the UID of an owner", "uid", &*long_uid, ("a", "b")),
        ("the name of a label", "uid", "owner", (&*long_label, "b")),
        ("the value of a label", "uid", "owner", ("a", &*long_label)),
        ("just longer", &*text(Uid::LONGEST + 1), &*text(Uid::LONGEST + 1), (&*text(LABEL + 1), &*text(LABEL + 1))),
    ];
    for (what, uid, owner, (name, value)) in table {
        // An entry of an index holds the key as well.
        let before = format!("{SHIRTS}a/");
        let long_name = text(KEY - before.len());
        let (odd, plain) = (format!("{before}{long_name}"), format!("{before}plain"));
        let neighbour = object("plain", "00000000-0000-4000-8000-000000000001", "other", ("a", "c"));
        let both = vec![put_op(&odd, object(&long_name, uid, owner, (name, value))), put_op(&plain, neighbour)];
        engine.write(together(both)).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        let mut expected = [odd.clone(), plain.clone()];
        expected.sort();
        assert_eq!(listed(&engine, "of=test").await, expected, "{what}");
        assert_eq!(listed(&engine, "a=c").await, [&*plain], "{what}");
        // Its update, to what is indexed and back, and its deletion take away what was stored and nothing else.
        for value in [object(&long_name, "uid", "owner", ("a", "b")), object(&long_name, uid, owner, (name, value))] {
            put(&engine, odd.clone(), value).await;
        }
        let gone = Op::Delete(DeleteRange { range: KeyRange::single(odd), ..DeleteRange::default() });
        engine.write(gone).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(listed(&engine, "of=test").await, [&*plain], "{what}");
        assert_eq!(listed(&engine, "!of").await, [""; 0], "{what}");
    }
    close_sound(engine, &database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definition_whose_field_no_index_can_be_named_after_is_stored() {
    let database = Database::new();
    let (engine, metrics) = open(&database).await;
    let long = format!("spec.{}", text(3000));
    let both = vec![
        put_op(DEFINITION, definition("v1", &["spec.color", &long])),
        put_op("/registry/configmaps/a/b", "plain".to_owned()),
    ];
    engine.write(together(both)).await.unwrap();
    crate::fields::settled(&metrics, 1).await;
    close_sound(engine, &database).await;
}
