//! The files of a release, in a folder.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use fs_err as fs;

use sluice_shell::error::{Error, Result};

/// The folder that a release is written to.
pub(super) struct Bundle {
    folder: PathBuf,
}

impl Bundle {
    /// An empty one in `folder`, which must not exist.
    pub(super) fn create(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder.parent().unwrap_or(folder))?;
        fs::create_dir(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Where it is.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Adds the file `name` that nobody runs.
    pub(super) fn add(&self, name: &str, bytes: impl AsRef<[u8]>) -> Result<()> {
        let path = self.place(name)?;
        fs::write(&path, bytes)?;
        Ok(fs::set_permissions(path, PermissionsExt::from_mode(0o644))?)
    }

    /// Adds the program `name`, a copy of `from`.
    pub(super) fn add_program(&self, name: &str, from: &Path) -> Result<()> {
        let path = self.place(name)?;
        fs::copy(from, &path)?;
        Ok(fs::set_permissions(path, PermissionsExt::from_mode(0o755))?)
    }

    /// Adds all files of the folder `from` below `name`.
    pub(super) fn add_folder(&self, name: &str, from: &Path) -> Result<()> {
        for file in Files::of(from)?.all()? {
            let path = self.place(&format!("{name}/{file}"))?;
            fs::copy(from.join(&file), &path)?;
            fs::set_permissions(path, PermissionsExt::from_mode(0o644))?;
        }
        Ok(())
    }

    fn place(&self, name: &str) -> Result<PathBuf> {
        if !is_name(name) {
            return Err(Error::input(format!("{name:?} is no name for a file of a release")));
        }
        let path = self.folder.join(name);
        if path.exists() {
            return Err(anyhow::anyhow!("two parts of a release are named {name}").into());
        }
        fs::create_dir_all(path.parent().unwrap_or(&self.folder))?;
        Ok(path)
    }
}

/// Whether a file of a release may have the name `name`, whoever wrote it: a relative path that stays below the folder
/// it is joined to, of printable ASCII without blanks.
pub(super) fn is_name(name: &str) -> bool {
    let parts = || name.split('/');
    name.len() < 250
        && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        && parts().all(|part| !matches!(part, "" | "." | ".."))
}

/// What lies below a folder.
pub(super) struct Files {
    /// Relative paths of regular files.
    pub(super) regular: BTreeSet<String>,
    /// Relative paths of what no release holds: links, devices, odd names.
    pub(super) odd: BTreeSet<String>,
}

impl Files {
    /// Follows no link.
    pub(super) fn of(folder: &Path) -> Result<Self> {
        let mut files = Self { regular: BTreeSet::new(), odd: BTreeSet::new() };
        for entry in walkdir::WalkDir::new(folder).follow_root_links(false).min_depth(1) {
            let entry = entry?;
            let path = entry.path().strip_prefix(folder).unwrap_or(entry.path());
            match path.to_str() {
                _ if entry.file_type().is_dir() => {}
                Some(name) if entry.file_type().is_file() && is_name(name) => drop(files.regular.insert(name.into())),
                _ => drop(files.odd.insert(path.display().to_string())),
            }
        }
        Ok(files)
    }

    /// The names, if there is nothing odd.
    pub(super) fn all(self) -> Result<BTreeSet<String>> {
        match self.odd.first() {
            None => Ok(self.regular),
            Some(odd) => Err(Error::input(format!("{odd:?} is no regular file that a release can hold"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn names_stay_below_their_folder() {
        for good in ["a", "bin/linux-amd64/kube-apiserver", "licenses/go/github.com/!a/b@v1.0.0+x.txt", "a..b"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a\nb", "a b", "a\\b", "é", &"a".repeat(300)] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }
}
