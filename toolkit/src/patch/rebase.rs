//! `patch rebase`: carries a series to another Kubernetes minor, or to another version of its own.
//!
//! Each patch is applied strictly; one that does not fit is merged three ways, and it alone. Where that conflicts as it
//! did before, the recorded resolution is replayed. Where it conflicts otherwise, or where less than half of the patch
//! would be left, the tree is left with the patches so far as commits and this one in the files. The same command goes
//! on. Patch files are written at the very end, all or none.

use git2::Oid;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

use super::carry::{self, Clash, How, Laid, Old};
use super::engine::{self, DoesNotApply};
use super::progress::{Carried, Progress, Stopped};
use super::refresh;
use super::resolution;
use super::route::{Route, To};
use super::series::{Change, Series, each_on_a_line};
use super::tree::WorkTree;
use crate::source::{Origin, Target};
use sluice_shell::context::Context;
use sluice_shell::error::{Attempt as _, Error, Explain, Result};
use sluice_shell::minor::Minor;
use sluice_shell::output::table;

/// Carries the series to another Kubernetes minor or version; run it again after resolving conflicts
#[derive(clap::Args)]
pub(super) struct Cmd {
    /// The minor to go to, which has its pins (patches/MINOR/source.toml) already; or a version such as v1.37.3, to
    /// which the pins go with the series
    #[arg(long, value_name = "MINOR|VERSION")]
    to: To,
    /// Where the source of that version comes from, as --source
    #[arg(long, value_name = "ORIGIN", default_value = "module")]
    to_source: Origin,
    #[command(flatten)]
    target: Target,
    /// Carry the series although the minor has one, and replace that
    #[arg(long)]
    again: bool,
    #[command(flatten)]
    wishes: Wishes,
    /// End the rebase: the tree is as it was before. Recorded resolutions stay
    #[arg(long, conflicts_with_all = ["skip", "drop", "accept", "again"])]
    abort: bool,
    /// Print a report for programs
    #[arg(long)]
    json: bool,
}

/// What a person decides about single patches.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct Wishes {
    /// Leave out the patch at which the rebase stopped
    #[arg(long)]
    pub(super) skip: bool,
    /// Leave out this patch: the name of its file
    #[arg(long, value_name = "PATCH")]
    pub(super) drop: Vec<String>,
    /// Take what is left of this patch, though it is less than half
    #[arg(long, value_name = "PATCH")]
    pub(super) accept: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    patches: Vec<Carried>,
    changes: Vec<Change>,
}

/// Upstream and a patch changed the same lines.
#[derive(Debug, thiserror::Error)]
#[error("{} conflicts with upstream in:{}\n\n{}", cause.patch, each_on_a_line(files), cause)]
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
             --skip leaves the patch out, --abort ends the rebase;\n\
             no patch file is written until all patches stand",
            self.tree
        ))
    }
}

/// A person has to say whether so little is right.
#[derive(Debug, thiserror::Error)]
#[error("{patch}: {left} % of the lines that it changes would be left")]
pub(super) struct Emptied {
    patch: String,
    left: usize,
    changes_nothing: bool,
    tree: String,
}

impl Explain for Emptied {
    fn hint(&self) -> Option<String> {
        let Self { patch, tree, changes_nothing, .. } = self;
        if *changes_nothing {
            return Some("run the same command again with --skip if upstream has all of it now".into());
        }
        Some(format!(
            "see what is left in {tree}, and add what is missing; then run the same command again, with\n\
             --accept {patch}   if the rest is no longer needed\n\
             --skip   if upstream has all of it now"
        ))
    }
}

/// The person ran the command again without a change.
#[derive(Debug, thiserror::Error)]
#[error("{patch}: the files are as the conflict left them")]
struct Untouched {
    patch: String,
}

impl Explain for Untouched {
    fn hint(&self) -> Option<String> {
        let Self { patch } = self;
        Some(format!(
            "put into the tree what the patch did to the files that upstream no longer has, then run the same command \
             again;\n--accept {patch} takes it without, --skip leaves the patch out"
        ))
    }
}

/// The minor has a series that would be replaced.
#[derive(Debug, thiserror::Error)]
#[error("{0} has a series already")]
struct HasSeries(Minor);

impl Explain for HasSeries {
    fn hint(&self) -> Option<String> {
        Some("--again carries the patches anew and replaces that series".into())
    }
}

/// Below this percentage of lines a person is asked.
const HALF: usize = 50;

