//! What one measurement found: a line of JSON in a file, so that systems can be measured on their own and compared
//! later.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::latency::Latency;
use crate::report::number;

/// A control plane and what it keeps its objects in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum System {
    /// Kubernetes as it is, on etcd.
    StockEtcd,
    /// Kubernetes as it is, on kine with SQLite.
    StockKine,
    /// Patched Kubernetes on sluice-shim with SQLite.
    Sluice,
}

impl System {
    /// In the order of the tables.
    pub(super) const ALL: [Self; 3] = [Self::StockEtcd, Self::StockKine, Self::Sluice];
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::StockEtcd => "stock + etcd",
            Self::StockKine => "stock + kine",
            Self::Sluice => "Sluice",
        })
    }
}

/// Resident memory of each process, in bytes.
pub(super) type Memory = BTreeMap<String, f64>;

/// One measurement.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) system: System,
    /// The median over the measurement.
    pub(super) memory: Memory,
    pub(super) what: What,
    /// Why it did not come to its end.
    pub(super) stopped: Option<String>,
}

/// What was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum What {
    /// Memory alone.
    Idle,
    /// Shirts were created.
    Load {
        from: u64,
        to: u64,
        /// How many shirts there are.
        reached: u64,
        seconds: f64,
        latency: Latency,
    },
    /// Shirts were asked for.
    Query { objects: u64, answers: BTreeMap<Question, Latency> },
    /// Users created and read.
    Mixed { users: usize, slices: Vec<Slice>, failures: Vec<String> },
}

/// What is asked of many shirts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Question {
    /// The twenty of a colour, by label.
    Label,
    /// The same by field.
    Field,
    /// A page of 500.
    Page,
    /// From the sending of a write to its event at a watch of one colour.
    Event,
}

impl Question {
    pub(super) const ALL: [Self; 4] = [Self::Label, Self::Field, Self::Page, Self::Event];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Label => "list of 20 by label",
            Self::Field => "list of 20 by field",
            Self::Page => "page of 500",
            Self::Event => "write to event, selective watch",
        }
    }
}

/// A few seconds of the mixed load.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Slice {
    /// From the begin of the load, in seconds.
    pub(super) begin: f64,
    pub(super) seconds: f64,
    /// How many objects there are at the end.
    pub(super) objects: u64,
    pub(super) requests: u64,
    pub(super) failures: u64,
    /// Latencies of all requests, how many of each number of microseconds: see [`super::latency::Histogram`].
    pub(super) latencies: super::latency::Histogram,
    pub(super) memory: Memory,
}

impl Part {
    /// For the progress.
    pub(super) fn line(&self) -> String {
        let mut line = match &self.what {
            What::Idle => "idle".to_owned(),
            What::Load { reached, seconds, latency, .. } => format!(
                "{} shirts, {:.0} s, {} creates/s, p95 {} ms",
                number(*reached as f64),
                seconds,
                number(latency.count as f64 / seconds.max(1e-9)),
                number(latency.p95_ms)
            ),
            What::Query { objects, answers } => {
                let each = answers.iter().map(|(question, latency)| {
                    format!("{} {} / {} ms", question.title(), number(latency.p50_ms), number(latency.p95_ms))
                });
                format!("{} shirts: {}", number(*objects as f64), each.collect::<Vec<_>>().join(", "))
            }
            What::Mixed { slices, .. } => {
                let (requests, seconds) = slices
                    .iter()
                    .fold((0, 0.0), |(requests, seconds), slice| (requests + slice.requests, seconds + slice.seconds));
                format!("{} requests/s in all", number(requests as f64 / f64::max(seconds, 1e-9)))
            }
        };
        for (name, bytes) in &self.memory {
            line.push_str(&format!("; {name} {:.0} MB", bytes / 1e6));
        }
        if let Some(stopped) = &self.stopped {
            line.push_str(&format!("; stopped: {stopped}"));
        }
        line
    }

    /// Adds it to the file.
    pub(super) fn append(&self, path: &Path) -> Result<()> {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
        Ok(writeln!(file, "{}", serde_json::to_string(self)?)?)
    }
}

/// All parts of a file.
pub(super) fn read(path: &Path) -> Result<Vec<Part>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("{}: {line}", path.display()))).collect()
}
