//! One image for one platform, as a value.

use std::collections::BTreeMap;

use oci_spec::image as oci;
use serde::Serialize;
use sluice_shell::platform::Platform;

use super::{Error, Layer, Timestamp, blobs::Blob, digest::Digest};

/// The processor in OCI documents.
fn processor(platform: Platform) -> oci::Arch {
    match platform {
        Platform::Amd64 => oci::Arch::Amd64,
        Platform::Arm64 => oci::Arch::ARM64,
    }
}

/// A document of an image: its bytes and their digest. Serialised once, with sorted keys, so that equal documents have
/// equal bytes (oci-spec keeps maps in hash maps, which have no order).
#[derive(Clone, Debug)]
pub(crate) struct Document {
    bytes: Vec<u8>,
    blob: Blob,
}

impl Document {
    /// Serialises `value`.
    pub(crate) fn new(value: &impl Serialize) -> Result<Self, Error> {
        let mut value = serde_json::to_value(value)?;
        value.sort_all_objects();
        let bytes = serde_json::to_vec(&value)?;
        let blob = Blob { digest: Digest::of(&bytes), size: bytes.len() as u64 };
        Ok(Self { bytes, blob })
    }

    /// The JSON text.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its digest and size.
    pub(crate) fn blob(&self) -> &Blob {
        &self.blob
    }
}

/// A descriptor of `blob` (OCI descriptor.md).
pub(crate) fn descriptor(media_type: oci::MediaType, blob: &Blob) -> Result<oci::Descriptor, Error> {
    let digest = blob.digest.hex().parse::<oci::Sha256Digest>().map_err(|_| Error::Name {
        what: "digest",
        value: blob.digest.to_string(),
        reason: "it is not SHA-256",
    })?;
    Ok(oci::Descriptor::new(media_type, blob.size, digest))
}

/// An image: layers, configuration, annotations. Its methods return changed copies.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    platform: Platform,
    created: Timestamp,
    config: oci::Config,
    layers: Vec<Layer>,
    annotations: BTreeMap<String, String>,
}

impl Image {
    /// An image without content.
    pub(crate) fn empty(platform: Platform, created: Timestamp) -> Self {
        Self { platform, created, config: oci::Config::default(), layers: vec![], annotations: BTreeMap::new() }
    }

    /// The image with one layer more on top.
    #[must_use]
    pub(crate) fn with_layer(&self, layer: Layer) -> Self {
        let mut image = self.clone();
        image.layers.push(layer);
        image
    }

    /// The image run in another way.
    #[must_use]
    pub(crate) fn with_config(&self, config: oci::Config) -> Self {
        Self { config, ..self.clone() }
    }

    /// The image with `annotations` on its manifest and, as docker shows only these, as labels of its configuration.
    #[must_use]
    pub(crate) fn with_annotations(&self, annotations: BTreeMap<String, String>) -> Self {
        Self { annotations, ..self.clone() }
    }

    /// What it runs on.
    pub(crate) fn platform(&self) -> Platform {
        self.platform
    }

    /// The layers, lowest first.
    pub(crate) fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The user and group that it runs as.
    pub(crate) fn user(&self) -> Option<&str> {
        self.config.user().as_deref()
    }

    /// The configuration document (OCI config.md).
    pub(crate) fn config(&self) -> Result<Document, Error> {
        let created = self.created.to_string();
        let history = self.layers.iter().map(|layer| {
            let mut entry = oci::History::default();
            entry.set_created(Some(created.clone())).set_created_by(Some(format!("COPY {}", layer.summary())));
            entry
        });
        let mut rootfs = oci::RootFs::default();
        rootfs.set_diff_ids(self.layers.iter().map(|layer| layer.diff_id().to_string()).collect());
        let mut run = self.config.clone();
        run.set_labels(Some(self.annotations.clone().into_iter().collect()));
        let mut config = oci::ImageConfiguration::default();
        config
            .set_architecture(processor(self.platform))
            .set_os(oci::Os::Linux)
            .set_created(Some(created.clone()))
            .set_config(Some(run))
            .set_rootfs(rootfs)
            .set_history(Some(history.collect()));
        Document::new(&config)
    }

    /// The manifest document (OCI manifest.md).
    pub(crate) fn manifest(&self) -> Result<Document, Error> {
        let config = descriptor(oci::MediaType::ImageConfig, self.config()?.blob())?;
        let layers = self.layers.iter().map(|layer| descriptor(oci::MediaType::ImageLayerGzip, layer.blob()));
        let manifest = oci::ImageManifestBuilder::default()
            .schema_version(2u32)
            .media_type(oci::MediaType::ImageManifest)
            .config(config)
            .layers(layers.collect::<Result<Vec<_>, _>>()?)
            .annotations(self.annotations.clone().into_iter().collect::<std::collections::HashMap<_, _>>())
            .build()?;
        Document::new(&manifest)
    }

    /// The documents that are blobs: configuration and manifest.
    pub(crate) fn documents(&self) -> Result<[Document; 2], Error> {
        Ok([self.config()?, self.manifest()?])
    }

    /// The platform, as an index names it.
    pub(crate) fn oci_platform(&self) -> oci::Platform {
        let mut platform = oci::Platform::default();
        platform.set_architecture(processor(self.platform)).set_os(oci::Os::Linux);
        platform
    }

    /// Every blob that the image consists of but its manifest and configuration: bytes to fetch, without duplicates.
    pub(crate) fn layer_blobs(&self) -> Vec<Blob> {
        let mut blobs: Vec<Blob> = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            if !blobs.contains(layer.blob()) {
                blobs.push(*layer.blob());
            }
        }
        blobs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotated(names: impl Iterator<Item = u32>) -> Image {
        let annotations = names.map(|n| (format!("key-{n}"), format!("value {n}"))).collect();
        Image::empty(Platform::Amd64, Timestamp::default()).with_annotations(annotations)
    }

    #[test]
    fn equal_images_have_equal_documents() {
        let (forth, back) = (annotated(0..40), annotated((0..40).rev()));
        assert_eq!(forth.manifest().unwrap().bytes(), back.manifest().unwrap().bytes());
        assert_eq!(forth.config().unwrap().bytes(), back.config().unwrap().bytes());
    }

    #[test]
    fn a_change_leaves_the_original_alone() {
        let image = annotated(0..1);
        let digest = image.manifest().unwrap().blob().digest;
        let mut config = oci::Config::default();
        config.set_user(Some("65532:65532".to_owned()));
        assert_ne!(image.with_config(config).manifest().unwrap().blob().digest, digest);
        assert_eq!(image.manifest().unwrap().blob().digest, digest);
    }
}
