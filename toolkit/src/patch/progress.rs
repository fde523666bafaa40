//! How far a rebase came: kept in the git folder of the tree that it goes to, so that any run can go on.

use git2::{Oid, Repository};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

use super::carry::How;
use crate::source::REBASE;
use sluice_shell::error::{Attempt as _, Result};

/// A rebase that is not finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Version and digest of the series that is carried.
    pub(super) what: String,
    /// Where the tree stood before; hex.
    start: String,
    /// In the order of the series.
    pub(super) done: Vec<Carried>,
    /// The patch that needs a person.
    pub(super) stopped: Option<Stopped>,
}

/// A patch that stands on the other source, or was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Carried {
    /// File name.
    pub(super) file: String,
    /// How it came there.
    pub(super) how: How,
    /// Of a hundred lines that the old patch changes, those that the new one changes too.
    pub(super) left: usize,
    /// Its commit; hex. None if it was left out.
    pub(super) commit: Option<String>,
}

/// Where a person has to decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stopped {
    /// File name of the patch.
    pub(super) patch: String,
    /// The tree that the person found; hex.
    pub(super) tree: String,
    /// How the patch came to be what it is in that tree, of which so little is left that it is asked. None if there are
    /// conflicts to resolve.
    pub(super) how: Option<How>,
    /// The files are in the work tree.
    pub(super) shown: bool,
}

impl Progress {
    /// Nothing done yet.
    pub(super) fn begin(what: &str, start: Oid) -> Self {
        Self { what: what.to_owned(), start: start.to_string(), done: Vec::new(), stopped: None }
    }

    /// That of the rebase that stands in a tree, if one does.
    pub(super) fn load(repo: &Repository) -> Result<Option<Self>> {
        let path = path(repo);
        if !path.exists() {
            return Ok(None);
        }
        let read = serde_json::from_slice(&fs_err::read(&path)?);
        Ok(Some(read.attempting(|| format!("cannot read {}", path.display()))?))
    }

    /// Whole or not at all.
    pub(super) fn store(&self, repo: &Repository) -> Result<()> {
        let new = path(repo).with_extension("new");
        fs_err::write(&new, serde_json::to_vec_pretty(self)?)?;
        Ok(fs_err::rename(new, path(repo))?)
    }

    /// The rebase is over.
    pub(super) fn remove(repo: &Repository) -> Result<()> {
        let path = path(repo);
        if path.exists() { Ok(fs_err::remove_file(path)?) } else { Ok(()) }
    }

    /// The commit of the last patch that stands; `base` if none does.
    pub(super) fn head(&self, base: Oid) -> Result<Oid> {
        let last = self.done.iter().rev().find_map(|carried| carried.commit.as_ref());
        Ok(last.map_or(Ok(base), |commit| Oid::from_str(commit))?)
    }

    /// Where the tree stood before.
    pub(super) fn start(&self) -> Result<Oid> {
        Ok(Oid::from_str(&self.start)?)
    }
}

fn path(repo: &Repository) -> PathBuf {
    Path::join(repo.path(), REBASE)
}
