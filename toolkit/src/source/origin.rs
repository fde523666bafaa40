//! Where a source tree comes from, and the way from a git repository.

use git2::{ErrorClass, FetchOptions, ObjectType, Oid, Progress, RemoteCallbacks, Repository, Tree};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::copy;
use super::pins::Pins;
use crate::context::Context;
use crate::error::{Attempt as _, Explain, Result};
use crate::output::Progress as Step;
use sluice_shell::minor::Minor;

/// Where upstream's source comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Go modules, pinned by checksum.
    Module,
    /// A clone of `url` (or a local repository) at a branch, tag or commit; the pinned version's tag if none is given.
    Git {
        /// What `git clone` takes: an https URL or a folder.
        url: String,
        /// Branch, tag or commit id.
        reference: Option<String>,
    },
    /// An unpacked tree.
    Path(PathBuf),
}

/// Not one of the three forms.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is none of `module`, `git:<url or path>[#ref]`, `path:<folder>`")]
pub struct NotAnOrigin(String);

impl Explain for NotAnOrigin {}

/// The version in the reference is of another minor.
#[derive(Debug, thiserror::Error)]
#[error("{reference} is no version of {minor}")]
struct OtherMinor {
    reference: String,
    minor: Minor,
}

impl Explain for OtherMinor {
    fn hint(&self) -> Option<String> {
        Some("say --k8s for the minor whose patches shall be used".into())
    }
}

/// The repository has no such branch, tag or commit.
#[derive(Debug, thiserror::Error)]
#[error("{url} has no branch, tag or commit {reference}")]
struct NoReference {
    url: String,
    reference: String,
}

impl Explain for NoReference {
    fn hint(&self) -> Option<String> {
        Some(format!("name one after the `#`: --source 'git:{}#<branch, tag or commit>'", self.url))
    }
}

/// The repository has submodules.
#[derive(Debug, thiserror::Error)]
#[error("{0} is a submodule, which Kubernetes does not have")]
struct Submodule(String);

impl Explain for Submodule {}

impl FromStr for Origin {
    type Err = NotAnOrigin;

    fn from_str(text: &str) -> Result<Self, NotAnOrigin> {
        match text.split_once(':') {
            None if text == "module" => Ok(Self::Module),
            Some(("git", rest)) if !rest.is_empty() && !rest.starts_with('#') => {
                let (url, reference) = rest.split_once('#').map_or((rest, None), |(url, name)| (url, Some(name)));
                Ok(Self::Git { url: url.into(), reference: reference.filter(|name| !name.is_empty()).map(Into::into) })
            }
            Some(("path", rest)) if !rest.is_empty() => Ok(Self::Path(rest.into())),
            _ => Err(NotAnOrigin(text.into())),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Module => f.write_str("module"),
            Self::Git { url, reference: None } => write!(f, "git:{url}"),
            Self::Git { url, reference: Some(reference) } => write!(f, "git:{url}#{reference}"),
            Self::Path(path) => write!(f, "path:{}", path.display()),
        }
    }
}

impl Origin {
    /// The Kubernetes version of the source: the tag, if the reference is one, else the pinned version.
    pub(crate) fn version(&self, minor: &Minor, pins: &Pins) -> Result<String> {
        match self {
            Self::Git { reference: Some(reference), .. } if is_version(reference) => {
                if !reference.starts_with(&format!("{minor}.")) {
                    return Err(OtherMinor { reference: reference.clone(), minor: minor.clone() }.into());
                }
                Ok(reference.clone())
            }
            _ => Ok(pins.kubernetes.version.clone()),
        }
    }

    /// What the origin's content depends on, as far as can be said without the network: a local folder by the state of its
    /// files, a local repository by the commit. A branch of a remote is fetched once; name a commit to get another.
    pub(crate) fn identity(&self, pins: &Pins) -> Result<String> {
        Ok(match self {
            Self::Module => "module".into(),
            Self::Path(path) => format!("path:{}", copy::fingerprint(path)?),
            Self::Git { url, reference } => {
                let reference = reference.as_deref().unwrap_or(&pins.kubernetes.version);
                match local(url)? {
                    Some(repository) => format!("git:{}", resolve(&repository, url, reference)?),
                    None => format!("git:{url}#{reference}"),
                }
            }
        })
    }
}

/// `v1.37.2`, also `v1.37.0-rc.1`.
fn is_version(name: &str) -> bool {
    let numbers = name.strip_prefix('v').map(|rest| rest.split(['-', '+']).next().unwrap_or_default());
    numbers.is_some_and(|numbers| {
        let mut parts = numbers.split('.');
        parts.by_ref().take(3).filter(|part| part.parse::<u32>().is_ok()).count() == 3 && parts.next().is_none()
    })
}

/// Writes the files of `reference` in the repository `url` to the empty folder `to`. The clone is kept in the cache, so that
/// the next reference costs only what is new.
pub(crate) fn check_out(shell: &Context, url: &str, reference: Option<&str>, pins: &Pins, to: &Path) -> Result<()> {
    let reference = reference.unwrap_or(&pins.kubernetes.version);
    let (repository, commit) = match local(url)? {
        Some(repository) => (repository, None),
        None => clone(shell, url, reference)?,
    };
    let commit = commit.map_or_else(|| resolve(&repository, url, reference), Ok)?;
    let progress = shell.out.spinner(format!("check out {reference}"));
    let tree = repository.find_commit(commit)?.tree()?;
    write(&repository, &tree, to)?;
    progress.done(commit.to_string());
    Ok(())
}

