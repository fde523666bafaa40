use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::json;

use super::*;
use crate::object::tests::{json_document, metas, rfc3339, sample};
use crate::object::{ObjectMeta, OwnerReference, decode};

const NOW: i64 = 1_800_000_000;

/// One way to write objects, with room for fields that nobody knows: `spec` of the object, `annotations` and `zone` of
/// the metadata, `extra` of each owner.
trait Writer {
    /// Members in the order that kube-apiserver gives them.
    fn map(&self, members: Vec<(&str, Vec<u8>)>) -> Vec<u8>;
    fn array(&self, elements: Vec<Vec<u8>>) -> Vec<u8>;
    fn text(&self, text: &str) -> Vec<u8>;
    fn integer(&self, number: i64) -> Vec<u8>;
    fn boolean(&self, boolean: bool) -> Vec<u8>;
    /// Values that are easily lost.
    fn unknown(&self) -> Vec<u8>;

    fn object(&self, meta: &ObjectMeta<'_>) -> Vec<u8> {
        let mut metadata = vec![
            ("name", self.text(&meta.name)),
            ("namespace", self.text(&meta.namespace)),
            ("uid", self.text(&meta.uid)),
            ("generation", self.integer(meta.generation)),
            ("labels", self.map(meta.labels.iter().map(|(key, value)| (key.as_ref(), self.text(value))).collect())),
            ("annotations", self.unknown()),
            ("zone", self.unknown()),
        ];
        metadata.extend(meta.deletion_timestamp.map(|at| ("deletionTimestamp", self.text(&rfc3339(at)))));
        metadata.extend(meta.deletion_grace_period_seconds.map(|s| ("deletionGracePeriodSeconds", self.integer(s))));
        if !meta.owner_references.is_empty() {
            let owners = meta.owner_references.iter().map(|owner| self.owner(owner));
            metadata.push(("ownerReferences", self.array(owners.collect())));
        }
        if !meta.finalizers.is_empty() {
            let finalizers = meta.finalizers.iter().map(|finalizer| self.text(finalizer));
            metadata.push(("finalizers", self.array(finalizers.collect())));
        }
        let kind = [("apiVersion", self.text(&meta.api_version)), ("kind", self.text(&meta.kind))];
        self.map([kind.to_vec(), vec![("metadata", self.map(metadata)), ("spec", self.unknown())]].concat())
    }

    fn owner(&self, owner: &OwnerReference<'_>) -> Vec<u8> {
        self.map(vec![
            ("apiVersion", self.text(&owner.api_version)),
            ("kind", self.text(&owner.kind)),
            ("name", self.text(&owner.name)),
            ("uid", self.text(&owner.uid)),
            ("controller", self.boolean(owner.controller)),
            ("blockOwnerDeletion", self.boolean(owner.block_owner_deletion)),
            ("extra", self.unknown()),
        ])
    }
}

struct JsonWriter;

impl Writer for JsonWriter {
    fn map(&self, mut members: Vec<(&str, Vec<u8>)>) -> Vec<u8> {
        members.sort_by(|a, b| a.0.cmp(b.0));
        let members: Vec<_> =
            members.iter().map(|(name, value)| [&self.text(name), &b":"[..], value].concat()).collect();
        [b"{", &members.join(&b","[..])[..], b"}"].concat()
    }

    fn array(&self, elements: Vec<Vec<u8>>) -> Vec<u8> {
        [b"[", &elements.join(&b","[..])[..], b"]"].concat()
    }

    fn text(&self, text: &str) -> Vec<u8> {
        json!(text).to_string().into_bytes()
    }

    fn integer(&self, number: i64) -> Vec<u8> {
        number.to_string().into_bytes()
    }

    fn boolean(&self, boolean: bool) -> Vec<u8> {
        boolean.to_string().into_bytes()
    }

    fn unknown(&self) -> Vec<u8> {
        br#"{"z":1e400,"a":1.0,"u":18446744073709551615,"s":"\u00e4\/}]\"\\","metadata":{"finalizers":[]},"n":null}"#
            .to_vec()
    }
}

struct CborWriter;

impl CborWriter {
    fn head(major: u8, number: usize) -> Vec<u8> {
        match number {
            0..24 => vec![major << 5 | number as u8],
            24..256 => vec![major << 5 | 24, number as u8],
            _ => [vec![major << 5 | 25], (number as u16).to_be_bytes().to_vec()].concat(),
        }
    }
}

