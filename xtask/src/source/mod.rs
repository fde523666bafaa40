//! `cargo xtask source`: composes the upstream source tree of one Kubernetes minor.
//!
//! A tree is a folder `.sluice/trees/<minor>-<inputs>` that is also a git repository. Its branch `base` has one commit, the
//! untouched upstream source, with an id that depends on the source alone. `patch` commits on top of it.
//!
//! A tree is written beside its place and renamed when complete, so one that exists is whole. Whether somebody changed it
//! since is asked of the git index, by stat, as `git status` does.

mod copy;
mod module;
mod origin;
mod pins;
mod repository;

use clap::Args;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};

use crate::context::Context;
use crate::error::{Attempt as _, Explain, Result};
use crate::pipeline::{Fetched, Minor};
pub(crate) use origin::Origin;
pub(crate) use pins::Pins;
use repository::{Change, Repository};

/// Part of every tree's name: raise it when the same inputs give another tree than before.
const FORMAT: u32 = 1;

/// Which source tree a verb works on.
#[derive(Args, Clone, Debug)]
pub(crate) struct Target {
    /// Kubernetes minor: a folder under patches/.
    #[arg(long, value_name = "MINOR", default_value = Minor::DEFAULT)]
    pub(crate) k8s: Minor,

    /// Where upstream's source comes from: `module` (Go modules), `git:<url or path>[#ref]`, `path:<folder>`.
    #[arg(long, value_name = "ORIGIN", default_value = "module")]
    pub(crate) source: Origin,
}

/// Compose the upstream source tree; prints its folder.
#[derive(Args, Debug)]
pub(crate) struct Cmd {
    #[command(flatten)]
    target: Target,

    /// Print a report as JSON.
    #[arg(long)]
    json: bool,

    /// Write patches/<minor>/source.toml from what the Go module proxy serves now, for this version or the pinned one.
    #[arg(long, hide = true, value_name = "VERSION", num_args = 0..=1, default_missing_value = "")]
    pin: Option<String>,
}

#[derive(Serialize)]
struct Report<'a> {
    minor: &'a Minor,
    version: &'a str,
    tree: &'a Path,
    base: &'a str,
}

impl Cmd {
    /// Composes the tree, or refreshes the pins.
    pub(crate) fn run(self, shell: &Context) -> Result<()> {
        if let Some(version) = &self.pin {
            let version = if version.is_empty() {
                Pins::load(shell, &self.target.k8s)?.kubernetes.version
            } else {
                version.clone()
            };
            return shell.out.data(module::pin(shell, &self.target.k8s, &version)?.display().to_string());
        }
        let fetched = fetch(shell, &self.target, Purpose::Patching)?;
        if self.json {
            let Fetched { minor, version, tree, base } = &fetched;
            return shell.out.json(&Report { minor, version, tree, base });
        }
        shell.out.data(fetched.tree.display().to_string())
    }
}

/// Which of the two trees of one source is meant. They are equal until the series is applied to one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The tree that takes the patches and the maintainer's edits.
    Patching,
    /// A tree that stays as upstream left it, for `build --stock`.
    Stock,
}

/// A complete, unchanged tree: the one that is there, or else a new one. Its HEAD may be ahead of the base (patches).
///
/// Edits that are in no commit are written to a file under `.sluice/saved/` before the tree is made anew. A verb that works
/// on such edits opens the tree with [`open`].
pub(crate) fn fetch(shell: &Context, target: &Target, purpose: Purpose) -> Result<Fetched> {
    let pins = Pins::load(shell, &target.k8s)?;
    let version = target.source.version(&target.k8s, &pins)?;
    let place = place(shell, target, &pins, purpose)?;
    let _lock = shell.lock("trees")?;
    if let Some(repository) = Repository::open(&place)? {
        let changes = repository.changes().unwrap_or_else(|_| vec![Change::unreadable(&place)]);
        match (changes.as_slice(), repository.base()) {
            ([], Ok(base)) => return Ok(Fetched::new(target.k8s.clone(), version, place, base)),
            (changes, _) => rescue(shell, &repository, &place, changes),
        }
    }
    compose(shell, target, &pins, &place)
        .attempting(|| format!("cannot compose Kubernetes {version} from {}", target.source))?;
    let base = Repository::open(&place)?.ok_or_else(|| NoTree::of(target, &place))?.base()?;
    Ok(Fetched::new(target.k8s.clone(), version, place, base))
}

