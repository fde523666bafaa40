//! What every verb gets: where things are and how to talk.

use std::io::Write as _;

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
        let folder = self.paths.cache().join("locks");
        fs_err::create_dir_all(&folder)?;
        let path = folder.join(name);
        let mut file = fs_err::OpenOptions::new().create(true).append(true).open(&path)?;
        if file.file().try_lock().is_err() {
            let holder = fs_err::read_to_string(&path).unwrap_or_default();
            let holder = if holder.is_empty() { "another run" } else { holder.trim_end() };
            let progress = self.out.spinner(format!("wait for {holder}"));
            file.file().lock().attempting(|| format!("cannot lock {}", path.display()))?;
            progress.done("it has ended");
        }
        // For whoever comes next. Not the arguments: they may hold a password.
        let verb = std::env::args().nth(1).unwrap_or_default();
        file.set_len(0)?;
        writeln!(file, "`cargo xtask {verb}` (process {})", std::process::id())?;
        Ok(file)
    }

    /// With the given workspace and plain output, for tests.
    pub fn for_test(root: &std::path::Path) -> Self {
        Self { paths: Paths::new(root, root.join(".sluice")), out: Output::plain() }
    }
}
