//! `cargo xtask`: says what this machine lacks, and builds and starts the rest.
//!
//! It answers before the rest is compiled: `doctor`, the list of verbs, a mistyped verb. Which program does which verb
//! is in [`sluice_shell::verbs`].

mod launch;

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Args as _, Command, FromArgMatches as _};
use sluice_shell::context::Context;
use sluice_shell::verbs::{self, Program, Verb};
use sluice_shell::{doctor, error};

fn main() -> ExitCode {
    let done = cli().try_get_matches().and_then(|matches| run(&matches));
    done.unwrap_or_else(|usage| error::usage(&usage))
}

fn cli() -> Command {
    Command::new("xtask")
        .bin_name("cargo xtask")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Sluice's toolkit: patches Kubernetes, builds it, packs it, runs it")
        .disable_help_subcommand(true)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(verbs::ALL.iter().map(subcommand))
}

fn subcommand(verb: &Verb) -> Command {
    let command = Command::new(verb.name).about(verb.about);
    match verb.program {
        Program::Xtask => doctor::Cmd::augment_args(command),
        // Whatever follows, `--help` too, is for the program that knows the flags.
        Program::Toolkit | Program::Tests => command.disable_help_flag(true).arg(
            Arg::new("rest").action(ArgAction::Append).num_args(0..).allow_hyphen_values(true).trailing_var_arg(true),
        ),
    }
}

fn run(matches: &ArgMatches) -> Result<ExitCode, clap::Error> {
    let (name, given) = matches.subcommand().unwrap_or(("doctor", matches));
    let program = verbs::ALL.iter().find(|verb| verb.name == name).map_or(Program::Xtask, |verb| verb.program);
    let shell = Context::from_env();
    let done = match program {
        Program::Xtask => {
            let cmd = doctor::Cmd::from_arg_matches(given)?;
            shell.and_then(|shell| cmd.run(&shell))
        }
        Program::Toolkit | Program::Tests => shell.and_then(|shell| launch::launch(&shell, program)),
    };
    Ok(done.map_or_else(|error| error.report(), |()| ExitCode::SUCCESS))
}
