//! `cargo xtask test soak`: one sluice-shim under a mixed load for a long time. What its process holds must not grow,
//! and what it acknowledged must be there after each restart.
//!
//! The load generator (`bench/src/soak`) makes the load and takes samples; here are the rules by which they are judged.
//! `SLUICE_SOAK_SECONDS` says how long it takes.

mod flat;
mod record;

use std::path::Path;

use sluice_shell::context::Context;
use sluice_shell::error::Result;
use sluice_toolkit::bench;
use sluice_toolkit::cluster::database::Database;
use sluice_toolkit::cluster::wait::ensure;

use self::flat::{Thirds, Tolerance};
use self::record::{Record, Sample};
use crate::choice;
use crate::runner::{self, Tally, Verdict};

/// How long it takes unless somebody says otherwise.
const SECONDS: u64 = 120;
/// Fewer give too few samples.
const LEAST_SECONDS: u64 = 60;
const VARIABLE: &str = "SLUICE_SOAK_SECONDS";

/// How many watches are opened and closed in half an hour, and in more time; in less, fewer.
const WATCHES: f64 = 100_000.0;
const HALF_AN_HOUR: f64 = 1800.0;
/// The shim copies SQLite's log into the database when it has 32,768 pages (`shim/src/sql/sqlite/checkpoint.rs`), or
/// twice as many if a reader needs its end just then, and some are added meanwhile. What is shorter has not grown.
const LOG: f64 = 2.0 * 32_768.0 * 4_120.0 * 1.1;
/// What SQLite's file may have with the 2,000 objects, a minute of deleted ones, and the history between two
/// compactions. The defragmentation before the last life makes the file shorter, and it grows to that again.
const DATABASE: f64 = 5e6;
/// Writes a second at least: without them nothing was tested.
const WRITES: f64 = 20.0;

/// How a record is judged.
type Judge = Box<dyn Fn(&Record) -> Result<Verdict>>;

/// Something that must hold.
struct Rule {
    name: &'static str,
    judge: Judge,
}

impl Rule {
    fn new(name: &'static str, judge: impl Fn(&Record) -> Result<Verdict> + 'static) -> Self {
        Self { name, judge: Box::new(judge) }
    }
}

/// All of them. Memory, handles and threads begin anew with each process: they are judged in its longest life. The
/// files stay, so they are judged over all lives.
fn rules() -> Vec<Rule> {
    let megabytes = |share, number| (Tolerance { share, number: number * 1e6, usual: 0.0 }, 1e6, " MB");
    let number = |share, number| (Tolerance { share, number, usual: 0.0 }, 1.0, "");
    let file = (Tolerance { share: 0.05, number: 1e6, usual: DATABASE }, 1e6, " MB");
    let log = (Tolerance { share: 0.1, number: 10e6, usual: LOG }, 1e6, " MB");
    vec![
        Rule::new("flat/memory", move |record| flat(&record.longest_life(), |one| one.memory, megabytes(0.1, 10.0))),
        Rule::new("flat/handles", move |record| flat(&record.longest_life(), |one| one.handles, number(0.05, 4.0))),
        Rule::new("flat/threads", move |record| flat(&record.longest_life(), |one| one.threads, number(0.05, 2.0))),
        Rule::new("flat/database", move |record| {
            // What a server's vacuum has still to give back settles slowly.
            let tolerance = if record.is_on_a_server() { megabytes(0.1, 5.0) } else { file };
            flat(&record.samples, |one| one.database, tolerance)
        }),
        Rule::new("flat/log", move |record| match record.is_on_a_server() {
            true => Ok(Verdict::Skipped("the log is the database server's own".to_owned())),
            false => flat(&record.samples, |one| one.log, log),
        }),
        Rule::new("kept/acknowledged", kept),
        Rule::new("done/watches", watches),
        Rule::new("done/load", load),
    ]
}

/// How long it takes.
///
/// # Errors
/// When the variable is no number, or too small.
pub(crate) fn seconds() -> Result<u64> {
    choice::seconds(VARIABLE, SECONDS, LEAST_SECONDS)
}

