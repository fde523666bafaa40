//! `cargo xtask down`: ends the control plane that `up` started.

use std::path::PathBuf;

use crate::cluster::{self, Cluster};
use crate::up;
use sluice_shell::context::Context;
use sluice_shell::error::Result;

/// Stops the control plane that `up` started, and removes its data
///
/// Processes that were killed before are no obstacle. Of the folder, only what `up` put there is removed. A database
/// that `--backend` or `--shard` named is left as it is.
#[derive(clap::Args)]
pub struct Cmd {
    /// The cluster's folder [default: .sluice/cluster in the workspace]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Stop the processes and leave the folder; `up` goes on from there
    #[arg(long)]
    keep_data: bool,
}

impl Cmd {
    /// Stops the cluster.
    pub(crate) fn run(self, shell: &Context) -> Result<()> {
        let folder = up::folder(shell, self.dir.as_deref());
        if !self.keep_data && Cluster::remove_remains(&folder)? {
            let folder = folder.display();
            shell.out.note(format!(
                "cluster: there was none in {folder} yet; what an unfinished `up` left there is removed"
            ));
            return Ok(());
        }
        let cluster = Cluster::open(&folder)?;
        let folder = cluster.folder.clone();
        let progress = shell.out.spinner("cluster");
        cluster.stop()?;
        if self.keep_data {
            progress.done(format!("stopped; its data stays in {}", folder.display()));
            return Ok(());
        }
        let foreign = cluster::foreign_databases(&cluster.settings);
        cluster.remove()?;
        progress.done(format!("stopped and removed from {}", folder.display()));
        if !foreign.is_empty() {
            shell.out.note(format!("the objects are still in the database that {} named", foreign.join(" or ")));
        }
        Ok(())
    }
}
