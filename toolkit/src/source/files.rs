//! Single files of an upstream version, read without composing its tree.

use git2::{Oid, Repository};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::module;
use super::origin::{self, Origin};
use super::pins::Pins;
use sluice_shell::context::Context;
use sluice_shell::error::Result;

/// Where the files of one version are.
pub(crate) enum Files {
    /// Extracted Go modules, by the folder of the tree that they make.
    Modules(BTreeMap<String, PathBuf>),
    /// A commit.
    Commit(Repository, Oid),
    /// An unpacked tree.
    Folder(PathBuf),
}

impl Files {
    /// Those of a version, and of its modules those that hold `paths`. `pins` are the version's, or none if the version
    /// is not pinned: then Go's checksum database says what is right.
    pub(crate) fn of(
        shell: &Context,
        origin: &Origin,
        version: &str,
        pins: Option<&Pins>,
        paths: &BTreeSet<&str>,
    ) -> Result<Self> {
        Ok(match origin {
            Origin::Module => Self::Modules(module::holding(shell, version, pins, paths)?),
            Origin::Path(folder) => Self::Folder(folder.clone()),
            Origin::Git { url, reference } => {
                let reference = reference.as_deref().unwrap_or(version);
                let (repository, commit) = origin::commit(shell, url, reference)?;
                Self::Commit(repository, commit)
            }
        })
    }

    /// The content of a plain file; none if the version has no such file.
    pub(crate) fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let file = match self {
            Self::Commit(repository, commit) => {
                let tree = repository.find_commit(*commit)?.tree()?;
                return match tree.get_path(path.as_ref()) {
                    Ok(entry) => Ok(Some(repository.find_blob(entry.id())?.content().to_vec())),
                    Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(None),
                    Err(error) => Err(error.into()),
                };
            }
            Self::Folder(folder) => folder.join(path),
            Self::Modules(folders) => {
                let holds = |folder: &&String| path.strip_prefix(folder.as_str()).is_some();
                // The longest: the main module holds all other paths.
                match folders.keys().filter(holds).max_by_key(|folder| folder.len()) {
                    Some(folder) => folders[folder].join(&path[folder.len()..]),
                    None => return Ok(None),
                }
            }
        };
        if file.is_file() { Ok(Some(fs_err::read(file)?)) } else { Ok(None) }
    }
}
