//! The commit that a release is made of.

use std::path::{Path, PathBuf};

use sluice_shell::error::{Error, Explain, Result};
use sluice_shell::process::quoted;

/// What would be built is not what a commit says.
#[derive(Debug, thiserror::Error)]
#[error("a release is made of a commit, and {0}")]
struct NoCommit(String);

impl Explain for NoCommit {
    fn hint(&self) -> Option<String> {
        Some("commit the changes, or put them aside with `git stash -u`".to_owned())
    }
}

/// git does not trust the workspace.
#[derive(Debug, thiserror::Error)]
#[error("a release is made of a commit, and {} is a repository of another user", .0.display())]
struct NotOurs(PathBuf);

impl Explain for NotOurs {
    fn hint(&self) -> Option<String> {
        Some(format!("git config --global --add safe.directory {}", quoted(&self.0)))
    }
}

/// The workspace is of another commit than the programs.
#[derive(Debug, thiserror::Error)]
#[error("the workspace went from commit {0} to {1} while the release was built")]
struct Moved(String, String);

impl Explain for Moved {
    fn hint(&self) -> Option<String> {
        Some("run the same command again: what is built and tested stays".to_owned())
    }
}

/// The commit of the workspace `root`, if its files are those of the commit.
pub(super) fn of(root: &Path) -> Result<String> {
    let repository = git2::Repository::open(root).map_err(|error| match error.code() {
        git2::ErrorCode::Owner => Error::from(NotOurs(root.to_owned())),
        _ => NoCommit(format!("{} has none", root.display())).into(),
    })?;
    let mut options = git2::StatusOptions::new();
    options.include_untracked(true).include_ignored(false);
    if let Some(changed) = repository.statuses(Some(&mut options))?.iter().next() {
        let name = changed.path().unwrap_or("a file").to_owned();
        return Err(NoCommit(format!("{name} is not as in the last one")).into());
    }
    let head = repository.head().and_then(|head| head.peel_to_commit());
    Ok(head.map_err(|_| Error::from(NoCommit("there is none".to_owned())))?.id().to_string())
}

/// Refuses a workspace that is no longer what it was at `commit`: a build takes long, and files are read at its end.
pub(super) fn still(root: &Path, commit: &str) -> Result<()> {
    let now = of(root)?;
    if now == commit { Ok(()) } else { Err(Moved(commit.to_owned(), now).into()) }
}

#[cfg(test)]
mod tests {
    use fs_err as fs;

    use super::*;

    fn commit(repository: &git2::Repository) -> String {
        let mut index = repository.index().unwrap();
        index.add_all(["*"], git2::IndexAddOption::DEFAULT, None).unwrap();
        index.write().unwrap();
        let tree = repository.find_tree(index.write_tree().unwrap()).unwrap();
        let parent = repository.head().ok().map(|head| head.peel_to_commit().unwrap());
        let who = git2::Signature::new("a", "a@b", &git2::Time::new(0, 0)).unwrap();
        let parents: Vec<_> = parent.iter().collect();
        repository.commit(Some("HEAD"), &who, &who, "x", &tree, &parents).unwrap().to_string()
    }

    #[test]
    fn a_workspace_that_changes_during_the_build_makes_no_release() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let error = |result: Result<()>| result.unwrap_err().to_string();
        assert!(error(of(root).map(drop)).ends_with(" has none"));
        let repository = git2::Repository::init(root).unwrap();
        assert_eq!(error(of(root).map(drop)), "a release is made of a commit, and there is none");
        fs::write(root.join("CHANGELOG.md"), "1").unwrap();
        let first = commit(&repository);
        assert_eq!(of(root).unwrap(), first);
        still(root, &first).unwrap();

        fs::write(root.join("CHANGELOG.md"), "2").unwrap();
        let changed = "a release is made of a commit, and CHANGELOG.md is not as in the last one";
        assert_eq!(error(still(root, &first)), changed);
        let second = commit(&repository);
        let moved = format!("the workspace went from commit {first} to {second} while the release was built");
        assert_eq!(error(still(root, &first)), moved);
        still(root, &second).unwrap();

        // Only root can give it to somebody.
        if std::os::unix::fs::chown(root, Some(65534), None).is_ok() {
            assert!(error(of(root).map(drop)).ends_with(" is a repository of another user"));
        }
    }
}
