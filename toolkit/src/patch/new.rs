//! `patch new`: the changes in the tree become a patch.

use super::engine;
use super::file::{Author, Patch};
use super::header::TEMPLATE;
use super::series::Series;
use super::tree::WorkTree;
use crate::source::Target;
use sluice_shell::context::Context;
use sluice_shell::error::{Error, Explain, Result};

/// Makes a commit and a patch file from the changes in the tree; then fill in the header in the patch file
#[derive(clap::Args)]
pub(super) struct Cmd {
    /// First line of the message, such as "apiserver: pass selectors to storage"; it names the file
    subject: String,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, thiserror::Error)]
#[error("the head of {0} is not the end of the series")]
struct NotAtTheEnd(String);

impl Explain for NotAtTheEnd {
    fn hint(&self) -> Option<String> {
        Some("run `cargo xtask patch refresh` if you changed commits; `git stash` and `cargo xtask patch apply` otherwise".into())
    }
}

impl Cmd {
    pub(super) fn run(self, shell: &Context) -> Result<()> {
        let series = Series::of(shell, &self.target.k8s)?;
        let fetched = self.target.open(shell)?;
        let tree = WorkTree::open(shell, &fetched)?;
        tree.refuse_rebase()?;
        let file = add(&tree, &series, &self.subject)?;
        shell.out.note("fill in what stands in <> and run `cargo xtask patch verify`");
        shell.out.data(series.dir.join(file).display().to_string())
    }
}

/// Commits the changes in the tree on top of the series and adds the patch file; returns its name.
pub(super) fn add(tree: &WorkTree, series: &Series, subject: &str) -> Result<String> {
    let subject = subject.split_whitespace().collect::<Vec<_>>().join(" ");
    if !subject.contains(|c: char| c.is_ascii_alphanumeric()) {
        return Err(Error::input("the subject has no words"));
    }
    let patches = series.entries.iter().map(|entry| (entry.name.as_str(), &entry.patch));
    let end = engine::commit_series(&tree.repo, tree.base, patches)?.last().map_or(tree.base, |step| step.commit);
    if tree.head()? != end {
        return Err(NotAtTheEnd(tree.repo.path().display().to_string()).into());
    }
    let parent = tree.repo.find_commit(end)?;
    let after = tree.repo.find_tree(tree.snapshot()?)?;
    let files = engine::differences(&tree.repo, &parent.tree()?, &after)?;
    if files.is_empty() {
        return Err(Error::input("the tree has no changes to make a patch of"));
    }
    let patch = Patch { author: Author::maintainers(), subject, body: TEMPLATE.to_owned(), files };
    let name = patch.file_name();
    if series.dir.join(&name).exists() {
        return Err(Error::input(format!("{} exists: choose another subject", series.dir.join(&name).display())));
    }
    let mut entries: Vec<_> = series.entries.iter().map(|entry| (entry.name.clone(), entry.bytes.clone())).collect();
    entries.push((name.clone(), patch.to_bytes()));
    let commit = engine::commit(&tree.repo, &patch, &after, &parent)?;
    series.replace(&entries, None)?;
    tree.adopt(commit)?;
    Ok(name)
}
