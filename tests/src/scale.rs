//! `cargo xtask test scale`: shims and the servers of their databases are killed again and again, in all layouts of
//! more than one process or one table, and in the plain ones.
//!
//! The shim's test of linearizability (`shim/tests/linearizability`) kills and checks, in rounds of 15 seconds. Here
//! are the layouts, and the sums over all rounds. `SLUICE_SCALE_SECONDS` says how long each layout takes.

use std::cell::RefCell;

use serde::Deserialize;
use sluice_shell::context::Context;
use sluice_shell::error::Result;
use sluice_shell::process::Run;
use sluice_toolkit::cluster::database::Database;
use sluice_toolkit::cluster::wait::ensure;

use crate::choice;
use crate::databases::{DIRECT, GALERA, PARTITIONS, VARIABLE};
use crate::runner::{self, Tally, Verdict};
use crate::server::Server;

/// How long each layout takes unless somebody says otherwise.
const SECONDS: u64 = 60;
/// A round.
const LEAST_SECONDS: u64 = 15;
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

/// What happened in a round: what the test says of it.
#[derive(Debug, Deserialize)]
struct Round {
    seed: u64,
    kills: u64,
    stops: u64,
    pauses: u64,
    outages: u64,
    writes: u64,
    events: u64,
}

/// What happened in a layout, or in all.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sums {
    /// Of the rounds. Each has the number behind that of the one before.
    seeds: Vec<u64>,
    kills: u64,
    stops: u64,
    pauses: u64,
    outages: u64,
    writes: u64,
    events: u64,
}

impl Sums {
    /// Takes a line of the test's output.
    fn take(&mut self, line: &str) {
        let said = line.split_once("ROUND ").and_then(|(_, round)| serde_json::from_str(round).ok());
        let Some(Round { seed, kills, stops, pauses, outages, writes, events }) = said else { return };
        self.seeds.push(seed);
        self.kills += kills;
        self.stops += stops;
        self.pauses += pauses;
        self.outages += outages;
        self.writes += writes;
        self.events += events;
    }
}

impl std::fmt::Display for Sums {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { seeds, kills, stops, pauses, outages, writes, events } = self;
        let rounds = seeds.len();
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
    choice::seconds(TIME, SECONDS, LEAST_SECONDS)
}

/// The layouts whose name holds the text.
///
/// # Errors
/// When there is none.
pub(crate) fn chosen(filter: Option<&str>) -> Result<Vec<Layout>> {
    choice::chosen("layout", filter, LAYOUTS, |layout| layout.name)
}

/// Kills in one layout after the other, and says how often, and what was kept.
///
/// # Errors
/// When it can't be said.
pub(crate) fn run(shell: &Context, layouts: &[Layout]) -> Result<Tally> {
    let (seconds, all) = (seconds()?, &RefCell::new(Sums::default()));
    let cases = layouts.iter().map(|layout| {
        (layout.name, move || {
            let sums = layout.run(shell, seconds, &mut all.borrow_mut())?;
            Ok(Verdict::Passed(format!("{sums}, first seed {}", sums.seeds[0])))
        })
    });
    let tally = runner::run(shell, "scale", shell.paths.root(), cases)?;
    shell.out.data(format!("     all layouts: {}", all.borrow()))?;
    Ok(tally)
}

impl Layout {
    /// Runs the test on a server of its own; adds what happened to `all`.
    fn run(&self, shell: &Context, seconds: u64, all: &mut Sums) -> Result<Sums> {
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
        run.watch(|line| [&mut sums, &mut *all].into_iter().for_each(|sums| sums.take(line)))?;
        if let Some(server) = server {
            server.stop()?;
        }
        let struck = sums.kills + sums.stops + sums.outages;
        ensure(struck > 0 && sums.writes > 0, || format!("nothing was tested: {sums}"))?;
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
            r#"ROUND {"seed":17,"kills":8,"stops":2,"pauses":1,"outages":0,"writes":100,"events":120}"#,
            r#"test x ... ROUND {"seed":18,"kills":1,"stops":0,"pauses":0,"outages":3,"writes":10,"events":9}"#,
        ];
        lines.iter().for_each(|line| sums.take(line));
        let seeds = vec![17, 18];
        let expected = Sums { seeds, kills: 9, stops: 2, pauses: 1, outages: 3, writes: 110, events: 129 };
        assert_eq!(sums, expected);
    }

    #[test]
    fn layouts_are_chosen_by_name() {
        assert_eq!(chosen(None).unwrap().len(), LAYOUTS.len());
        assert_eq!(chosen(Some("several")).unwrap().len(), 2);
    }
}
