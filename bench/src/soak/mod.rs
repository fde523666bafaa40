//! A soak: one sluice-shim under a mixed load for a long time, with samples of what its process holds.
//!
//! The first quarter of the time has restarts, in good order and by SIGKILL in turns. The rest is one long life, so
//! that what leaks has time to be seen; restarts end it. After each restart all that is stored is compared with what
//! was acknowledged. The number of live objects stays the same. `cargo xtask test soak` judges the samples.

mod readers;
mod sample;
mod traffic;
mod watches;
mod writers;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use nix::sys::signal::Signal;
use serde::Serialize;
use sluice_wire::pb::etcdserverpb as pb;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use self::readers::{Compactor, Reader, Snapshots};
use self::sample::Sample;
use self::traffic::{Counts, Traffic, at_rate};
use self::watches::{Opener, slow, steady};
use self::writers::{Owned, Shared, Writer, check};
use crate::client::Store;
use crate::database::{Database, ServerFlags};
use crate::report::Machine;
use crate::server::{Candidate, Kind, Server};
use crate::workload::Keys;

/// The version of soak.json.
const SCHEMA: u32 = 1;

const WRITERS: u64 = 4;
const SLOW: usize = 4;
/// Clients that open and close watches, and how long each waits between two.
const OPENERS: (usize, Duration) = (4, Duration::from_millis(64));
/// Restarts in the first quarter.
const RESTARTS: u32 = 6;

/// How many writes fill the shim's memory for recent events, and how many bytes each has.
const WARM: (usize, usize) = (280, 64 << 10);

/// One sluice-shim, for a long time, with samples of what it holds.
#[derive(Debug, clap::Args)]
pub(crate) struct Cmd {
    /// The sluice-shim program, built for release.
    #[arg(long, value_name = "FILE")]
    shim: PathBuf,
    /// How long.
    #[arg(long, value_name = "N")]
    seconds: u64,
    #[command(flatten)]
    database: ServerFlags,
    /// Where the server keeps its data meanwhile; must be on a real disk.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where soak.csv, soak.json and soak.svg go.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// What was done, beside the samples.
#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    machine: Machine,
    seconds: f64,
    /// The restarts, each with the time from its signal to the first answer, in milliseconds.
    restarts: Vec<(&'static str, u128)>,
    /// Objects that were there at the last check.
    objects: usize,
    counts: &'a Counts,
    told: Vec<String>,
}

/// A soak under way.
struct Soak {
    server: Server,
    traffic: Arc<Traffic>,
    store: Store,
    writers: Vec<Shared>,
    begin: Instant,
    every: Duration,
    samples: Vec<Sample>,
    restarts: Vec<(&'static str, u128)>,
    objects: usize,
}

impl Cmd {
    pub(crate) async fn run(self) -> Result<()> {
        std::fs::create_dir_all(&self.out).with_context(|| format!("create {}", self.out.display()))?;
        let database = Database::told(&self.database)?;
        let program = std::path::absolute(&self.shim)?;
        let server = Server::start(&Candidate { kind: Kind::Shim, program, database }, &self.data).await?;
        let mut soak = Soak::new(server, self.seconds).await?;
        let tasks = soak.load().await?;
        let ended = soak.carry_out(Duration::from_secs(self.seconds)).await;
        drop(tasks);
        // What is known counts even if the server is lost.
        if let Err(error) = &ended {
            soak.traffic.fault(format!("the soak ended early: {error:#}"));
        }
        let report = Report {
            schema: SCHEMA,
            machine: Machine::read(&[])?,
            seconds: soak.begin.elapsed().as_secs_f64(),
            objects: soak.objects,
            counts: &soak.traffic.counts,
            told: soak.traffic.told(),
            restarts: soak.restarts,
        };
        for (name, text) in [
            ("soak.csv", sample::csv(&soak.samples)),
            ("soak.svg", sample::svg(&soak.samples)),
            ("soak.json", serde_json::to_string_pretty(&report)?),
        ] {
            let path = self.out.join(name);
            std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }
}

impl Soak {
    async fn new(server: Server, seconds: u64) -> Result<Self> {
        let traffic = Traffic::to(server.url());
        let store = Store::connect(&traffic.url, 8).await?;
        let writers = (0..WRITERS).map(|number| Arc::new(Mutex::new(Owned::new(&store, number)))).collect();
        Ok(Self {
            server,
            traffic,
            store,
            writers,
            begin: Instant::now(),
            every: Duration::from_millis((seconds * 1000 / 600).clamp(500, 5_000)),
            samples: Vec::new(),
            restarts: Vec::new(),
            objects: 0,
        })
    }

