//! All parts together, as the tables, plots and promises look at them.

use std::collections::BTreeSet;

use super::latency::{Histogram, Latency};
use super::part::{Memory, Part, Question, Slice, System, What};

/// What was measured of all systems.
pub(super) struct Report<'a> {
    parts: &'a [Part],
}

/// A stretch of the mixed load.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stretch {
    /// Requests a second.
    pub(super) rate: f64,
    pub(super) latency: Latency,
    pub(super) failures: u64,
    /// At its end.
    pub(super) objects: u64,
    /// At its end.
    pub(super) memory: Memory,
}

impl<'a> Report<'a> {
    pub(super) fn new(parts: &'a [Part]) -> Self {
        Self { parts }
    }

    fn of(&self, system: System) -> impl Iterator<Item = &'a Part> {
        self.parts.iter().filter(move |part| part.system == system)
    }

    /// The systems that were measured.
    pub(super) fn systems(&self) -> Vec<System> {
        System::ALL.into_iter().filter(|system| self.of(*system).next().is_some()).collect()
    }

    /// The numbers of shirts that questions were asked of, on any system.
    pub(super) fn scales(&self) -> BTreeSet<u64> {
        let scale = |part: &Part| match &part.what {
            What::Query { objects, .. } => Some(*objects),
            What::Load { to, .. } => Some(*to),
            What::Idle | What::Mixed { .. } => None,
        };
        self.parts.iter().filter_map(scale).collect()
    }

    /// The answers to a question: the median of the rounds.
    pub(super) fn answer(&self, system: System, objects: u64, question: Question) -> Option<Latency> {
        let of_round = |part: &'a Part| match &part.what {
            What::Query { objects: of, answers } if *of == objects => answers.get(&question).copied(),
            _ => None,
        };
        let mut rounds: Vec<Latency> = self.of(system).filter_map(of_round).collect();
        rounds.sort_by(|a, b| a.p50_ms.total_cmp(&b.p50_ms));
        rounds.get(rounds.len() / 2).copied()
    }

    /// Creates a second on the way to a number of shirts, and how many there are then.
    pub(super) fn load(&self, system: System, objects: u64) -> Option<(f64, u64)> {
        self.of(system).find_map(|part| match &part.what {
            What::Load { to, from, reached, seconds, .. } if *to == objects => {
                Some((reached.saturating_sub(*from) as f64 / seconds.max(1e-9), *reached))
            }
            _ => None,
        })
    }

    /// Memory before anything was stored.
    pub(super) fn idle(&self, system: System) -> Option<&'a Memory> {
        self.of(system).find(|part| matches!(part.what, What::Idle)).map(|part| &part.memory)
    }

    /// Memory while questions were asked of so many shirts: of the last round.
    pub(super) fn memory(&self, system: System, objects: u64) -> Option<&'a Memory> {
        let asked = |part: &&Part| matches!(part.what, What::Query { objects: of, .. } if of == objects);
        self.of(system).filter(asked).last().map(|part| &part.memory)
    }

    /// Why a system was not measured to the end, in each of its loads.
    pub(super) fn stops(&self) -> Vec<(System, String)> {
        let stop = |part: &Part| part.stopped.clone().map(|reason| (part.system, reason));
        self.parts.iter().filter_map(stop).collect()
    }

    /// What failed in the mixed load.
    pub(super) fn failures(&self, system: System) -> Vec<String> {
        let failures = self.of(system).filter_map(|part| match &part.what {
            What::Mixed { failures, .. } => Some(failures.clone()),
            _ => None,
        });
        failures.flatten().collect()
    }

    /// The mixed load, in its slices.
    pub(super) fn slices(&self, system: System) -> &'a [Slice] {
        let mixed = self.of(system).filter_map(|part| match &part.what {
            What::Mixed { slices, .. } => Some(slices.as_slice()),
            _ => None,
        });
        mixed.last().unwrap_or_default()
    }

    /// The mixed load, by minute.
    pub(super) fn minutes(&self, system: System) -> Vec<Stretch> {
        let slices = self.slices(system);
        let minute = |slice: &Slice| (slice.begin / 60.0).floor();
        slices.chunk_by(|a, b| minute(a) == minute(b)).filter_map(stretch).collect()
    }

    /// The mixed load while there were about so many objects: a tenth more or less.
    pub(super) fn around(&self, system: System, objects: u64) -> Option<Stretch> {
        let slices = self.slices(system);
        if slices.last()?.objects < objects {
            return None;
        }
        let near = |slice: &&Slice| (slice.objects as f64 / objects as f64 - 1.0).abs() <= 0.1;
        let begin = slices.iter().position(|slice| near(&slice)).or_else(|| {
            // The step over it was larger than that.
            slices.iter().position(|slice| slice.objects >= objects)
        })?;
        let length = slices[begin..].iter().take_while(near).count().max(1);
        stretch(&slices[begin..begin + length])
    }
}

