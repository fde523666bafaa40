//! `cargo xtask source`: composes the upstream source tree of one Kubernetes minor.
//!
//! A tree is a folder `.sluice/trees/<minor>-<inputs>` that is also a git repository. Its branch `base` has one commit,
//! the untouched upstream source, with an id that depends on the source alone. `patch` commits on top of it.
//!
//! A tree is written beside its place and renamed when complete, so one that exists is whole. Whether somebody changed
//! it since is asked of the git index, by stat, as `git status` does.

mod copy;
mod files;
mod module;
mod origin;
mod pins;
mod repository;

use clap::Args;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::pipeline::Fetched;
pub(crate) use files::Files;
pub(crate) use module::{newer, pins as pins_of};
pub use origin::Origin;
pub(crate) use pins::Pins;
use repository::{Change, Repository};
use sluice_shell::context::Context;
use sluice_shell::error::{Attempt as _, Explain, Result};
use sluice_shell::minor::Minor;

/// The file in a tree's git folder that says how far a rebase came: the tree is a person's until it is gone.
pub(crate) const REBASE: &str = "sluice-rebase.json";

/// Part of every tree's name: raise it when the same inputs give another tree than before.
const FORMAT: u32 = 1;

/// Which source tree a verb works on.
#[derive(Args, Clone, Debug)]
pub struct Target {
    /// Kubernetes minor: a folder under patches/.
    #[arg(long, value_name = "MINOR", default_value = Minor::DEFAULT)]
    pub k8s: Minor,

    /// Where upstream's source comes from: `module` (Go modules), `git:<url or path>[#ref]`, `path:<folder>`.
    #[arg(long, value_name = "ORIGIN", default_value = "module")]
    pub source: Origin,
}

/// Compose the upstream source tree; prints its folder.
#[derive(Args, Debug)]
pub struct Cmd {
    #[command(flatten)]
    target: Target,

    /// Print a report as JSON.
    #[arg(long)]
    json: bool,

    /// Write patches/<minor>/source.toml from what the Go module proxy serves now, for this version of a minor that has
    /// no patches yet, or for the pinned one. `patch rebase --to VERSION` takes patches to another version.
    #[arg(long, value_name = "VERSION", num_args = 0..=1, default_missing_value = "")]
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
            return shell.out.data(pin(shell, &self.target.k8s, version)?.display().to_string());
        }
        let fetched = self.target.fetch(shell, Purpose::Patching)?;
        if self.json {
            let Fetched { minor, version, tree, base } = &fetched;
            return shell.out.json(&Report { minor, version, tree, base });
        }
        shell.out.data(fetched.tree.display().to_string())
    }
}

/// The tree holds what a person resolves.
#[derive(Debug, thiserror::Error)]
#[error("{} is in the middle of a rebase", .0.display())]
struct Rebasing(PathBuf);

impl Explain for Rebasing {
    fn hint(&self) -> Option<String> {
        Some("run the same `cargo xtask patch rebase --to …` again to go on, or add --abort to end it".into())
    }
}

/// Another version would be pinned than the patches are for.
#[derive(Debug, thiserror::Error)]
#[error("the patches of {minor} are for {pinned}, whose pins would be lost")]
struct Pinned {
    minor: Minor,
    pinned: String,
    wanted: String,
}

impl Explain for Pinned {
    fn hint(&self) -> Option<String> {
        Some(format!("cargo xtask patch rebase --to {}   takes pins and patches there together", self.wanted))
    }
}

/// Writes source.toml of a minor for `version`, or for the pinned one if that is empty; returns the file.
fn pin(shell: &Context, minor: &Minor, version: &str) -> Result<PathBuf> {
    let has_patches = shell.paths.patches(minor).join("series").is_file();
    let version = match Pins::load(shell, minor) {
        Ok(pins) if version.is_empty() => pins.kubernetes.version,
        Ok(pins) if has_patches && pins.kubernetes.version != version => {
            let (minor, pinned) = (minor.clone(), pins.kubernetes.version);
            return Err(Pinned { minor, pinned, wanted: version.to_owned() }.into());
        }
        Err(error) if version.is_empty() => return Err(error),
        _ => version.to_owned(),
    };
    let file = shell.paths.pins(minor);
    module::pins(shell, minor, &version)?.store(&file)?;
    Ok(file)
}

