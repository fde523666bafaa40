//! `patches/<minor>/source.toml`: exactly which upstream source the patches are for.

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

use crate::calendar;
use sluice_shell::context::Context;
use sluice_shell::error::{Attempt as _, Explain, Result};
use sluice_shell::minor::Minor;

/// The pins of one minor.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pins {
    /// The main module.
    pub(crate) kubernetes: Kubernetes,
    /// Our own part of the version.
    pub(crate) sluice: Sluice,
    /// The modules below `staging/src/`, sorted by name.
    #[serde(default)]
    pub(crate) staging: Vec<Module>,
}

/// `k8s.io/kubernetes`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kubernetes {
    /// Upstream's tag, `v1.37.2`.
    pub(crate) version: String,
    /// Go's checksum of the module, `h1:…`.
    pub(crate) sum: String,
    /// The Go version that upstream releases with (its `.go-version`).
    pub(crate) go: String,
    /// When upstream tagged it (RFC 3339, UTC): the date of the base commit and the build date in the binaries.
    pub(crate) time: String,
}

/// What we add to upstream's version.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sluice {
    /// N of `v1.37.2+sluice.N`: raised with each release of the patches for the same upstream version.
    pub(crate) revision: u32,
}

/// One staging module.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Module {
    /// `k8s.io/api`.
    pub(crate) module: String,
    /// `v0.37.2`.
    pub(crate) version: String,
    /// Go's checksum of the module, `h1:…`.
    pub(crate) sum: String,
}

/// No such minor.
#[derive(Debug, thiserror::Error)]
#[error("Kubernetes {minor} is not supported: {} does not exist", file.display())]
struct UnknownMinor {
    minor: Minor,
    file: PathBuf,
    known: Vec<String>,
}

impl Explain for UnknownMinor {
    fn hint(&self) -> Option<String> {
        (!self.known.is_empty()).then(|| format!("those with a folder below patches/ are {}", self.known.join(", ")))
    }
}

/// The time in source.toml is no time.
#[derive(Debug, thiserror::Error)]
#[error("time {0:?} in source.toml is not of the form 2026-10-27T12:01:04Z")]
struct BadTime(String);

impl Explain for BadTime {}

impl Pins {
    /// Reads the pins of `minor`.
    pub(crate) fn load(shell: &Context, minor: &Minor) -> Result<Self> {
        let file = shell.paths.pins(minor);
        if !file.is_file() {
            return Err(UnknownMinor {
                minor: minor.clone(),
                file,
                known: known(shell).iter().map(Minor::to_string).collect(),
            }
            .into());
        }
        Self::read(&file)
    }

    /// Reads the pins in a file.
    pub(crate) fn read(file: &Path) -> Result<Self> {
        Self::parse(&fs_err::read_to_string(file)?).attempting(|| format!("cannot read {}", file.display()))
    }

    /// Reads the pins in the text of a file.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        Ok(toml::from_str(text)?)
    }

    /// The text of the file; the same pins give the same bytes.
    pub(crate) fn text(&self) -> Result<String> {
        let text = toml::to_string(self).map_err(anyhow::Error::from)?;
        let head = "# Exactly which upstream source the patches are for. `cargo xtask source --pin [VERSION]` writes this file.\n\n";
        Ok(format!("{head}{text}"))
    }

    /// Writes the pins, whole or not at all.
    pub(crate) fn store(&self, file: &Path) -> Result<()> {
        if let Some(folder) = file.parent() {
            fs_err::create_dir_all(folder)?;
        }
        let new = file.with_extension("new");
        fs_err::write(&new, self.text()?)?;
        Ok(fs_err::rename(new, file)?)
    }

    /// What the content of a composed tree depends on: all but our own revision.
    pub(crate) fn identity(&self) -> Result<String> {
        Ok(serde_json::to_string(&(&self.kubernetes, &self.staging))?)
    }

    /// The version of what is made of upstream's `version`: `v1.37.2+sluice.1`.
    pub(crate) fn ours(&self, version: &str) -> String {
        format!("{version}+sluice.{}", self.sluice.revision)
    }

    /// Seconds since 1970 of upstream's tag.
    pub(crate) fn seconds(&self) -> Result<i64> {
        Ok(calendar::seconds(&self.kubernetes.time).ok_or_else(|| BadTime(self.kubernetes.time.clone()))?)
    }
}

/// The minors that have pins, sorted.
pub(crate) fn known(shell: &Context) -> Vec<Minor> {
    let Ok(entries) = fs_err::read_dir(shell.paths.root().join("patches")) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut minors: Vec<Minor> = names.filter_map(|name| name.parse().ok()).collect();
    minors.retain(|minor| shell.paths.pins(minor).is_file());
    minors.sort();
    minors
}
