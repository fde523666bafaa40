//! What was measured: medians, spread, ratios.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::cost::Costs;
use crate::load::Measured;
use crate::say;
use crate::server::{Candidate, Kind};

/// The version of the JSON report.
const SCHEMA: u32 = 1;

/// Which values are the good ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Better {
    /// The greater ones.
    Higher,
    /// The smaller ones.
    Lower,
    /// It is no competition.
    Neither,
}

/// What the project promises of sluice-shim.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Floor {
    /// So many times as good as another server.
    Of(Kind, f64),
    /// No more than that.
    AtMost(f64),
}

/// One measurement of one server.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Sample {
    /// In the unit of the row.
    pub(crate) value: f64,
    /// The median latency, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p50_ms: Option<f64>,
    /// The latency that one request in a hundred exceeds, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p99_ms: Option<f64>,
    /// CPU time of the server for one request (or event), in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_us: Option<f64>,
    /// CPU time of the database server for it, if there is one, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) database_us: Option<f64>,
    /// Bytes for the disk that both wrote for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) written_bytes: Option<f64>,
}

impl Sample {
    /// Of a load: `used` is what the server took for so many `units`.
    pub(crate) fn of_load(value: f64, measured: Measured, used: Costs, units: u64) -> Self {
        let each = |used: Duration| (units > 0).then(|| used.as_secs_f64() * 1e6 / units as f64);
        Self {
            value,
            p50_ms: Some(measured.p50.as_secs_f64() * 1e3),
            p99_ms: Some(measured.p99.as_secs_f64() * 1e3),
            cpu_us: each(used.own.cpu),
            database_us: used.database.and_then(|database| each(database.cpu)),
            written_bytes: (units > 0).then(|| used.written() as f64 / units as f64),
        }
    }

    /// A single value.
    pub(crate) fn of_value(value: f64) -> Self {
        Self { value, p50_ms: None, p99_ms: None, cpu_us: None, database_us: None, written_bytes: None }
    }
}

/// One thing that was measured on all servers, in rounds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    /// What.
    pub(crate) name: String,
    /// Of the values.
    pub(crate) unit: String,
    /// Which values are good.
    pub(crate) better: Better,
    /// What is promised.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) floors: Vec<Floor>,
    /// One value a round.
    pub(crate) samples: BTreeMap<Kind, Vec<Sample>>,
}

/// A number with the extremes of what it is the median of.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// The median.
    pub(crate) median: f64,
    /// The least.
    pub(crate) least: f64,
    /// The greatest.
    pub(crate) greatest: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (least, greatest) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
        Some(Self { median, least, greatest })
    }
}

impl Row {
    /// A row without latencies.
    pub(crate) fn new(
        name: &str,
        unit: &str,
        better: Better,
        floors: Vec<Floor>,
        samples: BTreeMap<Kind, Vec<Sample>>,
    ) -> Self {
        Self { name: name.into(), unit: unit.into(), better, floors, samples }
    }

    /// What a server reached.
    pub(crate) fn value(&self, kind: Kind) -> Option<Spread> {
        Spread::of(self.samples.get(&kind)?.iter().map(|sample| sample.value).collect())
    }

    /// How many times as good sluice-shim is as the other server: of the values of each round.
    pub(crate) fn ratio(&self, other: Kind) -> Option<Spread> {
        let (ours, theirs) = (self.samples.get(&Kind::Shim)?, self.samples.get(&other)?);
        let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| match self.better {
            Better::Lower => theirs.value / ours.value,
            Better::Higher | Better::Neither => ours.value / theirs.value,
        });
        if self.better == Better::Neither { None } else { Spread::of(ratios.collect()) }
    }

    /// Whether all that is promised is kept; `None` if nothing is, or if it can't be told.
    pub(crate) fn keeps(&self) -> Option<bool> {
        let each = self.floors.iter().map(|floor| match floor {
            Floor::Of(other, times) => self.ratio(*other).map(|ratio| ratio.median >= *times),
            Floor::AtMost(limit) => self.value(Kind::Shim).map(|value| value.median <= *limit),
        });
        let known: Vec<bool> = each.flatten().collect();
        (!known.is_empty()).then(|| known.iter().all(|kept| *kept))
    }

    fn middle(&self, kind: Kind, part: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        Spread::of(self.samples.get(&kind)?.iter().filter_map(part).collect()).map(|spread| spread.median)
    }
}

