//! Where a source tree comes from, and the way from a git repository.

use git2::{ObjectType, Oid, Repository, RepositoryInitOptions, Tree};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::copy;
use super::pins::Pins;
use sluice_shell::context::Context;
use sluice_shell::error::{Attempt as _, Explain, Result};
use sluice_shell::minor::Minor;
use sluice_shell::process::{Failed, NotStarted, Run};

/// Where upstream's source comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Go modules, pinned by checksum.
    Module,
    /// A clone of `url` (or a local repository) at a branch, tag or commit; the pinned version's tag if none is given.
    Git {
        /// What `git clone` takes: a folder, or a URL, which the git program fetches.
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

    /// What the origin's content depends on, as far as can be said without the network: a local folder by the state of
    /// its files, a local repository by the commit. A branch of a remote is fetched once; name a commit to get another.
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

/// Writes the files of `reference` in the repository `url` to the empty folder `to`. The clone is kept in the cache, so
/// that the next reference costs only what is new.
pub(crate) fn check_out(shell: &Context, url: &str, reference: Option<&str>, pins: &Pins, to: &Path) -> Result<()> {
    let reference = reference.unwrap_or(&pins.kubernetes.version);
    let (repository, commit) = commit(shell, url, reference)?;
    let progress = shell.out.spinner(format!("check out {reference}"));
    let tree = repository.find_commit(commit)?.tree()?;
    write(&repository, &tree, to)?;
    progress.done(commit.to_string());
    Ok(())
}

/// The repository at `url`, or the clone of it in the cache, and the commit of `reference` in there.
pub(crate) fn commit(shell: &Context, url: &str, reference: &str) -> Result<(Repository, Oid)> {
    let (repository, commit) = match local(url)? {
        Some(repository) => (repository, None),
        None => clone(shell, url, reference)?,
    };
    let commit = commit.map_or_else(|| resolve(&repository, url, reference), Ok)?;
    Ok((repository, commit))
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

/// Fetches one reference, without its history, into the clone in the cache. The git program does it: libgit2 would need
/// OpenSSL for https, and the user's git knows the proxies and credentials.
fn clone(shell: &Context, url: &str, reference: &str) -> Result<(Repository, Option<Oid>)> {
    const FETCHED: &str = "refs/sluice/fetched";
    let name: String = Sha256::digest(url).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let folder = shell.paths.cache().join("clones").join(format!("{name}.git"));
    // Trees of several minors may come from one clone.
    let _lock = shell.lock(&format!("clone-{name}"))?;
    let repository = match Repository::open_bare(&folder) {
        Ok(repository) => repository,
        Err(_) => Repository::init_opts(&folder, RepositoryInitOptions::new().bare(true).external_template(false))?,
    };
    let progress = shell.out.spinner(format!("fetch {reference} of {url}"));
    let name = advertised(&folder, url, reference)?;
    let fetched = git(&folder)
        .args(["fetch", "--depth=1", "--no-tags", "--no-write-fetch-head", "--", url])
        .arg(format!("+{name}:{FETCHED}"))
        .run();
    match fetched {
        // The server is there, but keeps a commit that no branch or tag names to itself, or has none.
        Err(error) if name == reference && error.downcast_ref::<Failed>().is_some() => {
            return Err(NoReference { url: url.into(), reference: reference.into() }.into());
        }
        fetched => fetched?,
    }
    progress.done("");
    let commit = repository.find_reference(FETCHED)?.peel_to_commit()?.id();
    Ok((repository, Some(commit)))
}

/// What to ask the server for: the full name of the tag or else the branch, or the commit id.
fn advertised(clone: &Path, url: &str, reference: &str) -> Result<String> {
    let is_commit = reference.len() == 40 && reference.bytes().all(|byte| byte.is_ascii_hexdigit());
    let names = [format!("refs/tags/{reference}"), format!("refs/heads/{reference}")];
    let asked = git(clone).args(["ls-remote", "--", url]).args(&names).outcome().map_err(|error| {
        let no_git = error.downcast_ref::<NotStarted>().is_some_and(NotStarted::is_missing);
        if no_git { NoGit { url: url.into() }.into() } else { error }
    })?;
    if !asked.status.success() {
        return Err(Unreachable { url: url.into(), reason: asked.stderr.trim_end().into() }.into());
    }
    if is_commit {
        return Ok(reference.into());
    }
    let served = |name: &&String| asked.stdout.lines().any(|line| line.ends_with(&format!("\t{name}")));
    let found = names.iter().find(served).cloned();
    Ok(found.ok_or_else(|| NoReference { url: url.into(), reference: reference.into() })?)
}

/// The git program in the clone, without what a user's configuration could have it start or ask.
fn git(clone: &Path) -> Run {
    let quiet = ["-c", "core.hooksPath=/dev/null", "-c", "gc.auto=0", "-c", "maintenance.auto=false"];
    Run::new("git", clone).args(quiet).env("GIT_TERMINAL_PROMPT", "0")
}

/// There is no git program.
#[derive(Debug, thiserror::Error)]
#[error("{url} is not on this machine, and there is no git program to fetch it")]
struct NoGit {
    url: String,
}

impl Explain for NoGit {
    fn hint(&self) -> Option<String> {
        Some("install git, or name a local clone (`git:<folder>`) or an unpacked tree (`path:<folder>`)".into())
    }
}

/// The server can't be reached, or is none.
#[derive(Debug, thiserror::Error)]
#[error("cannot fetch from {url}: {reason}")]
struct Unreachable {
    url: String,
    reason: String,
}

impl Explain for Unreachable {}

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
