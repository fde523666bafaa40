//! `patch refresh`: the commits in the tree become the patch files.

use serde::Serialize;
use std::collections::BTreeSet;

use super::engine;
use super::file::Patch;
use super::series::{Change, Series};
use super::squash::squash;
use super::tree::WorkTree;
use crate::source::{Pins, Target};
use sluice_shell::context::Context;
use sluice_shell::error::{Attempt as _, Error, Result};

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
        let changes = refresh(&tree, &series, None)?;
        if self.json {
            return shell.out.json(&Report { changes });
        }
        if changes.is_empty() {
            return shell.out.data("the patch files are up to date");
        }
        let lines: Vec<String> = changes.iter().map(|change| format!("{:8} {}", change.change, change.file)).collect();
        shell.out.data(lines.join("\n"))
    }
}

/// Writes the commits above the upstream source as the series. A commit that was not changed gives the bytes that its
/// file has, and such a file is not touched. Commits of `git commit --fixup` go into those that they mend.
/// New `pins` are written with them.
pub(super) fn refresh(tree: &WorkTree, series: &Series, pins: Option<&Pins>) -> Result<Vec<Change>> {
    if !tree.changed()?.is_empty() {
        return Err(Error::input(
            "the tree has changes that are in no commit: `git commit --amend` them, or run `cargo xtask patch new`",
        ));
    }
    let head = squash(&tree.repo, tree.base, tree.head()?)?;
    let (mut entries, mut names) = (Vec::new(), BTreeSet::new());
    for id in engine::chain(&tree.repo, tree.base, head)? {
        let patch = engine::to_patch(&tree.repo, id).attempting(|| format!("cannot make a patch of commit {id}"))?;
        let name = patch.file_name();
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
