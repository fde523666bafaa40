//! Where the workspace and its cache keep things.

use std::env;
use std::path::{Path, PathBuf};

use crate::error::{Explain, Result};
use crate::minor::Minor;
use crate::platform::Platform;

/// Environment variable that moves the cache out of the workspace.
pub const CACHE_VARIABLE: &str = "SLUICE_CACHE";

/// Folders of the workspace and of the cache (`.sluice/`, or `$SLUICE_CACHE`).
#[derive(Clone, Debug)]
pub struct Paths {
    root: PathBuf,
    cache: PathBuf,
}

/// The current folder is in no Sluice workspace.
#[derive(Debug, thiserror::Error)]
#[error("{} is not inside a Sluice workspace (no patches/contract.toml here or above)", .0.display())]
struct NoWorkspace(PathBuf);

impl Explain for NoWorkspace {
    fn hint(&self) -> Option<String> {
        Some("change into a clone of Sluice and run `cargo xtask …` there".into())
    }
}

impl Paths {
    /// The workspace that cargo runs us from, or the one around the current folder.
    pub fn from_env() -> Result<Self> {
        let start = match env::var_os("CARGO_MANIFEST_DIR") {
            Some(folder) => PathBuf::from(folder),
            None => env::current_dir()?,
        };
        let root = start.ancestors().find(|folder| folder.join("patches/contract.toml").is_file());
        let Some(root) = root else { return Err(NoWorkspace(start).into()) };
        let cache = match env::var_os(CACHE_VARIABLE).filter(|value| !value.is_empty()) {
            Some(folder) => std::path::absolute(PathBuf::from(folder))?,
            None => root.join(".sluice"),
        };
        Ok(Self::new(root, cache))
    }

    /// With explicit folders.
    pub fn new(root: impl Into<PathBuf>, cache: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), cache: cache.into() }
    }

    /// The workspace: the folder with Cargo.toml, patches/, shim/.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Everything in here can be made again by the toolkit.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// Patches of one Kubernetes minor: series, *.patch, source.toml.
    pub fn patches(&self, minor: &Minor) -> PathBuf {
        self.root.join("patches").join(minor.as_str())
    }

    /// Which upstream source the patches of one minor are for.
    pub fn pins(&self, minor: &Minor) -> PathBuf {
        self.patches(minor).join("source.toml")
    }

    /// The composed source tree of one minor; `hash` says of which inputs.
    pub fn tree(&self, minor: &Minor, hash: &str) -> PathBuf {
        self.cache.join("trees").join(format!("{minor}-{hash}"))
    }

    /// Kubernetes programs of one minor; `flavor` is `patched` or `stock`, with `-release` if stripped.
    pub fn binaries(&self, minor: &Minor, flavor: &str, platform: Platform) -> PathBuf {
        self.cache.join("bin").join(minor.as_str()).join(format!("{flavor}{}", platform.suffix()))
    }

    /// Programs that depend on no Kubernetes tree: the shim, etcd.
    pub fn tools(&self, platform: Platform) -> PathBuf {
        self.cache.join("bin").join(format!("tools{}", platform.suffix()))
    }

    /// Files of Debian packages of another platform, which can't be installed beside this machine's.
    pub fn debian(&self, platform: Platform) -> PathBuf {
        self.cache.join("debian").join(platform.arch())
    }

    /// Logs of long steps, one file per step, replaced on each run.
    pub fn log(&self, step: &str) -> PathBuf {
        self.cache.join("logs").join(format!("{step}.log"))
    }
}
