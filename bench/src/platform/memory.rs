//! The memory of the processes under test, looked at all the time; and the limits beyond which a system is stopped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::task::JoinHandle;

use super::part::Memory;

/// How often it is looked at.
const EVERY: Duration = Duration::from_millis(250);

/// The machine must keep so many bytes.
const KEPT: u64 = 1_500_000_000;

/// When a system has had enough.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Of all processes together, in bytes.
    memory: u64,
}

impl Limits {
    pub(super) fn new(memory: u64) -> Self {
        Self { memory }
    }
}

#[derive(Default)]
struct State {
    /// With the time since the begin.
    samples: Vec<(Duration, Memory)>,
    /// Why the system must be stopped.
    stop: Option<String>,
}

/// Looks at processes until it is dropped.
pub(super) struct Watcher {
    begin: Instant,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Watcher {
    /// Begins to look.
    ///
    /// # Errors
    /// When a process is gone already.
    pub(super) fn start(processes: Vec<(String, i32)>, limits: Limits) -> Result<Self> {
        for (name, pid) in &processes {
            resident(*pid).with_context(|| format!("{name} is not there"))?;
        }
        let (begin, state) = (Instant::now(), Arc::new(Mutex::new(State::default())));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            loop {
                let (sample, stop) = look(&processes, limits);
                {
                    let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
                    state.samples.push((begin.elapsed(), sample));
                    state.stop = state.stop.take().or(stop);
                }
                tokio::time::sleep(EVERY).await;
            }
        });
        Ok(Self { begin, state, task })
    }

    /// Why the system must be stopped now, if it must.
    pub(super) fn stop(&self) -> Option<String> {
        self.lock().stop.clone()
    }

    /// The median between two times, which count from [`Watcher::begin`].
    pub(super) fn between(&self, from: Duration, to: Duration) -> Memory {
        let state = self.lock();
        median(state.samples.iter().filter(|(time, _)| (from..to).contains(time)).map(|(_, memory)| memory))
    }

    /// When it began to look.
    pub(super) fn begin(&self) -> Instant {
        self.begin
    }

    /// The median of all.
    pub(super) fn end(self) -> Memory {
        self.between(Duration::ZERO, Duration::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn look(processes: &[(String, i32)], limits: Limits) -> (Memory, Option<String>) {
    let (mut sample, mut stop) = (Memory::new(), None);
    for (name, pid) in processes {
        match resident(*pid) {
            Some(bytes) => {
                sample.insert(name.clone(), bytes as f64);
            }
            None => stop = Some(format!("{name} has ended")),
        }
    }
    let all: f64 = sample.values().sum();
    if all > limits.memory as f64 {
        stop = stop.or(Some(format!("{:.1} GB in use, the limit is {:.1} GB", all / 1e9, limits.memory as f64 / 1e9)));
    }
    if available().is_some_and(|bytes| bytes < KEPT) {
        stop = stop.or(Some(format!("{:.1} GB in use, and the machine has no more", all / 1e9)));
    }
    (sample, stop)
}

fn median<'a>(samples: impl Iterator<Item = &'a Memory>) -> Memory {
    let mut values: std::collections::BTreeMap<String, Vec<f64>> = Default::default();
    for sample in samples {
        for (name, bytes) in sample {
            values.entry(name.clone()).or_default().push(*bytes);
        }
    }
    let middle = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    values.into_iter().map(|(name, values)| (name, middle(values))).collect()
}

/// VmRSS of a process in bytes; none if it is gone or a zombie.
fn resident(pid: i32) -> Option<u64> {
    kibibytes(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?, "VmRSS:")
}

fn available() -> Option<u64> {
    kibibytes(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")
}

fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// `NAME=PID`.
pub(super) fn parse_process(text: &str) -> Result<(String, i32), String> {
    let (name, pid) = text.split_once('=').ok_or("it must be NAME=PID")?;
    Ok((name.to_owned(), pid.parse().map_err(|_| format!("{pid:?} is no process number"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_ends_are_seen() {
        let me = i32::try_from(std::process::id()).unwrap();
        let (sample, stop) = look(&[("me".into(), me)], Limits::new(u64::MAX));
        assert!(sample["me"] > 0.0);
        assert!(stop.is_none_or(|reason| reason.contains("the machine")));
        let (_, stop) = look(&[("me".into(), me)], Limits::new(1000));
        assert!(stop.unwrap().contains("the limit is"));
        // Above the kernel's highest process number.
        let (_, stop) = look(&[("gone".into(), 4_999_999)], Limits::new(u64::MAX));
        assert_eq!(stop.as_deref(), Some("gone has ended"));
    }

    #[test]
    fn medians_are_by_process() {
        let sample = |a: f64, b: f64| Memory::from([("a".to_owned(), a), ("b".to_owned(), b)]);
        let samples = [sample(1.0, 9.0), sample(5.0, 7.0), sample(3.0, 8.0)];
        assert_eq!(median(samples.iter()), sample(3.0, 8.0));
    }
}