impl Writer for CborWriter {
    fn map(&self, members: Vec<(&str, Vec<u8>)>) -> Vec<u8> {
        let mut members: Vec<_> = members.iter().map(|(name, value)| (self.text(name), value)).collect();
        members.sort();
        let content = members.iter().flat_map(|(name, value)| [name, value.as_slice()].concat());
        [Self::head(5, members.len()), content.collect()].concat()
    }

    fn array(&self, elements: Vec<Vec<u8>>) -> Vec<u8> {
        [Self::head(4, elements.len()), elements.concat()].concat()
    }

    fn text(&self, text: &str) -> Vec<u8> {
        [Self::head(2, text.len()), text.as_bytes().to_vec()].concat()
    }

    fn integer(&self, number: i64) -> Vec<u8> {
        let (major, number) = if number < 0 { (0x20, !number) } else { (0, number) };
        let bytes = number.to_be_bytes();
        match number {
            0..24 => vec![major | bytes[7]],
            24..0x100 => vec![major | 24, bytes[7]],
            0x100..0x1_0000 => [&[major | 25], &bytes[6..]].concat(),
            0x1_0000..0x1_0000_0000 => [&[major | 26], &bytes[4..]].concat(),
            _ => [&[major | 27], &bytes[..]].concat(),
        }
    }

    fn boolean(&self, boolean: bool) -> Vec<u8> {
        vec![0xf4 + u8::from(boolean)]
    }

    /// An open map with a long number, a float, a tagged open string, a text, and an empty array.
    fn unknown(&self) -> Vec<u8> {
        b"\xbf\x61z\x1b\0\0\0\0\0\0\0\x01\x61f\xf9\x3c\0\x61o\xd6\x5f\x41a\x42bc\xff\x61t\x63abc\x61e\x80\xff".to_vec()
    }
}

/// Field numbers stand for names; all is put in the order of numbers, as generated code does.
struct ProtobufWriter;