/// Which of the two trees of one source is meant. They are equal until the series is applied to one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The tree that takes the patches and the maintainer's edits.
    Patching,
    /// A tree that stays as upstream left it, for `build --stock`.
    Stock,
}

impl Target {
    /// A complete tree without changes that are in no commit. Its HEAD may be ahead of the base (patches).
    ///
    /// A changed tree is restored, or made anew if it is damaged; the differences are written to a file under
    /// `.sluice/saved/` first. A verb that works on such changes uses [`Target::open`].
    pub fn fetch(&self, shell: &Context, purpose: Purpose) -> Result<Fetched> {
        let pins = Pins::load(shell, &self.k8s)?;
        let place = place(shell, self, &pins, purpose)?;
        let _lock = lock(shell, &place)?;
        if place.join(".git").join(REBASE).exists() {
            return Err(Rebasing(place).into());
        }
        repository::unlock(&place)?;
        let base = match Repository::open(&place)? {
            Some(repository) => restore(shell, &repository, &place)?,
            None => None,
        };
        self.found_or_composed(shell, &pins, place, base)
    }

    /// Whether the tree is there, so that it needs no download.
    pub(crate) fn is_composed(&self, shell: &Context, purpose: Purpose) -> Result<bool> {
        let place = place(shell, self, &Pins::load(shell, &self.k8s)?, purpose)?;
        Ok(Repository::open(&place)?.is_some_and(|repository| repository.base().is_ok()))
    }

    /// The Kubernetes version of the source.
    pub(crate) fn version(&self, shell: &Context) -> Result<String> {
        self.source.version(&self.k8s, &Pins::load(shell, &self.k8s)?)
    }

    /// The tree as it is, with all edits in it; a new one if there is none.
    pub fn open(&self, shell: &Context) -> Result<Fetched> {
        self.open_pinned(shell, &Pins::load(shell, &self.k8s)?)
    }

    /// [`Target::open`] for other pins than those of the minor.
    pub(crate) fn open_pinned(&self, shell: &Context, pins: &Pins) -> Result<Fetched> {
        let place = place(shell, self, pins, Purpose::Patching)?;
        let _lock = lock(shell, &place)?;
        repository::unlock(&place)?;
        let base = Repository::open(&place)?.and_then(|repository| repository.base().ok());
        self.found_or_composed(shell, pins, place, base)
    }

    fn found_or_composed(&self, shell: &Context, pins: &Pins, place: PathBuf, base: Option<String>) -> Result<Fetched> {
        let version = self.source.version(&self.k8s, pins)?;
        // Its lock is ours, so nobody composes it.
        copy::remove(&partial(&place))?;
        remove_partial(shell)?;
        let base = match base {
            Some(base) => base,
            None => compose(shell, self, pins, &place)
                .attempting(|| format!("cannot compose Kubernetes {version} from {}", self.source))?,
        };
        fs_err::write(used(&place), "")?;
        Ok(Fetched::new(self.k8s.clone(), version, place, base))
    }
}

/// The trees that the pins of all minors name, whether they are there or not.
pub(crate) fn current(shell: &Context) -> Result<BTreeSet<PathBuf>> {
    let mut folders = BTreeSet::new();
    for minor in pins::known(shell) {
        let pins = Pins::load(shell, &minor)?;
        let target = Target { k8s: minor, source: Origin::Module };
        for purpose in [Purpose::Patching, Purpose::Stock] {
            folders.insert(place(shell, &target, &pins, purpose)?);
        }
    }
    Ok(folders)
}

/// Waits until no other run works on the tree at `place`. Each tree has a lock of its own: a build of one minor holds
/// up no other.
pub fn lock(shell: &Context, place: &Path) -> Result<fs_err::File> {
    shell.lock(&lock_name(&place.file_name().unwrap_or_default().to_string_lossy()))
}

fn lock_name(tree: &str) -> String {
    format!("tree-{tree}")
}

