//! The verbs of `cargo xtask`: patches Kubernetes, builds it, packs it, runs it.
//!
//! One module per verb: its flags are `Cmd`, its work is `Cmd::run`. What several verbs need: [`cluster`] (control
//! planes as processes), [`node`] (one that runs Pods), `pipeline` (the stages of a build); what they all stand on is
//! the crate `sluice_shell`.

pub mod bench;
pub mod build;
mod build_images;
mod calendar;
mod clean;
pub mod cluster;
mod codegen;
mod down;
mod images;
pub mod node;
pub mod patch;
pub mod pipeline;
mod registry;
mod release;
pub mod source;
mod status;
mod up;

use sluice_shell::context::Context;
use sluice_shell::error::Result;

/// A verb with its flags.
#[derive(clap::Subcommand)]
#[expect(missing_docs, reason = "the flags say what each is")]
pub enum Verb {
    Bench(bench::Cmd),
    Up(up::Cmd),
    Down(down::Cmd),
    Status(status::Cmd),
    Build(build::Cmd),
    BuildImages(build_images::Cmd),
    Clean(clean::Cmd),
    Cluster(node::Cmd),
    Codegen(codegen::Cmd),
    Patch(patch::Cmd),
    Release(release::Cmd),
    Source(source::Cmd),
    VerifyRelease(release::Verify),
}

impl Verb {
    /// Does its work.
    ///
    /// # Errors
    /// Those of the verb.
    pub fn run(self, shell: &Context) -> Result<()> {
        match self {
            Self::Bench(cmd) => cmd.run(shell),
            Self::Up(cmd) => cmd.run(shell),
            Self::Down(cmd) => cmd.run(shell),
            Self::Status(cmd) => cmd.run(shell),
            Self::Build(cmd) => cmd.run(shell),
            Self::BuildImages(cmd) => cmd.run(shell),
            Self::Clean(cmd) => cmd.run(shell),
            Self::Cluster(cmd) => cmd.run(shell),
            Self::Codegen(cmd) => cmd.run(shell),
            Self::Patch(cmd) => cmd.run(shell),
            Self::Release(cmd) => cmd.run(shell),
            Self::Source(cmd) => cmd.run(shell),
            Self::VerifyRelease(cmd) => cmd.run(shell),
        }
    }
}
