//! One writer, many watchers of what it writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use sluice_wire::pb::etcdserverpb as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::client::Store;
use crate::load::{End, Measured, run};
use crate::workload::{Keys, Op, workers};

/// Watchers that share a stream, as those of one process do.
const PER_STREAM: usize = 10;
/// How long the last events may take after the last write.
const PATIENCE: Duration = Duration::from_secs(30);

/// The events that reached watchers, and how long the writes waited.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Delivered {
    /// Events, each counted for each watcher.
    pub(crate) events: u64,
    /// From the first write to the last event.
    pub(crate) elapsed: Duration,
    /// The writes.
    pub(crate) writes: Measured,
}

/// Opens the watchers, lets one client create keys for a time, and waits until every watcher has seen all of them.
pub(crate) async fn measure(store: &Store, watchers: usize, run_number: u64, duration: Duration) -> Result<Delivered> {
    let seen = Arc::new(AtomicU64::new(0));
    let mut streams = Vec::new();
    for number in 0..watchers.div_ceil(PER_STREAM) {
        let here = PER_STREAM.min(watchers - number * PER_STREAM);
        streams.push(Stream::open(store, number, here, run_number, &seen).await?);
    }
    let workers = workers(store, Op::Create, 1, run_number, 0).await?;
    let begin = Instant::now();
    let (writes, _) = run(workers, End::After(duration)).await?;
    let wanted = writes.requests * watchers as u64;
    let written = Instant::now();
    while seen.load(Ordering::Acquire) < wanted {
        if written.elapsed() > PATIENCE {
            bail!("{} of {wanted} events arrived", seen.load(Ordering::Acquire));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let elapsed = begin.elapsed();
    for stream in streams {
        stream.reader.abort();
    }
    Ok(Delivered { events: wanted, elapsed, writes })
}

/// A stream with its watchers.
struct Stream {
    reader: tokio::task::JoinHandle<()>,
}

impl Stream {
    async fn open(store: &Store, number: usize, watchers: usize, run: u64, seen: &Arc<AtomicU64>) -> Result<Self> {
        let (requests, receiver) = mpsc::channel(watchers);
        let (key, range_end) = Keys::of_run(run).range();
        for _ in 0..watchers {
            let create =
                pb::WatchCreateRequest { key: key.clone(), range_end: range_end.clone(), ..Default::default() };
            let request_union = Some(pb::watch_request::RequestUnion::CreateRequest(create));
            requests.send(pb::WatchRequest { request_union }).await?;
        }
        let response = store.watch_client(number).watch(ReceiverStream::new(receiver)).await?;
        let mut responses = response.into_inner();
        let mut created = 0;
        while created < watchers {
            let message = responses.message().await?.context("a watch ended")?;
            created += usize::from(message.created);
        }
        let seen = Arc::clone(seen);
        let reader = tokio::spawn(async move {
            // Dropping the sender would end the stream.
            let _requests = requests;
            while let Ok(Some(message)) = responses.message().await {
                seen.fetch_add(message.events.len() as u64, Ordering::AcqRel);
            }
        });
        Ok(Self { reader })
    }
}
