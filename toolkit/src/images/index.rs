//! One name for the images of several platforms.

use std::collections::BTreeMap;

use oci_spec::image as oci;

use super::{
    Error, Image, Reference,
    image::{Document, descriptor},
};

/// A tagged multi-architecture image (OCI image-index.md).
#[derive(Clone, Debug)]
pub(crate) struct Index {
    reference: Reference,
    images: Vec<Image>,
    annotations: BTreeMap<String, String>,
}

impl Index {
    /// An index without images.
    pub(crate) fn empty(reference: Reference) -> Self {
        Self { reference, images: vec![], annotations: BTreeMap::new() }
    }

    /// The index with `image` in the place of its platform. The order of calls leaves no trace.
    #[must_use]
    pub(crate) fn with_image(&self, image: Image) -> Self {
        let mut index = self.clone();
        index.images.retain(|other| other.platform() != image.platform());
        index.images.push(image);
        index.images.sort_by_key(Image::platform);
        index
    }

    /// The index with `annotations`: registries show those of the index, where there is one.
    #[must_use]
    pub(crate) fn with_annotations(&self, annotations: BTreeMap<String, String>) -> Self {
        Self { annotations, ..self.clone() }
    }

    /// The name.
    pub(crate) fn reference(&self) -> &Reference {
        &self.reference
    }

    /// The images, one for each platform.
    pub(crate) fn images(&self) -> &[Image] {
        &self.images
    }

    /// The index document.
    pub(crate) fn document(&self) -> Result<Document, Error> {
        let manifests = self.images.iter().map(|image| {
            let mut descriptor = descriptor(oci::MediaType::ImageManifest, image.manifest()?.blob())?;
            descriptor.set_platform(Some(image.oci_platform()));
            Ok(descriptor)
        });
        let mut index = index(manifests.collect::<Result<_, Error>>()?);
        if !self.annotations.is_empty() {
            index.set_annotations(Some(self.annotations.clone().into_iter().collect()));
        }
        Document::new(&index)
    }

    /// The descriptor of this index in the `index.json` of a layout, with the tag for OCI tools and the full name for
    /// containerd and docker.
    pub(crate) fn entry(&self) -> Result<oci::Descriptor, Error> {
        Ok(named(&self.reference, descriptor(oci::MediaType::ImageIndex, self.document()?.blob())?))
    }
}

/// `descriptor` with the annotations that name what it stands for in the `index.json` of a layout.
fn named(reference: &Reference, mut descriptor: oci::Descriptor) -> oci::Descriptor {
    let annotations = [
        (oci::ANNOTATION_REF_NAME.to_owned(), reference.tag().to_owned()),
        ("io.containerd.image.name".to_owned(), reference.to_string()),
    ];
    descriptor.set_annotations(Some(annotations.into()));
    descriptor
}

/// The `index.json` of a layout with the image of one platform alone. It names the manifest itself, so that a registry
/// to which other tools push it answers with that manifest's digest.
pub(crate) fn index_json_of(reference: &Reference, image: &Image) -> Result<Document, Error> {
    let mut descriptor = descriptor(oci::MediaType::ImageManifest, image.manifest()?.blob())?;
    descriptor.set_platform(Some(image.oci_platform()));
    Document::new(&index(vec![named(reference, descriptor)]))
}

/// The `index.json` that names `indexes`.
pub(crate) fn index_json(indexes: &[Index]) -> Result<Document, Error> {
    let entries = indexes.iter().map(Index::entry).collect::<Result<_, _>>()?;
    Document::new(&index(entries))
}

/// An index of any documents.
pub(super) fn index(manifests: Vec<oci::Descriptor>) -> oci::ImageIndex {
    let mut index = oci::ImageIndex::default();
    index.set_schema_version(2).set_media_type(Some(oci::MediaType::ImageIndex)).set_manifests(manifests);
    index
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::Timestamp;
    use sluice_shell::platform::Platform;

    #[test]
    fn the_order_of_images_leaves_no_trace() {
        let empty = Index::empty(Reference::new("ghcr.io/a", "v1").unwrap());
        let image = |platform| Image::empty(platform, Timestamp::default());
        let forth = empty.with_image(image(Platform::Amd64)).with_image(image(Platform::Arm64));
        let back = empty
            .with_image(image(Platform::Arm64))
            .with_image(image(Platform::Amd64))
            .with_image(image(Platform::Arm64));
        assert_eq!(forth.document().unwrap().bytes(), back.document().unwrap().bytes());
        assert_eq!(forth.images().len(), 2);
    }
}
