use std::collections::BTreeMap;
use std::thread;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::json;

use super::*;

#[test]
fn values_of_other_programs_are_opaque() {
    let values: [&[u8]; 12] = [
        b"",
        b" ",
        b"k8s",
        b"k8s\0",
        b"k8s:enc:kms:v2:key:{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"metadata\":{}}",
        b"compact_rev_key",
        b"null",
        b"[{\"apiVersion\":\"v1\",\"kind\":\"Secret\"}]",
        b"{\"version\":\"5\"}",
        b"apiVersion: v1\nkind: Secret\n",
        b"\xd9\xd9",
        b"\xd9\xd9\xf7",
    ];
    for value in values {
        assert_eq!(decode(value), None, "{}", value.escape_ascii());
    }
}

#[test]
fn strings_without_escapes_are_borrowed() {
    let plain = json_document(&sample(), "");
    let meta = decode(&plain).unwrap();
    assert!(matches!(meta.name, Cow::Borrowed(_)));
    assert!(meta.labels.iter().all(|label| matches!(label, (Cow::Borrowed(_), Cow::Borrowed(_)))));
    assert_eq!(meta.label("app"), Some("web"));
    assert_eq!(meta.label("ap"), None);
}

#[test]
fn unknown_fields_do_not_matter() {
    let expected = sample();
    let extra = r#""a":[{"b":[1,-2.5e3,true,null,{}]},[],"\u00e4\"]}"],"spec":{"metadata":{"labels":{"x":"y"}}},"#;
    assert_eq!(decode(&json_document(&expected, extra)).as_ref(), Some(&expected));
}

#[test]
fn an_envelope_of_something_else_is_opaque() {
    let expected = sample();
    let cases: [(&[u8], bool); 5] = [
        (b"\x1a\0\"\0", true),
        (b"\"\x23application/vnd.kubernetes.protobuf", true),
        (b"\"\x10application/json", false),
        (b"\x1a\x04gzip", false),
        (b"\x18\x01", false),
    ];
    for (fields, readable) in cases {
        let value = [protobuf_document(&expected, b""), fields.to_vec()].concat();
        assert_eq!(decode(&value).is_some(), readable, "{}", fields.escape_ascii());
    }
}

/// 64 KiB of stack: a reader that recursed would be dead long before the end.
#[test]
fn depth_costs_no_stack() {
    const DEPTH: usize = 100_000;
    let run = || {
        let nested = |open: &str, close: &str| format!("\"x\":{}1{},", open.repeat(DEPTH), close.repeat(DEPTH));
        let expected = sample();
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            assert_eq!(decode(&json_document(&expected, &nested(open, close))).as_ref(), Some(&expected));
        }
        for field in ["metadata", "labels", "ownerReferences", "kind"] {
            let json = format!("{{\"{field}\":{}{}}}", "[".repeat(DEPTH), "]".repeat(DEPTH));
            assert_eq!(decode(json.as_bytes()), None);
        }

        let groups = [[0xfb, 0x01].repeat(DEPTH), [0xfc, 0x01].repeat(DEPTH)].concat();
        assert_eq!(decode(&protobuf_document(&expected, &groups)).as_ref(), Some(&expected));

        // Upstream refuses more than 10,000 levels; what is just below must be read.
        let skipped = |open: &[u8], depth: usize| [b"\x61x".to_vec(), open.repeat(depth), b"\x01".to_vec()].concat();
        for open in [&b"\x81"[..], b"\xa1\x01", b"\xc1"] {
            assert_eq!(decode(&cbor_document(&expected, Some(&skipped(open, 9_000)))).as_ref(), Some(&expected));
        }
        for open in [&b"\x81"[..], b"\xa1\x01", b"\x9f", b"\xbf\x01"] {
            assert_eq!(decode(&cbor_document(&expected, Some(&skipped(open, DEPTH)))), None);
        }
    };
    thread::Builder::new().stack_size(64 << 10).spawn(run).unwrap().join().unwrap();
}

proptest! {
    #[test]
    fn the_encodings_agree(meta in metas()) {
        let encoded = [json_document(&meta, ""), protobuf_document(&meta, b""), cbor_document(&meta, None)];
        for value in &encoded {
            let decoded = decode(value);
            prop_assert_eq!(decoded.as_ref(), Some(&meta), "{}", value.escape_ascii());
        }
    }

    #[test]
    fn any_bytes_are_survived(mark in select(vec![&b""[..], b"{", protobuf::MAGIC, cbor::MAGIC]), noise: Vec<u8>) {
        decode(&[mark, &noise].concat());
    }

    #[test]
    fn damage_is_survived(meta in metas(), at: Index, byte: u8) {
        for mut value in [json_document(&meta, ""), protobuf_document(&meta, b""), cbor_document(&meta, None)] {
            let at = at.index(value.len());
            value[at] = byte;
            decode(&value);
        }
    }

    #[test]
    fn the_last_of_equal_keys_stays(written in vec(("[ab]{0,2}", "[xyz]"), 0..8)) {
        let mut labels = written.iter().map(|(key, value)| (Cow::from(key), Cow::from(value))).collect();
        sort_labels(&mut labels);
        let expected: BTreeMap<_, _> = written.iter().map(|(key, value)| (Cow::from(key), Cow::from(value))).collect();
        prop_assert_eq!(labels, expected.into_iter().collect::<Vec<_>>());
    }
}

