//! The command line: without a command it serves, see [`Config`].

use std::ffi::OsString;
use std::io::Write;

use anyhow::Result;
use clap::builder::styling::Styles;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::config::{Config, version};
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
}

/// What can be done with a database instead of serving it. `explain` and `gc` can be done while a server has it open.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Build a database from an etcd snapshot file.
    Restore(Restore),
    /// Build a database from a running etcd or kine.
    Import(Import),
    /// Write a database as an etcd snapshot file.
    Export(Export),
    /// Check a database for damage.
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
        Self::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
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

impl Command {
    /// Does it, and says what was done. Returns whether all is well. Blocks: call it where that is allowed, in a tokio runtime.
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
