//! Whole control planes under load: a million shirts, and a crowd of users.
//!
//! `cargo xtask bench platform` starts the systems and calls these commands, each of which adds one [`part::Part`] to a
//! file of results; [`report`] makes tables and plots of all parts. A system that takes too much memory or time is
//! stopped, and the part says so.

mod api;
mod crowd;
mod document;
mod floor;
mod latency;
mod load;
mod memory;
mod part;
mod query;
mod report;
mod shirt;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

use self::api::Server;
use self::memory::{Limits, Watcher};
use self::part::{Part, System, What};
use crate::say;

/// One measurement of one system, or the report of all of them.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Cmd {
    /// Note the memory of a system that has nothing to do.
    Idle(Target),
    /// Create shirts.
    Load(Load),
    /// Ask for shirts, and watch them.
    Query(Query),
    /// Many users, who create and read.
    Mixed(Mixed),
    /// Write the report of all parts.
    Report(Report),
}

/// The system under test.
#[derive(Debug, clap::Args)]
pub(crate) struct Target {
    /// What it is.
    #[arg(long, value_enum)]
    system: System,
    /// The port of its API on this machine.
    #[arg(long)]
    port: u16,
    /// The authority of its certificate.
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// A file that begins with the token of a user who may do everything.
    #[arg(long, value_name = "FILE")]
    token: PathBuf,
    /// A process whose memory counts, as NAME=PID; may be repeated.
    #[arg(long, value_name = "NAME=PID", value_parser = memory::parse_process)]
    process: Vec<(String, i32)>,
    /// Stop when the processes together hold more than so many megabytes.
    #[arg(long, value_name = "MB", default_value_t = 14_000)]
    memory: u64,
    /// Where results are added.
    #[arg(long, value_name = "FILE")]
    parts: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Load {
    #[command(flatten)]
    target: Target,
    /// The first shirt to create.
    #[arg(long)]
    from: u64,
    /// The one behind the last.
    #[arg(long)]
    to: u64,
    /// Stop after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    limit: u64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Query {
    #[command(flatten)]
    target: Target,
    /// How many shirts there are.
    #[arg(long)]
    objects: u64,
    /// How long each question is asked, in seconds.
    #[arg(long)]
    seconds: f64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Mixed {
    #[command(flatten)]
    target: Target,
    /// How many users there are.
    #[arg(long, default_value_t = 120)]
    users: usize,
    /// How long they stay.
    #[arg(long)]
    minutes: f64,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Report {
    /// The results.
    #[arg(long, value_name = "FILE")]
    parts: PathBuf,
    /// A program and its version, for the document; may be repeated.
    #[arg(long, value_name = "TEXT")]
    version: Vec<String>,
    /// Where platform.json, platform.md and the plots go.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Cmd {
    /// Measures, or reports.
    pub(crate) async fn run(self) -> Result<()> {
        match self {
            Self::Idle(target) => {
                let watcher = target.watch()?;
                tokio::time::sleep(Duration::from_secs(3)).await;
                target.add(watcher, What::Idle, None)
            }
            Self::Load(cmd) => {
                let (watcher, server) = (cmd.target.watch()?, cmd.target.server()?);
                let limit = Duration::from_secs(cmd.limit);
                let (what, stopped) = load::run(&server, cmd.from..cmd.to, limit, &watcher).await?;
                cmd.target.add(watcher, what, stopped)
            }
            Self::Query(cmd) => {
                let (watcher, server) = (cmd.target.watch()?, cmd.target.server()?);
                let duration = Duration::from_secs_f64(cmd.seconds.clamp(0.1, 600.0));
                let (what, stopped) = query::run(&server, cmd.objects, duration, &watcher).await?;
                cmd.target.add(watcher, what, stopped)
            }
            Self::Mixed(cmd) => {
                let (watcher, server) = (cmd.target.watch()?, cmd.target.server()?);
                let duration = Duration::from_secs_f64((cmd.minutes * 60.0).clamp(1.0, 86_400.0));
                let (what, stopped) = crowd::run(&server, cmd.users, duration, &watcher).await?;
                cmd.target.add(watcher, what, stopped)
            }
            Self::Report(cmd) => document::write(&part::read(&cmd.parts)?, cmd.version, &cmd.out),
        }
    }
}

impl Target {
    fn watch(&self) -> Result<Watcher> {
        Watcher::start(self.process.clone(), Limits::new(self.memory * 1_000_000))
    }

    fn server(&self) -> Result<Server> {
        Server::new(self.port, &self.ca, &self.token)
    }

    /// Writes down what was found.
    fn add(&self, watcher: Watcher, what: What, stopped: Option<String>) -> Result<()> {
        let part = Part { system: self.system, memory: watcher.end(), what, stopped };
        say(&format!("{}: {}", self.system, part.line()));
        part.append(&self.parts).with_context(|| format!("write {}", self.parts.display()))
    }
}
