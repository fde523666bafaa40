//! Which commit made what is built.

use std::path::Path;

/// The last commit that changed one of `paths`, as 40 digits; nothing outside a git checkout.
///
/// Not HEAD: then every commit would make other programs and images.
pub(crate) fn last_change(root: &Path, paths: &[&str]) -> Option<String> {
    let found = || -> Result<Option<String>, git2::Error> {
        let repository = git2::Repository::open(root)?;
        let content = |commit: &git2::Commit<'_>| -> Result<Vec<Option<git2::Oid>>, git2::Error> {
            let tree = commit.tree()?;
            Ok(paths.iter().map(|path| tree.get_path(Path::new(path)).ok().map(|entry| entry.id())).collect())
        };
        let mut walk = repository.revwalk()?;
        walk.push_head()?;
        walk.set_sorting(git2::Sort::TOPOLOGICAL)?;
        for id in walk {
            let commit = repository.find_commit(id?)?;
            let own = content(&commit)?;
            let parents = commit.parents().map(|parent| content(&parent)).collect::<Result<Vec<_>, _>>()?;
            if own.iter().any(Option::is_some) && parents.iter().all(|parent| *parent != own) {
                return Ok(Some(commit.id().to_string()));
            }
        }
        Ok(None)
    };
    found().ok().flatten()
}

/// Whether one of `paths` differs from what is committed, or holds files that are not.
pub(crate) fn is_changed(root: &Path, paths: &[&str]) -> bool {
    let found = || -> Result<bool, git2::Error> {
        let repository = git2::Repository::open(root)?;
        let mut options = git2::StatusOptions::new();
        options.include_untracked(true).exclude_submodules(true).disable_pathspec_match(true);
        for path in paths {
            options.pathspec(path);
        }
        Ok(!repository.statuses(Some(&mut options))?.is_empty())
    };
    found().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use fs_err as fs;

    use super::*;

    fn commit(repository: &git2::Repository, file: &str) -> String {
        let root = repository.workdir().unwrap();
        fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
        fs::write(
            root.join(file),
            repository.head().map_or(0, |head| head.target().unwrap().as_bytes()[0]).to_string(),
        )
        .unwrap();
        let mut index = repository.index().unwrap();
        index.add_path(Path::new(file)).unwrap();
        index.write().unwrap();
        let tree = repository.find_tree(index.write_tree().unwrap()).unwrap();
        let parent = repository.head().ok().map(|head| head.peel_to_commit().unwrap());
        let who = git2::Signature::new("a", "a@b", &git2::Time::new(0, 0)).unwrap();
        let parents: Vec<_> = parent.iter().collect();
        repository.commit(Some("HEAD"), &who, &who, file, &tree, &parents).unwrap().to_string()
    }

    #[test]
    fn commits_that_change_something_else_do_not_count() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(last_change(folder.path(), &["shim"]), None, "no checkout");
        let repository = git2::Repository::init(folder.path()).unwrap();
        let first = commit(&repository, "shim/a");
        let second = commit(&repository, "patches/v1.37/series");
        commit(&repository, "docs/a.md");
        let found = |paths: &[&str]| last_change(folder.path(), paths);
        assert_eq!(found(&["shim"]), Some(first));
        assert_eq!(found(&["shim", "patches/v1.37"]), Some(second));
        assert_eq!(found(&["nosuch"]), None);

        assert!(!is_changed(folder.path(), &["shim"]));
        fs::write(folder.path().join("docs/b.md"), "").unwrap();
        assert!(!is_changed(folder.path(), &["shim", "patches/v1.37"]));
        fs::write(folder.path().join("shim/b"), "").unwrap();
        assert!(is_changed(folder.path(), &["patches/v1.37", "shim"]));
    }
}
