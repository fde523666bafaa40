//! `cargo xtask VERB`, but for `doctor` (in the package `xtask`) and `test` (in `sluice-tests`).

use std::process::ExitCode;

use sluice_toolkit::Verb;

/// Sluice's toolkit: patches Kubernetes, builds it, packs it, runs it.
#[derive(clap::Parser)]
#[command(bin_name = "cargo xtask", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

fn main() -> ExitCode {
    sluice_shell::main(|cli: Cli, shell| cli.verb.run(shell))
}
