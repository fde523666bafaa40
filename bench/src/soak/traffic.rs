//! What all clients of a soak share: whether the server is there, what was done, and what went wrong.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// How long one piece of work may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// So many faults are told, all are counted.
const TOLD: usize = 20;

/// What was done, as counters.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Counts {
    pub(crate) writes: AtomicU64,
    pub(crate) reads: AtomicU64,
    pub(crate) selected: AtomicU64,
    pub(crate) watches: AtomicU64,
    pub(crate) events: AtomicU64,
    pub(crate) slow_events: AtomicU64,
    /// Watches that were so slow that the history which they had still to see was compacted.
    pub(crate) outrun: AtomicU64,
    pub(crate) compactions: AtomicU64,
    pub(crate) snapshots: AtomicU64,
    pub(crate) snapshot_bytes: AtomicU64,
    pub(crate) faults: AtomicU64,
}

/// One more, or more.
pub(crate) fn count(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Ordering::Relaxed);
}

/// The state of a soak.
#[derive(Debug)]
pub(crate) struct Traffic {
    pub(crate) url: String,
    pub(crate) counts: Counts,
    /// The newest revision that a writer was told of.
    pub(crate) revision: AtomicI64,
    /// The first revision of the writes that no client makes, and the one behind the last, up to which the store is
    /// compacted; 0 before.
    pub(crate) others: (AtomicI64, AtomicI64),
    /// Even while the server is there, odd while it is restarted.
    epoch: watch::Sender<u64>,
    told: Mutex<Vec<String>>,
}

impl Traffic {
    pub(crate) fn to(url: String) -> Arc<Self> {
        Arc::new(Self {
            url,
            counts: Counts::default(),
            revision: AtomicI64::new(1),
            others: Default::default(),
            epoch: watch::Sender::new(0),
            told: Mutex::default(),
        })
    }

    /// Waits until the server is there; returns which of its lives it is.
    pub(crate) async fn up(&self) -> u64 {
        let mut epoch = self.epoch.subscribe();
        // The sender is ours.
        epoch.wait_for(|epoch| epoch % 2 == 0).await.map_or(0, |epoch| *epoch)
    }

    /// Whether the server is being restarted.
    pub(crate) fn is_down(&self) -> bool {
        *self.epoch.borrow() % 2 == 1
    }

    /// The server will be gone, or is there again.
    pub(crate) fn turn(&self) {
        self.epoch.send_modify(|epoch| *epoch += 1);
    }

    /// The revision that follows another one, as far as clients' writes go.
    pub(crate) fn after(&self, revision: i64) -> i64 {
        let (from, behind) = (self.others.0.load(Ordering::Acquire), self.others.1.load(Ordering::Acquire));
        if from != 0 && revision + 1 == from { behind } else { revision + 1 }
    }

    /// Something failed that was begun in a life of the server: a fault, unless that life has ended.
    pub(crate) fn failed(&self, life: u64, what: &str, error: &anyhow::Error) {
        if *self.epoch.borrow() == life {
            self.fault(format!("{what}: {error:#}"));
        }
    }

    /// Something is wrong that must never be.
    pub(crate) fn fault(&self, what: String) {
        count(&self.counts.faults, 1);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < TOLD {
            crate::say(&format!("  fault: {what}"));
            told.push(what);
        }
    }

    /// The first faults.
    pub(crate) fn told(&self) -> Vec<String> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Work that is done again and again.
pub(crate) trait Work: Send + 'static {
    /// What it is called in a fault.
    const NAME: &str;

    /// Does it once.
    fn once(&mut self, traffic: &Traffic) -> impl Future<Output = Result<()>> + Send;
}

/// Does the work so often a second, without end. What a restart makes late is made up for.
pub(crate) async fn at_rate<W: Work>(mut work: W, traffic: Arc<Traffic>, every: Duration) {
    let mut clock = interval(every);
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        clock.tick().await;
        let life = traffic.up().await;
        let done = timeout(PATIENCE, work.once(&traffic)).await.context("no end in a minute");
        if let Err(error) = done.and_then(|done| done) {
            traffic.failed(life, W::NAME, &error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_no_gap() {
        let traffic = Traffic::to(String::new());
        assert_eq!((traffic.after(0), traffic.after(9)), (1, 10));
        traffic.others.0.store(10, Ordering::Release);
        traffic.others.1.store(20, Ordering::Release);
        assert_eq!((traffic.after(8), traffic.after(9), traffic.after(20)), (9, 20, 21));
    }
}
