//! Patches to commits and commits to patches. Works on git's objects only; no file of the work tree is read or written,
//! so neither line-end conversion, hooks, signing nor any other setting of the user has a say.

use git2::build::TreeUpdateBuilder;
use git2::{Commit, FileMode, Oid, Repository, Signature, Time, Tree};
use std::fmt;

use super::diff::{self, EXECUTABLE, FileDiff, PLAIN};
use super::file::{Author, Patch};
use super::reject::{Reject, Why};
use sluice_shell::error::{Attempt as _, Error, Explain, Result};

/// A patch that became a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// The commit.
    pub(super) commit: Oid,
    /// Hunks that stand elsewhere than the patch says.
    pub(super) moved: Vec<Moved>,
}

/// A hunk that was found elsewhere than the patch says, with all its lines equal.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct Moved {
    /// File in the tree.
    pub(super) path: String,
    /// Number of the hunk, from 1.
    pub(super) hunk: usize,
    /// Lines down (positive) or up.
    pub(super) lines: isize,
}

/// Content and mode of a plain file; none where there is no file.
pub(super) type Content = Option<(Vec<u8>, u32)>;

/// A patch does not apply; nothing of it was.
#[derive(Debug)]
pub(super) struct DoesNotApply {
    /// File name of the patch.
    pub(super) patch: String,
    /// Every hunk and file that does not fit.
    pub(super) rejects: Vec<Reject>,
}

impl fmt::Display for DoesNotApply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} does not apply", self.patch)?;
        for reject in &self.rejects {
            write!(f, "\n\n{reject}")?;
        }
        Ok(())
    }
}

impl std::error::Error for DoesNotApply {}

impl Explain for DoesNotApply {
    fn hint(&self) -> Option<String> {
        let mut advice: Vec<String> = self.rejects.iter().map(|reject| reject.advice()).collect();
        advice.dedup();
        Some(format!(
            "{}\nThen run `cargo xtask patch apply` again; nothing of this patch was applied.",
            advice.join("\n")
        ))
    }
}

/// Makes one commit per patch on top of `base`. The commit ids depend on the base and the patches only: author,
/// committer and both times are the patch's. No branch and no file is touched.
///
/// # Errors
/// [`DoesNotApply`] of the first patch that doesn't.
pub(super) fn commit_series<'a>(
    repo: &Repository,
    base: Oid,
    patches: impl IntoIterator<Item = (&'a str, &'a Patch)>,
) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut parent = repo.find_commit(base)?;
    for (name, patch) in patches {
        let (tree, moved) = apply(repo, &parent.tree()?, name, patch)?;
        let commit =
            commit(repo, patch, &repo.find_tree(tree)?, &parent).attempting(|| format!("cannot commit {name}"))?;
        steps.push(Step { commit, moved });
        parent = repo.find_commit(commit)?;
    }
    Ok(steps)
}

/// One commit with the message and the author of `patch`, and the given tree.
pub(super) fn commit(repo: &Repository, patch: &Patch, tree: &Tree<'_>, parent: &Commit<'_>) -> Result<Oid> {
    let Author { name, email, seconds, offset } = &patch.author;
    let who = Signature::new(name, email, &Time::new(*seconds, *offset))?;
    // Not through `git commit`: that would sign, run hooks, and take the time of now.
    Ok(repo.commit(None, &who, &who, &patch.message(), tree, &[parent])?)
}

/// The tree that a patch makes of `tree`.
///
/// # Errors
/// [`DoesNotApply`].
pub(super) fn apply(repo: &Repository, tree: &Tree<'_>, name: &str, patch: &Patch) -> Result<(Oid, Vec<Moved>)> {
    let (mut update, mut moved, mut rejects) = (TreeUpdateBuilder::new(), Vec::new(), Vec::new());
    for file in &patch.files {
        match change(repo, tree, file)? {
            Err(reject) => rejects.extend(reject),
            Ok((None, _)) => drop(update.remove(&file.path)),
            Ok((Some((blob, mode)), shifts)) => {
                update.upsert(&file.path, blob, mode);
                moved.extend(shifts.into_iter().map(|(hunk, lines)| Moved { path: file.path.clone(), hunk, lines }));
            }
        }
    }
    if !rejects.is_empty() {
        return Err(DoesNotApply { patch: name.to_owned(), rejects }.into());
    }
    Ok((update.create_updated(repo, tree)?, moved))
}

/// New blob and mode of a file (none if it is deleted), and the hunks that moved; or why it can't be changed.
type Changed = Result<(Option<(Oid, FileMode)>, Vec<(usize, isize)>), Vec<Reject>>;

fn change(repo: &Repository, tree: &Tree<'_>, file: &FileDiff) -> Result<Changed> {
    let old = content(repo, tree, &file.path)?;
    let reject = |why| Ok(Err(vec![Reject::file(&file.path, why)]));
    let (old, mode) = match (old, file.old_mode) {
        (None, None) => (Vec::new(), None),
        (Some(_), None) => return reject(Why::Exists),
        (None, Some(_)) => return reject(Why::Gone(same_name(tree, &file.path)?)),
        (Some((content, mode)), Some(_)) => (content, Some(mode)),
    };
    let applied = match file.apply(&old) {
        Ok(applied) => applied,
        Err(rejects) => return Ok(Err(rejects)),
    };
    let Some(new_mode) = file.new_mode else {
        return if applied.content.is_empty() { Ok(Ok((None, Vec::new()))) } else { reject(Why::NotEmptied) };
    };
    // A patch that does not speak of the mode keeps the tree's.
    let mode = if file.old_mode == file.new_mode { mode.unwrap_or(new_mode) } else { new_mode };
    let mode = if mode == EXECUTABLE { FileMode::BlobExecutable } else { FileMode::Blob };
    Ok(Ok((Some((repo.blob(&applied.content)?, mode)), applied.moved)))
}