/// All complete trees of Kubernetes, sorted; what killed runs left of others is removed.
pub(crate) fn trees(shell: &Context) -> Result<Vec<PathBuf>> {
    let folder = shell.paths.cache().join("trees");
    let mut trees = Vec::new();
    if folder.is_dir() {
        remove_partial(shell)?;
        for entry in fs_err::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_of_kubernetes = name.split_once('-').is_some_and(|(minor, _)| minor.parse::<Minor>().is_ok());
            if is_of_kubernetes && !name.ends_with(PARTIAL) {
                trees.push(entry.path());
            }
        }
    }
    trees.sort();
    Ok(trees)
}

/// The file in a tree that is written whenever a verb takes the tree.
pub(crate) fn used(place: &Path) -> PathBuf {
    place.join(".git").join("sluice-used")
}

/// The tree's folder, named by everything that its content depends on.
fn place(shell: &Context, target: &Target, pins: &Pins, purpose: Purpose) -> Result<PathBuf> {
    let inputs = format!("{FORMAT}\n{}\n{}", target.source.identity(pins)?, pins.identity()?);
    let hash: String = Sha256::digest(inputs).iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let suffix = if purpose == Purpose::Stock { "-stock" } else { "" };
    Ok(shell.paths.tree(&target.k8s, &format!("{hash}{suffix}")))
}

/// The end of the name of a tree that is not complete.
const PARTIAL: &str = ".partial";

/// Where the tree at `place` is until it is complete.
pub fn partial(place: &Path) -> PathBuf {
    place.with_file_name(format!("{}{PARTIAL}", place.file_name().unwrap_or_default().to_string_lossy()))
}

/// Removes what killed runs left of trees, but not what a run composes that holds the lock of its tree.
fn remove_partial(shell: &Context) -> Result<()> {
    let folder = shell.paths.cache().join("trees");
    for entry in if folder.is_dir() { Some(fs_err::read_dir(folder)?) } else { None }.into_iter().flatten() {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(tree) = name.strip_suffix(PARTIAL)
            && let Some(_lock) = shell.try_lock(&lock_name(tree))?
        {
            copy::remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Composes beside `place`, then moves there. Returns the base commit's id. Nothing is left of a tree that could not be
/// completed.
fn compose(shell: &Context, target: &Target, pins: &Pins, place: &Path) -> Result<String> {
    let folder = partial(place);
    copy::remove(place)?;
    let composed = compose_in(shell, target, pins, &folder).and_then(|base| {
        fs_err::rename(&folder, place)?;
        Ok(base)
    });
    if composed.is_err() {
        // The first error is the one to tell.
        let _ = copy::remove(&folder);
    }
    composed
}

fn compose_in(shell: &Context, target: &Target, pins: &Pins, folder: &Path) -> Result<String> {
    fs_err::create_dir_all(folder)?;
    match &target.source {
        Origin::Module => module::compose(shell, pins, folder)?,
        Origin::Git { url, reference } => origin::check_out(shell, url, reference.as_deref(), pins, folder)?,
        Origin::Path(from) => copy::tree(from, folder)?,
    }
    let progress = shell.out.spinner("commit the source tree");
    let message = format!("Kubernetes {}\n\nSource: {}\n", pins.kubernetes.version, target.source);
    let base = Repository::create(folder, &message, pins.seconds()?)?;
    progress.done(&base[..12]);
    Ok(base)
}

/// Throws away changes that are in no commit, after they are saved. None if the repository is damaged.
///
/// # Errors
/// The changes can't be saved: then they stay where they are.
fn restore(shell: &Context, repository: &Repository, place: &Path) -> Result<Option<String>> {
    const SHOWN: usize = 5;
    let base = repository.base().ok();
    let changes = repository.changes();
    let damaged = changes.is_err();
    let changes = changes.unwrap_or_else(|_| vec![Change::unreadable(place)]);
    if changes.is_empty() {
        return Ok(base);
    }
    shell.out.note(format!("{} was changed outside of git; restoring it", place.display()));
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
        Err(error) if damaged => shell.out.note(format!("  the differences could not be kept: {error}")),
        Err(error) => return Err(error.attempting(format!("cannot keep the differences of {}", place.display()))),
    }
    let whole = repository.restore().is_ok() && repository.changes().is_ok_and(|changes| changes.is_empty());
    Ok(base.filter(|_| whole))
}
