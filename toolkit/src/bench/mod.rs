//! `cargo xtask bench`: measures, on this machine, in one run.

mod control_plane;
mod document;
mod gc;
mod platform;
mod store;

use std::time::Duration;

use clap::{Args, Subcommand};

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