pub(crate) fn sample() -> ObjectMeta<'static> {
    ObjectMeta {
        api_version: "stable.example.com/v1".into(),
        kind: "Shirt".into(),
        name: "blue".into(),
        namespace: "shop".into(),
        uid: "3e9f".into(),
        generation: 2,
        deletion_timestamp: Some(1_782_907_200),
        deletion_grace_period_seconds: Some(0),
        labels: vec![("app".into(), "web".into()), ("color".into(), "blue".into())],
        finalizers: vec!["example.com/wash".into()],
        owner_references: vec![OwnerReference {
            api_version: "v1".into(),
            kind: "ConfigMap".into(),
            name: "wardrobe".into(),
            uid: "77".into(),
            block_owner_deletion: true,
            controller: false,
        }],
    }
}

fn text() -> impl Strategy<Value = Cow<'static, str>> {
    prop_oneof!["[a-z0-9./-]{0,20}", any::<String>()].prop_map(Cow::from)
}

pub(crate) fn metas() -> impl Strategy<Value = ObjectMeta<'static>> {
    let names = (text(), text(), text(), any::<i64>());
    let deletion = option::of((-1_000_000_000..100_000_000_000_i64, any::<i64>()));
    let owner = (text(), text(), text(), text(), any::<bool>(), any::<bool>());
    (names, deletion, btree_map(text(), text(), 0..6), vec(text(), 0..3), vec(owner, 0..3)).prop_map(
        |((name, namespace, uid, generation), deletion, labels, finalizers, owners)| ObjectMeta {
            api_version: "stable.example.com/v1".into(),
            kind: "Shirt".into(),
            name,
            namespace,
            uid,
            generation,
            deletion_timestamp: deletion.map(|(at, _)| at),
            deletion_grace_period_seconds: deletion.map(|(_, grace)| grace),
            labels: labels.into_iter().collect(),
            finalizers,
            owner_references: owners
                .into_iter()
                .map(|(api_version, kind, name, uid, block_owner_deletion, controller)| OwnerReference {
                    api_version,
                    kind,
                    name,
                    uid,
                    block_owner_deletion,
                    controller,
                })
                .collect(),
        },
    )
}

/// RFC 3339, by counting days.
pub(crate) fn rfc3339(seconds: i64) -> String {
    let (mut days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let mut year = 1970;
    while days < 0 {
        year -= 1;
        days += 365 + i64::from(leap(year));
    }
    while days >= 365 + i64::from(leap(year)) {
        days -= 365 + i64::from(leap(year));
        year += 1;
    }
    let mut month = 1;
    for length in [31, 28 + i64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year:04}-{month:02}-{:02}T{:02}:{:02}:{:02}Z", days + 1, rest / 3600, rest / 60 % 60, rest % 60)
}

/// The object as JSON, with more fields (each with a comma after it) before the metadata.
pub(crate) fn json_document(meta: &ObjectMeta<'_>, fields: &str) -> Vec<u8> {
    let owner = |owner: &OwnerReference<'_>| {
        json!({
            "apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name, "uid": owner.uid,
            "blockOwnerDeletion": owner.block_owner_deletion, "controller": owner.controller,
        })
    };
    let metadata = json!({
        "name": meta.name, "namespace": meta.namespace, "uid": meta.uid, "generation": meta.generation,
        "deletionTimestamp": meta.deletion_timestamp.map(rfc3339),
        "deletionGracePeriodSeconds": meta.deletion_grace_period_seconds,
        "labels": meta.labels.iter().cloned().collect::<BTreeMap<_, _>>(),
        "finalizers": meta.finalizers,
        "ownerReferences": meta.owner_references.iter().map(owner).collect::<Vec<_>>(),
    });
    let (api_version, kind) = (json!(meta.api_version), json!(meta.kind));
    format!("{{{fields}\"apiVersion\":{api_version},\"kind\":{kind},\"metadata\":{metadata}}}\n").into_bytes()
}