/// Makes the load, and judges what was found.
///
/// # Errors
/// When it can't be made at all.
pub(crate) fn run(shell: &Context, database: Option<Database>, bin: Option<&Path>) -> Result<Tally> {
    let folder = bench::soak(shell, seconds()?, database, bin)?;
    let record = &Record::read(&folder)?;
    shell.out.data(record.summary())?;
    let cases = rules().into_iter().map(|rule| (rule.name, rule.judge));
    let cases: Vec<_> = cases.map(|(name, judge)| (name, move || judge(record))).collect();
    let tally = runner::run(shell, "soak", Path::new(&folder), cases)?;
    shell.out.data(format!("     {}", folder.join("soak.csv").display()))?;
    Ok(tally)
}

fn flat(
    samples: &[Sample],
    value: impl Fn(&Sample) -> f64,
    (tolerance, unit, name): (Tolerance, f64, &str),
) -> Result<Verdict> {
    let values: Vec<f64> = samples.iter().map(value).collect();
    let thirds = Thirds::of(&values)?;
    let said = format!("middle third {:.1}{name}, last third {:.1}{name}", thirds.middle / unit, thirds.last / unit);
    ensure(thirds.are_flat(tolerance), || format!("it grows: {said}"))?;
    Ok(Verdict::Passed(said))
}

/// All that was acknowledged was there after each restart, and no request failed between them.
fn kept(record: &Record) -> Result<Verdict> {
    let report = &record.report;
    ensure(report.counts.faults == 0, || format!("{} faults:\n{}", report.counts.faults, report.told.join("\n")))?;
    ensure(report.restarts.len() >= 4, || format!("{} restarts are too few", report.restarts.len()))?;
    Ok(Verdict::Passed(format!("{} restarts, {} writes", report.restarts.len(), report.counts.writes)))
}

fn watches(record: &Record) -> Result<Verdict> {
    let (opened, seconds) = (record.report.counts.watches, record.report.seconds);
    let due = (WATCHES * seconds / HALF_AN_HOUR).min(WATCHES);
    let said = format!("{opened} opened and closed in {seconds:.0} s");
    ensure(opened as f64 >= due, || format!("{said}, not {due:.0}"))?;
    Ok(Verdict::Passed(said))
}

/// There was a load of every kind.
fn load(record: &Record) -> Result<Verdict> {
    let (counts, seconds) = (&record.report.counts, record.report.seconds);
    let kinds = [
        counts.reads,
        counts.selected,
        counts.events,
        counts.slow_events,
        counts.compactions,
        counts.snapshots,
        counts.snapshot_bytes,
    ];
    let rate = counts.writes as f64 / seconds;
    let said = format!("{rate:.0} writes a second, {} snapshots, {} compactions", counts.snapshots, counts.compactions);
    ensure(rate >= WRITES && !kinds.contains(&0), || format!("too little was done: {said}; {counts:?}"))?;
    Ok(Verdict::Passed(said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_fails_for_what_it_is_about_alone() {
        let failed = |record: &Record| -> Vec<&str> {
            rules().iter().filter(|rule| (rule.judge)(record).is_err()).map(|rule| rule.name).collect()
        };
        let mut good = record::good();
        assert_eq!(failed(&good), Vec::<&str>::new());
        let grow = |set: fn(&mut Sample, f64)| {
            let mut record = record::good();
            for (at, sample) in record.samples.iter_mut().enumerate() {
                set(sample, at as f64);
            }
            record
        };
        assert_eq!(failed(&grow(|sample, at| sample.memory += at * 3e5)), ["flat/memory"]);
        assert_eq!(failed(&grow(|sample, at| sample.handles += at)), ["flat/handles"]);
        assert_eq!(failed(&grow(|sample, at| sample.threads += at)), ["flat/threads"]);
        assert_eq!(failed(&grow(|sample, at| sample.database += at * 1e5)), ["flat/database"]);
        assert_eq!(failed(&grow(|sample, at| sample.log += at * 3e6)), ["flat/log"]);
        good.report.counts.snapshots = 0;
        assert_eq!(failed(&good), ["done/load"]);
        good = record::good();
        good.report.counts.watches = 99_999;
        assert_eq!(failed(&good), ["done/watches"]);
        good = record::good();
        good.report.counts.faults = 1;
        assert_eq!(failed(&good), ["kept/acknowledged"]);
    }
}
