//! The work tree of a composed source: which of its commits and files are ours, and switching it between commits.

use git2::build::CheckoutBuilder;
use git2::{ErrorCode, FileMode, Oid, Repository, Status, StatusOptions};
use std::collections::{BTreeMap, HashSet};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::carry;
use super::engine::{self, Content};
use super::file::Patch;
use super::progress::Progress;
use super::series::each_on_a_line;
use crate::pipeline::Fetched;
use crate::source;
use sluice_shell::context::Context;
use sluice_shell::error::{Attempt as _, Error, Explain, Result};

/// The branch that carries one commit per patch.
const BRANCH: &str = "refs/heads/sluice";
/// The branch with the untouched upstream source.
const BASE: &str = "refs/heads/base";
/// The last commit that we made or turned into patch files: what stands below it can be made again.
const SAVED: &str = "refs/sluice/saved";

/// The commit whose files are being written: it stays where a run was killed meanwhile.
const SWITCHING: &str = "refs/sluice/switching";

/// How commits of a person come onto patches that the tree was not made of.
pub(super) const OWN_COMMITS: &str = "commits of your own: `git branch mine` in the tree keeps them, and after \
    `cargo xtask patch apply --discard`\n`git cherry-pick COMMIT` takes each over";

/// A composed source tree, opened. No other process switches it while this lives.
pub(super) struct WorkTree {
    /// Its git repository. Its own settings win over the user's; `source` wrote them.
    pub(super) repo: Repository,
    /// The commit with the untouched upstream source.
    pub(super) base: Oid,
    root: PathBuf,
    _lock: fs_err::File,
}

/// The work tree has changes that would be lost.
#[derive(Debug, thiserror::Error)]
enum Unsaved {
    #[error("{} has changes that are in no commit:{}", root.display(), list(files))]
    Files { root: PathBuf, files: Vec<String> },
    #[error("{} has commits that are in no patch file:{}", root.display(), each_on_a_line(commits))]
    Commits {
        root: PathBuf,
        commits: Vec<String>,
        /// Whether the tree was made of all patches that there are.
        made_of_all: bool,
    },
}

/// Another verb would undo what a rebase did.
#[derive(Debug, thiserror::Error)]
#[error("{} is in the middle of a rebase: {done} patches of {what} stand", root.display())]
struct Rebasing {
    root: PathBuf,
    done: usize,
    what: String,
}

impl Explain for Rebasing {
    fn hint(&self) -> Option<String> {
        Some("run the same `cargo xtask patch rebase --to …` again to go on, or add --abort to end it".into())
    }
}

impl Explain for Unsaved {
    fn hint(&self) -> Option<String> {
        let keep = match self {
            Self::Files { .. } => {
                "cargo xtask patch new \"SUBJECT\"   makes a new patch of them\n\
                git commit --amend                  puts them into the last patch"
            }
            Self::Commits { made_of_all: true, .. } => {
                "cargo xtask patch refresh           writes them into the patch files"
            }
            Self::Commits { made_of_all: false, .. } => OWN_COMMITS,
        };
        Some(format!("{keep}\ncargo xtask patch apply --discard   throws them away"))
    }
}

fn list(items: &[String]) -> String {
    let shown = items.iter().take(10).map(|item| format!("\n  {item}")).collect::<String>();
    if items.len() > 10 { format!("{shown}\n  and {} more", items.len() - 10) } else { shown }
}

impl WorkTree {
    /// Opens a composed tree. Waits for another run that works on one.
    pub(super) fn open(shell: &Context, fetched: &Fetched) -> Result<Self> {
        let lock = source::lock(shell, &fetched.tree)?;
        Self::at(lock, &fetched.tree, Oid::from_str(&fetched.base)?)
    }

    /// [`WorkTree::open`] for the folder of a tree, whose lock is `lock`, and its upstream commit.
    fn at(lock: fs_err::File, root: &Path, base: Oid) -> Result<Self> {
        let root = root.to_owned();
        let repo =
            Repository::open(&root).attempting(|| format!("cannot open the git repository in {}", root.display()))?;
        repo.find_commit(base).attempting(|| format!("{} does not hold the upstream commit", root.display()))?;
        let tree = Self { repo, base, root, _lock: lock };
        tree.undo_half_a_switch()?;
        Ok(tree)
    }

