//! What a test run that is interrupted would leave on the machine: clusters and mounts. And what one that failed leaves
//! on purpose.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::cluster::Cluster;
use crate::cluster::pid::Process;
use sluice_shell::error::Result;
use sluice_shell::interrupt;

static ACTIVE: Mutex<Vec<Leftover>> = Mutex::new(Vec::new());

/// Something that must not outlive the test run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leftover {
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
pub struct Guard(Leftover);

impl Guard {
    /// Registers it.
    pub fn new(leftover: Leftover) -> Self {
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
pub fn clean_up_on_ctrl_c() -> Result<()> {
    interrupt::before_the_end(|| {
        // Mounts come last: they are in use until their cluster has ended.
        for leftover in active().iter().rev() {
            leftover.end();
        }
    })
}

/// The folders in `scratch` that a run with this process number made .
pub fn folders_of(scratch: &Path, run: u32) -> Result<Vec<PathBuf>> {
    let folders = all_folders(scratch)?.into_iter().filter(|(_, owner)| *owner == run);
    Ok(folders.map(|(folder, _)| folder).collect())
}

/// Removes what earlier runs left in `scratch`: the folders of failed cases, and everything of a run that was killed.
/// Runs that are still at work are left alone.
pub fn sweep(scratch: &Path) -> Result<()> {
    for folder in abandoned(scratch)? {
        Leftover::Cluster(folder.clone()).end();
        Leftover::Mount(folder.clone()).end();
        fs_err::remove_dir_all(folder)?;
    }
    Ok(())
}

/// The folders in `scratch` whose run is over.
pub fn abandoned(scratch: &Path) -> Result<Vec<PathBuf>> {
    let at_work = |run: &u32| i32::try_from(*run).ok().and_then(Process::of).is_some_and(|process| process.is_alive());
    let folders = all_folders(scratch)?.into_iter().filter(|(_, run)| !at_work(run));
    Ok(folders.map(|(folder, _)| folder).collect())
}

/// Each case's folder and the process number of the run that made it.
fn all_folders(scratch: &Path) -> Result<Vec<(PathBuf, u32)>> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir(scratch)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let run = name.rsplit('-').nth(1).and_then(|run| run.parse().ok());
        found.extend(run.map(|run| (path.clone(), run)));
    }
    Ok(found)
}

/// Unmounts, even if a file is still open in there.
pub(crate) fn unmount(folder: &Path) -> nix::Result<()> {
    nix::mount::umount2(folder, nix::mount::MntFlags::MNT_DETACH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_dead_runs_left_is_swept() {
        let temp = tempfile::tempdir().unwrap();
        let mine = format!("stock-etcd-{}-0", std::process::id());
        // Above the kernel's highest process number.
        for folder in [mine.as_str(), "up-4999999-3", "bin"] {
            fs_err::create_dir_all(temp.path().join(folder).join("log")).unwrap();
        }
        sweep(temp.path()).unwrap();
        assert!(temp.path().join("bin").exists());
        assert_eq!(folders_of(temp.path(), std::process::id()).unwrap(), [temp.path().join(mine)]);
        assert!(!temp.path().join("up-4999999-3").exists());
    }
}
