//! What an image consists of: from its topmost document down to its blobs.

use std::path::Path;

use fs_err as fs;
use oci_spec::image as oci;
use serde::Deserialize;

use super::error::Error;
use crate::images::{Blob, Digest, layout};

/// Media types of documents that name others (OCI image-spec, and Docker's of the same form).
pub(super) const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];

/// Media types of documents that name blobs.
pub(super) const MANIFESTS: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];

/// An index or a manifest, as its bytes stand.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) bytes: Vec<u8>,
}

/// All that an image consists of.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// Each after those that it names, and each once.
    pub(super) documents: Vec<Document>,
    /// Configurations and layers, each once.
    pub(super) blobs: Vec<Blob>,
}

/// How deep documents may name each other. Real ones: an index, and its manifests.
const DEPTH: usize = 8;

/// What a document names; an index has manifests, a manifest the rest.
#[derive(Deserialize)]
struct Names {
    #[serde(default)]
    manifests: Vec<oci::Descriptor>,
    config: Option<oci::Descriptor>,
    #[serde(default)]
    layers: Vec<oci::Descriptor>,
}

/// Finds all parts from `top` down; `top` is the last. `read` gets the bytes of a document that another one names.
pub(super) fn parts(top: &Document, read: impl Fn(Digest) -> Result<Vec<u8>, Error>) -> Result<Parts, Error> {
    let mut parts = Parts::default();
    parts.visit(top.clone(), &read, DEPTH)?;
    Ok(parts)
}

impl Parts {
    fn visit(
        &mut self,
        document: Document,
        read: &impl Fn(Digest) -> Result<Vec<u8>, Error>,
        depth: usize,
    ) -> Result<(), Error> {
        let names = names(&document)?;
        for descriptor in names.manifests {
            let digest = blob(&descriptor)?.digest;
            if self.documents.iter().any(|known| known.digest == digest) {
                continue;
            }
            let fail = |reason: &str| Error::Document { digest: digest.to_string(), reason: reason.to_owned() };
            let bytes = read(digest)?;
            if Digest::of(&bytes) != digest {
                return Err(fail("its bytes have another digest"));
            }
            let below = depth.checked_sub(1).ok_or_else(|| fail("it is an index in an index in an index"))?;
            let media_type = descriptor.media_type().to_string();
            self.visit(Document { media_type, digest, bytes }, read, below)?;
        }
        for descriptor in names.config.iter().chain(&names.layers) {
            let blob = blob(descriptor)?;
            if !self.blobs.contains(&blob) {
                self.blobs.push(blob);
            }
        }
        self.documents.push(document);
        Ok(())
    }
}

/// The blob of a descriptor.
pub(super) fn blob(descriptor: &oci::Descriptor) -> Result<Blob, Error> {
    let name = descriptor.digest().to_string();
    let digest =
        name.parse().map_err(|reason: &str| Error::Document { digest: name.clone(), reason: reason.into() })?;
    Ok(Blob { digest, size: descriptor.size() })
}

fn names(document: &Document) -> Result<Names, Error> {
    let fail = |reason: String| Error::Document { digest: document.digest.to_string(), reason };
    let known = |types: &[&str]| types.contains(&document.media_type.as_str());
    if !known(&INDEXES) && !known(&MANIFESTS) {
        return Err(fail(format!("its media type is {:?}", document.media_type)));
    }
    let names: Names = serde_json::from_slice(&document.bytes).map_err(|error| fail(error.to_string()))?;
    if known(&MANIFESTS) && names.config.is_none() {
        return Err(fail("it names no configuration".to_owned()));
    }
    Ok(names)
}

/// The image that the OCI layout in `folder` calls `name`: its topmost document, and all parts.
pub(super) fn of_layout(folder: &Path, name: &str) -> Result<(Document, Parts), Error> {
    let top = named(folder, name)?;
    let parts = parts(&top, |digest| Ok(fs::read(layout::blob(folder, &digest))?))?;
    Ok((top, parts))
}