/// Where it was measured.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    /// The processor.
    pub(crate) processor: String,
    /// How many of them.
    pub(crate) processors: usize,
    /// Memory in bytes.
    pub(crate) memory: f64,
    /// The kernel.
    pub(crate) kernel: String,
    /// The load average before the run.
    pub(crate) load: String,
    /// The versions of the servers.
    pub(crate) versions: BTreeMap<Kind, String>,
    /// The database server that they keep their data on, if they do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) database: Option<String>,
}

impl Machine {
    /// Looks at this machine, and asks the programs for their versions.
    pub(crate) fn read(candidates: &[Candidate]) -> Result<Self> {
        let read = |path: &str| std::fs::read_to_string(path).with_context(|| format!("read {path}"));
        let (cpu, memory) = (read("/proc/cpuinfo")?, read("/proc/meminfo")?);
        let field = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.map(|rest| rest.trim_start_matches([' ', '\t', ':']).to_owned()).unwrap_or_default()
        };
        let kib: f64 = field(&memory, "MemTotal").split_whitespace().next().unwrap_or_default().parse().unwrap_or(0.0);
        let mut versions = BTreeMap::new();
        for Candidate { kind, program, .. } in candidates {
            let output = Command::new(program).arg("--version").output();
            let output = output.with_context(|| format!("ask {} for its version", program.display()))?;
            let text = String::from_utf8_lossy(&output.stdout);
            let mut words = text.lines().next().unwrap_or_default().split_whitespace();
            let version = words.find(|word| word.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit()));
            versions.insert(*kind, version.unwrap_or("?").trim_start_matches('v').to_owned());
        }
        let database = candidates.iter().find_map(|candidate| candidate.database.as_ref());
        Ok(Self {
            processor: field(&cpu, "model name"),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory: kib * 1024.0,
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            load: read("/proc/loadavg")?.split_whitespace().next().unwrap_or_default().to_owned(),
            versions,
            database: database.map(|database| database.version()).transpose()?,
        })
    }
}

/// All of it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    schema: u32,
    machine: Machine,
    /// Keys stored for the reads.
    keys: u64,
    /// Seconds of one measurement.
    duration: f64,
    rounds: usize,
    /// Of the whole run.
    pub(crate) seconds: f64,
    /// What was measured.
    pub(crate) rows: Vec<Row>,
    /// What could not be.
    failures: Vec<String>,
}

/// Those that the shim is compared with.
const OTHERS: [Kind; 8] =
    [Kind::Etcd, Kind::Kine, Kind::Before, Kind::Sqlite, Kind::Standby, Kind::Replicas, Kind::Keyed, Kind::Resource];

/// The shim itself with other flags.
const VARIANTS: [Kind; 5] = [Kind::Sqlite, Kind::Standby, Kind::Replicas, Kind::Keyed, Kind::Resource];

