//! How a person resolved the conflicts of a patch, kept beside the series as git's rerere keeps it: the difference
//! between the files with their conflicts and the files that the person left. The same conflict is resolved the same
//! way when it comes up again; another one is not, because a hunk applies only where all its lines are equal, the marks
//! of the conflict included.

use git2::{Oid, Repository};
use std::path::Path;

use super::carry::{Old, marked};
use super::engine;
use super::file::{Author, Patch};
use sluice_shell::error::{Attempt as _, Result};

/// Writes the resolution of a patch into `folder`: from the tree with conflicts to the one without.
pub(super) fn record(repo: &Repository, folder: &Path, old: &Old, conflicts: Oid, resolved: Oid) -> Result<()> {
    let files = engine::differences(repo, &repo.find_tree(conflicts)?, &repo.find_tree(resolved)?)?;
    let body =
        "How the conflicts of this patch were resolved: from the files with the marks of the conflicts to those\n\
        without. `cargo xtask patch rebase` does the same again where the same conflicts come up."
            .to_owned();
    let patch = Patch { author: Author::maintainers(), subject: old.patch.subject.clone(), body, files };
    fs_err::create_dir_all(folder)?;
    let new = folder.join(format!(".{}.new", old.name));
    fs_err::write(&new, patch.to_bytes())?;
    Ok(fs_err::rename(new, folder.join(&old.name))?)
}

/// The tree without the conflicts of `conflicts`; none if nothing is recorded for the patch, or if it was for other
/// conflicts.
pub(super) fn replay(repo: &Repository, folder: &Path, old: &Old, conflicts: Oid) -> Result<Option<Oid>> {
    let path = folder.join(&old.name);
    if !path.is_file() {
        return Ok(None);
    }
    let recorded = Patch::parse(&fs_err::read(&path)?)
        .map_err(anyhow::Error::from)
        .attempting(|| format!("cannot read {}", path.display()))?;
    let tree = repo.find_tree(conflicts)?;
    let resolved = match engine::apply(repo, &tree, &old.name, &recorded) {
        Ok((resolved, _)) => resolved,
        Err(error) if error.downcast_ref::<engine::DoesNotApply>().is_some() => return Ok(None),
        Err(error) => return Err(error),
    };
    let after = repo.find_tree(resolved)?;
    for file in old.patch.files.iter().chain(&recorded.files) {
        let content = engine::content(repo, &after, &file.path)?;
        if content.is_some_and(|(content, _)| marked(&content).is_some()) {
            return Ok(None);
        }
    }
    Ok(Some(resolved))
}
