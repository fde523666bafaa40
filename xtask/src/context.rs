//! What every verb gets: where things are and how to talk.

use crate::error::Result;
use crate::output::Output;
use crate::paths::Paths;

/// Paths and output of one run.
pub(crate) struct Context {
    /// Folders of the workspace and of the cache.
    pub(crate) paths: Paths,
    /// Data to stdout, progress and notes to stderr.
    pub(crate) out: Output,
}

impl Context {
    /// From the environment and the current folder.
    pub(crate) fn from_env() -> Result<Self> {
        Ok(Self { paths: Paths::from_env()?, out: Output::from_env() })
    }

    /// With the given folders and plain output.
    #[cfg(test)]
    pub(crate) fn for_test(root: &std::path::Path) -> Self {
        Self { paths: Paths::new(root, root.join(".sluice")), out: Output::plain() }
    }
}