impl Report {
    /// An empty one.
    pub(crate) fn new(machine: Machine, keys: u64, duration: Duration, rounds: usize) -> Self {
        Self {
            schema: SCHEMA,
            machine,
            keys,
            duration: duration.as_secs_f64(),
            rounds,
            seconds: 0.0,
            rows: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Adds a row, and says it.
    pub(crate) fn add(&mut self, row: Row) {
        let mut line = format!("{:<34}", row.name);
        for kind in row.samples.keys() {
            let value = row.value(*kind).map(|value| number(value.median)).unwrap_or_default();
            let _ = write!(line, "  {kind} {value}");
            if let Some(cpu) = row.middle(*kind, |sample| sample.cpu_us) {
                let _ = write!(line, " ({cpu:.0} µs");
                if let Some(database) = row.middle(*kind, |sample| sample.database_us) {
                    let _ = write!(line, " + {database:.0} µs");
                }
                if let Some(written) = row.middle(*kind, |sample| sample.written_bytes).filter(|bytes| *bytes >= 1.0) {
                    let _ = write!(line, ", {:.1} KB written", written / 1e3);
                }
                let p99 = row.middle(*kind, |sample| sample.p99_ms).unwrap_or_default();
                let _ = write!(line, ", p99 {p99:.1} ms)");
            }
        }
        for other in OTHERS {
            if let Some(ratio) = row.ratio(other) {
                let _ = write!(line, "  ×{:.2} of {other}", ratio.median);
            }
        }
        say(&line);
        self.rows.push(row);
    }

    /// Notes that something could not be measured, and says it.
    pub(crate) fn fail(&mut self, error: &anyhow::Error) {
        let text = format!("{error:#}");
        say(&format!("failed: {text}"));
        self.failures.push(text);
    }

    /// Whether everything was measured.
    pub(crate) fn is_whole(&self) -> bool {
        self.failures.is_empty()
    }

    /// A table for the documentation.
    pub(crate) fn markdown(&self) -> String {
        let machine = &self.machine;
        let versions = machine.versions.iter().filter(|(kind, _)| !VARIANTS.contains(*kind));
        let versions = versions.map(|(kind, version)| format!("{kind} {version}"));
        let versions: Vec<String> = versions.chain(machine.database.clone()).collect();
        let mut text = format!(
            "{}, on {} × {}, {:.0} GB, Linux {}; load average before the run {}. {} keys for the reads, values of {} bytes, \
             {} rounds of {} s; {:.0} s in all.\n\n",
            versions.join(", "),
            machine.processors,
            machine.processor,
            machine.memory / 1e9,
            machine.kernel,
            machine.load,
            self.keys,
            crate::workload::VALUE_BYTES,
            self.rounds,
            self.duration,
            self.seconds,
        );
        let (first, second) = match machine.database {
            None => (Kind::Etcd, Kind::Kine),
            Some(_) => (Kind::Kine, Kind::Sqlite),
        };
        let _ = writeln!(
            text,
            "| | unit | {first} | {second} | sluice-shim | p99 ms ({first} / shim) | shim : {first} | shim : {second} \
             | promise |"
        );
        text.push_str("|---|---|--:|--:|--:|--:|--:|--:|---|\n");
        for row in &self.rows {
            let value = |kind| row.value(kind).map(|value| number(value.median)).unwrap_or_default();
            let p99 =
                |kind| row.middle(kind, |sample| sample.p99_ms).map(|p99| format!("{p99:.1}")).unwrap_or_default();
            let ratio = |other| {
                let ratio = row.ratio(other);
                ratio
                    .map(|ratio| format!("{:.2} ({:.2}–{:.2})", ratio.median, ratio.least, ratio.greatest))
                    .unwrap_or_default()
            };
            let latency = match (p99(first), p99(Kind::Shim)) {
                (other, shim) if other.is_empty() && shim.is_empty() => String::new(),
                (other, shim) => format!("{other} / {shim}"),
            };
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                row.name,
                row.unit,
                value(first),
                value(second),
                value(Kind::Shim),
                latency,
                ratio(first),
                ratio(second),
                promise(row),
            );
        }
        for failure in &self.failures {
            let _ = writeln!(text, "\nNot measured: {failure}.");
        }
        text
    }
}

fn promise(row: &Row) -> String {
    let Some(kept) = row.keeps() else { return String::new() };
    let floors: Vec<String> = row
        .floors
        .iter()
        .map(|floor| match floor {
            Floor::Of(kind, times) => format!("≥ {times} × {kind}"),
            Floor::AtMost(limit) => format!("≤ {limit} {}", row.unit),
        })
        .collect();
    format!("{}: {}", floors.join(", "), if kept { "kept" } else { "**missed**" })
}

/// Three digits or so.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 100.0 => {
            let whole = format!("{value:.0}");
            let digits = whole.len();
            let mut text = String::new();
            for (at, digit) in whole.chars().enumerate() {
                if at > 0 && (digits - at) % 3 == 0 {
                    text.push(',');
                }
                text.push(digit);
            }
            text
        }
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(better: Better, floors: Vec<Floor>, shim: &[f64], etcd: &[f64]) -> Row {
        let samples = |values: &[f64]| values.iter().map(|value| Sample::of_value(*value)).collect();
        Row::new("x", "ms", better, floors, BTreeMap::from([(Kind::Shim, samples(shim)), (Kind::Etcd, samples(etcd))]))
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        // The second round was twice as slow for both: the ratio does not see it.
        let row = row(Better::Higher, vec![Floor::Of(Kind::Etcd, 1.5)], &[200.0, 100.0, 180.0], &[100.0, 50.0, 100.0]);
        assert_eq!(row.ratio(Kind::Etcd), Some(Spread { median: 2.0, least: 1.8, greatest: 2.0 }));
        assert_eq!(row.ratio(Kind::Kine), None);
        assert_eq!(row.keeps(), Some(true));
    }

    #[test]
    fn less_is_better_for_latencies() {
        let row = row(Better::Lower, vec![Floor::AtMost(5.0)], &[4.0, 8.0], &[16.0, 16.0]);
        assert_eq!(row.ratio(Kind::Etcd).map(|ratio| ratio.median), Some(3.0));
        assert_eq!(row.keeps(), Some(false));
    }

    #[test]
    fn numbers_are_readable() {
        for (value, text) in [
            (1_234_567.8, "1,234,568"),
            (999.6, "1,000"),
            (120.0, "120"),
            (12.34, "12.3"),
            (1.234, "1.23"),
            (0.004, "0.00"),
            (0.0, "0"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
