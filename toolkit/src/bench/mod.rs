//! `cargo xtask bench`: measures, on this machine, in one run.

mod control_plane;
mod document;
mod gc;
mod platform;
mod soak;
mod store;

pub use soak::soak;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::cluster::database::Database;
use crate::cluster::settings::Backend;
use sluice_shell::context::Context;
use sluice_shell::error::Result;
use sluice_shell::process::Limit;

/// For the load generator, which has limits of its own: a full run takes half an hour, one with other rounds and
/// seconds may take a day.
const MEASURING: Limit = Limit::Clock(Duration::from_hours(24));

/// Measure etcd, kine and sluice-shim against each other, alone and below a control plane.
#[derive(Args, Debug)]
pub struct Cmd {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Store(store::Cmd),
    Platform(platform::Cmd),
    Gc(gc::Cmd),
}

/// What a measurement is called in the document.
fn of_database(measurement: &str, database: Option<Database>) -> String {
    database.map_or(measurement.to_owned(), |database| format!("{measurement} --database {}", database.value()))
}

/// Where its reports are: those of each database in a folder of their own.
fn folder(shell: &Context, database: Option<Database>) -> PathBuf {
    let all = shell.paths.cache().join("bench");
    database.map_or_else(|| all.clone(), |database| all.join(database.value()))
}

/// The database of a cluster that is measured.
fn backend(database: Option<Database>) -> Option<Backend> {
    database.map(|server| Backend::Server { server })
}

impl Cmd {
    /// Measures.
    pub(crate) fn run(self, shell: &Context) -> Result<()> {
        match self.what {
            What::Store(cmd) => cmd.run(shell),
            What::Platform(cmd) => cmd.run(shell),
            What::Gc(cmd) => cmd.run(shell),
        }
    }
}
