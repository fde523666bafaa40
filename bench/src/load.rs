//! A closed loop: each client sends its next request when the answer to the last one is there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;

use crate::client::Store;
use crate::workload::{Keys, Worker, object};

/// How many clients fill a database.
const FILLERS: usize = 256;

/// What a run of a load came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// Requests.
    pub(crate) requests: u64,
    /// From the first request to the last answer.
    pub(crate) elapsed: Duration,
    /// The median latency.
    pub(crate) p50: Duration,
    /// The latency that one request in a hundred exceeds.
    pub(crate) p99: Duration,
}

impl Measured {
    /// Of the latencies of all requests, in [microseconds](micros).
    pub(crate) fn of(mut latencies: Vec<u32>, elapsed: Duration) -> Self {
        latencies.sort_unstable();
        Self {
            requests: latencies.len() as u64,
            elapsed,
            p50: quantile(&latencies, 0.5),
            p99: quantile(&latencies, 0.99),
        }
    }

    /// Requests a second.
    pub(crate) fn rate(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// When a load ends.
#[derive(Debug, Clone)]
pub(crate) enum End {
    /// After that time.
    After(Duration),
    /// When somebody says so.
    Signal(Arc<std::sync::atomic::AtomicBool>),
}

/// Runs the workers side by side until the end, or until they have nothing more to do.
pub(crate) async fn run(workers: Vec<Worker>, end: End) -> Result<(Measured, Vec<Worker>)> {
    let begin = Instant::now();
    let mut tasks = Vec::new();
    for mut worker in workers {
        let end = end.clone();
        tasks.push(tokio::spawn(async move {
            let mut latencies: Vec<u32> = Vec::new();
            while !end.is_over(begin) {
                let sent = Instant::now();
                if !worker.step().await? {
                    break;
                }
                latencies.push(micros(sent.elapsed()));
            }
            anyhow::Ok((latencies, worker))
        }));
    }
    let (mut latencies, mut workers) = (Vec::new(), Vec::new());
    for task in tasks {
        let (some, worker) = task.await.context("a client stopped")??;
        latencies.extend(some);
        workers.push(worker);
    }
    Ok((Measured::of(latencies, begin.elapsed()), workers))
}

impl End {
    fn is_over(&self, begin: Instant) -> bool {
        match self {
            Self::After(duration) => begin.elapsed() >= *duration,
            Self::Signal(signal) => signal.load(Ordering::Relaxed),
        }
    }
}

/// A latency in microseconds.
pub(crate) fn micros(latency: Duration) -> u32 {
    u32::try_from(latency.as_micros()).unwrap_or(u32::MAX)
}

fn quantile(sorted_micros: &[u32], share: f64) -> Duration {
    let last = sorted_micros.len().saturating_sub(1);
    let at = ((sorted_micros.len() as f64 * share) as usize).min(last);
    Duration::from_micros(sorted_micros.get(at).copied().unwrap_or(0).into())
}

/// Creates the first `wanted` keys, in order, as fast as the server takes them, for that time at most; returns how many
/// there are then.
pub(crate) async fn fill(store: &Store, keys: Keys, wanted: u64, patience: Duration) -> Result<u64> {
    let (begin, next) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let mut tasks = Vec::new();
    for number in 0..FILLERS {
        let (client, next, value) = (store.client(number), Arc::clone(&next), object(number));
        tasks.push(tokio::spawn(async move {
            let mut made = 0;
            while begin.elapsed() < patience {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= wanted {
                    break;
                }
                let key: Bytes = keys.key(at);
                if client.create(key, value.clone()).await.context("fill the database")?.succeeded {
                    made += 1;
                }
            }
            anyhow::Ok(made)
        }));
    }
    let mut made = 0;
    for task in tasks {
        made += task.await.context("a client stopped")??;
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        let sorted: Vec<u32> = (1..=200).collect();
        assert_eq!(quantile(&sorted, 0.5), Duration::from_micros(101));
        assert_eq!(quantile(&sorted, 0.99), Duration::from_micros(199));
        assert_eq!(quantile(&[7], 0.99), Duration::from_micros(7));
        assert_eq!(quantile(&[], 0.99), Duration::ZERO);
    }
}
