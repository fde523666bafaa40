//! The command line: without a command it serves, see [`Config`].

use std::ffi::OsString;
use std::io::Write;

use anyhow::Result;
use clap::builder::styling::Styles;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::config::{Config, Given, READ_ENDPOINT, TARGET_PASSWORD_FILE, version};
use crate::endpoint::{Endpoint, PASSWORD_FILE};
use crate::inspect::explain::Explain;
use crate::inspect::gc::Gc;
use crate::inspect::instances::Instances;
use crate::migrate::accept_rollback::AcceptRollback;
use crate::migrate::export::Export;
use crate::migrate::fsck::Fsck;
use crate::migrate::import::Import;
use crate::migrate::migrate_to::MigrateTo;
use crate::migrate::move_group::MoveGroup;
use crate::migrate::partition::Partition;
use crate::migrate::restore::Restore;
use crate::variables;

/// An etcd v3 server that keeps its data in an SQL database.
#[derive(Debug, Clone, Parser)]
#[command(name = "sluice-shim", version = version(), about, styles = Styles::plain(), max_term_width = 100)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// How to serve.
    #[command(flatten)]
    pub server: Config,

    /// Which URL of the command line has a password in it, and the flag to use instead.
    #[arg(skip)]
    pub shows_password: Option<(&'static str, &'static str)>,
}

/// What can be done with a database instead of serving it. `explain`, `instances`, `gc` and
/// `migrate-to` can be done while a server has it open.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Build a database, which must be new or empty, from an etcd snapshot file.
    Restore(Restore),
    /// Build a database, which must be new or empty, from a running etcd or kine.
    Import(Import),
    /// Write a database that no server has open as an etcd snapshot file.
    Export(Export),
    /// Move a store to another database, also while a server serves it.
    MigrateTo(MigrateTo),
    /// Move the objects of a group to a database of their own; no server may have the database open.
    MoveGroup(MoveGroup),
    /// Check a database that no server has open for damage.
    Fsck(Fsck),
    /// Go on with a database that went back, to a backup or to what a standby had.
    AcceptRollback(AcceptRollback),
    /// Partition the tables of a store that no server serves, or make them whole again.
    Partition(Partition),
    /// Show how a list with a selector is read.
    Explain(Explain),
    /// Show which processes have a database: the one that serves, and those that stand by.
    Instances(Instances),
    /// Look at the garbage collector's work, also while a server has the database open.
    #[command(subcommand)]
    Gc(Gc),
}

impl Cli {
    /// Reads the command line and the variables. A variable that is set to nothing counts as unset.
    ///
    /// # Errors
    /// clap's: what is wrong, or the help that was asked for.
    pub fn read(words: &[OsString]) -> Result<Self, clap::Error> {
        let mut command = variables::without_empty(Self::command());
        let mut matches = command.try_get_matches_from_mut(words)?;
        let shows_password = shows_password(&matches);
        let cli = Self::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))?;
        Ok(Self { shows_password, ..cli })
    }

    /// Which of the flags that an error names have their values from variables: a line for each.
    pub fn origins(words: &[OsString], error: &str) -> Vec<String> {
        variables::origins(&Self::command(), words, error)
    }

    /// Variables that are no flag's, but look like misspelt ones: each with the one that may be meant.
    pub fn misspelt_variables() -> Vec<(String, String)> {
        variables::misspelt(&Self::command())
    }
}

/// Which URL of the command line has a password in it, if one has. One in a variable is not seen by other users.
fn shows_password(matches: &ArgMatches) -> Option<(&'static str, &'static str)> {
    let mut matches = matches;
    while let Some((_, of_command)) = matches.subcommand() {
        matches = of_command;
    }
    let shows = |id| {
        let mut given = matches.try_get_many::<Given>(id).ok().flatten().into_iter().flatten().flatten();
        let has_password = given.any(Endpoint::has_password);
        has_password && matches.value_source(id) == Some(ValueSource::CommandLine)
    };
    let all = [
        ("endpoint", ("--endpoint", PASSWORD_FILE)),
        ("read_endpoint", (READ_ENDPOINT, PASSWORD_FILE)),
        ("target", ("TARGET", TARGET_PASSWORD_FILE)),
    ];
    all.into_iter().find(|(id, _)| shows(id)).map(|(_, names)| names)
}

impl Command {
    /// Does it, and says what was done. Returns whether all is well. Blocks: call it where that is allowed, in a tokio
    /// runtime.
    ///
    /// # Errors
    /// When it can't be done.
    pub fn run(&self, out: &mut dyn Write) -> Result<bool> {
        match self {
            Self::Restore(restore) => writeln!(out, "restored {}", restore.run()?)?,
            Self::Import(import) => writeln!(out, "imported {}", import.run()?)?,
            Self::Export(export) => writeln!(out, "exported {}", export.run()?)?,
            Self::MigrateTo(migrate) => return migrate.run(out),
            Self::MoveGroup(group) => return group.run(out),
            Self::AcceptRollback(accept) => writeln!(out, "accepted {}", accept.run()?)?,
            Self::Partition(partition) => writeln!(out, "{}", partition.run()?)?,
            Self::Fsck(fsck) => return fsck.run(out),
            Self::Explain(explain) => explain.run(out)?,
            Self::Instances(instances) => instances.run(out)?,
            Self::Gc(gc) => gc.run(out)?,
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_of_a_move() {
        let mut command = Cli::command();
        let migrate_to = command.find_subcommand_mut("migrate-to").unwrap();
        // Without values: the variables of whoever runs the test are not part of it.
        let mut migrate_to = migrate_to.clone().mut_args(|arg| arg.hide_env_values(true));
        insta::assert_snapshot!(migrate_to.render_long_help());
    }
}
