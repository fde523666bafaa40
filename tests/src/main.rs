//! `cargo xtask test`: all that must hold, from the form of the code to real clusters.
//!
//! [`test`] is the verb; [`e2e`] holds the end-to-end cases, [`conformance`] runs upstream's own tests.

mod conformance;
mod e2e;
mod test;

use std::process::ExitCode;

use sluice_shell::{context, doctor, error, output, process};
use sluice_toolkit::{build, cluster, patch, source};

/// Sluice's toolkit, with its tests.
#[derive(clap::Parser)]
#[command(bin_name = "cargo xtask", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    Test(test::Cmd),
    /// The cases run the toolkit as a program: this one.
    #[command(flatten)]
    Toolkit(sluice_toolkit::Verb),
}

fn main() -> ExitCode {
    sluice_shell::main(|cli: Cli, shell| match cli.verb {
        Verb::Test(cmd) => cmd.run(shell),
        Verb::Toolkit(verb) => verb.run(shell),
    })
}
