//! Creates shirts.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::api::{Connection, Server};
use super::latency::Histogram;
use super::memory::Watcher;
use super::part::What;
use super::shirt;
use crate::say;

/// How many create at once.
const CLIENTS: u64 = 32;

/// How often a create is tried before the system is given up.
const TRIES: usize = 5;

/// Creates the shirts of these numbers through the API; earlier ones are there.
///
/// Returns what was done, and why it was not all.
pub(super) async fn run(
    server: &Server,
    numbers: Range<u64>,
    limit: Duration,
    watcher: &Watcher,
) -> Result<(What, Option<String>)> {
    if numbers.start == 0 {
        shirt::define(&mut server.connection(), "shirts").await?;
    }
    let (begin, next, made) = (Instant::now(), Arc::new(AtomicU64::new(numbers.start)), Arc::new(AtomicU64::new(0)));
    let mut tasks = Vec::new();
    for _ in 0..CLIENTS {
        let (connection, next, made, end) = (server.connection(), Arc::clone(&next), Arc::clone(&made), numbers.end);
        tasks.push(tokio::spawn(client(connection, next, made, end)));
    }
    let wanted = numbers.end - numbers.start;
    let stopped = supervise(&tasks, &next, &made, wanted, begin, limit, watcher).await;
    let (mut histogram, mut failed) = (Histogram::default(), None);
    for task in tasks {
        let (latencies, failure) = task.await?;
        histogram.merge(&latencies);
        failed = failed.or(failure);
    }
    let reached = numbers.start + made.load(Ordering::Relaxed);
    let stopped =
        stopped.or(failed).map(|reason| format!("at {} shirts: {reason}", crate::report::number(reached as f64)));
    let seconds = begin.elapsed().as_secs_f64();
    let what = What::Load { from: numbers.start, to: numbers.end, reached, seconds, latency: histogram.latency() };
    Ok((what, stopped))
}

/// Waits for the clients; says how far they are, and ends them when a limit is passed.
async fn supervise<T>(
    tasks: &[tokio::task::JoinHandle<T>],
    next: &AtomicU64,
    made: &AtomicU64,
    wanted: u64,
    begin: Instant,
    limit: Duration,
    watcher: &Watcher,
) -> Option<String> {
    let mut said = Instant::now();
    while !tasks.iter().all(tokio::task::JoinHandle::is_finished) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let late = (begin.elapsed() > limit).then(|| format!("more than {} s", limit.as_secs()));
        if let Some(reason) = watcher.stop().or(late) {
            next.store(u64::MAX / 2, Ordering::Relaxed);
            return Some(reason);
        }
        if said.elapsed() > Duration::from_secs(15) {
            said = Instant::now();
            say(&format!("  {} of {wanted} shirts", made.load(Ordering::Relaxed)));
        }
    }
    None
}

/// Creates the next shirt until there is none; ends with the reason if one can't be created.
async fn client(
    mut connection: Connection,
    next: Arc<AtomicU64>,
    made: Arc<AtomicU64>,
    end: u64,
) -> (Histogram, Option<String>) {
    let (mut histogram, path) = (Histogram::default(), shirt::path("shirts"));
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= end {
            return (histogram, None);
        }
        match create(&mut connection, &path, number, &mut histogram).await {
            Ok(()) => made.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                // The others shall not go on alone.
                next.store(u64::MAX / 2, Ordering::Relaxed);
                return (histogram, Some(format!("{error:#}")));
            }
        };
    }
}

async fn create(connection: &mut Connection, path: &str, number: u64, histogram: &mut Histogram) -> Result<()> {
    let mut last = anyhow!("not tried");
    for attempt in 0..TRIES {
        let sent = Instant::now();
        match connection.create(path, shirt::shirt(number)).await {
            // The first try may have arrived although its answer did not.
            Ok(answer) if answer.status.is_success() || (attempt > 0 && answer.status.as_u16() == 409) => {
                histogram.add(sent.elapsed());
                return Ok(());
            }
            Ok(answer) => last = anyhow!("create: {}", answer.describe()),
            Err(error) => last = error.context("create"),
        }
        tokio::time::sleep(Duration::from_millis(200 << attempt)).await;
    }
    Err(last)
}
