//! A small file system of its own, to be full or read-only when a test wants it.

use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

use sluice_shell::error::{Attempt as _, Result};
use sluice_toolkit::cluster::leftover::{Guard, Leftover};

/// A file system in memory; unmounted on drop.
pub(super) struct Tmpfs {
    folder: PathBuf,
    _guard: Guard,
}

impl Tmpfs {
    /// Mounts one of `mebibytes` on a new folder. Needs root.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn mount(folder: PathBuf, mebibytes: u32) -> Result<Self> {
        fs_err::create_dir_all(&folder)?;
        mount_on(&folder, MsFlags::empty(), mebibytes)?;
        let guard = Guard::new(Leftover::Mount(folder.clone()));
        Ok(Self { folder, _guard: guard })
    }

    /// Where it is.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Gives it another size.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn resize(&self, mebibytes: u32) -> Result<()> {
        mount_on(&self.folder, MsFlags::MS_REMOUNT, mebibytes)
    }

    /// Makes it read-only.
    ///
    /// # Errors
    /// When the kernel refuses, because a file is open for writing.
    pub(super) fn freeze(&self, mebibytes: u32) -> Result<()> {
        mount_on(&self.folder, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, mebibytes)
    }
}

fn mount_on(folder: &Path, flags: MsFlags, mebibytes: u32) -> Result<()> {
    let options = format!("size={mebibytes}m");
    mount(Some("tmpfs"), folder, Some("tmpfs"), flags, Some(options.as_str()))
        .map_err(std::io::Error::from)
        .attempting(|| format!("cannot mount a tmpfs of {mebibytes} MiB on {}", folder.display()))
}

/// Whether we may mount at all.
pub(super) fn allowed() -> bool {
    nix::unistd::Uid::effective().is_root()
}
