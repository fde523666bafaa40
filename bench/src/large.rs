//! A database with many keys: how soon it is ready, what it needs.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::client::Store;
use crate::load::{End, fill, run};
use crate::say;
use crate::server::{Candidate, Memory, Server};
use crate::workload::{Keys, Op, workers};

/// What is read.
pub(crate) const READS: [Op; 3] = [Op::Count, Op::Get, Op::List];

/// A server that has been filled and started again.
#[derive(Debug)]
pub(crate) struct Large {
    pub(crate) server: Server,
    /// Keys that it took in the time that there was.
    pub(crate) keys: u64,
    /// Keys created a second.
    pub(crate) fill_rate: f64,
    /// After the fill.
    pub(crate) full: Memory,
}

impl Large {
    /// Fills a database, for `patience` at most, and restarts the server.
    pub(crate) async fn fill(candidate: &Candidate, data: &Path, wanted: u64, patience: Duration) -> Result<Self> {
        let server = Server::start(candidate, data).await?;
        let begin = Instant::now();
        let keys = fill(&Store::connect(&server.url(), 256).await?, Keys::STORED, wanted, patience).await?;
        let fill_rate = keys as f64 / begin.elapsed().as_secs_f64();
        say(&format!("  {}: {keys} keys", candidate.kind));
        let full = server.memory()?;
        Ok(Self { server: server.restart().await?, keys, fill_rate, full })
    }

    /// How many of these reads it serves a second: counts of all keys for one client, gets or pages of 500 for 32.
    pub(crate) async fn read(&self, op: Op, round: u64, duration: Duration) -> Result<f64> {
        let clients = if op == Op::Count { 1 } else { 32 };
        let store = Store::connect(&self.server.url(), clients).await?;
        let workers = workers(&store, op, clients, round, self.keys).await?;
        Ok(run(workers, End::After(duration)).await?.0.rate())
    }
}
