//! `cargo xtask patch`: the series of patches on Kubernetes, as files and as commits.
//!
//! `patches/<minor>/*.patch` are the truth. [`file`], [`diff`] and [`header`] read and write them, [`series`] keeps
//! their order, [`engine`] turns them into commits and back, [`fit`] puts the hunks into a file, [`reject`] explains a
//! patch that does not apply, [`tree`] shows a commit in the work tree. [`carry`] puts a patch on another source,
//! [`resolution`] remembers how a person did, [`progress`] how far a rebase came. Each verb is a file of its own.

mod apply;
mod carry;
mod diff;
mod drift;
mod engine;
mod export;
mod file;
mod fit;
mod gocheck;
mod header;
mod invariant;
mod list;
mod new;
mod progress;
mod rebase;
mod refresh;
mod reject;
mod resolution;
mod review;
mod route;
mod series;
mod squash;
mod stats;
mod tree;
mod verify;

#[cfg(test)]
mod tests;

pub use apply::apply;
pub(crate) use export::exported;
pub use list::minors;
pub use verify::{verify_all, verify_end, verify_form};

use sluice_shell::context::Context;
use sluice_shell::error::Result;

/// Kubernetes patches: list, compare, apply, verify, make, refresh, rebase, export
#[derive(clap::Args)]
pub struct Cmd {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    List(list::Cmd),
    Stats(stats::Cmd),
    Apply(apply::Cmd),
    Verify(verify::Cmd),
    New(new::Cmd),
    Refresh(refresh::Cmd),
    Drift(drift::Cmd),
    Rebase(rebase::Cmd),
    Review(review::Cmd),
    Export(export::Cmd),
}

/// A command line, for tests.
#[cfg(test)]
#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    cmd: Cmd,
}

impl Cmd {
    pub(crate) fn run(self, shell: &Context) -> Result<()> {
        match self.verb {
            Verb::List(cmd) => cmd.run(shell),
            Verb::Stats(cmd) => cmd.run(shell),
            Verb::Apply(cmd) => cmd.run(shell),
            Verb::Verify(cmd) => cmd.run(shell),
            Verb::New(cmd) => cmd.run(shell),
            Verb::Refresh(cmd) => cmd.run(shell),
            Verb::Drift(cmd) => cmd.run(shell),
            Verb::Rebase(cmd) => cmd.run(shell),
            Verb::Review(cmd) => cmd.run(shell),
            Verb::Export(cmd) => cmd.run(shell),
        }
    }
}

/// Removes a source tree, or only looks if `keep`. Returns what would be lost with it, if anything: then it stays.
pub(crate) fn remove_tree(shell: &Context, folder: &std::path::Path, keep: bool) -> Result<Option<String>> {
    tree::WorkTree::remove(shell, folder, keep)
}

/// Name and text of a patch that does nothing but add one file; the way in for generated ones.
pub(crate) fn adding(subject: &str, body: &str, path: &str, content: &str) -> Result<(String, Vec<u8>)> {
    let file = diff::FileDiff {
        path: path.to_owned(),
        old_mode: None,
        new_mode: Some(diff::PLAIN),
        old_id: git2::Oid::ZERO_SHA1.to_string(),
        new_id: git2::Oid::hash_object(git2::ObjectType::Blob, content.as_bytes())?.to_string(),
        hunks: diff::between(path, b"", content.as_bytes())?,
    };
    let author = file::Author::maintainers();
    let patch = file::Patch { author, subject: subject.to_owned(), body: body.to_owned(), files: vec![file] };
    Ok((patch.file_name(), patch.to_bytes()))
}
