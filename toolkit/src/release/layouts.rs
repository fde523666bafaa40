//! The images of an OCI layout, as `build-images` writes it.

use std::path::Path;

use fs_err as fs;
use oci_spec::image as oci;

use super::description::{Image, Manifest};
use crate::images::{Digest, layout};
use sluice_shell::error::{Attempt as _, Error, Result};

/// The annotation with the full name of an image (containerd: images/annotations.go `AnnotationImageName`).
const FULL_NAME: &str = "io.containerd.image.name";

/// The tagged images in the layout `folder`, which a release names `layout`. Signatures, whose entries are manifests
/// instead of indexes, are not among them.
pub(super) fn images(folder: &Path, layout: &str) -> Result<Vec<Image>> {
    let entries = index(&folder.join("index.json"))?;
    let tagged = entries.manifests().iter().filter(|entry| *entry.media_type() == oci::MediaType::ImageIndex);
    tagged.map(|entry| image(folder, layout, entry)).collect()
}

fn image(folder: &Path, layout: &str, entry: &oci::Descriptor) -> Result<Image> {
    let digest = digest(entry)?;
    let reference = entry.annotations().as_ref().and_then(|all| all.get(FULL_NAME));
    let reference = reference.ok_or_else(|| Error::input(format!("{digest} in {} has no name", folder.display())))?;
    let manifests = index(&layout::blob(folder, &digest))?.manifests().iter().map(manifest).collect::<Result<_>>()?;
    Ok(Image { reference: reference.clone(), layout: layout.to_owned(), digest, manifests })
}

fn manifest(descriptor: &oci::Descriptor) -> Result<Manifest> {
    let digest = digest(descriptor)?;
    let platform = descriptor.platform().as_ref().ok_or_else(|| Error::input(format!("{digest} has no platform")))?;
    let variant = platform.variant().as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
    Ok(Manifest { platform: format!("{}/{}{variant}", platform.os(), platform.architecture()), digest })
}

/// Reads an index.
pub(super) fn index(path: &Path) -> Result<oci::ImageIndex> {
    let read = serde_json::from_slice(&fs::read(path)?);
    read.attempting(|| format!("cannot read {}", path.display()))
}

/// The digest that a descriptor names.
pub(super) fn digest(descriptor: &oci::Descriptor) -> Result<Digest> {
    let text = descriptor.digest().to_string();
    text.parse().map_err(|reason| Error::input(format!("the digest {text} is none: {reason}")))
}
