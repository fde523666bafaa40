//! What belongs to an image in cosign's way (github.com/sigstore/cosign, specs/SIGNATURE_SPEC.md): an image of its own
//! under a tag that follows from the digest, in the same repository and here in the same layout.

use std::collections::BTreeMap;
use std::path::Path;

use fs_err as fs;
use oci_spec::image as oci;
use serde_json::{Value, json};

use super::layouts;
use crate::images::{Blob, BlobStore, Digest, layout};
use sluice_shell::error::Result;

/// A part of such an image.
pub(super) struct Part {
    /// Its media type.
    pub(super) kind: &'static str,
    /// Annotations of its descriptor.
    pub(super) annotations: BTreeMap<&'static str, String>,
    /// Its content.
    pub(super) bytes: Vec<u8>,
}

/// The documents of the image with the parts: its configuration, then its manifest.
fn documents(parts: &[Part]) -> Result<[Vec<u8>; 2]> {
    let digests: Vec<_> = parts.iter().map(|part| Digest::of(&part.bytes)).collect();
    let config = json!({
        "architecture": "", "os": "", "config": {},
        "rootfs": {"type": "layers", "diff_ids": digests},
    });
    let config = serde_json::to_vec(&config)?;
    let layers = parts.iter().zip(&digests).map(|(part, digest)| {
        json!({
            "mediaType": part.kind, "digest": digest, "size": part.bytes.len(), "annotations": part.annotations,
        })
    });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": oci::MediaType::ImageManifest.to_string(),
        "config": {
            "mediaType": oci::MediaType::ImageConfig.to_string(),
            "digest": Digest::of(&config),
            "size": config.len(),
        },
        "layers": layers.collect::<Vec<_>>(),
    });
    Ok([config, serde_json::to_vec(&manifest)?])
}

/// The digest of the image with the parts.
pub(super) fn digest(parts: &[Part]) -> Result<Digest> {
    let [_, manifest] = documents(parts)?;
    Ok(Digest::of(&manifest))
}

/// Adds images to the layout in `folder`, by their tags.
pub(super) fn add(folder: &Path, images: &BTreeMap<String, Vec<Part>>) -> Result<()> {
    let store = BlobStore::open(folder)?;
    let path = folder.join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path)?)?;
    let mut entries = index["manifests"].as_array().cloned().unwrap_or_default();
    for (tag, parts) in images {
        let [config, manifest] = documents(parts)?;
        for bytes in parts.iter().map(|part| &part.bytes).chain([&config]) {
            store.put(bytes)?;
        }
        let Blob { digest, size } = store.put(&manifest)?;
        entries.push(json!({
            "mediaType": oci::MediaType::ImageManifest.to_string(),
            "digest": digest,
            "size": size,
            "annotations": {oci::ANNOTATION_REF_NAME: tag},
        }));
    }
    index["manifests"] = Value::Array(entries);
    Ok(fs::write(path, serde_json::to_vec(&index)?)?)
}

/// The tags of such images in the layout in `folder`, with the digests of their manifests.
pub(super) fn tags(folder: &Path) -> Result<BTreeMap<String, Digest>> {
    let mut tags = BTreeMap::new();
    for entry in layouts::index(&folder.join("index.json"))?.manifests() {
        let name = entry.annotations().as_ref().and_then(|all| all.get(oci::ANNOTATION_REF_NAME));
        if *entry.media_type() == oci::MediaType::ImageManifest {
            tags.insert(name.cloned().unwrap_or_default(), layouts::digest(entry)?);
        }
    }
    Ok(tags)
}

/// The parts of such an image in a layout; none if it is something else.
fn parts(folder: &Path, image: &Digest) -> Result<Vec<oci::Descriptor>> {
    let manifest = fs::read(layout::blob(folder, image))?;
    let manifest = serde_json::from_slice::<oci::ImageManifest>(&manifest);
    Ok(manifest.map(|manifest| manifest.layers().clone()).unwrap_or_default())
}

/// Whether the image `ours` has parts, and all of them are also parts of `theirs`: in a registry, others may have added
/// some.
pub(super) fn are_in(ours: (&Path, &Digest), theirs: (&Path, &Digest)) -> Result<bool> {
    let (ours, theirs) = (parts(ours.0, ours.1)?, parts(theirs.0, theirs.1)?);
    Ok(!ours.is_empty() && ours.iter().all(|part| theirs.contains(part)))
}
