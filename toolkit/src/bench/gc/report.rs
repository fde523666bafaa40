//! What is printed and kept of the measurements.

use std::fmt::Write as _;

use serde::Serialize;

use super::system::{Measured, Memory, System};
use crate::cluster::database::Database;

/// The format of the JSON report.
const SCHEMA: u32 = 1;

/// From how many dependents on ours must be so many times as fast as stock Kubernetes.
const MANY: usize = 10_000;

/// How many times: with SQLite, and with a database server.
const RATE: (f64, f64) = (50.0, 20.0);

/// How many times as long others' writes may take, 99 of 100.
const LATENCY: f64 = 2.0;

/// How much more the controller manager may take with the dependents than without. Bytes.
const MEMORY: u64 = 20 << 20;

/// All measurements of a run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    schema_version: u32,
    kubernetes: String,
    /// Where ours keeps its data, if that is not SQLite.
    database: Option<Database>,
    processors: usize,
    runs: Vec<Measured>,
    promises: Vec<Promise>,
}

/// Something that must hold.
#[derive(Debug, PartialEq, Serialize)]
struct Promise {
    what: String,
    measured: String,
    kept: bool,
}

impl Report {
    pub(super) fn new(kubernetes: String, database: Option<Database>, runs: Vec<Measured>) -> Self {
        let ours = runs.iter().filter(|run| run.system == System::Ours);
        let stock =
            |of: &Measured| runs.iter().find(|run| run.system == System::Stock && run.dependents == of.dependents);
        let rate = if database.is_some() { RATE.1 } else { RATE.0 };
        let promises = ours.flat_map(|run| promises(run, stock(run), rate)).collect();
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self { schema_version: SCHEMA, kubernetes, database, processors, runs, promises }
    }

    /// As Markdown.
    pub(super) fn table(&self) -> String {
        let on = self.database.map_or(String::new(), |database| format!("; Sluice on {database}"));
        let mut text = format!("Kubernetes {}, {} processors{on}.\n\n", self.kubernetes, self.processors);
        text.push_str(
            "| dependents | system | s until gone | objects/s | others' writes p50 ms, before → during | p99 ms | controller manager MiB: without, with, most | store MiB | apiserver MiB |\n\
             |--:|---|--:|--:|--:|--:|--:|--:|--:|\n",
        );
        for run in &self.runs {
            row(&mut text, run);
        }
        text.push_str("\n| promise | measured | |\n|---|--:|---|\n");
        for promise in &self.promises {
            let word = if promise.kept { "kept" } else { "**missed**" };
            let _ = writeln!(text, "| {} | {} | {word} |", promise.what, promise.measured);
        }
        text
    }
}

fn row(text: &mut String, run: &Measured) {
    let name = match run.system {
        System::Ours => "Sluice",
        System::Stock => "stock + etcd",
    };
    let until = match run.left {
        0 => format!("{:.1}", run.seconds),
        left => format!("{left} left after {:.0}", run.seconds),
    };
    let (before, during) = (run.latency_before, run.latency_during);
    let mebibytes = |of: fn(&Memory) -> u64| {
        let [without, with, most] = run.memory.each_ref().map(|memory| of(memory) >> 20);
        format!("{without}, {with}, {most}")
    };
    let _ = writeln!(
        text,
        "| {} | {name} | {until} | {:.0} | {:.1} → {:.1} | {:.1} → {:.1} | {} | {} | {} |",
        run.dependents,
        run.rate(),
        before.p50,
        during.p50,
        before.p99,
        during.p99,
        mebibytes(|memory| memory.controller_manager),
        mebibytes(|memory| memory.store),
        mebibytes(|memory| memory.apiserver),
    );
}

fn promises(ours: &Measured, stock: Option<&Measured>, rate: f64) -> Vec<Promise> {
    let many = ours.dependents;
    let mut promises = Vec::new();
    if let Some(stock) = stock.filter(|_| many >= MANY) {
        let ratio = ours.rate() / stock.rate().max(1e-9);
        promises.push(Promise {
            what: format!("{many} dependents: at least {rate:.0} × stock's rate"),
            measured: format!("{ratio:.0} ×"),
            kept: ratio >= rate,
        });
    }
    let (before, during) = (ours.latency_before.p99, ours.latency_during.p99);
    promises.push(Promise {
        what: format!("{many} dependents: p99 of others' writes at most {LATENCY:.0} × as before"),
        measured: format!("{:.2} × of {} writes", during / before.max(1e-9), ours.latency_during.writes),
        kept: during <= LATENCY * before && ours.latency_during.failed == 0,
    });
    let [without, with, _] = ours.memory.map(|memory| memory.controller_manager);
    let grown = with.saturating_sub(without);
    promises.push(Promise {
        what: format!(
            "{many} dependents: the controller manager takes at most {} MiB more than with none",
            MEMORY >> 20
        ),
        measured: format!("{} MiB", grown >> 20),
        kept: grown <= MEMORY,
    });
    promises
}

#[cfg(test)]
mod tests {
    use super::super::others::Latency;
    use super::*;

    fn run(system: System, seconds: f64, left: u64, p99: [f64; 2], manager: [u64; 2]) -> Measured {
        let latency = |p99| Latency { writes: 1_000, failed: 0, p50: 1.0, p99 };
        let memory = |mebibytes: u64| Memory { apiserver: 1, controller_manager: mebibytes << 20, store: 1 };
        Measured {
            system,
            dependents: 10_000,
            load_seconds: 1.0,
            seconds,
            left,
            latency_before: latency(p99[0]),
            latency_during: latency(p99[1]),
            memory: [memory(manager[0]), memory(manager[1]), memory(manager[1])],
        }
    }

    #[test]
    fn promises_are_kept_or_missed() {
        let kept = |ours: Measured, stock: Measured| {
            let report = Report::new("v1.37.2".into(), None, vec![ours, stock]);
            report.promises.iter().map(|promise| promise.kept).collect::<Vec<_>>()
        };
        let stock = || run(System::Stock, 100.0, 8_000, [5.0, 5.0], [100, 300]);
        assert_eq!(kept(run(System::Ours, 5.0, 0, [5.0, 10.0], [100, 120]), stock()), [true, true, true]);
        assert_eq!(kept(run(System::Ours, 11.0, 0, [5.0, 10.1], [100, 121]), stock()), [false, false, false]);
    }

    #[test]
    fn a_table_says_what_was_not_finished() {
        let runs = vec![
            run(System::Ours, 5.0, 0, [5.0, 9.0], [100, 101]),
            run(System::Stock, 100.0, 8_000, [5.0, 6.0], [100, 300]),
        ];
        let table = Report::new("v1.37.2".into(), None, runs).table();
        assert!(table.contains("| 10000 | Sluice | 5.0 | 2000 | 1.0 → 1.0 | 5.0 → 9.0 | 100, 101, 101 |"), "{table}");
        assert!(table.contains("| 10000 | stock + etcd | 8000 left after 100 | 20 |"), "{table}");
        assert!(table.contains("| 100 × | kept |"), "{table}");
    }
}
