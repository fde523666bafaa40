//! `cargo xtask bench store`: builds the servers and the load generator (`bench/`), and runs it.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{MEASURING, document};
use crate::build::{self, Program};
use crate::cluster::database::Database;
use crate::cluster::leftover;
use crate::cluster::standalone::{self, Standalone};
use sluice_shell::context::Context;
use sluice_shell::error::{Attempt as _, Error, Result};
use sluice_shell::process::Run;

/// Where the load generator finds the connection string of the database server.
pub(super) const VARIABLE: &str = "SLUICE_BENCH_DATABASE";

/// Where the load generator finds the hosts of its replicas.
const HOSTS: &str = "SLUICE_BENCH_REPLICAS";

/// What the load generator calls a shim that reads from replicas.
const REPLICAS: &str = "replicas";

/// What else can be measured on a database server, the last on PostgreSQL alone: name, flag and program.
const ON_A_SERVER: [(&str, &str, Program); 3] = [
    ("sqlite", "shim", Program::SluiceShim),
    ("standby", "shim", Program::SluiceShim),
    (REPLICAS, "shim", Program::SluiceShim),
];

/// Measure the etcd API: etcd, kine on SQLite and sluice-shim on SQLite, in turns.
///
/// With `--database` it is kine and sluice-shim, both on one database server, and sluice-shim on SQLite. Prints a
/// table; a JSON report and a plot are beside it in .sluice/bench. What counts is the ratios: they are taken within a
/// round.
#[derive(Args, Debug)]
pub(crate) struct Cmd {
    /// A minute instead of half an hour: little data, 32 clients, two rounds.
    #[arg(long)]
    quick: bool,
    /// Only the measurements whose name holds this text; may be repeated.
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// A database server, which is started for it and removed afterwards
    #[arg(long, value_enum, value_name = "SERVER")]
    database: Option<Database>,
    /// Only this server: etcd, kine, shim, or with `--database` sqlite for the shim on SQLite, standby for a shim that
    /// hands requests on to another one, or replicas for one that reads lists from two PostgreSQL standbys as well; may
    /// be repeated.
    #[arg(long, value_name = "NAME")]
    server: Vec<String>,
    /// How often each server is measured.
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// How long one measurement takes, in seconds.
    #[arg(long, value_name = "N")]
    seconds: Option<f64>,
    /// The names of the measurements.
    #[arg(long)]
    list: bool,
    /// Another sluice-shim, built for release: measured as well, to see what a change does.
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
    /// Put the table and the plot into docs/benchmarks.md as well.
    #[arg(long)]
    save: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

impl Cmd {
    /// Builds, measures, reports.
    pub(crate) fn run(self, shell: &Context) -> Result<()> {
        let generator = generator(shell)?;
        let measurement = super::of_database("store", self.database);
        let out = super::folder(shell, self.database);
        let run = self.flags(Run::new(&generator, shell.paths.root()).arg("store").arg("--out").arg(&out));
        let run = run.arg("--data").arg(out.join("data"));
        if self.list {
            return run.arg("--list").watch(|line| shell.out.note(line));
        }
        let run = self.servers(shell, run)?.log(shell.paths.log("bench-store")).limit(MEASURING);
        self.measure(shell, run, &out)?;
        let table = fs_err::read_to_string(out.join("store.md"))?;
        if self.save {
            let name = self.database.map_or(String::new(), |database| format!("-{}", database.value()));
            let (plot, json) = (format!("benchmarks{name}.svg"), format!("benchmarks{name}.json"));
            let files = [("store.svg", &*plot), ("store.json", &*json)];
            document::save(&shell.paths.root().join("docs"), &out, &measurement, &table, &files)?;
        }
        if self.json {
            return shell.out.data(fs_err::read_to_string(out.join("store.json"))?);
        }
        shell.out.data(&table)?;
        shell.out.data(format!("{}\n{}", out.join("store.json").display(), out.join("store.svg").display()))
    }