    /// Creates the objects, and starts all clients. Dropping what it returns ends them.
    async fn load(&mut self) -> Result<JoinSet<()>> {
        for writer in &self.writers {
            writer.lock().await.fill(&self.traffic).await?;
        }
        let mut tasks = JoinSet::new();
        let traffic = || Arc::clone(&self.traffic);
        let store = || self.store.clone();
        for writer in &self.writers {
            tasks.spawn(at_rate(Writer(Arc::clone(writer)), traffic(), Duration::from_millis(50)));
        }
        for turn in 0..2 {
            tasks.spawn(at_rate(Reader { store: store(), turn: turn * 8 }, traffic(), Duration::from_millis(40)));
        }
        for number in 0..OPENERS.0 {
            tasks.spawn(at_rate(Opener::new(store(), number * 2), traffic(), OPENERS.1));
        }
        for (number, selector) in [None, None, None, Some("color=blue"), Some("color!=green")].into_iter().enumerate() {
            tasks.spawn(steady(store(), number, traffic(), selector));
        }
        for _ in 0..SLOW {
            tasks.spawn(slow(traffic()));
        }
        let compactor = Compactor { store: store(), before: 0 };
        tasks.spawn(at_rate(compactor, traffic(), Duration::from_secs(5)));
        tasks.spawn(at_rate(Snapshots(store()), traffic(), Duration::from_secs(20)));
        Ok(tasks)
    }

    async fn carry_out(&mut self, whole: Duration) -> Result<()> {
        self.begin = Instant::now();
        let first = whole / 4;
        for number in 1..=RESTARTS {
            self.sample_until(first * number / RESTARTS).await?;
            self.restart(if number.is_multiple_of(2) { Signal::SIGTERM } else { Signal::SIGKILL }).await?;
        }
        self.sample_until(whole).await?;
        for signal in [Signal::SIGKILL, Signal::SIGTERM] {
            self.restart(signal).await?;
        }
        Ok(())
    }

    async fn sample_until(&mut self, until: Duration) -> Result<()> {
        while self.begin.elapsed() < until {
            tokio::time::sleep(self.every).await;
            let (seconds, life) = (self.begin.elapsed().as_secs_f64(), self.restarts.len() as u64);
            self.samples.push(Sample::take(&self.server, seconds, life)?);
            if self.samples.len().is_multiple_of(20) {
                self.say();
            }
        }
        Ok(())
    }

    fn say(&self) {
        let (counts, relaxed) = (&self.traffic.counts, Ordering::Relaxed);
        let Some(last) = self.samples.last() else { return };
        crate::say(&format!(
            "  {:.0} s: {} writes, {} watches; {:.0} MB, {} handles, {} threads, database {:.1} MB, log {:.1} MB",
            last.seconds,
            counts.writes.load(relaxed),
            counts.watches.load(relaxed),
            last.memory / 1e6,
            last.handles,
            last.threads,
            last.database / 1e6,
            last.log / 1e6,
        ));
    }

    /// Ends the server in the middle of the load, starts it, and looks for all that was acknowledged.
    async fn restart(&mut self, signal: Signal) -> Result<()> {
        self.traffic.turn();
        let took = self.server.again(signal).await?;
        crate::say(&format!("  {:.0} s: {signal}, back after {took:?}", self.begin.elapsed().as_secs_f64()));
        self.restarts.push((signal.as_str(), took.as_millis()));
        match check(&Store::connect(&self.traffic.url, 1).await?, &self.writers).await {
            Ok(objects) => self.objects = objects,
            Err(error) => self.traffic.fault(format!("after {signal}: {error:#}")),
        }
        if self.restarts.len() == RESTARTS as usize {
            warm(&self.store, &self.traffic).await?;
        }
        self.traffic.turn();
        Ok(())
    }
}

/// Writes what fills the memory for recent events (`shim/src/engine/hub.rs`, 16 MB), which takes the load five minutes,
/// so that its growth is no part of what is judged. No watch is about these writes.
async fn warm(store: &Store, traffic: &Traffic) -> Result<()> {
    let (client, key) = (store.client(0), Keys::of_run(8).key(0));
    let value = Bytes::from(vec![b'x'; WARM.1]);
    let first = client.create(key.clone(), value.clone()).await?.revision;
    let mut last = first;
    for _ in 0..WARM.0 {
        last = client.update(key.clone(), value.clone(), last).await?.revision;
    }
    last = client.delete(key, last).await?.revision;
    traffic.others.0.store(first, Ordering::Release);
    traffic.others.1.store(last + 1, Ordering::Release);
    traffic.revision.fetch_max(last, Ordering::Relaxed);
    // So they come into the file of the database now, not in the middle of what is judged.
    client.compact(last).await?;
    store.maintenance_client().defragment(pb::DefragmentRequest {}).await?;
    Ok(())
}
