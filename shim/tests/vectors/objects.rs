//! `objects.json`: stored values with what upstream's decoders read from them.

use std::collections::BTreeMap;

use serde::Deserialize;
use sluice_shim::object::{ObjectMeta, decode};

use super::base64;

#[derive(Deserialize)]
struct Vectors {
    objects: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    /// Base64.
    value: String,
    stored: bool,
    readings: Vec<Reading>,
}

#[derive(Deserialize, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
struct Reading {
    api_version: String,
    kind: String,
    name: String,
    namespace: String,
    uid: String,
    generation: i64,
    deletion_timestamp: Option<i64>,
    deletion_grace_period_seconds: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    finalizers: Option<Vec<String>>,
    owner_references: Option<Vec<Owner>>,
}

#[derive(Deserialize, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
struct Owner {
    api_version: String,
    kind: String,
    name: String,
    uid: String,
    #[serde(default)]
    block_owner_deletion: bool,
    #[serde(default)]
    controller: bool,
}

impl From<ObjectMeta<'_>> for Reading {
    fn from(meta: ObjectMeta<'_>) -> Self {
        assert!(meta.labels.is_sorted_by(|a, b| a.0 < b.0), "{:?}", meta.labels);
        Self {
            api_version: meta.api_version.into(),
            kind: meta.kind.into(),
            name: meta.name.into(),
            namespace: meta.namespace.into(),
            uid: meta.uid.into(),
            generation: meta.generation,
            deletion_timestamp: meta.deletion_timestamp,
            deletion_grace_period_seconds: meta.deletion_grace_period_seconds,
            labels: Some(meta.labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect()),
            finalizers: Some(meta.finalizers.into_iter().map(Into::into).collect()),
            owner_references: Some(
                meta.owner_references
                    .into_iter()
                    .map(|owner| Owner {
                        api_version: owner.api_version.into(),
                        kind: owner.kind.into(),
                        name: owner.name.into(),
                        uid: owner.uid.into(),
                        block_owner_deletion: owner.block_owner_deletion,
                        controller: owner.controller,
                    })
                    .collect(),
            ),
        }
    }
}

fn cases() -> Vec<Case> {
    serde_json::from_str::<Vectors>(include_str!("objects.json")).expect("the file has the form of Vectors").objects
}

#[test]
fn metadata_is_read_as_upstream_reads_it() {
    for case in cases() {
        let value = base64::read(&case.value);
        let Some(meta) = decode(&value) else {
            assert!(!case.stored, "{}: opaque", case.name);
            continue;
        };
        let ours = Reading::from(meta);
        assert!(!case.readings.is_empty(), "{}: upstream can't read it, we read {ours:?}", case.name);
        for mut reading in case.readings {
            reading.labels.get_or_insert_default();
            reading.finalizers.get_or_insert_default();
            reading.owner_references.get_or_insert_default();
            assert_eq!(ours, reading, "{}", case.name);
        }
    }
}

#[test]
fn a_value_that_is_cut_off_is_opaque() {
    for case in cases().into_iter().filter(|case| case.stored) {
        let value = base64::read(&case.value);
        // What comes after a complete object: a line break in JSON, two empty fields of the envelope in protobuf.
        let complete = value.strip_suffix(b"\n").or_else(|| value.strip_suffix(b"\x1a\0\"\0")).unwrap_or(&value);
        for length in 0..complete.len() {
            assert_eq!(decode(&value[..length]), None, "{} cut at {length} of {}", case.name, value.len());
        }
    }
}
