//! A database with many keys: how soon it is ready, what it needs.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::client::Store;
use crate::load::{End, Measured, fill, run};
use crate::say;
use crate::server::{Kind, Memory, Server};
use crate::workload::{Keys, Op, workers};

/// What was measured on one server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Large {
    /// Keys that it took in the time that there was.
    pub(crate) keys: u64,
    /// Keys created a second.
    pub(crate) fill_rate: f64,
    /// From the start of the process to its first answer, with all keys there.
    pub(crate) ready_after: Duration,
    /// After the fill.
    pub(crate) full: Memory,
    /// After a restart and the reads.
    pub(crate) served: Memory,
    /// Bytes on disk.
    pub(crate) disk: f64,
    /// Counts of all keys.
    pub(crate) count: Measured,
    /// Gets.
    pub(crate) get: Measured,
    /// Pages of 500.
    pub(crate) list: Measured,
}

/// Fills a database, for `patience` at most, restarts the server and reads.
pub(crate) async fn measure(
    kind: Kind,
    program: &Path,
    data: &Path,
    wanted: u64,
    patience: Duration,
    duration: Duration,
) -> Result<Large> {
    let server = Server::start(kind, program, data).await?;
    let begin = Instant::now();
    let keys = fill(&Store::connect(&server.url(), 256).await?, Keys::STORED, wanted, patience).await?;
    let fill_rate = keys as f64 / begin.elapsed().as_secs_f64();
    say(&format!("  {kind}: {keys} keys"));
    let full = server.memory()?;
    let server = server.restart().await?;
    let ready_after = server.ready_after;
    let store = Store::connect(&server.url(), 32).await?;
    let mut reads = Vec::new();
    for (run_number, op) in [Op::Count, Op::Get, Op::List].into_iter().enumerate() {
        let clients = if op == Op::Count { 1 } else { 32 };
        let workers = workers(&store, op, clients, run_number as u64, keys).await?;
        reads.push(run(workers, End::After(duration)).await?.0);
    }
    let (served, disk) = (server.memory()?, server.disk()?);
    Ok(Large { keys, fill_rate, ready_after, full, served, disk, count: reads[0], get: reads[1], list: reads[2] })
}
