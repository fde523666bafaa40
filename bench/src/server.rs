//! The servers: started on loopback with a fresh data folder, asked for their size, stopped.

use std::fmt;
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::client::Store;
use crate::cost::{Costs, cost_of};
use crate::database::{Database, Place};

/// How long a server may take to answer its first request, and to end.
const PATIENCE: Duration = Duration::from_secs(120);

/// kine's options for SQLite (kine: pkg/drivers/sqlite/sqlite.go, `DefaultParams`), but `FULL` instead of `NORMAL`,
/// which does not sync a commit before it is acknowledged.
const KINE_SQLITE: &str =
    "_journal_mode=WAL&_busy_timeout=30000&_synchronous=FULL&_txlock=immediate&_stmt_cache_size=20&cache=shared";

/// A server that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// etcd, one member.
    Etcd,
    /// kine.
    Kine,
    /// Another sluice-shim, to see what a change does.
    Before,
    /// sluice-shim on SQLite, beside the one on a database server.
    Sqlite,
    /// sluice-shim that stands by, and hands requests on to another one.
    Standby,
    /// sluice-shim that reads lists from replicas of its database as well.
    Replicas,
    /// sluice-shim whose tables are partitioned by key, into 8.
    Keyed,
    /// sluice-shim whose tables are partitioned by resource: one has the keys.
    Resource,
    /// sluice-shim.
    Shim,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Etcd => "etcd",
            Self::Kine => "kine",
            Self::Before => "before",
            Self::Sqlite => "sqlite",
            Self::Standby => "standby",
            Self::Replicas => "replicas",
            Self::Keyed => "keyed",
            Self::Resource => "resource",
            Self::Shim => "sluice-shim",
        })
    }
}

/// What is measured: a program, and the database server that it keeps its data on, if that is no file of its own.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    /// Which one.
    pub(crate) kind: Kind,
    /// Its program.
    pub(crate) program: PathBuf,
    /// Where databases are made for it.
    pub(crate) database: Option<Arc<Database>>,
}

/// A server that runs. Dropping it kills the process and removes its database.
#[derive(Debug)]
pub(crate) struct Server {
    /// Which one.
    pub(crate) kind: Kind,
    child: Running,
    /// The process that requests are handed on to.
    behind: Option<Running>,
    /// From the start of the process to its first answer.
    pub(crate) ready_after: Duration,
    port: u16,
    program: PathBuf,
    data: PathBuf,
    /// Behind the process, which uses it.
    place: Option<Place>,
}

/// A process that ends with its value.
#[derive(Debug)]
struct Running(Child);

impl Server {
    /// Starts a server whose files are in a folder, on no data, and waits until it answers.
    pub(crate) async fn start(candidate: &Candidate, data: &Path) -> Result<Self> {
        let Candidate { kind, program, database } = candidate;
        std::fs::create_dir_all(data).with_context(|| format!("create {}", data.display()))?;
        let place = database.as_ref().map(Database::make).transpose()?;
        Self::run(*kind, program.clone(), data.to_owned(), place).await
    }

    async fn run(kind: Kind, program: PathBuf, data: PathBuf, place: Option<Place>) -> Result<Self> {
        let start = |port| spawn(kind, &program, &data, place.as_ref(), port).map(Running);
        let begin = Instant::now();
        let behind = match kind {
            Kind::Standby => {
                let port = free_port()?;
                let mut first = start(port)?;
                answers(&mut first, kind, port, &data).await?;
                Some(first)
            }
            _ => None,
        };
        let port = free_port()?;
        let mut child = start(port)?;
        answers(&mut child, kind, port, &data).await?;
        Ok(Self { kind, child, behind, ready_after: begin.elapsed(), port, program, data, place })
    }

    /// Ends the process in good order and starts it again on the same data.
    pub(crate) async fn restart(mut self) -> Result<Self> {
        self.stop()?;
        drop(self.behind.take());
        Self::run(self.kind, self.program, self.data, self.place).await
    }