impl ProtobufWriter {
    fn varint(mut number: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while number >= 0x80 {
            bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        bytes.push(number as u8);
        bytes
    }

    fn integer(field: u8, number: i64) -> Vec<u8> {
        [vec![field << 3], Self::varint(number.cast_unsigned())].concat()
    }

    fn bytes(field: u8, content: &[u8]) -> Vec<u8> {
        [vec![field << 3 | 2], Self::varint(content.len() as u64), content.to_vec()].concat()
    }

    /// A group, a number of fixed length and a varint that is longer than it must be.
    fn unknown() -> Vec<u8> {
        b"\xfb\x01\x08\x01\xfc\x01\xf9\x01\x01\x02\x03\x04\x05\x06\x07\x08\xf8\x01\x80\x80\0".to_vec()
    }

    fn object(meta: &ObjectMeta<'_>) -> Vec<u8> {
        let mut metadata = vec![Self::bytes(1, meta.name.as_bytes()), Self::bytes(3, meta.namespace.as_bytes())];
        metadata.extend([Self::bytes(5, meta.uid.as_bytes()), Self::integer(7, meta.generation)]);
        let time = |seconds| Self::bytes(9, &[Self::integer(1, seconds), Self::integer(2, 0)].concat());
        metadata.extend(meta.deletion_timestamp.map(time));
        metadata.extend(meta.deletion_grace_period_seconds.map(|seconds| Self::integer(10, seconds)));
        for (key, value) in &meta.labels {
            metadata
                .push(Self::bytes(11, &[Self::bytes(1, key.as_bytes()), Self::bytes(2, value.as_bytes())].concat()));
        }
        for owner in &meta.owner_references {
            let texts = [(1, &owner.kind), (3, &owner.name), (4, &owner.uid), (5, &owner.api_version)];
            let mut message: Vec<_> = texts.map(|(field, text)| Self::bytes(field, text.as_bytes())).into();
            message.extend([
                Self::integer(6, owner.controller.into()),
                Self::integer(7, owner.block_owner_deletion.into()),
            ]);
            metadata.push(Self::bytes(13, &[message.concat(), Self::unknown()].concat()));
        }
        metadata.extend(meta.finalizers.iter().map(|finalizer| Self::bytes(14, finalizer.as_bytes())));
        metadata.push(Self::unknown());
        let kind = [Self::bytes(1, meta.api_version.as_bytes()), Self::bytes(2, meta.kind.as_bytes())].concat();
        let object = [Self::bytes(1, &metadata.concat()), Self::bytes(2, b"spec"), Self::unknown()].concat();
        [b"k8s\0".to_vec(), Self::bytes(1, &kind), Self::bytes(2, &object), b"\x1a\0\"\0".to_vec()].concat()
    }
}

/// What the edit is to do, said once more and plainly.
fn edited<'a>(meta: &ObjectMeta<'a>, edit: &'a Edit) -> ObjectMeta<'a> {
    let mut meta = meta.clone();
    if let Some(now) = edit.mark_deleting {
        match meta.deletion_timestamp {
            None => {
                meta.deletion_timestamp = Some(now);
                meta.generation += i64::from(meta.generation > 0);
            }
            Some(at) => meta.deletion_timestamp = Some(at.min(now)),
        }
        meta.deletion_grace_period_seconds = Some(0);
    }
    meta.owner_references.retain(|owner| !edit.drop_owners.iter().any(|uid| *uid == owner.uid));
    for owner in &mut meta.owner_references {
        owner.block_owner_deletion &= !edit.unblock_owners.iter().any(|uid| *uid == owner.uid);
    }
    if let Some(gone) = &edit.remove_finalizer {
        meta.finalizers.retain(|finalizer| finalizer != gone);
    }
    if let Some(new) = &edit.add_finalizer
        && !meta.finalizers.iter().any(|finalizer| finalizer == new)
    {
        meta.finalizers.push(new.into());
    }
    meta
}

/// Objects with edits that mostly mean something to them.
fn cases() -> impl Strategy<Value = (ObjectMeta<'static>, Edit)> {
    let picks = (any::<[Option<Index>; 2]>(), any::<[Option<Index>; 2]>(), any::<Option<Index>>());
    let news = (any::<bool>(), any::<bool>(), any::<Option<Index>>());
    (metas(), picks, news).prop_map(|(mut meta, (drop, unblock, remove), (mark, add, twin))| {
        meta.generation = meta.generation.saturating_sub(1);
        if let Some(twin) = twin
            && !meta.owner_references.is_empty()
        {
            let twin = meta.owner_references[twin.index(meta.owner_references.len())].clone();
            meta.owner_references.push(OwnerReference { block_owner_deletion: true, ..twin });
        }
        let uids: Vec<_> = meta.owner_references.iter().map(|owner| owner.uid.to_string()).collect();
        let pick = |from: &[String], index: &Index| (!from.is_empty()).then(|| from[index.index(from.len())].clone());
        let finalizers: Vec<_> = meta.finalizers.iter().map(ToString::to_string).collect();
        let edit = Edit {
            mark_deleting: mark.then_some(NOW),
            drop_owners: drop.iter().flatten().filter_map(|index| pick(&uids, index)).collect(),
            unblock_owners: unblock.iter().flatten().filter_map(|index| pick(&uids, index)).collect(),
            add_finalizer: add.then(|| "foregroundDeletion".to_owned()),
            remove_finalizer: remove.and_then(|index| pick(&finalizers, &index)),
        };
        (meta, edit)
    })
}

proptest! {
    /// The bytes are those of the object that kube-apiserver would have written, so nothing else has changed.
    #[test]
    fn t28_only_the_edited_fields_change((meta, edit) in cases()) {
        let expected = edited(&meta, &edit);
        let write = |meta: &ObjectMeta<'_>| {
            let cbor = [b"\xd9\xd9\xf7".to_vec(), CborWriter.object(meta)].concat();
            [JsonWriter.object(meta), cbor, ProtobufWriter::object(meta)]
        };
        for (before, after) in write(&meta).iter().zip(write(&expected)) {
            prop_assert_eq!(decode(before), Some(meta.clone()), "the test writes what can't be read");
            let written = rewrite(before, &edit).expect("readable");
            prop_assert_eq!(written.escape_ascii().to_string(), after.escape_ascii().to_string());
            prop_assert_eq!(decode(&written), Some(expected.clone()));
        }
    }