    /// Removes a tree, unless `keep`; or says whose work would be lost with it.
    pub(super) fn remove(shell: &Context, root: &Path, keep: bool) -> Result<Option<String>> {
        let lock = source::lock(shell, root)?;
        let repo = match Repository::open(root) {
            // Not ours to judge: it may be whole and another user's, or of another git.
            Err(error) if error.code() != ErrorCode::NotFound => return Ok(Some(error.message().to_owned())),
            opened => opened,
        };
        let base = repo.and_then(|repo| Ok(repo.find_reference(BASE)?.peel_to_commit()?.id()));
        let Ok(base) = base else {
            // Damaged: no verb would take it.
            if !keep {
                fs_err::remove_dir_all(root)?;
            }
            return Ok(None);
        };
        let tree = Self::at(lock, root, base)?;
        if let Err(lost) = tree.refuse_rebase().and_then(|()| tree.refuse_loss(base)) {
            return Ok(Some(lost.to_string()));
        }
        if !keep {
            fs_err::remove_dir_all(root)?;
        }
        Ok(None)
    }

    /// Brings back the files of the head commit, where a run was killed that wrote those of another one. What it had
    /// written is told from edits by its content: that of the other commit, or the beginning of it.
    fn undo_half_a_switch(&self) -> Result<()> {
        let Some(next) = self.target(SWITCHING)? else { return Ok(()) };
        let (head, next) = (self.repo.find_commit(self.head()?)?, self.repo.find_commit(next)?.tree()?);
        let mut checkout = CheckoutBuilder::new();
        checkout.force().remove_untracked(true).disable_filters(true).disable_pathspec_match(true);
        let mut half = false;
        for path in self.changed()? {
            let written = fs_err::read(self.root.join(&path)).unwrap_or_default();
            let theirs = engine::content(&self.repo, &next, &path)?.map_or(Vec::new(), |(content, _)| content);
            if theirs.starts_with(&written) {
                checkout.path(path.as_str());
                half = true;
            }
        }
        if half {
            self.repo.checkout_tree(head.as_object(), Some(&mut checkout))?;
        }
        self.switched()
    }

