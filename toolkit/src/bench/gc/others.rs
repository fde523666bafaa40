//! Writers of other objects, and what they notice of the collection.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;

use crate::cluster::client::Client;

/// Writers.
const WRITERS: usize = 4;

/// Time between two writes of a writer. So few that they do not fill the machine themselves.
const EVERY: Duration = Duration::from_millis(20);

/// What a writer waited for its answers. Milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Latency {
    /// Writes that were measured.
    pub(super) writes: usize,
    /// Writes that failed.
    pub(super) failed: usize,
    /// Half of them took no longer.
    pub(super) p50: f64,
    /// 99 of 100 took no longer.
    pub(super) p99: f64,
}

/// Changes objects at a steady rate while `work` runs: ConfigMaps at these paths, each of its own writer.
///
/// A write that is late because the one before it took long counts from when it was due.
pub(super) fn while_writing<T>(api: &Client, paths: &[String], work: impl FnOnce() -> T) -> (T, Latency) {
    let stop = AtomicBool::new(false);
    let measured: Mutex<(Vec<Duration>, usize)> = Mutex::default();
    let result = thread::scope(|scope| {
        for path in paths.iter().take(WRITERS) {
            let (stop, measured) = (&stop, &measured);
            scope.spawn(move || {
                let (times, failed) = write(api, path, stop);
                let mut all = measured.lock().unwrap_or_else(PoisonError::into_inner);
                all.0.extend(times);
                all.1 += failed;
            });
        }
        let result = work();
        stop.store(true, Ordering::Relaxed);
        result
    });
    let (times, failed) = measured.into_inner().unwrap_or_else(PoisonError::into_inner);
    (result, Latency::of(times, failed))
}

fn write(api: &Client, path: &str, stop: &AtomicBool) -> (Vec<Duration>, usize) {
    let (mut times, mut failed, mut due) = (Vec::new(), 0, Instant::now());
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let patch = json!({"data": {"write": times.len().to_string()}});
        match api.merge(path, &patch) {
            Ok(_) => times.push(due.elapsed()),
            Err(_) => failed += 1,
        }
        due += EVERY;
    }
    (times, failed)
}

impl Latency {
    fn of(mut times: Vec<Duration>, failed: usize) -> Self {
        times.sort();
        let at = |percent: usize| {
            let place = (times.len() * percent).div_ceil(100).saturating_sub(1);
            times.get(place).map_or(0.0, |time| time.as_secs_f64() * 1e3)
        };
        Self { writes: times.len(), failed, p50: at(50), p99: at(99) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let times = |many: u64| (1..=many).rev().map(Duration::from_millis).collect::<Vec<_>>();
        let latency = |many| Latency::of(times(many), 0);
        assert_eq!((latency(100).p50, latency(100).p99), (50.0, 99.0));
        assert_eq!((latency(1).p50, latency(1).p99), (1.0, 1.0));
        assert_eq!((latency(0).p50, latency(0).writes), (0.0, 0));
    }
}
