//! `patch apply`: one commit per patch on top of the upstream source.

use serde::Serialize;
use std::time::Instant;

use super::engine::{self, Moved, Step};
use super::progress::Progress;
use super::series::Series;
use super::tree::WorkTree;
use crate::pipeline::{Fetched, Patched};
use crate::source::Target;
use sluice_shell::context::Context;
use sluice_shell::error::{Attempt as _, Result};

/// Applies the series to the composed source, one commit per patch
#[derive(clap::Args)]
pub(super) struct Cmd {
    #[command(flatten)]
    target: Target,
    /// Throw away changes in the tree that are in no patch file, and a rebase that is not finished
    #[arg(long)]
    discard: bool,
    /// Print a report for programs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    tree: String,
    head: String,
    /// False if the tree had the series already.
    changed: bool,
    patches: Vec<AppliedPatch>,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct AppliedPatch {
    file: String,
    commit: String,
    moved_hunks: Vec<Moved>,
}

impl Cmd {
    pub(super) fn run(self, shell: &Context) -> Result<()> {
        let started = Instant::now();
        let series = Series::of(shell, &self.target.k8s)?;
        let fetched = self.target.open(shell)?;
        let (patched, steps, changed) = bring(shell, fetched, &series, self.discard)?;
        for (entry, step) in series.entries.iter().zip(&steps) {
            for Moved { path, hunk, lines } in &step.moved {
                shell.out.note(format!("{}: hunk {hunk} of {path} applies {lines:+} lines away", entry.name));
            }
        }
        let tree = patched.fetched.tree.display().to_string();
        if !self.json {
            let what = if changed { "applied" } else { "already applied" };
            let count = series.entries.len();
            shell.out.note(format!("{count} patches {what}; the commit of the last one is {}", &patched.head[..12]));
            return shell.out.data(tree);
        }
        let patches = series.entries.iter().zip(steps).map(|(entry, step)| AppliedPatch {
            file: entry.name.clone(),
            commit: step.commit.to_string(),
            moved_hunks: step.moved,
        });
        let (patches, seconds) = (patches.collect(), started.elapsed().as_secs_f64());
        shell.out.json(&Report { tree, head: patched.head, changed, patches, seconds })
    }
}

/// Applies the series of the tree's minor. Instant if the tree has it already.
///
/// # Errors
/// A patch that does not apply; work in the tree that would be lost.
pub fn apply(shell: &Context, fetched: Fetched) -> Result<Patched> {
    let series = Series::load(&shell.paths.patches(&fetched.minor))?;
    Ok(bring(shell, fetched, &series, false)?.0)
}

/// Brings the tree to the end of the series; also says whether it was elsewhere.
pub(super) fn bring(
    shell: &Context,
    fetched: Fetched,
    series: &Series,
    discard: bool,
) -> Result<(Patched, Vec<Step>, bool)> {
    let tree = WorkTree::open(shell, &fetched)?;
    let (steps, changed) = bring_tree(&tree, series, discard)
        .attempting(|| format!("cannot apply {} to {}", series.dir.display(), fetched.version))?;
    let head = steps.last().map_or(tree.base, |step| step.commit).to_string();
    Ok((Patched::new(fetched, head), steps, changed))
}

/// [`bring`] for an open tree. The commits are made anew each time, which takes milliseconds: the same patches give the
/// same ids, so there is no stamp that could be wrong.
pub(super) fn bring_tree(tree: &WorkTree, series: &Series, discard: bool) -> Result<(Vec<Step>, bool)> {
    if !discard {
        tree.refuse_rebase()?;
    }
    let patches = series.entries.iter().map(|entry| (entry.name.as_str(), &entry.patch));
    let steps = engine::commit_series(&tree.repo, tree.base, patches)?;
    let head = steps.last().map_or(tree.base, |step| step.commit);
    if !discard {
        tree.refuse_loss(head)?;
    }
    let changed = discard || tree.head()? != head;
    if changed {
        tree.switch(head)?;
        Progress::remove(&tree.repo)?;
    }
    Ok((steps, changed))
}
