//! Commits of `git commit --fixup` go into the commits that they mend, as `git rebase --autosquash` puts them there.

use git2::{Oid, Repository};

use super::carry::{self, Laid, Old};
use super::engine;
use super::file::Patch;
use sluice_shell::error::{Explain, Result};

/// How git begins the subject of a commit that mends another one.
const PREFIXES: [&str; 3] = ["fixup! ", "amend! ", "squash! "];

/// A commit that can't be put into the one that it mends.
#[derive(Debug, thiserror::Error)]
#[error("{subject:?} can't be put into the commit that it mends: {why}")]
struct Stuck {
    subject: String,
    why: String,
}

impl Explain for Stuck {
    fn hint(&self) -> Option<String> {
        Some("do it in the tree: git rebase -i --autosquash base".into())
    }
}

/// A commit, and those that mend it.
struct Group {
    commit: Oid,
    subject: String,
    mends: Vec<Oid>,
}

/// The head of the same commits with each fixup in the commit that it mends; `head` itself if there are none. No branch
/// and no file is touched.
///
/// # Errors
/// A fixup without a commit before it, or that conflicts with what comes between; a `squash!` with words of its own.
pub(super) fn squash(repo: &Repository, base: Oid, head: Oid) -> Result<Oid> {
    let mut groups: Vec<Group> = Vec::new();
    for commit in engine::chain(repo, base, head)? {
        let subject = subject(repo, commit)?;
        let target = mended(&subject);
        if target == subject {
            groups.push(Group { commit, subject, mends: Vec::new() });
            continue;
        }
        // As git: a subject, the beginning of one, or that of a commit's id.
        let is_it = |group: &&mut Group| {
            group.subject.starts_with(target) || (target.len() > 6 && group.commit.to_string().starts_with(target))
        };
        let Some(group) = groups.iter_mut().rev().find(is_it) else {
            return Err(Stuck { subject, why: "no commit before it has that subject".into() }.into());
        };
        group.mends.push(commit);
    }
    let mut end = base;
    for group in &groups {
        end = lay(repo, end, group.commit)?;
        for mend in &group.mends {
            end = meld(repo, end, *mend)?;
        }
    }
    let tree = |commit| Ok::<_, git2::Error>(repo.find_commit(commit)?.tree_id());
    if tree(end)? != tree(head)? {
        let subject = subject(repo, head)?;
        return Err(Stuck { subject, why: "the files would not be the same".into() }.into());
    }
    Ok(end)
}

/// What the subject of a commit names: itself, or the subject of another one.
fn mended(mut subject: &str) -> &str {
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| subject.strip_prefix(prefix)) {
        subject = rest;
    }
    subject
}

fn subject(repo: &Repository, commit: Oid) -> Result<String> {
    Ok(Patch::split_message(repo.find_commit(commit)?.message()?).0)
}

/// The commit on top of `parent`: itself if it stands there.
fn lay(repo: &Repository, parent: Oid, commit: Oid) -> Result<Oid> {
    if repo.find_commit(commit)?.parent_ids().eq([parent]) {
        return Ok(commit);
    }
    let old = Old::of(repo, commit)?;
    match carry::lay(repo, parent, &old)? {
        Laid::Stands(commit, _) => Ok(commit),
        Laid::Clashes(clash) => {
            Err(Stuck { subject: old.patch.subject, why: format!("it conflicts in {}", clash.conflicts.join(", ")) }
                .into())
        }
    }
}

/// `commit` with the changes of `mend`, which may have the new message.
fn meld(repo: &Repository, commit: Oid, mend: Oid) -> Result<Oid> {
    let (into, mending) = (engine::to_patch(repo, commit)?, engine::to_patch(repo, mend)?);
    let patch = if mending.subject.starts_with("amend! ") {
        let (subject, body) = Patch::split_message(&mending.body);
        Patch { subject, body, ..into }
    } else if mending.subject.starts_with("squash! ") && !mending.body.is_empty() {
        return Err(Stuck { subject: mending.subject, why: "somebody has to write one message of two".into() }.into());
    } else {
        into
    };
    let melded = repo.find_commit(lay(repo, commit, mend)?)?.tree()?;
    engine::commit(repo, &patch, &melded, &repo.find_commit(commit)?.parent(0)?)
}