    #[test]
    fn white_space_and_order_do_not_matter((meta, edit) in cases()) {
        let value: serde_json::Value = serde_json::from_slice(&json_document(&meta, "")).expect("JSON");
        for text in [serde_json::to_string_pretty(&value).expect("JSON"), format!(" {value} \n")] {
            let written = rewrite(text.as_bytes(), &edit).expect("readable");
            prop_assert_eq!(decode(&written), Some(edited(&meta, &edit)));
        }
    }

    #[test]
    fn any_bytes_are_survived(mark in select(vec![&b""[..], b"{\"metadata\":", b"k8s\0", b"\xd9\xd9\xf7"]), noise: Vec<u8>) {
        let edit = Edit { mark_deleting: Some(NOW), ..Edit::default() };
        rewrite(&[mark, &noise].concat(), &edit);
    }

    #[test]
    fn damage_is_survived((meta, edit) in cases(), at: Index, byte: u8) {
        let cbor = [b"\xd9\xd9\xf7".to_vec(), CborWriter.object(&meta)].concat();
        for mut value in [JsonWriter.object(&meta), cbor, ProtobufWriter::object(&meta)] {
            let at = at.index(value.len());
            value[at] = byte;
            if let Some(before) = decode(&value).filter(|meta| meta.generation < i64::MAX) {
                // Metadata in two pieces, for one, can be read but not changed.
                let expected = edited(&before, &edit);
                prop_assert!(rewrite(&value, &edit).is_none_or(|after| decode(&after) == Some(expected)));
            }
        }
    }
}

fn all() -> Edit {
    Edit {
        mark_deleting: Some(NOW),
        drop_owners: vec!["77".into()],
        unblock_owners: vec!["88".into()],
        add_finalizer: Some("orphan".into()),
        remove_finalizer: Some("example.com/wash".into()),
    }
}

#[test]
fn json_keeps_its_looks() {
    let object = |metadata: &str| format!(r#"{{"kind":"A","metadata":{metadata},"apiVersion":"v1"}}"#);
    let cases = [
        // Nothing to change: nothing changes, not even what is empty.
        (
            Edit { remove_finalizer: Some("x".into()), ..Edit::default() },
            r#"{ "finalizers":[] }"#,
            r#"{ "finalizers":[] }"#,
        ),
        (
            Edit { remove_finalizer: Some("x".into()), ..Edit::default() },
            r#"{ "a" : 1 , "finalizers" : [ "x" , "x" ] , "b" : 2 }"#,
            r#"{ "a" : 1 , "b" : 2 }"#,
        ),
        (
            Edit { remove_finalizer: Some("x".into()), ..Edit::default() },
            r#"{ "finalizers" : [ "x" , "y" , "\u0078" , "z" ] }"#,
            r#"{ "finalizers" : [ "y" , "z" ] }"#,
        ),
        (
            Edit { remove_finalizer: Some("x".into()), drop_owners: vec!["1".into()], ..Edit::default() },
            r#"{ "finalizers":["x"], "ownerReferences":[{"uid":"1"},{"uid":"1"}] }"#,
            r#"{  }"#,
        ),
        (Edit { add_finalizer: Some("x".into()), ..Edit::default() }, "{ }", r#"{ "finalizers":["x"]}"#),
        (
            Edit { add_finalizer: Some("x".into()), ..Edit::default() },
            r#"{"finalizers": null}"#,
            r#"{"finalizers": ["x"]}"#,
        ),
        (
            Edit { add_finalizer: Some("x".into()), ..Edit::default() },
            r#"{"fin\u0061lizers": [ ]}"#,
            r#"{"fin\u0061lizers": [ "x"]}"#,
        ),
        (
            all(),
            r#"{
  "name": "b",
  "generation": 2,
  "finalizers": [
    "example.com/wash"
  ],
  "ownerReferences": [
    {"uid": "77", "x": 1},
    {"blockOwnerDeletion": true, "uid": "88", "x": 1.0}
  ]
}"#,
            r#"{
  "deletionGracePeriodSeconds":0,"deletionTimestamp":"2027-01-15T08:00:00Z","name": "b",
  "generation": 3,
  "finalizers": [
    "orphan"
  ],
  "ownerReferences": [
    {"blockOwnerDeletion": false, "uid": "88", "x": 1.0}
  ]
}"#,
        ),
    ];
    for (edit, before, after) in cases {
        let written = rewrite(object(before).as_bytes(), &edit).map(|value| String::from_utf8(value).unwrap());
        assert_eq!(written, Some(object(after)));
    }
}

