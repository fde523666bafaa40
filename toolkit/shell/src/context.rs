//! What every verb gets: where things are and how to talk.

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
        let file = fs_err::OpenOptions::new().create(true).append(true).open(&path)?;
        if file.file().try_lock().is_err() {
            self.out.note(format!("waiting for another run that holds {}", path.display()));
            file.file().lock().attempting(|| format!("cannot lock {}", path.display()))?;
        }
        Ok(file)
    }

    /// With the given workspace and plain output, for tests.
    pub fn for_test(root: &std::path::Path) -> Self {
        Self { paths: Paths::new(root, root.join(".sluice")), out: Output::plain() }
    }
}