    /// Runs the load generator, beside a database server if one is wanted.
    fn measure(&self, shell: &Context, run: Run, out: &Path) -> Result<()> {
        let Some(database) = self.database else { return run.watch(|line| shell.out.note(line)) };
        leftover::clean_up_on_ctrl_c()?;
        let _lock = shell.lock("bench-database")?;
        let folder = out.join("server");
        let (server, replicas) = if self.server.iter().any(|name| name == REPLICAS) {
            standalone::empty(&folder)?;
            let server = Standalone::primary(&folder, "")?;
            let replicas = [server.standby("standby-1", "")?, server.standby("standby-2", "")?];
            (server, replicas.into())
        } else {
            (Standalone::start(database, &folder)?, Vec::new())
        };
        let hosts: Vec<String> = replicas.iter().map(|replica| format!("127.0.0.1:{}", replica.port)).collect();
        let run = run.arg("--database").arg(database.value()).arg("--database-pid").arg(server.pid().to_string());
        let run = run.env(VARIABLE, &server.endpoint).env(HOSTS, hosts.join(" "));
        let measured = run.watch(|line| shell.out.note(line));
        // Their folders are in that of the server.
        for replica in &replicas {
            replica.stop()?;
        }
        server.stop()?;
        measured
    }

    fn flags(&self, run: Run) -> Run {
        let mut run = if self.quick { run.arg("--quick") } else { run };
        for (flag, values) in [("--only", &self.only), ("--server", &self.server)] {
            for value in values {
                run = run.arg(flag).arg(value);
            }
        }
        if let Some(rounds) = self.rounds {
            run = run.arg("--rounds").arg(rounds.to_string());
        }
        if let Some(seconds) = self.seconds {
            run = run.arg("--seconds").arg(seconds.to_string());
        }
        run
    }

    /// Gives the load generator the programs; those that it does not measure are not built.
    fn servers(&self, shell: &Context, mut run: Run) -> Result<Run> {
        let mut known = vec![("kine", "kine", Program::Kine), ("shim", "shim", Program::SluiceShim)];
        known.extend(match self.database {
            None => [("etcd", "etcd", Program::Etcd)].as_slice(),
            Some(Database::Mariadb) => &ON_A_SERVER[..2],
            Some(Database::Postgres) => &ON_A_SERVER,
        });
        let named = |name: &str| known.iter().any(|(known, ..)| *known == name);
        if let Some(name) = self.server.iter().find(|name| !named(name)) {
            let all: Vec<&str> = known.iter().map(|(name, ..)| *name).collect();
            return Err(Error::input(format!("there is no server {name:?}: they are {}", all.join(", "))));
        }
        let mut given = Vec::new();
        for (name, flag, program) in known {
            let wanted = self.server.is_empty() || self.server.iter().any(|wanted| wanted == name);
            if wanted && !given.contains(&flag) {
                run = run.arg(format!("--{flag}")).arg(built(shell, program)?);
                given.push(flag);
            }
        }
        Ok(match &self.before {
            Some(path) => run.arg("--before").arg(std::path::absolute(path)?),
            None => run,
        })
    }
}

pub(super) fn built(shell: &Context, program: Program) -> Result<PathBuf> {
    let binaries = build::build_tools(shell, &[program])?;
    let binary = binaries.into_iter().next();
    binary.map(|binary| binary.path).ok_or_else(|| Error::input(format!("{} was not built", program.name())))
}

/// Builds the load generator, which must not be slower than what it measures.
pub(super) fn generator(shell: &Context) -> Result<PathBuf> {
    let root = shell.paths.root();
    let progress = shell.out.spinner("build sluice-bench");
    let target = root.join("target");
    Run::cargo(root)
        .args(["build", "--release", "--locked", "--package", "sluice-bench", "--target-dir"])
        .arg(&target)
        .log(shell.paths.log("build-sluice-bench"))
        .watch(|line| progress.now(line.trim()))
        .attempting(|| "cannot build the load generator")?;
    progress.done("");
    Ok(program_in(&target))
}

fn program_in(target: &Path) -> PathBuf {
    target.join("release/sluice-bench")
}
