//! `cargo xtask bench gc`: one owner is deleted, and all its dependents with it.
//!
//! Ours, patched Kubernetes over the shim with labelled dependents, and stock Kubernetes over etcd with the same
//! dependents without the label, one after the other, each a cluster of its own on a fresh folder.

mod others;
mod report;
mod system;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use self::report::Report;
use self::system::{System, Work};
use super::document;
use crate::cluster::database::Database;
use crate::cluster::programs;
use crate::cluster::settings::{Programs, Store};
use crate::source::Target;
use sluice_shell::context::Context;
use sluice_shell::error::Result;

/// Measure garbage collection: one owner with many dependents is deleted, on ours and on stock Kubernetes with etcd.
///
/// Prints how long it takes until all are gone, what writers of other objects notice, and what memory the processes
/// take. The report is in .sluice/bench/gc.json as well.
#[derive(Args, Debug)]
pub(crate) struct Cmd {
    /// Let sluice-shim keep its data on a database server, which is started with the cluster.
    #[arg(long, value_enum, value_name = "SERVER")]
    database: Option<Database>,
    /// How many dependents; may be repeated.
    #[arg(long, value_enum, default_value = "10k")]
    dependents: Vec<Scale>,
    /// How long a system may take to collect them, in seconds. One that is not done by then is measured by what it did.
    #[arg(long, value_name = "N", default_value_t = 180)]
    limit: u64,
    #[command(flatten)]
    target: Target,
    /// Take the programs from DIR/patched and DIR/stock; build nothing.
    #[arg(long, value_name = "DIR")]
    bin: Option<PathBuf>,
    /// Put the table into docs/benchmarks.md as well.
    #[arg(long)]
    save: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Scale {
    #[value(name = "1k")]
    Thousand,
    #[value(name = "10k")]
    TenThousand,
    #[value(name = "100k")]
    HundredThousand,
}

impl Scale {
    fn number(self) -> usize {
        match self {
            Self::Thousand => 1_000,
            Self::TenThousand => 10_000,
            Self::HundredThousand => 100_000,
        }
    }
}

impl Cmd {
    /// Builds, measures, reports.
    pub(crate) fn run(self, shell: &Context) -> Result<()> {
        let systems = [(System::Ours, self.programs(shell, true)?), (System::Stock, self.programs(shell, false)?)];
        let out = super::folder(shell, self.database);
        let mut runs = Vec::new();
        for scale in &self.dependents {
            for (system, programs) in &systems {
                let backend = super::backend(self.database).filter(|_| *system == System::Ours);
                let work = Work { dependents: scale.number(), limit: Duration::from_secs(self.limit), backend };
                runs.push(system.measure(shell, programs.clone(), &out.join("gc"), work)?);
            }
        }
        let report = Report::new(self.target.k8s.to_string(), self.database, runs);
        fs_err::create_dir_all(&out)?;
        fs_err::write(out.join("gc.json"), serde_json::to_string_pretty(&report)?)?;
        let table = report.table();
        if self.save {
            let measurement = super::of_database("gc", self.database);
            document::save(&shell.paths.root().join("docs"), shell.paths.root(), &measurement, &table, &[])?;
        }
        if self.json { shell.out.json(&report) } else { shell.out.data(table) }
    }

    fn programs(&self, shell: &Context, ours: bool) -> Result<Programs> {
        let (store, folder) = if ours { (Store::Shim, "patched") } else { (Store::Etcd, "stock") };
        match &self.bin {
            Some(bin) => programs::in_folder(&bin.join(folder), store, ours),
            None => programs::built(shell, &self.target, store, ours),
        }
    }
}
