//! Signatures of images in cosign's form with a key (github.com/sigstore/cosign, specs/SIGNATURE_SPEC.md), under the
//! tag `sha256-<digest>.sig`.

use std::collections::BTreeMap;
use std::path::Path;

use fs_err as fs;
use oci_spec::image as oci;
use serde_json::{Value, json};

use super::attached::{self, Part};
use super::description::Image;
use super::dsse;
use super::keys::{PublicKeys, Signer};
use super::layouts;
use crate::images::{Digest, layout};
use sluice_shell::error::Result;

/// The annotation of a layer that has the signature of its content.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// The type of a layer that is signed.
const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// All that is signed of the images of a layout, with the repository it is signed for: what a tag stands for, and what
/// is pulled for one platform.
fn signed(images: &[&Image]) -> BTreeMap<Digest, String> {
    let repository = |image: &Image| image.reference.rsplit_once(':').unwrap_or((&image.reference, "")).0.to_owned();
    let digests = |image: &Image| image.manifests.iter().map(|it| it.digest).chain([image.digest]).collect::<Vec<_>>();
    images.iter().flat_map(|image| digests(image).into_iter().map(|digest| (digest, repository(image)))).collect()
}

/// The tag of the signature of what has the digest.
pub(super) fn tag(digest: &Digest) -> String {
    format!("sha256-{}.sig", digest.hex())
}

/// What is signed (containers/image docs/containers-signature.5.md, "JSON data format").
fn payload(digest: &Digest, repository: &str) -> Value {
    json!({
        "critical": {
            "identity": {"docker-reference": repository},
            "image": {"docker-manifest-digest": digest.to_string()},
            "type": "cosign container image signature",
        },
        "optional": null,
    })
}

/// Adds signatures of `images` to their layout in `folder`.
pub(super) fn sign(folder: &Path, images: &[&Image], signer: &Signer) -> Result<()> {
    let mut signatures = BTreeMap::new();
    for (digest, repository) in signed(images) {
        let bytes = serde_json::to_vec(&payload(&digest, &repository))?;
        let annotations = BTreeMap::from([(SIGNATURE, dsse::signature(signer, &bytes))]);
        signatures.insert(tag(&digest), vec![Part { kind: PAYLOAD, annotations, bytes }]);
    }
    attached::add(folder, &signatures)
}

/// What is wrong with the signatures of `images` in the layout in `folder`, whose blobs have the digests that they are
/// named by. They are taken out of the `found` ones.
pub(super) fn verify(
    folder: &Path,
    images: &[&Image],
    found: &mut BTreeMap<String, Digest>,
    keys: Option<&PublicKeys>,
) -> Vec<String> {
    let mut problems = vec![];
    for (digest, repository) in signed(images) {
        let wrong = match found.remove(&tag(&digest)) {
            None => Err("is missing".to_owned()),
            Some(manifest) => check(folder, &manifest, &payload(&digest, &repository), keys),
        };
        if let Err(what) = wrong {
            problems.push(format!("the signature of {repository}@{digest} {what}"));
        }
    }
    problems
}

/// Looks at the signatures whose manifest has the digest `manifest`. Others may have signed as well, so one of the
/// expected content and of the key is enough.
fn check(folder: &Path, manifest: &Digest, expected: &Value, keys: Option<&PublicKeys>) -> Result<(), String> {
    let manifest = fs::read(layout::blob(folder, manifest)).map_err(|error| error.to_string())?;
    let manifest: oci::ImageManifest =
        serde_json::from_slice(&manifest).map_err(|error| format!("can't be read: {error}"))?;
    let mut wrong = "is empty".to_owned();
    for layer in manifest.layers() {
        match check_one(folder, layer, expected, keys) {
            Ok(()) => return Ok(()),
            Err(what) => wrong = what,
        }
    }
    Err(wrong)
}

fn check_one(
    folder: &Path,
    layer: &oci::Descriptor,
    expected: &Value,
    keys: Option<&PublicKeys>,
) -> Result<(), String> {
    let digest = layouts::digest(layer).map_err(|error| error.to_string())?;
    let bytes = fs::read(layout::blob(folder, &digest)).map_err(|error| error.to_string())?;
    let signature = layer.annotations().as_ref().and_then(|all| all.get(SIGNATURE)).cloned().unwrap_or_default();
    if serde_json::from_slice::<Value>(&bytes).ok().as_ref() != Some(expected) {
        return Err("is one of another image".to_owned());
    }
    if signature.is_empty() {
        return Err("is empty".to_owned());
    }
    match keys {
        Some(keys) if !dsse::is_signed(keys, &bytes, &signature) => Err("is not one of the key".to_owned()),
        _ => Ok(()),
    }
}
