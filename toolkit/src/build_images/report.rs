//! What `build-images` prints.

use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::Serialize;

use crate::images::{Definition, Digest, Image, Reference, Variant};
use crate::registry::Transfer;
use sluice_shell::error::Result;
use sluice_shell::output::table;
use sluice_shell::platform::Platform;

/// Everything about a run of `build-images`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Version of Kubernetes with Sluice's suffix.
    pub(crate) version: String,
    /// Version of the Go that compiled the programs.
    pub(crate) go: String,
    /// The commit that made what is inside, if it is known.
    pub(crate) revision: Option<String>,
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
    /// Digest of the index of all platforms: what a registry answers for the tag when the layout is pushed.
    pub(crate) digest: Digest,
    pub(crate) platforms: Vec<Part>,
    /// OCI layout; holds all variants of the image, for all platforms.
    pub(crate) layout: PathBuf,
    /// Time for all variants of the image together.
    pub(crate) seconds: f64,
    /// What the tags of this variant end in.
    #[serde(skip)]
    pub(crate) suffix: String,
    /// With `--push`: each name that it has in the registry, with the digest that the registry gives for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) pushed: Vec<String>,
    /// With `--push`: what had to be sent for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) transfer: Option<Transfer>,
}

/// What is there of a variant for one platform.
#[derive(Debug, Serialize)]
pub(crate) struct Part {
    pub(crate) platform: Platform,
    /// Digest of the manifest: what a registry answers for the tag when the archive is pushed as it is.
    pub(crate) manifest: Digest,
    /// Digest of the configuration, which is docker's image id.
    pub(crate) config: Digest,
    /// Bytes that a pull transfers.
    pub(crate) size: u64,
    pub(crate) layers: Vec<LayerLine>,
    /// Archive for `docker load`.
    pub(crate) archive: PathBuf,
    pub(crate) archive_size: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct LayerLine {
    pub(crate) digest: Digest,
    pub(crate) diff_id: Digest,
    pub(crate) size: u64,
}

impl Line {
    /// What there is to say of `variant`, which has been written to `layout`.
    pub(crate) fn of(definition: &Definition, variant: &Variant, layout: &Path, platforms: Vec<Part>) -> Result<Line> {
        Ok(Line {
            name: definition.name.clone(),
            reference: variant.index.reference().clone(),
            user: variant.index.images().first().and_then(Image::user).map(ToOwned::to_owned),
            digest: variant.index.document()?.blob().digest,
            platforms,
            layout: layout.to_owned(),
            seconds: 0.0,
            suffix: variant.suffix.clone(),
            pushed: vec![],
            transfer: None,
        })
    }
}

impl Part {
    /// What there is to say of `image`, which has been written to `archive`.
    pub(crate) fn of(image: &Image, archive: PathBuf) -> Result<Part> {
        let (manifest, config) = (image.manifest()?, image.config()?);
        let layers = image.layers().iter().map(|layer| LayerLine {
            digest: layer.blob().digest,
            diff_id: *layer.diff_id(),
            size: layer.blob().size,
        });
        let layers: Vec<_> = layers.collect();
        Ok(Part {
            platform: image.platform(),
            manifest: manifest.blob().digest,
            config: config.blob().digest,
            size: manifest.blob().size + config.blob().size + layers.iter().map(|layer| layer.size).sum::<u64>(),
            layers,
            archive_size: fs::metadata(&archive)?.len(),
            archive,
        })
    }
}

impl Report {
    /// For people.
    pub(crate) fn table(&self) -> String {
        let heading =
            ["IMAGE", "DIGEST", "PLATFORM", "MB", "SECONDS", "FILE FOR docker load"].map(str::to_owned).to_vec();
        let rows = self.images.iter().flat_map(|line| {
            line.platforms.iter().map(|part| {
                vec![
                    line.reference.to_string(),
                    line.digest.to_string(),
                    part.platform.to_string(),
                    format!("{:.1}", part.size as f64 / 1e6),
                    format!("{:.1}", line.seconds),
                    part.archive.display().to_string(),
                ]
            })
        });
        let table = table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>());
        let pushed = self.images.iter().flat_map(|line| &line.pushed).map(|name| format!("\npushed {name}"));
        table + &pushed.collect::<String>()
    }

    /// What the pushes of all images sent, for people.
    pub(crate) fn transferred(&self) -> String {
        let all = || self.images.iter().filter_map(|line| line.transfer);
        format!(
            "{} blobs sent ({:.1} MB), {} taken over from other repositories, {} were there",
            all().map(|one| one.sent).sum::<usize>(),
            all().map(|one| one.sent_bytes).sum::<u64>() as f64 / 1e6,
            all().map(|one| one.mounted).sum::<usize>(),
            all().map(|one| one.present).sum::<usize>(),
        )
    }
}