impl Cmd {
    pub(super) fn run(self, shell: &Context) -> Result<()> {
        let route = Route::find(shell, &self.to, self.to_source.clone(), &self.target)?;
        if self.abort {
            let to = route.to.open_pinned(shell, &route.pins)?;
            abort(&WorkTree::open(shell, &to)?)?;
            route.forget()?;
            shell.out.note(format!("the rebase is ended; {} is as it was", to.tree.display()));
            return Ok(());
        }
        route.refuse_arrived(&self.to)?;
        let series = Series::of(shell, &route.from.k8s)?;
        let from = route.from.open(shell)?;
        let old = {
            let tree = WorkTree::open(shell, &from)?;
            carry::read(&tree.repo, tree.base, &series)?
        };
        let to = route.to.open_pinned(shell, &route.pins)?;
        let tree = WorkTree::open(shell, &to)?;
        let folder = shell.paths.patches(&to.minor);
        let target = Series::load_or_empty(&folder)?;
        let replaces = !route.is_release() && !target.entries.is_empty();
        if replaces && !self.again && Progress::load(&tree.repo)?.is_none() {
            return Err(HasSeries(to.minor).into());
        }
        let plan = Plan {
            what: format!("{} ({})", from.version, &series.digest()[..12]),
            resolutions: folder.join("resolutions").join(from.minor.as_str()),
            wishes: self.wishes,
        };
        let patches = rebase(&tree, &plan, &old)
            .attempting(|| format!("cannot carry the patches of {} to {}", from.version, to.version))?;
        let changes = refresh::write(&tree, &target, &BTreeMap::new(), route.is_release().then_some(&route.pins))?;
        Progress::remove(&tree.repo)?;
        route.forget()?;
        if self.json {
            return shell.out.json(&Report { patches, changes });
        }
        shell.out.note(format!("now run `cargo xtask patch verify --k8s {}`", to.minor));
        shell.out.data(text(patches))
    }
}

fn text(patches: Vec<Carried>) -> String {
    let mut rows = vec![["PATCH", "HOW", "LINES LEFT"].map(String::from).to_vec()];
    for Carried { file, how, left, .. } in patches {
        rows.push(vec![file, how.text().to_owned(), format!("{left} %")]);
    }
    table(&rows)
}

/// What to carry, and how.
pub(super) struct Plan {
    /// Version and digest of the series.
    pub(super) what: String,
    /// Folder of the recorded resolutions.
    pub(super) resolutions: PathBuf,
    /// The person's.
    pub(super) wishes: Wishes,
}

/// Ends a rebase that stopped: the tree is as it was before.
pub(super) fn abort(tree: &WorkTree) -> Result<()> {
    let Some(progress) = Progress::load(&tree.repo)? else {
        return Err(Error::input(format!("no rebase stands in {}", tree.root().display())));
    };
    tree.place(progress.start()?)?;
    Progress::remove(&tree.repo)
}

/// Puts the patches on top of the upstream source of `tree`, or goes on with that. At the end the progress is kept for
/// the caller to remove when the patch files are written.
pub(super) fn rebase(tree: &WorkTree, plan: &Plan, series: &[Old]) -> Result<Vec<Carried>> {
    for name in plan.wishes.drop.iter().chain(&plan.wishes.accept) {
        if !series.iter().any(|old| old.name == *name) {
            return Err(Error::input(format!("the series has no patch {name}")));
        }
    }
    let mut progress = match Progress::load(&tree.repo)? {
        Some(progress) if progress.what == plan.what => progress,
        Some(_) => {
            tree.refuse_rebase()?;
            return Err(Error::input("the tree changed meanwhile; run the command again"));
        }
        None if plan.wishes.skip => return Err(Error::input("no rebase stopped at a patch that could be skipped")),
        None => {
            tree.refuse_loss(tree.base)?;
            Progress::begin(&plan.what, tree.head()?)
        }
    };
    let mut run = Run { tree, plan, progress: &mut progress };
    match run.progress.stopped.clone() {
        Some(stopped) if stopped.shown => run.take_up(&stopped, series)?,
        // Killed while it wrote the files: they are written again.
        Some(_) => {}
        None if plan.wishes.skip => return Err(Error::input("the rebase stopped at no patch that could be skipped")),
        None if !tree.changed()?.is_empty() => tree.refuse_loss(tree.head()?)?,
        None => {}
    }
    for old in &series[run.progress.done.len()..] {
        run.next(old)?;
    }
    tree.place(progress.head(tree.base)?)?;
    Ok(progress.done)
}

/// A rebase at work.
struct Run<'a> {
    tree: &'a WorkTree,
    plan: &'a Plan,
    progress: &'a mut Progress,
}

