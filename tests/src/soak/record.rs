//! What the load generator writes: samples and a report (`bench/src/soak`).

use std::collections::BTreeMap;
use std::path::Path;

use fs_err as fs;
use serde::Deserialize;
use sluice_shell::error::{Error, Result};

/// The columns of the samples.
const HEADER: &str = "seconds,life,memory,handles,threads,database,log";

/// What was found in one look at the process; sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    /// How many times the process had been restarted.
    pub(super) life: u64,
    pub(super) memory: f64,
    pub(super) handles: f64,
    pub(super) threads: f64,
    pub(super) database: f64,
    pub(super) log: f64,
}

/// What was done.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Counts {
    pub(super) writes: u64,
    pub(super) reads: u64,
    pub(super) selected: u64,
    pub(super) watches: u64,
    pub(super) events: u64,
    pub(super) slow_events: u64,
    pub(super) outrun: u64,
    pub(super) compactions: u64,
    pub(super) snapshots: u64,
    pub(super) snapshot_bytes: u64,
    pub(super) faults: u64,
}

/// The report beside the samples.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Report {
    pub(super) seconds: f64,
    /// Signals, with the milliseconds until the next answer.
    pub(super) restarts: Vec<(String, u64)>,
    /// Objects that were there at the last check.
    pub(super) objects: u64,
    pub(super) counts: Counts,
    /// The first faults.
    pub(super) told: Vec<String>,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) samples: Vec<Sample>,
    pub(super) report: Report,
}

impl Record {
    /// Reads soak.csv and soak.json.
    ///
    /// # Errors
    /// When they are not what the load generator writes.
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let report = serde_json::from_str(&fs::read_to_string(folder.join("soak.json"))?)?;
        Ok(Self { samples: samples(&fs::read_to_string(folder.join("soak.csv"))?)?, report })
    }

    /// The samples of the process that lived longest.
    pub(super) fn longest_life(&self) -> Vec<Sample> {
        let mut lives: BTreeMap<u64, Vec<Sample>> = BTreeMap::new();
        for sample in &self.samples {
            lives.entry(sample.life).or_default().push(*sample);
        }
        lives.into_values().max_by_key(Vec::len).unwrap_or_default()
    }

    /// Whether the data is on a database server, whose log is its own.
    pub(super) fn is_on_a_server(&self) -> bool {
        self.samples.iter().all(|sample| sample.log == 0.0)
    }

    /// What was done, in a line.
    pub(super) fn summary(&self) -> String {
        let Report { seconds, restarts, objects, counts, .. } = &self.report;
        let slowest = restarts.iter().map(|(_, took)| *took).max().unwrap_or_default();
        format!(
            "     {seconds:.0} s, {objects} objects: {} writes, {} reads ({} with selectors), {} watches opened and closed, \
             {} events ({} to slow clients, {} watches outrun), {} compactions, {} snapshots of {:.1} MB, {} restarts \
             (the slowest took {slowest} ms)",
            counts.writes,
            counts.reads,
            counts.selected,
            counts.watches,
            counts.events,
            counts.slow_events,
            counts.outrun,
            counts.compactions,
            counts.snapshots,
            counts.snapshot_bytes as f64 / counts.snapshots.max(1) as f64 / 1e6,
            restarts.len(),
        )
    }
}

fn samples(text: &str) -> Result<Vec<Sample>> {
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    if header != HEADER {
        return Err(Error::input(format!("the samples have the columns {header:?}, not {HEADER:?}")));
    }
    lines.map(|line| sample(line).ok_or_else(|| Error::input(format!("this is no sample: {line:?}")))).collect()
}

fn sample(line: &str) -> Option<Sample> {
    let fields: Vec<&str> = line.split(',').collect();
    let number = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some(Sample {
        life: fields.get(1)?.parse().ok()?,
        memory: number(2)?,
        handles: number(3)?,
        threads: number(4)?,
        database: number(5)?,
        log: number(6)?,
    })
}

/// A record in which all is as it should be.
#[cfg(test)]
pub(super) fn good() -> Record {
    let life = |at: u64| (at / 50).min(4);
    let sample = |at| Sample { life: life(at), memory: 60e6, handles: 40.0, threads: 12.0, database: 9e6, log: 4e6 };
    let counts = Counts {
        writes: 150_000,
        reads: 90_000,
        selected: 10_000,
        watches: 100_000,
        events: 900_000,
        slow_events: 7_000,
        compactions: 360,
        snapshots: 90,
        snapshot_bytes: 900_000_000,
        ..Counts::default()
    };
    let restarts = vec![("SIGKILL".to_owned(), 200); 8];
    let report = Report { seconds: 1801.0, restarts, objects: 2_000, counts, told: Vec::new() };
    Record { samples: (0..600).map(sample).collect(), report }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_what_the_load_generator_writes() {
        let read = samples(&format!("{HEADER}\n1.0,0,3000000,40,5,6000000,7\n2.5,1,1,2,3,4,5\n")).unwrap();
        let second = Sample { life: 1, memory: 1.0, handles: 2.0, threads: 3.0, database: 4.0, log: 5.0 };
        assert_eq!((read.len(), read[1]), (2, second));
        assert!(samples("seconds,life\n1,2\n").is_err());
        assert!(samples(&format!("{HEADER}\n1.0,0\n")).is_err());
    }

    #[test]
    fn the_longest_life_is_the_one_with_most_samples() {
        let life = good().longest_life();
        assert_eq!((life.len(), life[0].life), (400, 4));
    }
}
