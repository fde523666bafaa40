//! The command line: without a command it serves, see [`Config`].

use std::ffi::OsString;
use std::io::Write;

use anyhow::Result;
use clap::builder::styling::Styles;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::config::{Config, Given, version};
use crate::endpoint::Endpoint;
use crate::inspect::explain::Explain;
use crate::inspect::gc::Gc;
use crate::migrate::export::Export;
use crate::migrate::fsck::Fsck;
use crate::migrate::import::Import;
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

    /// Whether the words of the command line have a password in them.
    #[arg(skip)]
    pub shows_password: bool,
}

/// What can be done with a database instead of serving it. `explain` and `gc` can be done while a server has it open.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Build a database, which must be new or empty, from an etcd snapshot file.
    Restore(Restore),
    /// Build a database, which must be new or empty, from a running etcd or kine.
    Import(Import),
    /// Write a database that no server has open as an etcd snapshot file.
    Export(Export),
    /// Check a database that no server has open for damage.
    Fsck(Fsck),
    /// Show how a list with a selector is read.
    Explain(Explain),
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

/// Whether there is a password in `--endpoint`. One in the variable is not seen by other users.
fn shows_password(matches: &ArgMatches) -> bool {
    let mut matches = matches;
    while let Some((_, of_command)) = matches.subcommand() {
        matches = of_command;
    }
    let given = matches.get_one::<Given>("endpoint").and_then(|given| given.as_ref().ok());
    let is_flag = matches.value_source("endpoint") == Some(ValueSource::CommandLine);
    is_flag && given.is_some_and(Endpoint::has_password)
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
            Self::Fsck(fsck) => return fsck.run(out),
            Self::Explain(explain) => explain.run(out)?,
            Self::Gc(gc) => gc.run(out)?,
        }
        Ok(true)
    }
}
