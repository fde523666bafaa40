//! When the collector works: in small portions between the clients' commits, slowly enough that these hardly notice.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::collecting::Collected;
use super::pace::Pace;
use super::reader::Weight;
use super::request::{Outcome, Request};
use super::store::Portion;
use super::types::Result;
use super::{Engine, Inner, mismatch};
use crate::clock::StoreTime;
use crate::gc::{Audit, Quota, Rules};

/// How a collector works.
#[derive(Debug, Clone)]
pub struct Collector {
    /// Whether it works at all. If not, what is to be done is noted, and done when it works again.
    pub enabled: bool,
    /// Its rules.
    pub rules: Rules,
    /// How many objects it changes in a second at most.
    pub rate: u32,
    /// How long deleted objects are remembered: dependents that are created later are not recognised as such.
    pub tombstone_ttl: Duration,
    /// Where it says what it did.
    pub audit: Audit,
}

impl Default for Collector {
    fn default() -> Self {
        Self {
            enabled: true,
            rules: Rules::default(),
            rate: 2000,
            tombstone_ttl: Duration::from_secs(3600),
            audit: Audit::default(),
        }
    }
}

/// What the writer thread has of the collector.
#[derive(Debug)]
pub(super) struct Hands {
    pub(super) enabled: bool,
    pub(super) rules: Rules,
    pub(super) audit: Audit,
    /// Told when there is work.
    pub(super) wake: Arc<Notify>,
}

impl Hands {
    pub(super) fn new(collector: &Collector) -> Self {
        let Collector { enabled, rules, audit, .. } = collector.clone();
        Self { enabled, rules, audit, wake: Arc::default() }
    }
}

/// How many objects a portion has at first and at most.
const PORTION: (usize, usize) = (64, 500);
/// How many bytes of values a portion has at most, and how many go to the watchers in a second.
const PORTION_BYTES: usize = 4 << 20;
const BYTES_PER_SECOND: f64 = (16 << 20) as f64;
/// The collector rests so many times as long as it worked.
const REST: u32 = 3;
/// How often to look after the queue when nothing happens, and how often to show its state at most.
const LOOK: Duration = Duration::from_secs(15);
const SHOW: Duration = Duration::from_secs(5);
/// How often to forget old tombstones.
const FORGET: Duration = Duration::from_secs(60);
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// Works as long as the engine lives.
pub(super) async fn run(engine: Weak<Inner>, collector: Collector, portion: Portion) {
    let Some(wake) = engine.upgrade().map(|inner| Arc::clone(&inner.collector)) else { return };
    let mut portions = Portions::new(collector.rate, portion);
    let mut released = collector.enabled;
    let (mut forgotten, mut shown): (Option<Instant>, Option<Instant>) = (None, None);
    loop {
        let Some(inner) = engine.upgrade() else { return };
        let engine = Engine { inner };
        if engine.is_stopping() {
            return;
        }
        let turn = async {
            if !released {
                release(&engine).await?;
                released = true;
            }
            if forgotten.is_none_or(|at| at.elapsed() >= FORGET) {
                forget(&engine, collector.tombstone_ttl, portion.hold * REST).await?;
                forgotten = Some(Instant::now());
            }
            if collector.enabled {
                work(&engine, &mut portions).await
            } else {
                Ok(Pause::Until(engine.inner.clock.now().after(LOOK)))
            }
        };
        let pause = match turn.await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::warn!(%error, "the collector could not work; trying again");
                Pause::For(RETRY)
            }
        };
        if shown.is_none_or(|at| at.elapsed() >= SHOW) {
            show(&engine).await;
            shown = Some(Instant::now());
        }
        let clock = engine.inner.clock.clone();
        // Asleep it does not keep the engine alive.
        drop(engine);
        match pause {
            Pause::For(pause) => tokio::time::sleep(pause).await,
            Pause::Until(moment) => {
                tokio::select! {
                    () = clock.sleep_until(moment) => {}
                    () = wake.notified() => {}
                }
            }
        }
    }
}

/// How long to rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pause {
    /// So long, whatever happens.
    For(Duration),
    /// Until then, or until there is work.
    Until(StoreTime),
}