    /// The files are those of the head commit again.
    fn switched(&self) -> Result<()> {
        match self.repo.find_reference(SWITCHING) {
            Ok(mut reference) => Ok(reference.delete()?),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The commit that the files belong to.
    pub(super) fn head(&self) -> Result<Oid> {
        Ok(self.repo.head()?.peel_to_commit()?.id())
    }

    /// Files that differ from the head commit, without those that upstream's .gitignore names.
    pub(super) fn changed(&self) -> Result<Vec<String>> {
        let mut options = StatusOptions::new();
        options.include_untracked(true).recurse_untracked_dirs(true).exclude_submodules(true).update_index(true);
        let statuses = self.repo.statuses(Some(&mut options))?;
        let mut paths = Vec::new();
        for entry in statuses.iter().filter(|entry| entry.status() != Status::CURRENT) {
            paths.push(
                entry.path().map_err(|_| Error::input("a changed file has a name that is not UTF-8"))?.to_owned(),
            );
        }
        Ok(paths)
    }

    /// Refuses while a rebase that is not finished stands here.
    pub(super) fn refuse_rebase(&self) -> Result<()> {
        let Some(Progress { what, done, .. }) = Progress::load(&self.repo)? else { return Ok(()) };
        Err(Rebasing { root: self.root.clone(), done: done.len(), what }.into())
    }

    /// Refuses if a switch to `next` would lose work: changed files, or commits that are neither ours nor part of
    /// `next`.
    pub(super) fn refuse_loss(&self, next: Oid) -> Result<()> {
        let files = self.changed()?;
        if !files.is_empty() {
            return Err(Unsaved::Files { root: self.root.clone(), files }.into());
        }
        let head = self.head()?;
        let mut known = vec![self.base, next];
        known.extend(self.saved()?);
        for &known in &known {
            if head == known || self.repo.graph_descendant_of(known, head)? {
                return Ok(());
            }
        }
        let (made_of, mut made_of_all) = (self.made_of()?, true);
        for id in engine::chain(&self.repo, self.base, next)? {
            made_of_all &= made_of.contains_key(&engine::to_patch(&self.repo, id)?.file_name());
        }
        let commits = self.unsaved(head, &known)?;
        Err(Unsaved::Commits { root: self.root.clone(), commits, made_of_all }.into())
    }

    /// The patches that the tree was made of, by the names of their files.
    pub(super) fn made_of(&self) -> Result<BTreeMap<String, Patch>> {
        let mut patches = BTreeMap::new();
        if let Some(commit) = self.saved()? {
            for id in engine::chain(&self.repo, self.base, commit)? {
                let patch = engine::to_patch(&self.repo, id)?;
                patches.insert(patch.file_name(), patch);
            }
        }
        Ok(patches)
    }

    /// The subjects of the commits up to `head` whose patches are not among those of the `known` commits. Where only
    /// the order differs, or one is gone, it is all of them.
    fn unsaved(&self, head: Oid, known: &[Oid]) -> Result<Vec<String>> {
        let chain = |to| engine::chain(&self.repo, self.base, to).unwrap_or_else(|_| vec![to]);
        let essence = |id| engine::to_patch(&self.repo, id).map(|patch| patch.essence()).ok();
        let patches: HashSet<_> = known.iter().flat_map(|known| chain(*known)).filter_map(essence).collect();
        let (mut unsaved, mut all) = (Vec::new(), Vec::new());
        for id in chain(head) {
            let subject = self.repo.find_commit(id)?.summary()?.unwrap_or("(no subject)").to_owned();
            if essence(id).is_none_or(|essence| !patches.contains(&essence)) {
                unsaved.push(subject.clone());
            }
            all.push(subject);
        }
        Ok(if unsaved.is_empty() { all } else { unsaved })
    }

    /// Makes files and branch those of `commit`; remembers that it can be made again.
    pub(super) fn switch(&self, commit: Oid) -> Result<()> {
        self.place(commit)?;
        self.save(commit)
    }

    /// Makes files and branch those of `commit`, which may be in no patch file.
    pub(super) fn place(&self, commit: Oid) -> Result<()> {
        self.files(commit)?;
        self.repo.reference(BRANCH, commit, true, "sluice: apply patches")?;
        self.repo.set_head(BRANCH)?;
        self.switched()
    }

    /// Refuses while a changed file has the marks of a conflict.
    pub(super) fn refuse_markers(&self) -> Result<()> {
        for path in self.changed()? {
            let Ok(content) = fs_err::read(self.root.join(&path)) else { continue };
            if let Some(line) = carry::marked(&content) {
                return Err(Error::input(format!("{path}:{line} has a conflict that is not resolved")));
            }
        }
        Ok(())
    }

    /// Writes or removes files in the work tree.
    pub(super) fn write(&self, files: &[(String, Content)]) -> Result<()> {
        for (path, content) in files {
            let file = self.root.join(path);
            match content {
                None => fs_err::remove_file(file)?,
                Some((bytes, mode)) => {
                    if let Some(folder) = file.parent() {
                        fs_err::create_dir_all(folder)?;
                    }
                    fs_err::write(&file, bytes)?;
                    fs_err::set_permissions(&file, Permissions::from_mode(mode & 0o777))?;
                }
            }
        }
        Ok(())
    }

    /// The folder.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Makes the files those of `commit`, on no branch. [`WorkTree::switch`] comes back.
    pub(super) fn visit(&self, commit: Oid) -> Result<()> {
        self.files(commit)?;
        self.repo.set_head_detached(commit)?;
        self.switched()
    }

    /// Says that `commit` and all below it are in the patch files.
    pub(super) fn save(&self, commit: Oid) -> Result<()> {
        self.repo.reference(SAVED, commit, true, "sluice: in the patch files")?;
        Ok(())
    }

    /// The last commit of which [`WorkTree::save`] said so.
    pub(super) fn saved(&self) -> Result<Option<Oid>> {
        self.target(SAVED)
    }

    /// Moves the branch to a commit whose files are in the work tree already.
    pub(super) fn adopt(&self, commit: Oid) -> Result<()> {
        self.repo.reference(BRANCH, commit, true, "sluice: new patch")?;
        self.repo.set_head(BRANCH)?;
        let mut index = self.repo.index()?;
        index.read_tree(&self.repo.find_commit(commit)?.tree()?)?;
        index.write()?;
        self.save(commit)
    }

    /// The tree that the head commit and the changed files make.
    pub(super) fn snapshot(&self) -> Result<Oid> {
        let mut update = git2::build::TreeUpdateBuilder::new();
        for path in self.changed()? {
            let file = self.root.join(&path);
            let Ok(meta) = fs_err::symlink_metadata(&file) else {
                update.remove(path.as_str());
                continue;
            };
            if !meta.is_file() {
                return Err(Error::input(format!("{path} is no plain file; a patch can't hold it")));
            }
            let mode = if meta.permissions().mode() & 0o100 != 0 { FileMode::BlobExecutable } else { FileMode::Blob };
            // The bytes as they are: `git add` would pass them through line-end conversion and filters.
            update.upsert(path.as_str(), self.repo.blob(&fs_err::read(&file)?)?, mode);
        }
        let head = self.repo.find_commit(self.head()?)?;
        Ok(update.create_updated(&self.repo, &head.tree()?)?)
    }

    fn target(&self, reference: &str) -> Result<Option<Oid>> {
        match self.repo.find_reference(reference) {
            Ok(reference) => Ok(reference.target()),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn files(&self, commit: Oid) -> Result<()> {
        let tree = self.repo.find_commit(commit)?.into_object();
        let mut checkout = CheckoutBuilder::new();
        // Byte for byte what the commit has: no line-end conversion, no clean/smudge filters.
        checkout.force().remove_untracked(true).disable_filters(true);
        self.repo.reference(SWITCHING, commit, true, "sluice: begin")?;
        Ok(self.repo.checkout_tree(&tree, Some(&mut checkout))?)
    }
}
