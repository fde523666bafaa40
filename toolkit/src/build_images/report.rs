//! What `build-images` prints.

use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::Serialize;

use crate::images::{Definition, Digest, Reference, Variant};
use sluice_shell::error::Result;
use sluice_shell::output::table;
use sluice_shell::platform::Platform;

/// Everything about a run of `build-images`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Version of Kubernetes with Sluice's suffix.
    pub(crate) version: String,
    /// What they run on.
    pub(crate) platform: Platform,
    /// Version of the Go that compiled the programs.
    pub(crate) go: String,
    /// In the order of their names.
    pub(crate) images: Vec<Line>,
    /// Time for the images, without the programs in them.
    pub(crate) seconds: f64,
}

/// One variant of one image.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) reference: Reference,
    /// `uid:gid` that a container runs as.
    pub(crate) user: Option<String>,
    /// Digest of the multi-architecture index: what a registry answers for the tag.
    pub(crate) digest: Digest,
    /// Digest of the manifest for this platform.
    pub(crate) manifest: Digest,
    /// Digest of the configuration, which is docker's image id.
    pub(crate) config: Digest,
    /// Bytes that a pull transfers.
    pub(crate) size: u64,
    pub(crate) layers: Vec<LayerLine>,
    /// OCI layout; holds all variants of the image.
    pub(crate) layout: PathBuf,
    /// Archive for `docker load`.
    pub(crate) archive: PathBuf,
    pub(crate) archive_size: u64,
    /// Time for all variants of the image together.
    pub(crate) seconds: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct LayerLine {
    pub(crate) digest: Digest,
    pub(crate) diff_id: Digest,
    pub(crate) size: u64,
}

impl Line {
    /// What there is to say of `variant`, which has been written to `layout` and `archive`; nothing if it has no image.
    pub(crate) fn of(
        definition: &Definition,
        variant: &Variant,
        layout: &Path,
        archive: PathBuf,
    ) -> Result<Option<Line>> {
        let Some(image) = variant.index.images().first() else { return Ok(None) };
        let (manifest, config) = (image.manifest()?, image.config()?);
        let layers = image.layers().iter().map(|layer| LayerLine {
            digest: layer.blob().digest,
            diff_id: *layer.diff_id(),
            size: layer.blob().size,
        });
        let layers: Vec<_> = layers.collect();
        Ok(Some(Line {
            name: definition.name.clone(),
            reference: variant.index.reference().clone(),
            user: image.user().map(ToOwned::to_owned),
            digest: variant.index.document()?.blob().digest,
            manifest: manifest.blob().digest,
            config: config.blob().digest,
            size: manifest.blob().size + config.blob().size + layers.iter().map(|layer| layer.size).sum::<u64>(),
            layers,
            layout: layout.to_owned(),
            archive_size: fs::metadata(&archive)?.len(),
            archive,
            seconds: 0.0,
        }))
    }
}

impl Report {
    /// For people.
    pub(crate) fn table(&self) -> String {
        let heading = ["IMAGE", "DIGEST", "MB", "SECONDS", "FILE FOR docker load"].map(str::to_owned).to_vec();
        let rows = self.images.iter().map(|line| {
            vec![
                line.reference.to_string(),
                line.digest.to_string(),
                format!("{:.1}", line.size as f64 / 1e6),
                format!("{:.1}", line.seconds),
                line.archive.display().to_string(),
            ]
        });
        table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>())
    }
}
