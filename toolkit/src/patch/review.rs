//! `patch review`: what a refresh or a rebase made of each patch, as a difference between sources.
//!
//! Before: the old patch, put on the new source by machine, with the patch's side wherever upstream changed the same
//! lines. After: the new patch. So what upstream did is on both sides, and what is left is what a person has to judge.

use git2::{Oid, Repository};
use std::collections::BTreeSet;

use super::carry::{self, Old};
use super::diff::{self, FileDiff, PLAIN};
use super::drift::snapshot;
use super::engine;
use super::series::Series;
use crate::source::{Files, Pins, Target};
use sluice_shell::context::Context;
use sluice_shell::error::{Attempt as _, Error, Result};
use sluice_shell::minor::Minor;

/// Shows what became of each patch that is not what it was, as a difference between the patched sources
#[derive(clap::Args)]
pub(super) struct Cmd {
    /// Compare with the series in this commit of the workspace
    #[arg(long, value_name = "COMMIT", default_value = "HEAD")]
    since: String,
    /// Compare with the series of this Kubernetes minor, from which it was carried
    #[arg(long, value_name = "MINOR", conflicts_with = "since")]
    from: Option<Minor>,
    #[command(flatten)]
    target: Target,
}

impl Cmd {
    pub(super) fn run(self, shell: &Context) -> Result<()> {
        let minor = &self.target.k8s;
        let (new, new_pins) = (Series::of(shell, minor)?, Pins::load(shell, minor)?);
        let (old, old_pins) = match &self.from {
            Some(from) => (Series::of(shell, from)?, Pins::load(shell, from)?),
            None => committed(shell, minor, &self.since)
                .attempting(|| format!("cannot read the patches of {minor} in {}", self.since))?,
        };
        let paths = paths(&[&old, &new]);
        let files = |pins: &Pins| Files::of(shell, &self.target.source, &pins.kubernetes.version, Some(pins), &paths);
        let text = review((&files(&old_pins)?, &old), (&files(&new_pins)?, &new))?;
        if text.is_empty() {
            shell.out.note("all patches do what they did");
            return Ok(());
        }
        shell.out.data(text)
    }
}

/// Series and pins as a commit of the workspace has them.
fn committed(shell: &Context, minor: &Minor, commit: &str) -> Result<(Series, Pins)> {
    let root = fs_err::canonicalize(shell.paths.root())?;
    let repo = Repository::discover(&root)?;
    let top = repo.workdir().unwrap_or(&root);
    let inside = root.strip_prefix(fs_err::canonicalize(top)?).map_or_else(|_| root.clone(), ToOwned::to_owned);
    let folder = inside.join("patches").join(minor.as_str());
    let found = repo.revparse_single(commit).and_then(|object| object.peel_to_tree());
    let tree = found.map_err(|_| Error::input(format!("the workspace has no commit {commit}")))?;
    let read = |name: &str| -> Result<Option<Vec<u8>>> {
        match tree.get_path(&folder.join(name)) {
            Ok(entry) => Ok(Some(repo.find_blob(entry.id())?.content().to_vec())),
            Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    };
    let text = |name: &str| -> Result<String> {
        let bytes =
            read(name)?.ok_or_else(|| Error::input(format!("{commit} has no {}", folder.join(name).display())))?;
        Ok(String::from_utf8(bytes)?)
    };
    let series = Series::parse(&shell.paths.patches(minor), &text("series")?, read)?;
    Ok((series, Pins::parse(&text("source.toml")?)?))
}

fn paths<'a>(series: &[&'a Series]) -> BTreeSet<&'a str> {
    let entries = series.iter().flat_map(|series| &series.entries);
    entries.flat_map(|entry| &entry.patch.files).map(|file| file.path.as_str()).collect()
}

/// The text of the review; empty if all patches do what they did.
pub(super) fn review((from, old): (&Files, &Series), (to, new): (&Files, &Series)) -> Result<String> {
    let place = tempfile::tempdir()?;
    let repo = Repository::init_bare(place.path())?;
    let paths = paths(&[old, new]);
    let (base, next) = (snapshot(&repo, from, &paths)?, snapshot(&repo, to, &paths)?);
    let olds = carry::read(&repo, base, old)?;
    let steps =
        engine::commit_series(&repo, next, new.entries.iter().map(|entry| (entry.name.as_str(), &entry.patch)))?;
    let mut out = Vec::new();
    for (entry, step) in new.entries.iter().zip(steps) {
        let Some(old) = olds.iter().find(|old| old.name == entry.name) else {
            out.extend(format!("==> {}: new\n", entry.name).bytes());
            out.extend(&entry.bytes);
            continue;
        };
        if old.patch.essence() != entry.patch.essence() {
            out.extend(format!("==> {}\n", entry.name).bytes());
            for file in changes(&repo, old, step.commit)? {
                file.write(&mut out);
            }
        }
    }
    for old in olds.iter().filter(|old| !new.entries.iter().any(|entry| entry.name == old.name)) {
        out.extend(format!("==> {}: removed\n", old.name).bytes());
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// From what the old patch makes of the parent of `commit` to `commit`; the message first, if it is another one.
fn changes(repo: &Repository, old: &Old, commit: Oid) -> Result<Vec<FileDiff>> {
    let commit = repo.find_commit(commit)?;
    let expected = repo.find_tree(carry::by_force(repo, commit.parent_id(0)?, old)?)?;
    let mut files = Vec::new();
    let (before, after) = (old.patch.message(), commit.message()?.to_owned());
    if before != after {
        let path = "message".to_owned();
        let hunks = diff::between(&path, before.as_bytes(), after.as_bytes())?;
        let (old_id, new_id) = (String::new(), String::new());
        files.push(FileDiff { path, old_mode: Some(PLAIN), new_mode: Some(PLAIN), old_id, new_id, hunks });
    }
    files.extend(engine::differences(repo, &expected, &commit.tree()?)?);
    Ok(files)
}