#[test]
fn open_cbor_stays_open() {
    let object = |metadata: &[u8]| [b"\xd9\xd9\xf7\xa3DkindAA\x4aapiVersion\x42v1\x48metadata", metadata].concat();
    let edit = Edit { add_finalizer: Some("x".into()), remove_finalizer: Some("y".into()), ..Edit::default() };
    let cases: [(&[u8], &[u8]); 3] = [
        (b"\xbf\xff", b"\xbf\x4afinalizers\x81Ax\xff"),
        (b"\xbf\x5f\x43fin\x47alizers\xff\x9f\x5fAy\xffaz\xff\xff", b"\xbf\x5f\x43fin\x47alizers\xff\x9fazAx\xff\xff"),
        (b"\xb8\x01\x6afinalizers\xf6", b"\xb8\x01\x6afinalizers\x81Ax"),
    ];
    for (before, after) in cases {
        let written = rewrite(&object(before), &edit).expect("readable");
        assert_eq!(written.escape_ascii().to_string(), object(after).escape_ascii().to_string());
    }
}

#[test]
fn a_new_finalizer_is_the_last_whatever_the_order_of_fields() {
    let kind = ProtobufWriter::bytes(1, &[ProtobufWriter::bytes(1, b"v1"), ProtobufWriter::bytes(2, b"A")].concat());
    let object = |finalizers: &[&[u8]]| {
        let finalizers: Vec<_> = finalizers.iter().map(|name| ProtobufWriter::bytes(14, name)).collect();
        let metadata = [ProtobufWriter::unknown(), finalizers.concat(), ProtobufWriter::bytes(1, b"name")].concat();
        let raw = ProtobufWriter::bytes(2, &ProtobufWriter::bytes(1, &metadata));
        [b"k8s\0".to_vec(), kind.clone(), raw].concat()
    };
    let edit = Edit { add_finalizer: Some("orphan".into()), ..Edit::default() };
    let written = rewrite(&object(&[b"a", b"b"]), &edit).expect("readable");
    assert_eq!(decode(&written).unwrap().finalizers, ["a", "b", "orphan"]);
}

#[test]
fn what_cannot_be_changed_safely_is_refused() {
    let text = |meta: ObjectMeta<'_>| json_document(&meta, "");
    let metadata = ProtobufWriter::bytes(1, &ProtobufWriter::integer(7, 1));
    let in_pieces = ProtobufWriter::bytes(2, &[metadata.clone(), metadata.clone()].concat());
    let twice = ProtobufWriter::bytes(2, &ProtobufWriter::bytes(1, &ProtobufWriter::integer(10, 1).repeat(2)));
    let raws = ProtobufWriter::bytes(2, &metadata).repeat(2);
    let kind = ProtobufWriter::bytes(1, &[ProtobufWriter::bytes(1, b"v1"), ProtobufWriter::bytes(2, b"A")].concat());
    let envelope = |raw: Vec<u8>| [b"k8s\0".to_vec(), kind.clone(), raw].concat();
    let cases = [
        b"k8s:enc:kms:v2:key:{}".to_vec(),
        b"".to_vec(),
        br#"{"kind":"A","apiVersion":"v1","metadata":{"finalizers":[],"finalizers":[]}}"#.to_vec(),
        br#"{"kind":"A","apiVersion":"v1","metadata":null}"#.to_vec(),
        br#"{"kind":"A","apiVersion":"v1"}"#.to_vec(),
        br#"{"kind":"A","apiVersion":"v1","metadata":{"generation":1.5}}"#.to_vec(),
        text(ObjectMeta { generation: i64::MAX, deletion_timestamp: None, ..sample() }),
        envelope(in_pieces),
        envelope(twice),
        envelope(raws),
    ];
    for value in cases {
        assert_eq!(rewrite(&value, &all()), None, "{}", value.escape_ascii());
    }
    let year_10000 = Edit { mark_deleting: Some(253_402_300_800), ..Edit::default() };
    assert_eq!(rewrite(&text(ObjectMeta { deletion_timestamp: None, ..sample() }), &year_10000), None);
}
