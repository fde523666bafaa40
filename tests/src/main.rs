//! `cargo xtask test`: all that must hold, from the form of the code to real clusters.
//!
//! [`test`] is the verb; [`e2e`] holds the end-to-end cases on control planes, [`cluster`] those on a node that runs
//! Pods; [`conformance`] runs upstream's own tests.

mod choice;
mod cluster;
mod conformance;
mod databases;
#[cfg(test)]
mod documented;
mod e2e;
mod images;
mod kubectl;
mod libtest;
mod python;
mod runner;
mod scale;
mod server;
mod soak;
mod test;
#[cfg(test)]
mod workflows;

use std::process::ExitCode;

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

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use sluice_shell::verbs::{self, Program};

    use super::*;

    /// `cargo xtask --help` is written before any of this is compiled.
    #[test]
    fn the_list_of_verbs_is_what_the_programs_do() {
        let ours = |verb: &&verbs::Verb| verb.program != Program::Xtask;
        let mut listed: Vec<(&str, String)> =
            verbs::ALL.iter().filter(ours).map(|verb| (verb.name, verb.about.to_owned())).collect();
        let command = Cli::command();
        let about = |verb: &clap::Command| verb.get_about().map(ToString::to_string).unwrap_or_default();
        let mut done: Vec<(&str, String)> =
            command.get_subcommands().map(|verb| (verb.get_name(), about(verb))).collect();
        listed.sort();
        done.sort();
        assert_eq!(listed, done);
    }

    #[test]
    fn the_toolkit_alone_does_all_but_the_tests() {
        #[derive(clap::Parser)]
        struct Alone {
            #[command(subcommand)]
            _verb: sluice_toolkit::Verb,
        }
        let alone = Alone::command();
        for verb in verbs::ALL {
            assert_eq!(alone.find_subcommand(verb.name).is_some(), verb.program == Program::Toolkit, "{}", verb.name);
        }
    }
}
