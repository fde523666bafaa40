//! `patch refresh`: the commits in the tree become the patch files.

use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::engine;
use super::file::Patch;
use super::series::{Change, Entry, Series, each_on_a_line};
use super::squash::squash;
use super::tree::{OWN_COMMITS, WorkTree};
use crate::source::{Pins, Target};
use sluice_shell::context::Context;
use sluice_shell::error::{Attempt as _, Error, Explain, Result};

/// Writes commits that were changed, added or removed in the tree back into the patch files; fixups go into their
/// commits
#[derive(clap::Args)]
pub(super) struct Cmd {
    #[command(flatten)]
    target: Target,
    /// Print a report for programs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    changes: Vec<Change>,
}

impl Cmd {
    pub(super) fn run(self, shell: &Context) -> Result<()> {
        let series = Series::of(shell, &self.target.k8s)?;
        let fetched = self.target.open(shell)?;
        let tree = WorkTree::open(shell, &fetched)?;
        tree.refuse_rebase()?;
        let changes = refresh(&tree, &series)?;
        if self.json {
            return shell.out.json(&Report { changes });
        }
        if changes.is_empty() {
            shell.out.note("the patch files are up to date");
            return Ok(());
        }
        let lines: Vec<String> = changes.iter().map(|change| format!("{:8} {}", change.change, change.file)).collect();
        shell.out.data(lines.join("\n"))
    }
}

/// A patch file was edited in a place that comes from its commit, or where the commit was edited too.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what} was edited in the file since the tree was made of it", file.display())]
struct EditedInFile {
    file: PathBuf,
    what: &'static str,
}

impl Explain for EditedInFile {
    fn hint(&self) -> Option<String> {
        Some(
            "bring the edit into the commit and take it out of the file: a refresh would overwrite the file. \
             `git diff` in the workspace shows the edit."
                .into(),
        )
    }
}

/// Patches came into the series since the tree was made, or the tree was made of none. Nobody dropped them in the tree.
#[derive(Debug, thiserror::Error)]
#[error("the tree was not made of these patches, which a refresh would remove:{}", each_on_a_line(.0))]
struct NotMadeOf(Vec<String>);

impl Explain for NotMadeOf {
    fn hint(&self) -> Option<String> {
        Some(format!("run `cargo xtask patch apply` first\n{OWN_COMMITS}"))
    }
}

/// Writes the commits above the upstream source as the series. A commit that was not changed gives the bytes that its
/// file has, and such a file is not touched. Commits of `git commit --fixup` go into those that they mend.
/// What was written into the header of a patch file since its commit was made stays.
pub(super) fn refresh(tree: &WorkTree, series: &Series) -> Result<Vec<Change>> {
    let saved = tree.made_of()?;
    let known = |entry: &&Entry| saved.contains_key(&entry.name) || saved.contains_key(&entry.patch.file_name());
    let names: Vec<String> =
        series.entries.iter().filter(|entry| !known(entry)).map(|entry| entry.name.clone()).collect();
    if !names.is_empty() {
        return Err(NotMadeOf(names).into());
    }
    write(tree, series, &saved, None)
}

/// What becomes of the patch of a commit, if `file` is what its file says now and `saved` what the file said when the
/// commit was made: the header of whichever changed, and an error where that would lose an edit.
fn keep_edits(made: Patch, file: &Patch, saved: &Patch) -> std::result::Result<Patch, &'static str> {
    if file.changes() != saved.changes() && file.changes() != made.changes() {
        return Err("a hunk");
    }
    let header = |patch: &Patch| (patch.author.clone(), patch.body.clone());
    if header(file) == header(saved) || header(file) == header(&made) {
        return Ok(made);
    }
    if header(&made) != header(saved) {
        return Err("the header");
    }
    Ok(Patch { author: file.author.clone(), body: file.body.clone(), ..made })
}

/// [`refresh`] for `saved`, the patches of which the tree was made, by the names of their files: where there is none,
/// the commit says all. New `pins` are written with the series.
pub(super) fn write(
    tree: &WorkTree,
    series: &Series,
    saved: &BTreeMap<String, Patch>,
    pins: Option<&Pins>,
) -> Result<Vec<Change>> {
    if !tree.changed()?.is_empty() {
        return Err(Error::input(
            "the tree has changes that are in no commit: `git commit --amend` them, or run `cargo xtask patch new`",
        ));
    }
    let head = squash(&tree.repo, tree.base, tree.head()?)?;
    let (mut entries, mut names) = (Vec::new(), BTreeSet::new());
    for id in engine::chain(&tree.repo, tree.base, head)? {
        let mut patch =
            engine::to_patch(&tree.repo, id).attempting(|| format!("cannot make a patch of commit {id}"))?;
        let name = patch.file_name();
        let file = series.entries.iter().find(|entry| entry.name == name);
        if let (Some(file), Some(saved)) = (file, saved.get(&name)) {
            patch = keep_edits(patch, &file.patch, saved)
                .map_err(|what| EditedInFile { file: series.dir.join(&name), what })?;
        }
        if !names.insert(name.clone()) {
            return Err(Error::input(format!("two commits make the file {name}: change the subject of one")));
        }
        // What can't be read again must not be written.
        let bytes = patch.to_bytes();
        let again = Patch::parse(&bytes).map_err(|cause| Error::input(format!("commit {id}: {cause}")))?;
        if again != patch {
            return Err(Error::input(format!("the message of commit {id} can't be kept in a patch file")));
        }
        entries.push((name, bytes));
    }
    let changes = series.replace(&entries, pins)?;
    if tree.head()? != head {
        tree.place(head)?;
    }
    tree.save(head)?;
    Ok(changes)
}
