//! `patch rebase`: carries a series to another Kubernetes minor.
//!
//! Each patch is applied strictly; one that does not fit is merged three ways, and it alone: with what the file was
//! before the patch in the old source as the ancestor. Where that conflicts, the tree is left with the patches so far
//! as commits and the conflicts in the files. The same command goes on when they are resolved. Patch files are written
//! at the very end, all or none.

use serde::Serialize;

use super::engine::{self, Content, DoesNotApply, Step};
use super::file::Patch;
use super::refresh::refresh;
use super::series::{Change, Series};
use super::tree::WorkTree;
use crate::source::{Origin, Target};
use sluice_shell::context::Context;
use sluice_shell::error::{Attempt as _, Error, Explain, Result};
use sluice_shell::minor::Minor;
use sluice_shell::output::table;

/// Carries the series to another Kubernetes minor; run it again after resolving conflicts
#[derive(clap::Args)]
pub(super) struct Cmd {
    /// The minor to go to; it has its pins (patches/MINOR/source.toml) already
    #[arg(long, value_name = "MINOR")]
    to: Minor,
    /// Where the source of that minor comes from, as --source
    #[arg(long, value_name = "ORIGIN", default_value = "module")]
    to_source: Origin,
    #[command(flatten)]
    target: Target,
    /// Print a report for programs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    patches: Vec<Carried>,
    changes: Vec<Change>,
}

/// A patch that stands on the other source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Carried {
    /// File name.
    pub(super) file: String,
    /// `as it was`, `moved`, `merged`, `resolved`, or `done before`.
    pub(super) how: &'static str,
}

/// A patch of the old series with the files that it changes, before and after.
pub(super) struct Old {
    name: String,
    patch: Patch,
    files: Vec<Sides>,
}

struct Sides {
    path: String,
    before: Content,
    after: Content,
}

/// Upstream and a patch changed the same lines.
#[derive(Debug, thiserror::Error)]
#[error("{} conflicts with upstream in:{}\n\n{}", cause.patch, files.iter().map(|file| format!("\n  {file}")).collect::<String>(), cause)]
pub(super) struct Conflict {
    /// Files, with what is wrong.
    pub(super) files: Vec<String>,
    cause: DoesNotApply,
    tree: String,
}

impl Explain for Conflict {
    fn hint(&self) -> Option<String> {
        Some(format!(
            "resolve the conflicts in {} (no `git commit` needed), then run the same command again;\n\
             no patch file is written until all patches stand",
            self.tree
        ))
    }
}

impl Cmd {
    pub(super) fn run(self, shell: &Context) -> Result<()> {
        let from = self.target.open(shell)?;
        let series = Series::load(&shell.paths.patches(&from.minor))?;
        let old = read(&WorkTree::open(shell, &from)?, &series)?;
        let to = Target { k8s: self.to, source: self.to_source }.open(shell)?;
        let tree = WorkTree::open(shell, &to)?;
        let patches = rebase(&tree, &old)
            .attempting(|| format!("cannot carry the patches of {} to {}", from.version, to.version))?;
        let changes = refresh(&tree, &Series::load_or_empty(&shell.paths.patches(&to.minor))?)?;
        if self.json {
            return shell.out.json(&Report { patches, changes });
        }
        let mut rows = vec![["PATCH", "HOW"].map(String::from).to_vec()];
        rows.extend(patches.into_iter().map(|patch| vec![patch.file, patch.how.to_owned()]));
        shell.out.note(format!("now run `cargo xtask patch verify --k8s {}`", to.minor));
        shell.out.data(table(&rows))
    }
}

/// All that a rebase needs of the old source.
pub(super) fn read(tree: &WorkTree, series: &Series) -> Result<Vec<Old>> {
    let patches = series.entries.iter().map(|entry| (entry.name.as_str(), &entry.patch));
    let steps = engine::commit_series(&tree.repo, tree.base, patches)?;
    let mut old = Vec::new();
    for (entry, step) in series.entries.iter().zip(steps) {
        let commit = tree.repo.find_commit(step.commit)?;
        let (before, after) = (commit.parent(0)?.tree()?, commit.tree()?);
        let mut files = Vec::new();
        for file in &entry.patch.files {
            let content = |side| engine::content(&tree.repo, side, &file.path);
            files.push(Sides { path: file.path.clone(), before: content(&before)?, after: content(&after)? });
        }
        old.push(Old { name: entry.name.clone(), patch: entry.patch.clone(), files });
    }
    Ok(old)
}

