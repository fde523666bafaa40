//! What a test run that is interrupted would leave on the machine: clusters and mounts.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::cluster::Cluster;
use crate::cluster::pid::Process;
use crate::error::Result;

static ACTIVE: Mutex<Vec<Leftover>> = Mutex::new(Vec::new());

/// Something that must not outlive the test run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Leftover {
    /// A cluster's folder.
    Cluster(PathBuf),
    /// A process of its own, such as a kubectl that watches.
    Process(Process),
    /// A mounted file system.
    Mount(PathBuf),
}

impl Leftover {
    /// Ends it. Failing to is not reported: this runs when something else has failed already.
    fn end(&self) {
        match self {
            Self::Cluster(folder) => {
                if let Ok(cluster) = Cluster::look(folder) {
                    let _ = cluster.stop();
                }
            }
            Self::Process(process) => {
                let _ = process.kill();
            }
            Self::Mount(folder) => {
                let _ = unmount(folder);
            }
        }
    }
}

/// Registers something for as long as the guard lives; dropping the guard ends it.
pub(super) struct Guard(Leftover);

impl Guard {
    pub(super) fn new(leftover: Leftover) -> Self {
        active().push(leftover.clone());
        Self(leftover)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.end();
        active().retain(|other| *other != self.0);
    }
}

fn active() -> MutexGuard<'static, Vec<Leftover>> {
    ACTIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends everything that is registered when the person or the CI system interrupts us.
pub(super) fn clean_up_on_ctrl_c() -> Result<()> {
    let handler = || {
        // Mounts come last: they are in use until their cluster has ended.
        for leftover in active().iter().rev() {
            leftover.end();
        }
        std::process::exit(130);
    };
    Ok(ctrlc::set_handler(handler).map_err(anyhow::Error::from)?)
}

/// Unmounts, even if a file is still open in there.
pub(super) fn unmount(folder: &Path) -> nix::Result<()> {
    nix::mount::umount2(folder, nix::mount::MntFlags::MNT_DETACH)
}
