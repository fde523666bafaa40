//! The signed statements about an image beside it, as `cosign verify-attestation` finds them
//! (github.com/sigstore/cosign, specs/ATTESTATION_SPEC.md): the envelopes of the release under the tag
//! `sha256-<digest>.att`.
//!
//! An index has the provenance, the manifest of a platform its bill of materials as well.

use std::collections::BTreeMap;
use std::path::Path;

use fs_err as fs;

use super::attached::{self, Part};
use super::description::Image;
use super::{provenance, sbom, statement};
use crate::images::Digest;
use sluice_shell::error::Result;

/// The type of a part that is an envelope.
const ENVELOPE: &str = "application/vnd.dsse.envelope.v1+json";

/// What the tag of such an image is.
fn tag(digest: &Digest) -> String {
    format!("sha256-{}.att", digest.hex())
}

/// By their tags, the attestations of `images`, as the envelopes in the release at `release` make them.
fn all(release: &Path, images: &[&Image]) -> Result<BTreeMap<String, Vec<Part>>> {
    let part = |file: &str, predicate: &str| -> Result<Part> {
        // cosign asks for the annotation with the signature, which is in the envelope.
        let annotations = [("dev.cosignproject.cosign/signature", ""), ("predicateType", predicate)];
        let annotations = annotations.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
        Ok(Part { kind: ENVELOPE, annotations, bytes: fs::read(release.join(statement::envelope(file)))? })
    };
    let mut found = BTreeMap::new();
    for image in images {
        found.insert(tag(&image.digest), vec![part(provenance::NAME, provenance::KIND)?]);
        for manifest in &image.manifests {
            let bill = part(&sbom::image_file(image, manifest), statement::BILL)?;
            found.insert(tag(&manifest.digest), vec![part(provenance::NAME, provenance::KIND)?, bill]);
        }
    }
    Ok(found)
}

/// Adds the attestations of `images` to their layout in `folder`; the envelopes are in `release` already.
pub(super) fn add(release: &Path, folder: &Path, images: &[&Image]) -> Result<()> {
    attached::add(folder, &all(release, images)?)
}

/// What is wrong with the attestations of `images`, which are taken out of the `found` ones. The envelopes themselves
/// are checked elsewhere.
pub(super) fn verify(release: &Path, images: &[&Image], found: &mut BTreeMap<String, Digest>) -> Result<Vec<String>> {
    let mut wrong = vec![];
    for (tag, parts) in all(release, images)? {
        match found.remove(&tag) {
            None => wrong.push(format!("{tag} is missing")),
            Some(digest) if digest != attached::digest(&parts)? => {
                wrong.push(format!("{tag} holds other statements than the release"));
            }
            Some(_) => {}
        }
    }
    Ok(wrong)
}
