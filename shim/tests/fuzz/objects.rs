//! Stored values: JSON, protobuf, CBOR, and what is none of them.

use serde::Deserialize;
use serde_json::Value;
use sluice_shim::object::{FieldSet, ObjectMeta, decode, decode_with_fields};
use sluice_shim::selector::Selection;

use super::bounds::Bounds;
use super::driver::{Target, alone, kind};

/// The smallest owner reference takes two bytes of CBOR or protobuf, and 100 bytes once it is read; a vector that grows
/// is allocated anew.
pub(crate) const BOUNDS: Bounds = Bounds { memory: 64 << 10, memory_a_byte: 256 };

const WORDS: [&[u8]; 26] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"null",
    b"\"\"",
    b"\\u0000",
    b"\\ud800",
    b"1e999",
    b"-0",
    b"k8s\0",
    b"\xd9\xd9\xf7",
    b"\"metadata\":{",
    b"\"labels\":{\"a\":\"b\"}",
    b"\"finalizers\":[\"\"]",
    b"\"ownerReferences\":[{}]",
    b"\"deletionTimestamp\":\"2026-01-02T03:04:05Z\"",
    b"\"apiVersion\":\"v1\"",
    b"\x0b",
    b"\x0c",
    b"\x9f",
    b"\xbf",
    b"\xff",
    b"\xc1",
];

/// Real objects in all encodings, and odd ones: see `tests/vectors/gen`.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    #[derive(Deserialize)]
    struct Vectors {
        objects: Vec<Case>,
    }
    #[derive(Deserialize)]
    struct Case {
        value: String,
    }
    let vectors: Vectors = serde_json::from_str(include_str!("../vectors/objects.json")).unwrap();
    vectors.objects.iter().map(|case| super::base64::read(&case.value)).collect()
}

/// What must hold of metadata, wherever it was read from.
fn check(meta: &ObjectMeta<'_>) {
    assert!(!meta.api_version.is_empty() && !meta.kind.is_empty(), "{meta:?}");
    assert!(meta.labels.is_sorted_by(|a, b| a.0 < b.0), "{:?}", meta.labels);
    for (key, value) in meta.labels.iter().take(100) {
        assert_eq!(meta.label(key), Some(value.as_ref()));
    }
}

/// What a reader that builds a tree finds. It refuses more (depth, text that is not UTF-8); what both can read is the
/// same.
fn check_json(meta: &ObjectMeta<'_>, tree: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &tree["metadata"];
    assert_eq!([meta.api_version.as_ref(), meta.kind.as_ref()], [&*text(&tree["apiVersion"]), &*text(&tree["kind"])]);
    assert_eq!([meta.name.as_ref(), meta.uid.as_ref()], [&*text(&metadata["name"]), &*text(&metadata["uid"])]);
    let labels: Vec<(String, String)> = metadata["labels"]
        .as_object()
        .map_or_else(Vec::new, |labels| labels.iter().map(|(key, value)| (key.clone(), text(value))).collect());
    let found: Vec<(String, String)> =
        meta.labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    assert_eq!(found, labels);
    let owners = metadata["ownerReferences"].as_array().map_or(0, Vec::len);
    assert_eq!(meta.owner_references.len(), owners);
}

fn run(selection: &Selection, input: &[u8]) -> u64 {
    let meta = BOUNDS.hold(input.len(), || decode(input));
    let matches = BOUNDS.hold(input.len(), || selection.may_match(input));
    let Some(meta) = meta else {
        assert!(matches, "an opaque value is one that may match");
        return kind(("opaque", input.first()));
    };
    check(&meta);
    let selected = meta.selectable_labels().is_none()
        || (meta.label("a") != Some("b") && meta.label("tier").is_none_or(|tier| tier == "front"));
    assert_eq!(matches, selected);
    let fields = FieldSet::new(Some(&meta.api_version), ["metadata.name", "spec.color", "spec", "status.phase"]);
    let read = BOUNDS.hold(input.len(), || decode_with_fields(input, &fields));
    // An object may be opaque because of a field alone: one that comes twice, or is of another type.
    if let Some((same, values)) = read {
        assert_eq!((&same, values[0].known()), (&meta, Some(&*meta.name)));
    }
    if let Ok(tree) = serde_json::from_slice(input) {
        check_json(&meta, &tree);
    }
    let some = [meta.name.is_empty(), meta.namespace.is_empty(), meta.uid.is_empty(), meta.generation == 0];
    let counts = [meta.labels.len(), meta.finalizers.len(), meta.owner_references.len()].map(|count| count.min(3));
    let times = (meta.deletion_timestamp.is_some(), meta.deletion_grace_period_seconds.is_some());
    let owners = meta.owner_references.first().map(|owner| (owner.controller, owner.uid.is_empty()));
    kind((format!("{:x}", input[0]), some, counts, times, owners))
}

#[test]
fn objects() {
    let alone = alone();
    let selection = Selection::parse(Some("a!=b,tier notin (back,middle)"), None, None).unwrap().unwrap();
    Target { name: "objects", seeds: seeds(), words: &WORDS, run: &|input| run(&selection, input) }.fuzz(&alone);
}
