//! What every verb gets: where things are and how to talk.

use std::fs::TryLockError;
use std::io::Write as _;
use std::path::PathBuf;

use crate::error::{Attempt as _, Result};
use crate::output::Output;
use crate::paths::Paths;

/// Paths and output of one run.
pub struct Context {
    /// Folders of the workspace and of the cache.
    pub paths: Paths,
    /// Data to stdout, progress and notes to stderr.
    pub out: Output,
}

impl Context {
    /// From the environment and the current folder.
    pub fn from_env() -> Result<Self> {
        Ok(Self { paths: Paths::from_env()?, out: Output::from_env() })
    }

    /// Waits until no other run holds the lock `name`; it is free again when the result is dropped or we end.
    pub fn lock(&self, name: &str) -> Result<fs_err::File> {
        let (file, path) = self.lock_file(name)?;
        if file.file().try_lock().is_err() {
            let holder = fs_err::read_to_string(&path).unwrap_or_default();
            let holder = if holder.is_empty() { "another run" } else { holder.trim_end() };
            let progress = self.out.spinner(format!("wait for {holder}"));
            file.file().lock().attempting(|| format!("cannot lock {}", path.display()))?;
            progress.done("it has ended");
        }
        signed(file)
    }

    /// The lock `name`, if nobody holds it: neither another run nor this one.
    pub fn try_lock(&self, name: &str) -> Result<Option<fs_err::File>> {
        let (file, path) = self.lock_file(name)?;
        match file.file().try_lock() {
            Ok(()) => signed(file).map(Some),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).attempting(|| format!("cannot lock {}", path.display())),
        }
    }

    fn lock_file(&self, name: &str) -> Result<(fs_err::File, PathBuf)> {
        let folder = self.paths.cache().join("locks");
        fs_err::create_dir_all(&folder)?;
        let path = folder.join(name);
        Ok((fs_err::OpenOptions::new().create(true).append(true).open(&path)?, path))
    }

    /// With the given workspace and plain output, for tests.
    pub fn for_test(root: &std::path::Path) -> Self {
        Self { paths: Paths::new(root, root.join(".sluice")), out: Output::plain() }
    }
}

/// Says in a lock that this run holds who that is, for whoever comes next. Not the arguments: they may hold a password.
fn signed(mut file: fs_err::File) -> Result<fs_err::File> {
    let verb = std::env::args().nth(1).unwrap_or_default();
    file.set_len(0)?;
    writeln!(file, "`cargo xtask {verb}` (process {})", std::process::id())?;
    Ok(file)
}
