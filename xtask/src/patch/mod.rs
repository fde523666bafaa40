//! `cargo xtask patch`: the series of patches on Kubernetes, as files and as commits.
//!
//! `patches/<minor>/*.patch` are the truth. [`file`], [`diff`] and [`header`] read and write them, [`series`] keeps their order,
//! [`engine`] turns them into commits and back, [`tree`] shows a commit in the work tree, [`reject`] explains a patch that does not
//! apply. Each verb is a file of its own.

mod apply;
mod diff;
mod engine;
mod export;
mod file;
mod gocheck;
mod header;
mod list;
mod new;
mod refresh;
mod reject;
mod series;
mod tree;
mod verify;

#[cfg(test)]
mod tests;

pub(crate) use apply::apply;
pub(crate) use verify::{Effort, verify};

use crate::context::Context;
use crate::error::Result;

/// Kubernetes patches: list, apply, verify, make, refresh, export
#[derive(clap::Args)]
pub(crate) struct Cmd {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    List(list::Cmd),
    Apply(apply::Cmd),
    Verify(verify::Cmd),
    New(new::Cmd),
    Refresh(refresh::Cmd),
    Export(export::Cmd),
}

impl Cmd {
    pub(crate) fn run(self, shell: &Context) -> Result<()> {
        match self.verb {
            Verb::List(cmd) => cmd.run(shell),
            Verb::Apply(cmd) => cmd.run(shell),
            Verb::Verify(cmd) => cmd.run(shell),
            Verb::New(cmd) => cmd.run(shell),
            Verb::Refresh(cmd) => cmd.run(shell),
            Verb::Export(cmd) => cmd.run(shell),
        }
    }
}
