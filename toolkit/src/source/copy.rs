//! Copies of folders.

use base64::Engine as _;
use sha2::{Digest as _, Sha256};
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

use sluice_shell::error::{Explain, Result};

/// A folder holds something that a source tree can't.
#[derive(Debug, thiserror::Error)]
#[error("{} is neither a file, a folder nor a symbolic link", .0.display())]
struct Special(PathBuf);

impl Explain for Special {}

/// The folder of `path:` is not there, or is no Kubernetes source.
#[derive(Debug, thiserror::Error)]
#[error("{} holds no Kubernetes source: {} is missing", folder.display(), what)]
struct NotSource {
    folder: PathBuf,
    what: &'static str,
}

impl Explain for NotSource {
    fn hint(&self) -> Option<String> {
        Some("`path:` takes the root of an unpacked Kubernetes source archive, with cmd/, pkg/ and staging/".into())
    }
}

/// Digest of the names, sizes and times of an unpacked source tree: another one when a file there was changed.
///
/// # Errors
/// `from` is no Kubernetes source.
pub(crate) fn fingerprint(from: &Path) -> Result<String> {
    for what in ["go.mod", "cmd", "staging/src/k8s.io"] {
        if !from.join(what).exists() {
            return Err(NotSource { folder: from.to_owned(), what }.into());
        }
    }
    let mut hash = Sha256::new();
    for (name, path) in listing(from)? {
        if !name.starts_with(".git") {
            let meta = fs_err::symlink_metadata(path)?;
            hash.update(format!(
                "{} {} {}.{} {}\n",
                name.display(),
                meta.len(),
                meta.mtime(),
                meta.mtime_nsec(),
                meta.mode()
            ));
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Copies the unpacked source tree `from`, without `.git`.
pub(crate) fn tree(from: &Path, to: &Path) -> Result<()> {
    files(from, |name| name != Path::new(".git"), to, |_, _| ())
}

/// Copies an extracted Go module, without its `vendor` folder, and returns Go's checksum of what was read.
///
/// The checksum is Go's `h1:` (golang.org/x/mod, sumdb/dirhash/hash.go, `Hash1`): over the sha256 and the name, with
/// the module's `path@version/` in front, of every file, sorted by name.
pub(crate) fn module(from: &Path, prefix: &str, to: &Path) -> Result<String> {
    let mut sums = Vec::new();
    let mut note = |name: &Path, content: &[u8]| {
        let name = name.to_string_lossy().into_owned();
        let hex: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
        sums.push((name, hex));
    };
    files(from, |name| name != Path::new("vendor"), to, &mut note)?;
    for (name, path) in listing(&from.join("vendor"))? {
        note(&Path::new("vendor").join(name), &fs_err::read(path)?);
    }
    sums.sort();
    let mut hash = Sha256::new();
    for (name, hex) in sums {
        hash.update(format!("{hex}  {prefix}/{name}\n"));
    }
    Ok(format!("h1:{}", base64::engine::general_purpose::STANDARD.encode(hash.finalize())))
}

/// Removes a file or folder if it is there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs_err::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(fs_err::remove_dir_all(path)?),
        Ok(_) => Ok(fs_err::remove_file(path)?),
        Err(_) => Ok(()),
    }
}

/// All files and links below `folder`, by their name in it. An absent folder has none.
fn listing(folder: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    let mut files = Vec::new();
    if folder.is_dir() {
        for entry in WalkDir::new(folder).sort_by_file_name() {
            let entry = entry?;
            if !entry.file_type().is_dir() {
                files.push((
                    entry.path().strip_prefix(folder).unwrap_or(entry.path()).to_owned(),
                    entry.path().to_owned(),
                ));
            }
        }
    }
    Ok(files)
}

/// Copies what `wanted` (asked for the entries at the top) lets through; `seen` gets each file's name and content.
/// Files become writable; of their mode only the executable bit is kept, as git does.
fn files(from: &Path, wanted: impl Fn(&Path) -> bool, to: &Path, mut seen: impl FnMut(&Path, &[u8])) -> Result<()> {
    let name = |path: &Path| path.strip_prefix(from).unwrap_or(path).to_owned();
    let walk = WalkDir::new(from).min_depth(1).sort_by_file_name().into_iter();
    for entry in walk.filter_entry(|entry| entry.depth() > 1 || wanted(&name(entry.path()))) {
        let entry = entry?;
        let name = name(entry.path());
        let target = to.join(&name);
        if entry.file_type().is_dir() {
            fs_err::create_dir_all(&target)?;
        } else if entry.file_type().is_symlink() {
            fs_err::os::unix::fs::symlink(fs_err::read_link(entry.path())?, &target)?;
        } else if entry.file_type().is_file() {
            let content = fs_err::read(entry.path())?;
            seen(&name, &content);
            fs_err::write(&target, content)?;
            let mode = if entry.metadata()?.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 };
            fs_err::set_permissions(&target, Permissions::from_mode(mode))?;
        } else {
            return Err(Special(entry.into_path()).into());
        }
    }
    Ok(())
}