/// Puts the patches on top of what stands in `tree` already.
pub(super) fn rebase(tree: &WorkTree, series: &[Old]) -> Result<Vec<Carried>> {
    let mut head = tree.head()?;
    let mut carried = Vec::new();
    for (index, id) in engine::chain(&tree.repo, tree.base, head)?.into_iter().enumerate() {
        let file = engine::to_patch(&tree.repo, id)?.file_name();
        if series.get(index).is_none_or(|old| old.name != file) {
            return Err(Error::input(format!(
                "the tree has a commit {file} that is not next in the series; remove it first"
            )));
        }
        carried.push(Carried { file, how: "done before" });
    }
    if !tree.changed()?.is_empty() {
        let next = series.get(carried.len()).filter(|_| tree.is_stopped_at(head));
        let Some(next) = next else {
            tree.refuse_loss(head)?;
            return Ok(carried);
        };
        tree.refuse_markers()?;
        let parent = tree.repo.find_commit(head)?;
        let resolved = tree.repo.find_tree(tree.snapshot()?)?;
        head = engine::commit(&tree.repo, &next.patch, &resolved, &parent)?;
        carried.push(Carried { file: next.name.clone(), how: "resolved" });
    }
    for old in &series[carried.len()..] {
        let strict = engine::commit_series(&tree.repo, head, [(old.name.as_str(), &old.patch)]);
        let how = match strict {
            Ok(steps) => {
                let Step { commit, moved } = &steps[0];
                head = *commit;
                if moved.is_empty() { "as it was" } else { "moved" }
            }
            Err(error) => {
                let Some(reject) = error.downcast_ref::<DoesNotApply>() else { return Err(error) };
                head = merge(tree, head, old, reject)?;
                "merged"
            }
        };
        carried.push(Carried { file: old.name.clone(), how });
    }
    tree.place(head)?;
    Ok(carried)
}

/// Merges one patch three ways on top of `head`; returns the commit, or leaves the conflicts in the files.
fn merge(tree: &WorkTree, head: git2::Oid, old: &Old, reject: &DoesNotApply) -> Result<git2::Oid> {
    let parent = tree.repo.find_commit(head)?;
    let (mut files, mut conflicts) = (Vec::new(), Vec::new());
    for Sides { path, before, after } in &old.files {
        let ours = engine::content(&tree.repo, &parent.tree()?, path)?;
        match (&ours, before, after) {
            (None, Some(_), _) => conflicts.push(format!("{path}: upstream has no such file")),
            (None, None, after) => files.push((path, after.clone())),
            (Some(_), Some(_), None) if ours == *before => files.push((path, None)),
            (Some(_), _, None) => conflicts.push(format!("{path}: upstream changed the file that the patch removes")),
            (Some(ours), before, Some(after)) => {
                let (content, clean) = merge_file(before, ours, after, &old.name)?;
                if !clean {
                    conflicts.push(path.clone());
                }
                files.push((path, Some((content, after.1))));
            }
        }
    }
    if conflicts.is_empty() {
        return engine::commit(
            &tree.repo,
            &old.patch,
            &engine::with_files(&tree.repo, &parent.tree()?, &files)?,
            &parent,
        );
    }
    tree.place(head)?;
    tree.stop_at(head)?;
    tree.write(&files)?;
    let cause = DoesNotApply { patch: reject.patch.clone(), rejects: reject.rejects.clone() };
    Err(Conflict { files: conflicts, cause, tree: tree.root().display().to_string() }.into())
}

/// The merged content, and whether it has no conflict. Conflicts show all three sides.
fn merge_file(before: &Content, ours: &(Vec<u8>, u32), theirs: &(Vec<u8>, u32), name: &str) -> Result<(Vec<u8>, bool)> {
    let empty = Vec::new();
    let ancestor = before.as_ref().map_or(&empty, |(content, _)| content);
    let side = |content| {
        let mut input = git2::MergeFileInput::new();
        input.content(content);
        input
    };
    let mut options = git2::MergeFileOptions::new();
    options.style_diff3(true).ancestor_label("old upstream").our_label("new upstream").their_label(name);
    let merged = git2::merge_file(&side(ancestor), &side(&ours.0), &side(&theirs.0), Some(&mut options))?;
    Ok((merged.content().to_vec(), merged.is_automergeable()))
}