/// The topmost document of the image that the layout calls `name`.
fn named(folder: &Path, name: &str) -> Result<Document, Error> {
    let path = folder.join("index.json");
    let fail = |reason: String| Error::Layout { path: path.clone(), reason };
    let index: oci::ImageIndex = serde_json::from_slice(&fs::read(&path)?).map_err(|error| fail(error.to_string()))?;
    let is_named = |entry: &&oci::Descriptor| {
        let annotations = entry.annotations().as_ref();
        annotations.and_then(|all| all.get(oci::ANNOTATION_REF_NAME)).is_some_and(|known| known == name)
    };
    let entry = index.manifests().iter().find(is_named).ok_or_else(|| fail(format!("it names no image {name}")))?;
    let digest = blob(entry)?.digest;
    let bytes = fs::read(layout::blob(folder, &digest))?;
    if Digest::of(&bytes) != digest {
        return Err(Error::Layout {
            path: layout::blob(folder, &digest),
            reason: "its content has another digest".into(),
        });
    }
    Ok(Document { media_type: entry.media_type().to_string(), digest, bytes })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn document(media_type: &str, value: &serde_json::Value) -> Document {
        let bytes = value.to_string().into_bytes();
        Document { media_type: media_type.to_owned(), digest: Digest::of(&bytes), bytes }
    }

    fn index(of: &[&Document]) -> Document {
        let entry = |it: &&Document| {
            let size = it.bytes.len();
            serde_json::json!({ "mediaType": it.media_type, "digest": it.digest, "size": size })
        };
        document(INDEXES[0], &serde_json::json!({ "manifests": of.iter().map(entry).collect::<Vec<_>>() }))
    }

    fn manifest(seed: &str) -> Document {
        let blob = |words: &str| {
            let digest = Digest::of(words.as_bytes());
            serde_json::json!({ "mediaType": "x/y", "digest": digest, "size": words.len() })
        };
        document(MANIFESTS[0], &serde_json::json!({ "config": blob(seed), "layers": [blob("shared"), blob(seed)] }))
    }

    fn found(top: &Document, known: &[&Document]) -> Result<Parts, Error> {
        let known: BTreeMap<_, _> = known.iter().map(|it| (it.digest, it.bytes.clone())).collect();
        parts(top, |digest| known.get(&digest).cloned().ok_or_else(|| Error::Missing(digest.to_string())))
    }

    #[test]
    fn each_document_follows_those_that_it_names_and_nothing_stands_twice() {
        let (one, two) = (manifest("one"), manifest("two"));
        let inner = index(&[&one]);
        let top = index(&[&two, &inner, &one, &two]);
        let parts = found(&top, &[&one, &two, &inner]).unwrap();
        let order: Vec<_> = parts.documents.iter().map(|it| it.digest).collect();
        assert_eq!(order, [two.digest, one.digest, inner.digest, top.digest]);
        assert_eq!(parts.blobs.iter().map(|it| it.size).collect::<Vec<_>>(), [3, 6, 3]);
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let mut deep = vec![manifest("one")];
        for _ in 0..=DEPTH {
            deep.push(index(&[&deep[deep.len() - 1]]));
        }
        let deepest = deep.pop().unwrap();
        let error = found(&deepest, &deep.iter().collect::<Vec<_>>()).unwrap_err();
        assert!(error.to_string().contains("an index in an index"), "{error}");
        for (media_type, value, expected) in [
            ("text/html", serde_json::json!({}), "its media type is"),
            (MANIFESTS[0], serde_json::json!({ "layers": [] }), "no configuration"),
            (INDEXES[0], serde_json::json!([1]), "invalid type"),
            (
                INDEXES[0],
                serde_json::json!({ "manifests": [{ "mediaType": "x/y", "digest": "sha512:00", "size": 1 }] }),
                "sha",
            ),
        ] {
            let error = found(&document(media_type, &value), &[]).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
