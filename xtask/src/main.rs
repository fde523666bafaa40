//! `cargo xtask`: patches Kubernetes, builds it, packs it, runs it.
//!
//! One module per verb: its flags are `Cmd`, its work is `Cmd::run`. What the verbs share: [`context`] (paths and output),
//! [`process`] (the only place that starts programs), [`error`] (exit codes and hints), [`pipeline`] (the stages of a build).

mod bench;
mod build;
mod build_images;
mod calendar;
mod cluster;
mod codegen;
mod conformance;
mod context;
mod doctor;
mod down;
mod e2e;
mod error;
mod images;
mod interrupt;
mod output;
mod patch;
mod paths;
mod pipeline;
mod process;
mod source;
mod status;
mod test;
mod up;

use clap::Parser;
use std::process::ExitCode;

use crate::context::Context;
use crate::error::Result;

/// Sluice's toolkit: patches Kubernetes, builds it, packs it, runs it.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    Bench(bench::Cmd),
    Up(up::Cmd),
    Down(down::Cmd),
    Status(status::Cmd),
    Test(test::Cmd),
    Build(build::Cmd),
    BuildImages(build_images::Cmd),
    Codegen(codegen::Cmd),
    Doctor(doctor::Cmd),
    Patch(patch::Cmd),
    Source(source::Cmd),
}

impl Verb {
    fn run(self, shell: &Context) -> Result<()> {
        match self {
            Self::Bench(cmd) => cmd.run(shell),
            Self::Up(cmd) => cmd.run(shell),
            Self::Down(cmd) => cmd.run(shell),
            Self::Status(cmd) => cmd.run(shell),
            Self::Test(cmd) => cmd.run(shell),
            Self::Build(cmd) => cmd.run(shell),
            Self::BuildImages(cmd) => cmd.run(shell),
            Self::Codegen(cmd) => cmd.run(shell),
            Self::Doctor(cmd) => cmd.run(shell),
            Self::Patch(cmd) => cmd.run(shell),
            Self::Source(cmd) => cmd.run(shell),
        }
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => return error::usage(&usage),
    };
    match Context::from_env().and_then(|shell| cli.verb.run(&shell)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}
