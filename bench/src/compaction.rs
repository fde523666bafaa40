//! How long writes wait while much history is removed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::client::Store;
use crate::load::{End, Measured, run};
use crate::say;
use crate::server::{Candidate, Server};
use crate::workload::{Op, workers};

/// Clients that make history.
const MAKERS: usize = 256;
/// Clients whose latency is measured.
const CLIENTS: usize = 32;

/// What was measured on one server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Compaction {
    /// Revisions that were compacted.
    pub(crate) revisions: u64,
    /// Writes before.
    pub(crate) usual: Measured,
    /// Writes from the start of the compaction to its end.
    pub(crate) during: Measured,
    /// How long the compaction took.
    pub(crate) took: Duration,
}

/// Makes history, for `patience` at most, then compacts all of it under load.
pub(crate) async fn measure(
    candidate: &Candidate,
    data: &Path,
    revisions: u64,
    patience: Duration,
    duration: Duration,
) -> Result<Compaction> {
    let server = Server::start(candidate, data).await?;
    let store = Store::connect(&server.url(), MAKERS).await?;
    let (begin, mut made) = (Instant::now(), 0);
    let mut makers = workers(&store, Op::Update, MAKERS, 1, 0).await?;
    while made < revisions && begin.elapsed() < patience {
        let (measured, same) = run(makers, End::After(Duration::from_millis(500))).await?;
        makers = same;
        made += measured.requests;
    }
    say(&format!("  {}: {made} revisions", candidate.kind));
    let (usual, writers) = run(workers(&store, Op::Update, CLIENTS, 2, 0).await?, End::After(duration)).await?;
    let over = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn(run(writers, End::Signal(Arc::clone(&over))));
    // Not before the load is there.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let revision = store.client(0).create("/last".into(), "x".into()).await?.revision;
    let begin = Instant::now();
    store.client(0).compact(revision).await?;
    let took = begin.elapsed();
    // etcd and kine go on after they answered; the same time for all at least.
    tokio::time::sleep(duration.saturating_sub(took)).await;
    over.store(true, Ordering::Relaxed);
    let (during, _) = load.await??;
    Ok(Compaction { revisions: made, usual, during, took })
}