impl Run<'_> {
    /// Puts the next patch on top of those that stand.
    fn next(&mut self, old: &Old) -> Result<()> {
        if self.plan.wishes.drop.contains(&old.name) {
            return self.done(old, How::Dropped, None);
        }
        let repo = &self.tree.repo;
        let head = self.progress.head(self.tree.base)?;
        match carry::lay(repo, head, old)? {
            Laid::Stands(commit, How::Merged) => {
                self.unless_emptied(old, repo.find_commit(commit)?.tree_id(), How::Merged)
            }
            Laid::Stands(commit, how) => self.done(old, how, Some(commit)),
            Laid::Clashes(clash) => {
                let parent = repo.find_commit(head)?.tree()?;
                let conflicts = engine::with_files(repo, &parent, &clash.files)?.id();
                match resolution::replay(repo, &self.plan.resolutions, old, conflicts)? {
                    Some(resolved) => self.unless_emptied(old, resolved, How::Replayed),
                    None => self.stop(old, conflicts, clash),
                }
            }
        }
    }

    /// Goes on with the patch at which the rebase stopped: what the person left in the files is the patch.
    fn take_up(&mut self, stopped: &Stopped, series: &[Old]) -> Result<()> {
        let (tree, wishes) = (self.tree, &self.plan.wishes);
        let old = series.iter().find(|old| old.name == stopped.patch);
        let old = old.ok_or_else(|| Error::input(format!("the series has no patch {} any more", stopped.patch)))?;
        if wishes.skip || wishes.drop.contains(&old.name) {
            tree.place(self.progress.head(tree.base)?)?;
            return self.done(old, How::Dropped, None);
        }
        self.refuse_elsewhere()?;
        tree.refuse_markers()?;
        let resolved = tree.snapshot()?;
        let accepted = wishes.accept.contains(&old.name);
        let untouched = resolved.to_string() == stopped.tree;
        if stopped.how.is_none() && untouched && !accepted {
            return Err(Untouched { patch: old.name.clone() }.into());
        }
        let how = stopped.how.filter(|_| untouched).unwrap_or(How::Resolved);
        let commit = self.commit(old, resolved)?;
        self.ask(old, commit)?;
        if stopped.how.is_none() {
            let conflicts = Oid::from_str(&stopped.tree)?;
            resolution::record(&tree.repo, &self.plan.resolutions, old, conflicts, resolved)?;
        }
        self.done(old, how, Some(commit))
    }

    /// The person may have committed what resolves the conflict; else the head is where the rebase left it.
    fn refuse_elsewhere(&self) -> Result<()> {
        let (ours, head) = (self.progress.head(self.tree.base)?, self.tree.head()?);
        if head == ours || self.tree.repo.find_commit(head)?.parent_ids().eq([ours]) {
            return Ok(());
        }
        let subject = self.tree.repo.find_commit(ours)?.summary()?.unwrap_or_default().to_owned();
        Err(Error::input(format!("the tree has other commits than the rebase made, the last of which is {subject:?}")))
    }

    /// The patch with the files of `tree` as a commit, if enough is left of it; else stops with these files.
    fn unless_emptied(&mut self, old: &Old, tree: Oid, how: How) -> Result<()> {
        let commit = self.commit(old, tree)?;
        let Err(asked) = self.ask(old, commit) else { return self.done(old, how, Some(commit)) };
        let patch = engine::to_patch(&self.tree.repo, commit)?;
        let after = self.tree.repo.find_tree(tree)?;
        let mut files = Vec::new();
        for file in patch.files {
            files.push((file.path.clone(), engine::content(&self.tree.repo, &after, &file.path)?));
        }
        self.halt(old, tree, Some(how), &files)?;
        Err(asked)
    }

    fn commit(&self, old: &Old, tree: Oid) -> Result<Oid> {
        let repo = &self.tree.repo;
        let parent = repo.find_commit(self.progress.head(self.tree.base)?)?;
        engine::commit(repo, &old.patch, &repo.find_tree(tree)?, &parent)
    }

    /// Refuses if less than half of the patch is left and nobody accepted that, or nothing at all.
    fn ask(&self, old: &Old, commit: Oid) -> Result<()> {
        let new = engine::to_patch(&self.tree.repo, commit)?;
        let left = carry::left(&old.patch, &new);
        if !new.files.is_empty() && (left >= HALF || self.plan.wishes.accept.contains(&old.name)) {
            return Ok(());
        }
        let tree = self.tree.root().display().to_string();
        Err(Emptied { patch: old.name.clone(), left, changes_nothing: new.files.is_empty(), tree }.into())
    }

    fn stop(&mut self, old: &Old, conflicts: Oid, clash: Clash) -> Result<()> {
        self.halt(old, conflicts, None, &clash.files)?;
        let tree = self.tree.root().display().to_string();
        Err(Conflict { files: clash.conflicts, cause: clash.cause, tree }.into())
    }

    /// Leaves the tree to the person, with these files on top of what stands.
    fn halt(&mut self, old: &Old, tree: Oid, how: Option<How>, files: &[(String, engine::Content)]) -> Result<()> {
        let mut stopped = Stopped { patch: old.name.clone(), tree: tree.to_string(), how, shown: false };
        self.progress.stopped = Some(stopped.clone());
        self.progress.store(&self.tree.repo)?;
        self.tree.place(self.progress.head(self.tree.base)?)?;
        self.tree.write(files)?;
        stopped.shown = true;
        self.progress.stopped = Some(stopped);
        self.progress.store(&self.tree.repo)
    }

    fn done(&mut self, old: &Old, how: How, commit: Option<Oid>) -> Result<()> {
        let left = match commit {
            Some(commit) => carry::left(&old.patch, &engine::to_patch(&self.tree.repo, commit)?),
            None => 0,
        };
        let commit = commit.map(|commit| commit.to_string());
        self.progress.done.push(Carried { file: old.name.clone(), how, left, commit });
        self.progress.stopped = None;
        self.progress.store(&self.tree.repo)
    }
}
