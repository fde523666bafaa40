//! `cargo xtask test scale`: shims and the servers of their databases are killed again and again, in all layouts of
//! more than one process or one table, and in the plain ones.
//!
//! The shim's test of linearizability (`shim/tests/linearizability`) kills and checks, in rounds of 15 seconds. Here
//! are the layouts, and the sums over all rounds. `SLUICE_SCALE_SECONDS` says how long each layout takes.

use std::cell::RefCell;

use sluice_shell::context::Context;
use sluice_shell::error::{Error, Result};
use sluice_shell::process::Run;
use sluice_toolkit::cluster::database::Database;
use sluice_toolkit::cluster::wait::ensure;

use crate::databases::{DIRECT, GALERA, PARTITIONS, VARIABLE};
use crate::runner::{self, Tally, Verdict};
use crate::server::Server;

/// How long each layout takes unless somebody says otherwise.
const SECONDS: u64 = 60;
/// Fewer may hold no kill.
const LEAST_SECONDS: u64 = 5;
const TIME: &str = "SLUICE_SCALE_SECONDS";

/// Names of tests in `shim/tests/linearizability`.
const ONE: &str = "histories_are_linearizable";
const SEVERAL: &str = "histories_of_several_shims_are_linearizable";
const DATABASE_TOO: &str = "histories_are_linearizable_while_the_database_is_killed_as_well";
const COPY: &str = "histories_with_a_copy_that_answers_lists_are_linearizable";
const NODES: &str = "histories_are_linearizable_while_nodes_of_a_cluster_are_struck_as_well";

/// Shims on a database, and what is killed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    name: &'static str,
    /// The server that is started for it.
    database: Option<Database>,
    test: &'static str,
    /// How the tables are divided.
    partitions: Option<&'static str>,
}

const POSTGRES: Option<Database> = Some(Database::Postgres);
const MARIADB: Option<Database> = Some(Database::Mariadb);

/// All of them.
const LAYOUTS: [Layout; 14] = [
    Layout::new("sqlite/one", None, ONE),
    Layout::new("postgres/one", POSTGRES, ONE),
    Layout::new("postgres/several", POSTGRES, SEVERAL),
    Layout::new("postgres/database", POSTGRES, DATABASE_TOO),
    Layout::new("postgres/replica", POSTGRES, COPY),
    Layout::divided("postgres/by-key", POSTGRES, "key"),
    Layout::divided("postgres/by-resource", POSTGRES, "resource"),
    Layout::new("mariadb/one", MARIADB, ONE),
    Layout::new("mariadb/several", MARIADB, SEVERAL),
    Layout::new("mariadb/database", MARIADB, DATABASE_TOO),
    Layout::new("mariadb/replica", MARIADB, COPY),
    Layout::divided("mariadb/by-key", MARIADB, "key"),
    Layout::divided("mariadb/by-resource", MARIADB, "resource"),
    // The test starts the nodes itself.
    Layout::new("galera/nodes", None, NODES),
];

impl Layout {
    const fn new(name: &'static str, database: Option<Database>, test: &'static str) -> Self {
        Self { name, database, test, partitions: None }
    }

    /// Three shims on divided tables.
    const fn divided(name: &'static str, database: Option<Database>, by: &'static str) -> Self {
        Self { name, database, test: SEVERAL, partitions: Some(by) }
    }
}

/// What happened in a layout.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Sums {
    rounds: u64,
    /// The seed of the first round; each other one has the next number.
    seed: u64,
    kills: u64,
    stops: u64,
    pauses: u64,
    outages: u64,
    writes: u64,
    events: u64,
}

impl Sums {
    /// Takes a line of the test's output: `ROUND seed=17 kills=8 …`.
    fn take(&mut self, line: &str) {
        let Some((_, line)) = line.split_once("ROUND seed=") else { return };
        let line = format!("seed={line}");
        self.rounds += 1;
        for (name, number) in line.split_whitespace().filter_map(|word| word.split_once('=')) {
            let number = number.parse().unwrap_or(0);
            match name {
                "seed" if self.rounds == 1 => self.seed = number,
                "kills" => self.kills += number,
                "stops" => self.stops += number,
                "pauses" => self.pauses += number,
                "outages" => self.outages += number,
                "writes" => self.writes += number,
                "events" => self.events += number,
                _ => {}
            }
        }
    }

    fn add(&mut self, other: &Self) {
        let Self { rounds, seed: _, kills, stops, pauses, outages, writes, events } = self;
        let numbers = [rounds, kills, stops, pauses, outages, writes, events];
        let more = [other.rounds, other.kills, other.stops, other.pauses, other.outages, other.writes, other.events];
        numbers.into_iter().zip(more).for_each(|(number, more)| *number += more);
    }
}