/// Content and mode of a plain file in a tree.
pub(super) fn content(repo: &Repository, tree: &Tree<'_>, path: &str) -> Result<Content> {
    let entry = match tree.get_path(path.as_ref()) {
        Ok(entry) => entry,
        Err(error) if error.code() == git2::ErrorCode::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mode = u32::try_from(entry.filemode()).unwrap_or_default();
    if mode != PLAIN && mode != EXECUTABLE {
        return Err(Error::input(format!("{path} has mode {mode:o}; a patch can only change plain files")));
    }
    Ok(Some((repo.find_blob(entry.id())?.content().to_vec(), mode)))
}

/// `tree` with some files replaced, or removed where there is no content.
pub(super) fn with_files<'a>(repo: &'a Repository, tree: &Tree<'_>, files: &[(String, Content)]) -> Result<Tree<'a>> {
    let mut update = TreeUpdateBuilder::new();
    for (path, content) in files {
        match content {
            Some((bytes, EXECUTABLE)) => update.upsert(path.as_str(), repo.blob(bytes)?, FileMode::BlobExecutable),
            Some((bytes, _)) => update.upsert(path.as_str(), repo.blob(bytes)?, FileMode::Blob),
            None => update.remove(path.as_str()),
        };
    }
    Ok(repo.find_tree(update.create_updated(repo, tree)?)?)
}

/// Files elsewhere in the tree with the same name, at most five, those with most folders in common first.
fn same_name(tree: &Tree<'_>, path: &str) -> Result<Vec<String>> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let mut found = Vec::new();
    tree.walk(git2::TreeWalkMode::PreOrder, |dir, entry| {
        if entry.name_bytes() == name.as_bytes() {
            found.push(format!("{dir}{name}"));
        }
        git2::TreeWalkResult::Ok
    })?;
    let common = |other: &String| path.split('/').filter(|part| other.split('/').any(|theirs| theirs == *part)).count();
    found.sort_by_key(|other| std::cmp::Reverse(common(other)));
    found.truncate(5);
    Ok(found)
}

/// The commits above `base` up to `head`, oldest first.
///
/// # Errors
/// `head` does not descend from `base`, or a merge is among them.
pub(super) fn chain(repo: &Repository, base: Oid, head: Oid) -> Result<Vec<Oid>> {
    let mut commits = Vec::new();
    let mut at = head;
    while at != base {
        let commit = repo.find_commit(at)?;
        let mut parents = commit.parent_ids();
        match (parents.next(), parents.next()) {
            (Some(parent), None) => {
                commits.push(at);
                at = parent;
            }
            (None, _) => return Err(Error::input(format!("{head} does not stand on the upstream source {base}"))),
            (Some(_), Some(_)) => {
                return Err(Error::input(format!("{at} is a merge; a series is a straight line: rebase it")));
            }
        }
    }
    commits.reverse();
    Ok(commits)
}

/// A commit as a patch. The same commit gives the same patch whatever git is configured to do.
pub(super) fn to_patch(repo: &Repository, id: Oid) -> Result<Patch> {
    let commit = repo.find_commit(id)?;
    let (subject, body) = Patch::split_message(commit.message()?);
    let (who, when) = (commit.author(), commit.author().when());
    let author = Author {
        name: who.name()?.to_owned(),
        email: who.email()?.to_owned(),
        seconds: when.seconds(),
        offset: when.offset_minutes(),
    };
    let files = differences(repo, &commit.parent(0)?.tree()?, &commit.tree()?)?;
    Ok(Patch { author, subject, body, files })
}

/// The diffs between two trees, ordered by path.
pub(super) fn differences(repo: &Repository, old: &Tree<'_>, new: &Tree<'_>) -> Result<Vec<FileDiff>> {
    let mut files = Vec::new();
    // Only the list of paths comes from here. Renames are not looked for: whether git finds one depends on its version
    // and settings.
    for delta in repo.diff_tree_to_tree(Some(old), Some(new), None)?.deltas() {
        let path = delta.new_file().path().or(delta.old_file().path()).and_then(|path| path.to_str());
        let path = path.ok_or_else(|| Error::input("a changed file has a name that is not UTF-8"))?;
        let (before, after) = (content(repo, old, path)?, content(repo, new, path)?);
        let side = |side: &Content| side.clone().map_or((Vec::new(), None), |(bytes, mode)| (bytes, Some(mode)));
        let ((before, old_mode), (after, new_mode)) = (side(&before), side(&after));
        let same = before == after && old_mode.is_some() && new_mode.is_some();
        let id = |mode: Option<u32>, file: git2::DiffFile<'_>| match mode {
            _ if same => String::new(),
            Some(_) => file.id().to_string(),
            None => Oid::ZERO_SHA1.to_string(),
        };
        files.push(FileDiff {
            path: path.to_owned(),
            old_mode,
            new_mode,
            old_id: id(old_mode, delta.old_file()),
            new_id: id(new_mode, delta.new_file()),
            hunks: diff::between(path, &before, &after)?,
        });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}
