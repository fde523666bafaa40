//! `release.json`: what a release holds, for programs, and for the check that each part is the one that was meant.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::images::Digest;
use sluice_shell::error::Result;

/// Its name.
pub(super) const NAME: &str = "release.json";

/// The one file besides the programs that a person runs.
pub(super) const INSTALLER: &str = "install/install.sh";

/// The form that this toolkit writes and reads.
pub(super) const SCHEMA: u32 = 1;

/// A release.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct Description {
    /// [`SCHEMA`].
    pub(super) schema: u32,
    /// `v1.37.2+sluice.1`.
    pub(super) version: String,
    /// Upstream's version, `v1.37.2`.
    pub(super) kubernetes: String,
    /// Commit of this project.
    pub(super) commit: String,
    /// Seconds since 1970 of every date in the release.
    pub(super) source_date_epoch: u64,
    /// Whether there are signatures.
    pub(super) signed: bool,
    /// By platform and name.
    pub(super) programs: Vec<Program>,
    /// By name.
    pub(super) images: Vec<Image>,
}

/// A program.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct Program {
    /// `kube-apiserver`.
    pub(super) name: String,
    /// `linux/amd64`.
    pub(super) platform: String,
    /// The version that it reports.
    pub(super) version: String,
    /// Its file in the release.
    pub(super) file: String,
    /// Digest of the file.
    pub(super) digest: Digest,
}

/// A tagged image.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct Image {
    /// Name and tag in a registry.
    pub(super) reference: String,
    /// The folder of its OCI layout in the release.
    pub(super) layout: String,
    /// Digest of the index: what a registry answers for the tag.
    pub(super) digest: Digest,
    /// One manifest for each platform.
    pub(super) manifests: Vec<Manifest>,
}

/// An image for one platform.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// `linux/amd64`.
    pub(super) platform: String,
    /// Digest of the manifest.
    pub(super) digest: Digest,
}

impl Description {
    /// The text of the file.
    pub(super) fn text(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// The images of each OCI layout.
    pub(super) fn layouts(&self) -> BTreeMap<&str, Vec<&Image>> {
        let mut layouts: BTreeMap<&str, Vec<&Image>> = BTreeMap::new();
        for image in &self.images {
            layouts.entry(&image.layout).or_default().push(image);
        }
        layouts
    }

    /// The folder of the release inside of its archive.
    pub(super) fn top(&self) -> String {
        format!("sluice-{}", self.version)
    }
}
