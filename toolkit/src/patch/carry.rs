//! One patch on another parent: strictly, else merged three ways, with what the files were before the patch as the
//! ancestor. Works on git's objects only.

use git2::{FileFavor, Oid, Repository};
use std::collections::HashMap;

use super::diff::Side;
use super::engine::{self, Content, DoesNotApply, Step};
use super::file::Patch;
use super::series::Series;
use sluice_shell::error::Result;

/// A patch with the files that it changes, before and after, where it stands now.
pub(super) struct Old {
    /// File name of the patch.
    pub(super) name: String,
    /// What it says and changes.
    pub(super) patch: Patch,
    files: Vec<Sides>,
}

struct Sides {
    path: String,
    before: Content,
    after: Content,
}

/// How a patch came to stand on another parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) enum How {
    /// Where the patch says.
    #[serde(rename = "as it was")]
    AsItWas,
    /// All lines equal, some elsewhere.
    #[serde(rename = "moved")]
    Moved,
    /// Three ways, without a conflict.
    #[serde(rename = "merged")]
    Merged,
    /// By a person.
    #[serde(rename = "resolved")]
    Resolved,
    /// As a person resolved the same conflict before.
    #[serde(rename = "replayed")]
    Replayed,
    /// Not at all: it was left out.
    #[serde(rename = "dropped")]
    Dropped,
}

impl How {
    /// In a table.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::AsItWas => "as it was",
            Self::Moved => "moved",
            Self::Merged => "merged",
            Self::Resolved => "resolved",
            Self::Replayed => "replayed",
            Self::Dropped => "dropped",
        }
    }
}

/// What became of a patch.
pub(super) enum Laid {
    /// It is a commit now.
    Stands(Oid, How),
    /// Upstream and the patch changed the same lines.
    Clashes(Clash),
}

/// A merge with conflicts.
pub(super) struct Clash {
    /// All files of the patch that can be written, conflicts marked in their content.
    pub(super) files: Vec<(String, Content)>,
    /// The files with conflicts, with what is wrong.
    pub(super) conflicts: Vec<String>,
    /// Why the patch does not apply strictly.
    pub(super) cause: DoesNotApply,
}

impl Old {
    /// The patch that a commit is.
    pub(super) fn of(repo: &Repository, commit: Oid) -> Result<Self> {
        let patch = engine::to_patch(repo, commit)?;
        let commit = repo.find_commit(commit)?;
        let (before, after) = (commit.parent(0)?.tree()?, commit.tree()?);
        let mut files = Vec::new();
        for file in &patch.files {
            let content = |side| engine::content(repo, side, &file.path);
            files.push(Sides { path: file.path.clone(), before: content(&before)?, after: content(&after)? });
        }
        Ok(Self { name: patch.file_name(), patch, files })
    }
}

/// All patches of a series on top of `base`.
pub(super) fn read(repo: &Repository, base: Oid, series: &Series) -> Result<Vec<Old>> {
    let patches = series.entries.iter().map(|entry| (entry.name.as_str(), &entry.patch));
    let steps = engine::commit_series(repo, base, patches)?;
    let mut all = Vec::new();
    for (entry, step) in series.entries.iter().zip(steps) {
        // The file's own words, were they not in the form that we write.
        let old = Old::of(repo, step.commit)?;
        all.push(Old { name: entry.name.clone(), patch: entry.patch.clone(), ..old });
    }
    Ok(all)
}

/// Puts a patch on top of `head`.
pub(super) fn lay(repo: &Repository, head: Oid, old: &Old) -> Result<Laid> {
    match engine::commit_series(repo, head, [(old.name.as_str(), &old.patch)]) {
        Ok(steps) => {
            let Step { commit, moved } = &steps[0];
            Ok(Laid::Stands(*commit, if moved.is_empty() { How::AsItWas } else { How::Moved }))
        }
        Err(error) => {
            let Some(cause) = error.downcast_ref::<DoesNotApply>() else { return Err(error) };
            merge(repo, head, old, DoesNotApply { patch: cause.patch.clone(), rejects: cause.rejects.clone() })
        }
    }
}