/// The tree as it is, with all edits in it.
///
/// # Errors
/// [`NoTree`] when it was never composed.
pub(crate) fn open(shell: &Context, target: &Target) -> Result<Fetched> {
    let pins = Pins::load(shell, &target.k8s)?;
    let place = place(shell, target, &pins, Purpose::Patching)?;
    let repository = Repository::open(&place)?.ok_or_else(|| NoTree::of(target, &place))?;
    Ok(Fetched::new(target.k8s.clone(), target.source.version(&target.k8s, &pins)?, place, repository.base()?))
}

/// There is no tree yet.
#[derive(Debug, thiserror::Error)]
#[error("there is no source tree of {minor} at {}", place.display())]
pub(crate) struct NoTree {
    minor: Minor,
    origin: Origin,
    place: PathBuf,
}

impl NoTree {
    fn of(target: &Target, place: &Path) -> Self {
        Self { minor: target.k8s.clone(), origin: target.source.clone(), place: place.to_owned() }
    }
}

impl Explain for NoTree {
    fn hint(&self) -> Option<String> {
        Some(format!("make it with\ncargo xtask source --k8s {} --source {}", self.minor, self.origin))
    }
}

/// The tree's folder, named by everything that its content depends on.
fn place(shell: &Context, target: &Target, pins: &Pins, purpose: Purpose) -> Result<PathBuf> {
    let inputs = format!("{FORMAT}\n{}\n{}", target.source.identity()?, pins.identity()?);
    let hash: String = Sha256::digest(inputs).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let suffix = if purpose == Purpose::Stock { "-stock" } else { "" };
    Ok(shell.paths.tree(&target.k8s, &format!("{hash}{suffix}")))
}

/// Composes beside `place`, then moves there.
fn compose(shell: &Context, target: &Target, pins: &Pins, place: &Path) -> Result<()> {
    let folder = place.with_extension("partial");
    for old in [place, &folder] {
        copy::remove(old)?;
    }
    fs_err::create_dir_all(&folder)?;
    match &target.source {
        Origin::Module => module::compose(shell, pins, &folder)?,
        Origin::Git { url, reference } => origin::check_out(shell, url, reference.as_deref(), pins, &folder)?,
        Origin::Path(from) => copy::tree(from, &folder)?,
    }
    let progress = shell.out.spinner("commit the source tree");
    let message = format!("Kubernetes {}\n\nSource: {}\n", pins.kubernetes.version, target.source);
    let base = Repository::create(&folder, &message, pins.seconds()?)?;
    fs_err::rename(&folder, place)?;
    progress.done(&base[..12]);
    Ok(())
}

/// Says what was found and keeps the edits.
fn rescue(shell: &Context, repository: &Repository, place: &Path, changes: &[Change]) {
    const SHOWN: usize = 5;
    shell.out.note(format!("{} is not as it was composed; making it anew", place.display()));
    for change in changes.iter().take(SHOWN) {
        shell.out.note(format!("  {change}"));
    }
    if changes.len() > SHOWN {
        shell.out.note(format!("  and {} more", changes.len() - SHOWN));
    }
    let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match repository.save_edits(&shell.paths.cache().join("saved"), &name) {
        Ok(Some(file)) => shell.out.note(format!("  the differences are kept in {}", file.display())),
        Ok(None) => {}
        Err(error) => shell.out.note(format!("  the differences could not be kept: {error}")),
    }
}

#[cfg(test)]
mod tests;
