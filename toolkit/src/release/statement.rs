//! What is signed about parts of a release: in-toto statements (github.com/in-toto/attestation, spec/v1).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::description::Description;
use crate::images::Digest;

/// The name and version of the form.
const TYPE: &str = "https://in-toto.io/Statement/v1";

/// The predicate of a bill of materials.
pub(super) const BILL: &str = "https://cyclonedx.org/bom";

/// The file with the signed form of what the file `name` says.
pub(super) fn envelope(name: &str) -> String {
    format!("{}.dsse.json", name.trim_end_matches(".json"))
}

/// Programs and images of a release, by the names that statements have for them.
pub(super) fn subjects(release: &Description) -> BTreeMap<String, Digest> {
    let programs = release.programs.iter().map(|program| (program.file.clone(), program.digest));
    let images = release.images.iter().flat_map(|image| {
        let manifests = image.manifests.iter();
        let manifests = manifests.map(|it| (format!("{} {}", image.reference, it.platform), it.digest));
        manifests.chain([(image.reference.clone(), image.digest)])
    });
    programs.chain(images).collect()
}

/// A statement about the subjects.
pub(super) fn of(subjects: &BTreeMap<String, Digest>, kind: &str, predicate: &Value) -> Value {
    let subject = subjects.iter().map(|(name, digest)| json!({"name": name, "digest": {"sha256": digest.hex()}}));
    json!({
        "_type": TYPE,
        "subject": subject.collect::<Vec<_>>(),
        "predicateType": kind,
        "predicate": predicate,
    })
}