fn merge(repo: &Repository, head: Oid, old: &Old, cause: DoesNotApply) -> Result<Laid> {
    let parent = repo.find_commit(head)?;
    let tree = parent.tree()?;
    let (mut files, mut conflicts) = (Vec::new(), Vec::new());
    for Sides { path, before, after } in &old.files {
        let ours = engine::content(repo, &tree, path)?;
        match (&ours, before, after) {
            (None, Some(_), _) => conflicts.push(format!("{path}: upstream has no such file")),
            (None, None, after) => files.push((path.clone(), after.clone())),
            (Some(_), Some(_), None) if ours == *before => files.push((path.clone(), None)),
            (Some(_), _, None) => conflicts.push(format!("{path}: upstream changed the file that the patch removes")),
            (Some(ours), before, Some(after)) => {
                let (content, clean) = merge_file(before, ours, after, FileFavor::Normal, &old.name)?;
                if !clean {
                    conflicts.push(path.clone());
                }
                files.push((path.clone(), Some((content, after.1))));
            }
        }
    }
    if !conflicts.is_empty() {
        return Ok(Laid::Clashes(Clash { files, conflicts, cause }));
    }
    let merged = engine::with_files(repo, &tree, &files)?;
    Ok(Laid::Stands(engine::commit(repo, &old.patch, &merged, &parent)?, How::Merged))
}

/// The tree that a patch makes of that of `head` if its side wins wherever upstream changed the same lines. What
/// upstream removed stays removed.
pub(super) fn by_force(repo: &Repository, head: Oid, old: &Old) -> Result<Oid> {
    let tree = repo.find_commit(head)?.tree()?;
    let mut files = Vec::new();
    for Sides { path, before, after } in &old.files {
        match (engine::content(repo, &tree, path)?, after) {
            (None, after) if before.is_none() => files.push((path.clone(), after.clone())),
            (None, _) => {}
            (Some(_), None) => files.push((path.clone(), None)),
            (Some(ours), Some(after)) => {
                let (content, _) = merge_file(before, &ours, after, FileFavor::Theirs, &old.name)?;
                files.push((path.clone(), Some((content, after.1))));
            }
        }
    }
    Ok(engine::with_files(repo, &tree, &files)?.id())
}

/// The merged content, and whether it has no conflict. Conflicts show all three sides, if none is in `favor`.
fn merge_file(
    before: &Content,
    ours: &(Vec<u8>, u32),
    theirs: &(Vec<u8>, u32),
    favor: FileFavor,
    name: &str,
) -> Result<(Vec<u8>, bool)> {
    let empty = Vec::new();
    let ancestor = before.as_ref().map_or(&empty, |(content, _)| content);
    let side = |content| {
        let mut input = git2::MergeFileInput::new();
        input.content(content);
        input
    };
    let mut options = git2::MergeFileOptions::new();
    options.favor(favor);
    options.style_diff3(true).ancestor_label("old upstream").our_label("new upstream").their_label(name);
    let merged = git2::merge_file(&side(ancestor), &side(&ours.0), &side(&theirs.0), Some(&mut options))?;
    Ok((merged.content().to_vec(), merged.is_automergeable()))
}

/// The line (from 1) of the first mark of a conflict.
pub(super) fn marked(content: &[u8]) -> Option<usize> {
    let mark = |line: &[u8]| line.starts_with(b"<<<<<<< ") || line.starts_with(b">>>>>>> ");
    content.split(|&byte| byte == b'\n').position(mark).map(|index| index + 1)
}

/// How many of a hundred lines that the old patch adds or removes the new one adds or removes too. Blanks around a line
/// and the order don't count.
pub(super) fn left(old: &Patch, new: &Patch) -> usize {
    fn lines(patch: &Patch) -> HashMap<(u8, &[u8]), usize> {
        let mut counts = HashMap::new();
        for line in patch.files.iter().flat_map(|file| &file.hunks).flat_map(|hunk| &hunk.lines) {
            let text = line.text.trim_ascii();
            if line.side != Side::Context && !text.is_empty() {
                *counts.entry((line.side.mark(), text)).or_default() += 1;
            }
        }
        counts
    }
    let (old, new) = (lines(old), lines(new));
    let kept: usize = old.iter().map(|(line, count)| *count.min(new.get(line).unwrap_or(&0))).sum();
    // A patch without lines (a mode, an empty file) keeps them all.
    (100 * kept).checked_div(old.values().sum()).unwrap_or(100)
}