/// The object in a protobuf envelope, with more fields before the metadata's.
fn protobuf_document(meta: &ObjectMeta<'_>, fields: &[u8]) -> Vec<u8> {
    fn varint(mut number: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while number >= 0x80 {
            bytes.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
            number >>= 7;
        }
        bytes.push(u8::try_from(number).unwrap());
        bytes
    }
    let bytes =
        |field: u8, content: &[u8]| [vec![field << 3 | 2], varint(content.len() as u64), content.to_vec()].concat();
    let integer = |field: u8, number: i64| [vec![field << 3], varint(number.cast_unsigned())].concat();

    let mut metadata = fields.to_vec();
    metadata.extend(bytes(1, meta.name.as_bytes()));
    metadata.extend(bytes(3, meta.namespace.as_bytes()));
    metadata.extend(bytes(5, meta.uid.as_bytes()));
    metadata.extend(integer(7, meta.generation));
    metadata.extend(meta.deletion_timestamp.map(|seconds| bytes(9, &integer(1, seconds))).unwrap_or_default());
    metadata.extend(meta.deletion_grace_period_seconds.map(|seconds| integer(10, seconds)).unwrap_or_default());
    for (key, value) in &meta.labels {
        metadata.extend(bytes(11, &[bytes(1, key.as_bytes()), bytes(2, value.as_bytes())].concat()));
    }
    for owner in &meta.owner_references {
        let texts = [(1, &owner.kind), (3, &owner.name), (4, &owner.uid), (5, &owner.api_version)];
        let mut message: Vec<u8> = texts.iter().flat_map(|(field, text)| bytes(*field, text.as_bytes())).collect();
        message.extend(integer(6, owner.controller.into()));
        message.extend(integer(7, owner.block_owner_deletion.into()));
        metadata.extend(bytes(13, &message));
    }
    for finalizer in &meta.finalizers {
        metadata.extend(bytes(14, finalizer.as_bytes()));
    }
    let type_meta = [bytes(1, meta.api_version.as_bytes()), bytes(2, meta.kind.as_bytes())].concat();
    [b"k8s\0".to_vec(), bytes(1, &type_meta), bytes(2, &bytes(1, &metadata))].concat()
}

/// The object as CBOR with byte strings, with one more entry (key and value) before the others.
fn cbor_document(meta: &ObjectMeta<'_>, entry: Option<&[u8]>) -> Vec<u8> {
    let head = |major: u8, number: u64| [vec![major << 5 | 27], number.to_be_bytes().to_vec()].concat();
    let string = |text: &str| [head(2, text.len() as u64), text.as_bytes().to_vec()].concat();
    let integer = |number: i64| match u64::try_from(number) {
        Ok(number) => head(0, number),
        Err(_) => head(1, (!number).cast_unsigned()),
    };
    let boolean = |boolean: bool| vec![if boolean { 0xf5 } else { 0xf4 }];
    let null = || vec![0xf6];
    let map = |entries: Vec<(&str, Vec<u8>)>| {
        let content = entries.iter().flat_map(|(key, value)| [string(key), value.clone()].concat());
        [head(5, entries.len() as u64), content.collect()].concat()
    };
    let array = |items: Vec<Vec<u8>>| [head(4, items.len() as u64), items.concat()].concat();

    let owner = |owner: &OwnerReference<'_>| {
        map(vec![
            ("apiVersion", string(&owner.api_version)),
            ("kind", string(&owner.kind)),
            ("name", string(&owner.name)),
            ("uid", string(&owner.uid)),
            ("blockOwnerDeletion", boolean(owner.block_owner_deletion)),
            ("controller", boolean(owner.controller)),
        ])
    };
    let metadata = map(vec![
        ("name", string(&meta.name)),
        ("namespace", string(&meta.namespace)),
        ("uid", string(&meta.uid)),
        ("generation", integer(meta.generation)),
        ("deletionTimestamp", meta.deletion_timestamp.map_or_else(null, |seconds| string(&rfc3339(seconds)))),
        ("deletionGracePeriodSeconds", meta.deletion_grace_period_seconds.map_or_else(null, integer)),
        ("labels", map(meta.labels.iter().map(|(key, value)| (key.as_ref(), string(value))).collect())),
        ("finalizers", array(meta.finalizers.iter().map(|finalizer| string(finalizer)).collect())),
        ("ownerReferences", array(meta.owner_references.iter().map(owner).collect())),
    ]);
    let entries = 3 + u64::from(entry.is_some());
    let document =
        map(vec![("apiVersion", string(&meta.api_version)), ("kind", string(&meta.kind)), ("metadata", metadata)]);
    let without_head = &document[head(5, 3).len()..];
    [&[0xd9, 0xd9, 0xf7][..], &head(5, entries), entry.unwrap_or_default(), without_head].concat()
}