    /// Ends the process by a signal and starts it again on the same data, at the same port. Returns how long it took
    /// from the signal to the first answer.
    pub(crate) async fn again(&mut self, signal: Signal) -> Result<Duration> {
        let begin = Instant::now();
        kill(self.pid(), signal)?;
        while self.child.0.try_wait()?.is_none() {
            if begin.elapsed() > PATIENCE {
                bail!("{} does not end", self.kind);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.child = Running(spawn(self.kind, &self.program, &self.data, self.place.as_ref(), self.port)?);
        answers(&mut self.child, self.kind, self.port, &self.data).await?;
        Ok(begin.elapsed())
    }

    /// The URL that clients connect to.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn stop(&mut self) -> Result<()> {
        kill(self.pid(), Signal::SIGTERM)?;
        let begin = Instant::now();
        while self.child.0.try_wait()?.is_none() {
            if begin.elapsed() > PATIENCE {
                bail!("{} does not end", self.kind);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// File handles and threads of the process.
    pub(crate) fn handles_and_threads(&self) -> Result<(f64, f64)> {
        let count = |name: &str| {
            let path = format!("/proc/{}/{name}", self.pid());
            Ok::<_, anyhow::Error>(std::fs::read_dir(&path).with_context(|| format!("read {path}"))?.count() as f64)
        };
        Ok((count("fd")?, count("task")?))
    }

    /// Bytes of the database and of SQLite's log of it. A database server's log is no file of ours: 0.
    pub(crate) fn database_and_log(&self) -> Result<(f64, f64)> {
        match &self.place {
            Some(place) => Ok((place.bytes()?, 0.0)),
            None => {
                let length = |name: &str| {
                    let path = self.data.join(name);
                    std::fs::metadata(&path).map_or(0.0, |metadata| metadata.len() as f64)
                };
                Ok((length("state.db"), length("state.db-wal")))
            }
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.0.id().cast_signed())
    }

    /// Resident memory in bytes: all of it, and the part that is not a view of a file.
    pub(crate) fn memory(&self) -> Result<Memory> {
        let path = format!("/proc/{}/status", self.pid());
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()).and_then(|kib| kib.parse::<f64>().ok())
        };
        let (Some(all), Some(anonymous)) = (field("VmRSS:"), field("RssAnon:")) else { bail!("{path} has no VmRSS") };
        Ok(Memory { resident: all * 1024.0, anonymous: anonymous * 1024.0 })
    }

    /// What the process took, with the one behind it, and what its database server took.
    pub(crate) fn costs(&self) -> Result<Costs> {
        let database = self.place.as_ref().map(Place::cost).transpose()?;
        let behind = self.behind.as_ref().map(|behind| cost_of(behind.0.id())).transpose()?;
        Ok(Costs { own: cost_of(self.child.0.id())? + behind.unwrap_or_default(), database })
    }

    /// Bytes that the data occupies on the disk.
    pub(crate) fn disk(&self) -> Result<f64> {
        match &self.place {
            Some(place) => place.bytes(),
            None => disk_of(&self.data).map(|blocks| blocks as f64 * 512.0),
        }
    }
}

/// Waits until a process answers at a port.
async fn answers(process: &mut Running, kind: Kind, port: u16, data: &Path) -> Result<()> {
    let begin = Instant::now();
    loop {
        if let Some(status) = process.0.try_wait()? {
            bail!("{kind} ended at once ({status}); see {}", data.join("log").display());
        }
        if let Ok(store) = Store::connect(&format!("http://127.0.0.1:{port}"), 1).await
            && store.client(0).get("/ready".into()).await.is_ok()
        {
            return Ok(());
        }
        if begin.elapsed() > PATIENCE {
            bail!("{kind} does not answer; see {}", data.join("log").display());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Resident memory, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// All of it (VmRSS).
    pub(crate) resident: f64,
    /// Without views of files, which the system can drop (RssAnon).
    pub(crate) anonymous: f64,
}

/// Every server runs as its makers ship it, but for one thing: each commit is synced to the disk before it is
/// acknowledged.
fn spawn(kind: Kind, program: &Path, data: &Path, place: Option<&Place>, port: u16) -> Result<Child> {
    let log = File::create(data.join("log")).with_context(|| format!("create the log of {kind}"))?;
    let mut command = Command::new(program);
    command.current_dir(data).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    match kind {
        Kind::Etcd => {
            let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{}", free_port()?));
            command
                .args(["--name", "default", "--data-dir", "member", "--log-level", "error"])
                .args(["--quota-backend-bytes", "8589934592"])
                .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
                .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
                .args(["--initial-cluster", &format!("default={peer}")])
        }
        Kind::Kine => command
            .args(["--metrics-bind-address", "0", "--listen-address", &format!("tcp://127.0.0.1:{port}")])
            .env("KINE_ENDPOINT", place.map_or(format!("sqlite://./state.db?{KINE_SQLITE}"), Place::for_kine)),
        Kind::Before | Kind::Sqlite | Kind::Standby | Kind::Replicas | Kind::Keyed | Kind::Resource | Kind::Shim => {
            command
                .args(["--log-level", "warn", "--listen-client-urls", &format!("http://127.0.0.1:{port}")])
                .args(more(kind))
                .envs(
                    place.filter(|_| kind == Kind::Replicas).map(|place| ("SLUICE_READ_ENDPOINT", place.of_replicas())),
                )
                .env("SLUICE_ENDPOINT", place.map_or("sqlite://state.db".to_owned(), Place::for_shim))
        }
    };
    command.spawn().with_context(|| format!("start {}", program.display()))
}

/// The flags by which a server differs from the usual one.
fn more(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Standby => &["--standby"],
        Kind::Keyed => &["--partition-by", "key"],
        Kind::Resource => &["--partition-by", "resource", "--partition", "/registry/stable.example.com/"],
        _ => &[],
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0)).context("find a free port")?.local_addr()?.port())
}

/// Blocks of 512 bytes, of all files below.
fn disk_of(folder: &Path) -> Result<u64> {
    let mut blocks = 0;
    for entry in std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let entry = entry?;
        // A file may go while we look.
        let Ok(metadata) = entry.metadata() else { continue };
        blocks += if metadata.is_dir() { disk_of(&entry.path())? } else { metadata.blocks() };
    }
    Ok(blocks)
}