/// How much is done at once and how often.
#[derive(Debug)]
struct Portions {
    pace: Pace,
    hold: Duration,
    rate: f64,
}

impl Portions {
    fn new(rate: u32, Portion { least, hold }: Portion) -> Self {
        Self { pace: Pace::new(PORTION.0, least, PORTION.1), hold, rate: f64::from(rate.max(1)) }
    }

    /// The rest after a portion that took so long.
    fn after(&mut self, changed: usize, bytes: usize, took: Duration) -> Duration {
        self.pace.took(took, self.hold);
        let by_rate = Duration::from_secs_f64(changed as f64 / self.rate);
        let by_bytes = Duration::from_secs_f64(bytes as f64 / BYTES_PER_SECOND);
        (took * REST).max(by_rate).max(by_bytes)
    }
}

async fn work(engine: &Engine, portions: &mut Portions) -> Result<Pause> {
    let quota = Quota { objects: portions.pace.size(), bytes: PORTION_BYTES, foreground_after: None };
    let (collected, took) = collect(engine, quota).await?;
    for (task, key) in &collected.failures {
        tracing::warn!(task, key = %key.escape_ascii(), "the collector can't change an object; its task is tried again later");
    }
    engine.inner.metrics.gc.collected(&collected);
    if collected.tasks == 0 {
        let now = engine.inner.clock.now();
        let (soon, late) = (now.after(Duration::from_millis(1)), now.after(LOOK));
        return Ok(Pause::Until(collected.due.map_or(late, |due| due.clamp(soon, late))));
    }
    Ok(Pause::For(portions.after(collected.entries.len(), collected.bytes, took)))
}

async fn collect(engine: &Engine, quota: Quota) -> Result<(Collected, Duration)> {
    match engine.request(Request::Collect(quota)).await? {
        (_, Outcome::Collected(collected, took)) => Ok((collected, took)),
        (_, other) => Err(mismatch(&other)),
    }
}

/// Lets go of all objects that a collector held which worked here before.
async fn release(engine: &Engine) -> Result<()> {
    let mut after = 0;
    loop {
        let quota = Quota { objects: PORTION.0, bytes: PORTION_BYTES, foreground_after: Some(after) };
        let (collected, _) = collect(engine, quota).await?;
        engine.inner.metrics.gc.collected(&collected);
        match collected.last_task {
            Some(last) => after = last,
            None => return Ok(()),
        }
    }
}

async fn forget(engine: &Engine, ttl: Duration, rest: Duration) -> Result<()> {
    let before = engine.inner.clock.now().before(ttl);
    loop {
        match engine.request(Request::Forget(before)).await? {
            (_, Outcome::Forgotten(true)) => tokio::time::sleep(rest).await,
            (_, Outcome::Forgotten(false)) => return Ok(()),
            (_, other) => return Err(mismatch(&other)),
        }
    }
}

async fn show(engine: &Engine) {
    match engine.inner.readers.run(Weight::Small, |snapshot| snapshot.reader.collector()).await {
        Ok(status) => engine.inner.metrics.gc.show(&status, engine.inner.clock.now()),
        Err(error) => tracing::debug!(%error, "the collector's queue can't be shown"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_follow_the_machine_and_rests_the_limits() {
        let ms = Duration::from_millis;
        let mut portions = Portions::new(1000, Portion { least: 8, hold: ms(8) });
        assert_eq!(portions.after(1, 0, ms(1)), ms(3));
        assert_eq!(portions.pace.size(), 128);
        assert_eq!(portions.after(128, 0, ms(6)), ms(128));
        assert_eq!(portions.pace.size(), 128);
        assert_eq!(portions.after(10, 4 << 20, ms(20)), ms(250));
        assert_eq!(portions.pace.size(), 64);
        for _ in 0..10 {
            portions.after(0, 0, ms(100));
        }
        assert_eq!(portions.pace.size(), 8);
        for _ in 0..10 {
            portions.after(0, 0, ms(0));
        }
        assert_eq!(portions.pace.size(), PORTION.1);
    }
}
