//! Measures etcd servers against each other: etcd, kine and sluice-shim, on this machine, in one run. And whole control
//! planes on them: see [`platform`].
//!
//! All servers run from the start, each on a data folder of its own, and are measured in turns (A B C A B C), so that
//! whatever else the machine does hits all of them alike. What counts is therefore the ratio of two servers in the same
//! round. The load comes from one process over gRPC ([`client`], [`load`]); [`workload`] lists what is measured.

mod client;
mod compaction;
mod cost;
mod curves;
mod database;
mod large;
mod load;
mod plan;
mod platform;
mod plot;
mod report;
mod selective;
mod server;
mod soak;
mod watchers;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use server::{Candidate, Kind};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures etcd servers, and control planes on them, against each other.
#[derive(Debug, Parser)]
#[command(version)]
enum Cli {
    /// etcd servers, which it starts itself.
    Store(StoreCmd),
    /// A control plane that runs.
    #[command(subcommand)]
    Platform(platform::Cmd),
    /// One sluice-shim, for a long time, with samples of what it holds.
    Soak(soak::Cmd),
}

#[derive(Debug, clap::Args)]
struct StoreCmd {
    /// The etcd program.
    #[arg(long, value_name = "FILE")]
    etcd: Option<PathBuf>,
    /// The kine program.
    #[arg(long, value_name = "FILE")]
    kine: Option<PathBuf>,
    /// The sluice-shim program, built for release.
    #[arg(long, value_name = "FILE")]
    shim: Option<PathBuf>,
    /// Another sluice-shim, to compare with.
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
    #[command(flatten)]
    database: database::ServerFlags,
    /// Where the servers keep their data meanwhile; must be on a real disk.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where store.json, store.md and store.svg go.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    plan: plan::Flags,
    /// Print the names of the measurements and end.
    #[arg(long)]
    list: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Cli::parse() {
        Cli::Store(cmd) => store(cmd).await,
        Cli::Platform(cmd) => cmd.run().await,
        Cli::Soak(cmd) => cmd.run().await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn store(cli: StoreCmd) -> Result<()> {
    let plan = plan::Plan::of(&cli.plan, cli.database.software.is_some())?;
    if cli.list {
        for name in plan.names() {
            say(&name);
        }
        return Ok(());
    }
    let candidates = candidates(&cli, &plan)?;
    if candidates.is_empty() {
        bail!("there is no server to measure: give --etcd, --kine or --shim");
    }
    std::fs::create_dir_all(&cli.data).with_context(|| format!("create {}", cli.data.display()))?;
    std::fs::create_dir_all(&cli.out).with_context(|| format!("create {}", cli.out.display()))?;
    let report = plan.carry_out(&candidates, &cli.data).await?;
    for (name, text) in [
        ("store.json", serde_json::to_string_pretty(&report)?),
        ("store.md", report.markdown()),
        ("store.svg", plot::svg(&report.rows)),
    ] {
        let path = cli.out.join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    if !report.is_whole() {
        bail!("not everything was measured; the rest is in {}", cli.out.display());
    }
    Ok(())
}

/// What there is to measure.
fn candidates(cli: &StoreCmd, plan: &plan::Plan) -> Result<Vec<Candidate>> {
    let database = database::Database::told(&cli.database)?;
    let sqlite = cli.database.software.and(cli.shim.as_ref());
    let given = [
        (Kind::Etcd, cli.etcd.as_ref(), None),
        (Kind::Kine, cli.kine.as_ref(), database.clone()),
        (Kind::Before, cli.before.as_ref(), database.clone()),
        (Kind::Sqlite, sqlite, None),
        (Kind::Standby, sqlite, database.clone()),
        (Kind::Replicas, sqlite, database.clone()),
        (Kind::Keyed, sqlite, database.clone()),
        (Kind::Resource, sqlite, database.clone()),
        (Kind::Shim, cli.shim.as_ref(), database),
    ];
    let given = given.into_iter().filter(|(kind, ..)| plan.measures(*kind));
    let given = given.filter_map(|(kind, path, database)| path.map(|path| (kind, path, database)));
    // The servers run in folders of their own.
    let absolute =
        given.map(|(kind, path, database)| Ok(Candidate { kind, program: std::path::absolute(path)?, database }));
    absolute.collect()
}

/// One line of progress.
#[expect(clippy::print_stderr, reason = "the progress of a program that one watches")]
fn say(line: &str) {
    eprintln!("{line}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    /// No two flags, nor groups of them, have one name.
    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }
}