impl std::fmt::Display for Sums {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { rounds, kills, stops, pauses, outages, writes, events, .. } = self;
        write!(
            to,
            "{kills} kills, {stops} stops, {pauses} pauses, {outages} outages of the database in {rounds} rounds"
        )?;
        write!(to, "; {writes} acknowledged writes, {events} events")
    }
}

/// How long each layout takes.
///
/// # Errors
/// When the variable is no number, or too small.
pub(crate) fn seconds() -> Result<u64> {
    let Ok(value) = std::env::var(TIME) else { return Ok(SECONDS) };
    let seconds = value.parse().ok().filter(|seconds| *seconds >= LEAST_SECONDS);
    seconds.ok_or_else(|| Error::input(format!("{TIME} must be a number, {LEAST_SECONDS} or more, not {value:?}")))
}

/// The layouts whose name holds the text.
///
/// # Errors
/// When there is none.
pub(crate) fn chosen(filter: Option<&str>) -> Result<Vec<Layout>> {
    let fits = |layout: &Layout| filter.is_none_or(|text| layout.name.contains(text));
    let chosen: Vec<_> = LAYOUTS.into_iter().filter(fits).collect();
    if chosen.is_empty() {
        let names: Vec<_> = LAYOUTS.iter().map(|layout| layout.name).collect();
        let text = filter.unwrap_or_default();
        return Err(Error::input(format!("no layout has {text:?} in its name; there are:\n{}", names.join("\n"))));
    }
    Ok(chosen)
}

/// Kills in one layout after the other, and says how often, and what was kept.
///
/// # Errors
/// When it can't be said.
pub(crate) fn run(shell: &Context, layouts: &[Layout]) -> Result<Tally> {
    let (seconds, all) = (seconds()?, &RefCell::new(Sums::default()));
    let cases = layouts.iter().map(|layout| {
        (layout.name, move || {
            let sums = layout.run(shell, seconds)?;
            all.borrow_mut().add(&sums);
            Ok(Verdict::Passed(format!("{sums}, first seed {}", sums.seed)))
        })
    });
    let tally = runner::run(shell, "scale", shell.paths.root(), cases)?;
    shell.out.data(format!("     all layouts: {}", all.borrow()))?;
    Ok(tally)
}

impl Layout {
    /// Runs the test on a server of its own.
    fn run(&self, shell: &Context, seconds: u64) -> Result<Sums> {
        let server = self.database.map(|database| Server::start(shell, database)).transpose()?;
        let mut run = Run::cargo(shell.paths.root())
            .args(["test", "--package", "sluice-shim", "--test", "linearizability", self.test])
            .args(["--", "--exact", "--nocapture"])
            .env("SLUICE_LINEARIZABILITY_SECONDS", seconds.to_string())
            // For the layout that has a cluster; the others have none.
            .env(GALERA, "1")
            .env_remove(DIRECT)
            .env_remove(PARTITIONS)
            .env_remove(VARIABLE)
            .log(shell.paths.log(&format!("test-scale-{}", self.name.replace('/', "-"))));
        if let Some(server) = &server {
            run = run.env(VARIABLE, server.endpoint());
        }
        if let Some(by) = self.partitions {
            run = run.env(PARTITIONS, by);
        }
        let mut sums = Sums::default();
        run.watch(|line| sums.take(line))?;
        if let Some(server) = server {
            server.stop()?;
        }
        ensure(sums.kills > 0 && sums.writes > 0, || format!("nothing was tested: {sums}"))?;
        Ok(sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_added_up() {
        let mut sums = Sums::default();
        let lines = [
            "SLUICE_LINEARIZABILITY_SEED=17 for 15s",
            "ROUND seed=17 kills=8 stops=2 pauses=1 outages=0 writes=100 events=120",
            "test histories_are_linearizable ... ROUND seed=18 kills=1 stops=0 pauses=0 outages=3 writes=10 events=9",
        ];
        lines.iter().for_each(|line| sums.take(line));
        let expected =
            Sums { rounds: 2, seed: 17, kills: 9, stops: 2, pauses: 1, outages: 3, writes: 110, events: 129 };
        assert_eq!(sums, expected);
    }

    #[test]
    fn layouts_are_chosen_by_name() {
        assert_eq!(chosen(None).unwrap().len(), LAYOUTS.len());
        assert_eq!(chosen(Some("several")).unwrap().len(), 2);
        let error = chosen(Some("nosuch")).unwrap_err().to_string();
        assert!(error.contains("; there are:\nsqlite/one\n"), "{error}");
    }
}