/// All bytes of all processes.
pub(super) fn total(memory: &Memory) -> f64 {
    memory.values().sum()
}

fn stretch(slices: &[Slice]) -> Option<Stretch> {
    let last = slices.last()?;
    let mut latencies = Histogram::default();
    slices.iter().for_each(|slice| latencies.merge(&slice.latencies));
    let seconds: f64 = slices.iter().map(|slice| slice.seconds).sum();
    let requests: u64 = slices.iter().map(|slice| slice.requests).sum();
    Some(Stretch {
        rate: requests as f64 / seconds.max(1e-9),
        latency: latencies.latency(),
        failures: slices.iter().map(|slice| slice.failures).sum(),
        objects: last.objects,
        memory: last.memory.clone(),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;

    /// A mixed load that makes so many objects and requests in each slice.
    pub(in crate::platform) fn mixed(system: System, objects: u64, rates: &[u64], millis: u64) -> Part {
        let slice = |(at, rate): (usize, &u64)| {
            let mut latencies = Histogram::default();
            (0..*rate * 5).for_each(|_| latencies.add(Duration::from_millis(millis)));
            Slice {
                begin: at as f64 * 5.0,
                seconds: 5.0,
                objects: objects * (at as u64 + 1),
                requests: rate * 5,
                failures: 1,
                latencies,
                memory: Memory::from([("store".to_owned(), 1e6)]),
            }
        };
        let slices = rates.iter().enumerate().map(slice).collect();
        let what = What::Mixed { users: 1, slices, failures: Vec::new() };
        Part { system, memory: Memory::new(), what, stopped: None }
    }

    /// Questions of so many shirts: all answered in that time, with so much memory in use.
    pub(in crate::platform) fn asked(system: System, objects: u64, millis: f64, bytes: f64) -> Part {
        let latency = Latency { count: 9, p50_ms: millis, p90_ms: millis, p95_ms: millis * 2.0 };
        let answers = BTreeMap::from(Question::ALL.map(|question| (question, latency)));
        let memory = Memory::from([("store".to_owned(), bytes)]);
        Part { system, memory, what: What::Query { objects, answers }, stopped: None }
    }

    #[test]
    fn minutes_and_numbers_of_objects() {
        let rates: Vec<u64> = [100; 12].into_iter().chain([50; 12]).collect();
        let parts = [mixed(System::Sluice, 1000, &rates, 10)];
        let report = Report::new(&parts);
        let minutes = report.minutes(System::Sluice);
        assert_eq!(
            minutes.iter().map(|minute| (minute.rate, minute.objects, minute.failures)).collect::<Vec<_>>(),
            [(100.0, 12_000, 12), (50.0, 24_000, 12)]
        );
        assert_eq!(report.around(System::Sluice, 5_000).map(|stretch| stretch.rate), Some(100.0));
        assert_eq!(report.around(System::Sluice, 20_000).map(|stretch| stretch.rate), Some(50.0));
        assert_eq!(report.around(System::Sluice, 25_000), None);
        assert_eq!(report.around(System::StockEtcd, 5_000), None);
    }

    #[test]
    fn the_round_in_the_middle_counts() {
        let parts = [3.0, 1.0, 2.0].map(|millis| asked(System::Sluice, 1000, millis, 1.0));
        let report = Report::new(&parts);
        assert_eq!(report.answer(System::Sluice, 1000, Question::Label).map(|latency| latency.p50_ms), Some(2.0));
        assert_eq!(report.answer(System::Sluice, 10, Question::Label), None);
    }
}