/// A folder is read in place; anything else is a URL.
fn local(url: &str) -> Result<Option<Repository>> {
    let path = url.strip_prefix("file://").unwrap_or(url);
    if !Path::new(path).is_dir() {
        return Ok(None);
    }
    Ok(Some(Repository::open(path).attempting(|| format!("cannot open the git repository {path}"))?))
}

fn resolve(repository: &Repository, url: &str, reference: &str) -> Result<Oid> {
    let found = repository.revparse_single(reference).and_then(|object| object.peel_to_commit());
    Ok(found.map(|commit| commit.id()).map_err(|_| NoReference { url: url.into(), reference: reference.into() })?)
}

/// Fetches one reference, without its history, into the clone in the cache.
fn clone(shell: &Context, url: &str, reference: &str) -> Result<(Repository, Option<Oid>)> {
    let name: String = Sha256::digest(url).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let folder = shell.paths.cache().join("clones").join(format!("{name}.git"));
    let repository = match Repository::open_bare(&folder) {
        Ok(repository) => repository,
        Err(_) => Repository::init_bare(&folder)?,
    };
    let progress = shell.out.spinner(format!("fetch {reference} of {url}"));
    let is_commit = reference.len() == 40 && reference.bytes().all(|byte| byte.is_ascii_hexdigit());
    let candidates = [format!("refs/tags/{reference}"), format!("refs/heads/{reference}")];
    let candidates = if is_commit { vec![reference.to_owned()] } else { candidates.to_vec() };
    let mut last = None;
    for candidate in candidates {
        match fetch_one(&repository, url, &candidate, &progress) {
            Ok(commit) => {
                progress.done("");
                return Ok((repository, Some(commit)));
            }
            Err(error) => last = Some(error),
        }
    }
    match last.filter(|error| matches!(error.class(), ErrorClass::Net | ErrorClass::Ssl | ErrorClass::Http)) {
        Some(error) => Err(Unreachable { url: url.into(), reason: error.message().into() }.into()),
        None => Err(NoReference { url: url.into(), reference: reference.into() }.into()),
    }
}

fn fetch_one(git: &Repository, url: &str, name: &str, progress: &Step<'_>) -> std::result::Result<Oid, git2::Error> {
    const FETCHED: &str = "refs/sluice/fetched";
    let mut callbacks = RemoteCallbacks::new();
    callbacks.transfer_progress(|transfer: Progress<'_>| {
        progress.now(format!("{}/{} objects", transfer.received_objects(), transfer.total_objects()));
        true
    });
    let mut options = FetchOptions::new();
    options.remote_callbacks(callbacks).depth(1).download_tags(git2::AutotagOption::None);
    git.remote_anonymous(url)?.fetch(&[&format!("+{name}:{FETCHED}")], Some(&mut options), None)?;
    Ok(git.find_reference(FETCHED)?.peel_to_commit()?.id())
}

/// The server can't be reached, or is none.
#[derive(Debug, thiserror::Error)]
#[error("cannot fetch from {url}: {reason}")]
struct Unreachable {
    url: String,
    reason: String,
}

impl Explain for Unreachable {
    fn hint(&self) -> Option<String> {
        Some("https URLs and folders work; for ssh make a local clone and give its folder".into())
    }
}

/// Writes blobs as they are: no line ending conversion, no filters, whatever the user's git configuration says.
fn write(repository: &Repository, tree: &Tree<'_>, to: &Path) -> Result<()> {
    for entry in tree {
        let path = to.join(std::ffi::OsStr::from_bytes(entry.name_bytes()));
        match (entry.kind(), entry.filemode()) {
            (Some(ObjectType::Tree), _) => {
                fs_err::create_dir_all(&path)?;
                write(repository, &repository.find_tree(entry.id())?, &path)?;
            }
            (Some(ObjectType::Blob), 0o120_000) => {
                let target = repository.find_blob(entry.id())?;
                fs_err::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(target.content()), &path)?;
            }
            (Some(ObjectType::Blob), mode) => {
                fs_err::write(&path, repository.find_blob(entry.id())?.content())?;
                let mode = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
                fs_err::set_permissions(&path, Permissions::from_mode(mode))?;
            }
            _ => return Err(Submodule(path.display().to_string()).into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let git =
            |url: &str, reference: Option<&str>| Origin::Git { url: url.into(), reference: reference.map(Into::into) };
        for (text, expected) in [
            ("module", Some(Origin::Module)),
            ("git:https://host/k.git", Some(git("https://host/k.git", None))),
            ("git:../k8s#v1.37.2", Some(git("../k8s", Some("v1.37.2")))),
            ("git:/k8s#", Some(git("/k8s", None))),
            ("path:/tmp/k8s", Some(Origin::Path("/tmp/k8s".into()))),
            ("git:", None),
            ("git:#v1", None),
            ("path:", None),
            ("https://host/k.git", None),
            ("", None),
        ] {
            assert_eq!(text.parse::<Origin>().ok(), expected, "{text}");
        }
    }

    #[test]
    fn versions() {
        for (name, expected) in
            [("v1.37.2", true), ("v1.37.0-rc.1", true), ("v1.37", false), ("master", false), ("v1.2.3.4", false)]
        {
            assert_eq!(is_version(name), expected, "{name}");
        }
    }
}
