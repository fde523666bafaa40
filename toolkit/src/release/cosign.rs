//! Signatures of images in cosign's form with a key (github.com/sigstore/cosign, specs/SIGNATURE_SPEC.md): an image of
//! its own under the tag `sha256-<digest>.sig`, in the same repository and here in the same layout.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fs_err as fs;
use oci_spec::image as oci;
use serde_json::{Value, json};

use super::description::Image;
use super::dsse;
use super::keys::{PublicKeys, Signer};
use super::layouts;
use super::problem::Problem;
use crate::images::{BlobStore, Digest};
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

fn tag(digest: &Digest) -> String {
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
    let store = BlobStore::open(folder)?;
    let path = folder.join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path)?)?;
    let mut entries = index["manifests"].as_array().cloned().unwrap_or_default();
    for (digest, repository) in signed(images) {
        let bytes = serde_json::to_vec(&payload(&digest, &repository))?;
        let layer = store.put(&bytes)?;
        let config = json!({
            "architecture": "", "os": "", "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
        });
        let config = store.put(&serde_json::to_vec(&config)?)?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": oci::MediaType::ImageManifest.to_string(),
            "config": {
                "mediaType": oci::MediaType::ImageConfig.to_string(), "digest": config.digest, "size": config.size,
            },
            "layers": [{
                "mediaType": PAYLOAD, "digest": layer.digest, "size": layer.size,
                "annotations": {SIGNATURE: dsse::signature(signer, &bytes)},
            }],
        });
        let manifest = store.put(&serde_json::to_vec(&manifest)?)?;
        entries.push(json!({
            "mediaType": oci::MediaType::ImageManifest.to_string(),
            "digest": manifest.digest,
            "size": manifest.size,
            "annotations": {oci::ANNOTATION_REF_NAME: tag(&digest)},
        }));
    }
    index["manifests"] = Value::Array(entries);
    Ok(fs::write(path, serde_json::to_vec(&index)?)?)
}

/// What is wrong with the signatures in a layout, whose blobs have the digests that they are named by. None may be
/// there if `announced` is false.
pub(super) fn verify(
    folder: &Path,
    layout: &str,
    images: &[&Image],
    announced: bool,
    keys: Option<&PublicKeys>,
) -> Result<Vec<Problem>> {
    let mut found = BTreeMap::new();
    for entry in layouts::index(&folder.join("index.json"))?.manifests() {
        let name = entry.annotations().as_ref().and_then(|all| all.get(oci::ANNOTATION_REF_NAME));
        if *entry.media_type() == oci::MediaType::ImageManifest {
            found.insert(name.cloned().unwrap_or_default(), layouts::digest(entry)?);
        }
    }
    let mut problems = vec![];
    let mut report = |what: String| problems.push(Problem::new(format!("{layout}/index.json"), what));
    let expected = if announced { signed(images) } else { BTreeMap::new() };
    for (digest, repository) in expected {
        let wrong = match found.remove(&tag(&digest)) {
            None => Err("is missing".to_owned()),
            Some(manifest) => check(folder, &manifest, &payload(&digest, &repository), keys),
        };
        if let Err(what) = wrong {
            report(format!("the signature of {repository}@{digest} {what}"));
        }
    }
    for tag in found.keys() {
        report(format!("{tag} is a signature of nothing in the release"));
    }
    Ok(problems)
}

/// Looks at the signature whose manifest has the digest `manifest`.
fn check(folder: &Path, manifest: &Digest, expected: &Value, keys: Option<&PublicKeys>) -> Result<(), String> {
    let read = |digest: &Digest| fs::read(layouts::blob(folder, digest)).map_err(|error| error.to_string());
    let manifest: oci::ImageManifest =
        serde_json::from_slice(&read(manifest)?).map_err(|error| format!("can't be read: {error}"))?;
    let [layer] = manifest.layers().as_slice() else {
        return Err("has more than one part".to_owned());
    };
    let bytes = read(&layouts::digest(layer).map_err(|error| error.to_string())?)?;
    let signature = layer.annotations().as_ref().and_then(|all| all.get(SIGNATURE)).cloned().unwrap_or_default();
    if serde_json::from_slice::<Value>(&bytes).ok().as_ref() != Some(expected) {
        return Err("is one of another image".to_owned());
    }
    if STANDARD.decode(&signature).is_ok_and(|bytes| bytes.is_empty()) {
        return Err("is empty".to_owned());
    }
    match keys {
        Some(keys) if !dsse::is_signed(keys, &bytes, &signature) => Err("is not one of the key".to_owned()),
        _ => Ok(()),
    }
}
