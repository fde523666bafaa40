//! The same batches on all databases, with one clock, and everything that they hold compared after each.

mod requests;
mod steps;
mod stored;

use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;

pub(super) use self::requests::requests;
use self::steps::{Ask, Step};
use self::stored::{stored, timeless};
use super::both;
use super::index::backfill;
use super::session::{Audit, Graph};
use super::turn::Turn;
use super::writer::SqlWriter;
use crate::clock::{Steady, StoreClock, StoreTime};
use crate::endpoint::Endpoint;
use crate::engine::store::Writer as _;
use crate::engine::{Asked, commit};

/// A connection that reads all that a database holds.
pub(super) trait Whole: Audit + Graph {}

impl<T: Audit + Graph> Whole for T {}

/// A database that is served.
struct Served {
    endpoint: Endpoint,
    /// Dropped and opened anew when it restarts.
    open: Option<(SqlWriter, Box<dyn Whole>)>,
}

impl Served {
    fn new(endpoint: Endpoint) -> Self {
        let mut served = Self { endpoint, open: None };
        served.restart();
        served
    }

    fn restart(&mut self) {
        self.open = None;
        let (session, whole) = both(&self.endpoint).unwrap();
        let clock = StoreClock::from(StoreTime::default(), std::sync::Arc::new(Steady::default()));
        self.open =
            Some((SqlWriter::new(session, clock, Default::default(), Turn::fixed(Duration::from_secs(1))), whole));
    }

    /// Carries a step out; returns what it answers.
    fn carry_out(&mut self, step: &Step, requests: &[Asked], now: StoreTime) -> Vec<String> {
        if matches!(step, Step::Restart) {
            self.restart();
        }
        let Some((writer, _)) = &mut self.open else { return Vec::new() };
        writer.at = Some(now);
        match step {
            Step::Commit(_) | Step::Collect(_) => return commit(writer, requests).unwrap(),
            // How much of it is left is no difference, so what a step removes is none either.
            Step::Sweep(limit) => drop(writer.session().compact(*limit).unwrap()),
            Step::Index(limit) => {
                let more = backfill::step(writer.session(), &Default::default(), *limit).unwrap();
                return vec![more.to_string()];
            }
            Step::Extend(seconds) => {
                let extended = writer.session().extend_leases(now, Duration::from_secs(*seconds)).unwrap();
                return vec![extended.to_string()];
            }
            Step::Forget(seconds) => {
                let before = now.before(Duration::from_secs(*seconds));
                while writer.forget(before).unwrap() {}
            }
            Step::Pass(_) | Step::Restart => {}
        }
        Vec::new()
    }

    fn stored(&mut self) -> Vec<String> {
        self.open.as_mut().map(|(_, whole)| stored(whole.as_mut()).unwrap()).unwrap_or_default()
    }

    fn revision(&mut self) -> i64 {
        let Some((_, whole)) = &mut self.open else { return 0 };
        let revision = whole.snapshot().unwrap().revision;
        whole.end();
        revision
    }
}

/// All databases, and the one clock.
struct World {
    all: Vec<Served>,
    now: StoreTime,
    _folder: TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = Endpoint::Sqlite(folder.path().join("state.db"));
        let all = [file].into_iter().chain(super::on_servers()).map(Served::new).collect();
        Self { all, now: StoreTime::from_millis(1_000_000), _folder: folder }
    }

    /// Carries a step out on all databases, and compares.
    fn carry_out(&mut self, step: &Step) {
        let newest = self.all[0].revision();
        let requests = match step {
            Step::Commit(asks) => asks.iter().map(|ask| ask.request(newest)).collect(),
            Step::Collect(objects) => vec![steps::work(*objects)],
            _ => Vec::new(),
        };
        // Time passes with each step.
        let passed = if let Step::Pass(seconds) = step { *seconds * 1000 } else { 10 };
        self.now = self.now.after(Duration::from_millis(passed));
        let mut first: Option<Vec<String>> = None;
        for served in &mut self.all {
            let mut lines = served.carry_out(step, &requests, self.now);
            lines = lines.iter().map(|line| timeless(line)).collect();
            lines.extend(served.stored());
            match &first {
                None => first = Some(lines),
                Some(first) => compare(first, &lines, &served.endpoint, step),
            }
        }
    }

    /// Does all that is left to do.
    fn settle(&mut self) {
        self.carry_out(&Step::Pass(3600));
        // The steps over the indexes keep another time than this one, by which leases would have too much left.
        self.carry_out(&Step::Commit(vec![Ask::Expire]));
        for step in [Step::Collect(50), Step::Sweep(1000), Step::Index(50)] {
            for _ in 0..8 {
                self.carry_out(&step);
            }
        }
        self.carry_out(&Step::Forget(0));
    }

    /// Finds nothing wrong with any of them.
    fn check(self) {
        for Served { endpoint, open } in self.all {
            drop(open);
            let mut wrong = Vec::new();
            super::check(&endpoint, false, &mut |damage| wrong.push(damage.what)).unwrap();
            assert!(wrong.is_empty(), "{endpoint}: {wrong:#?}");
        }
    }
}

fn compare(first: &[String], other: &[String], endpoint: &Endpoint, step: &Step) {
    let only = |these: &[String], those: &[String]| -> String {
        these.iter().filter(|line| !those.contains(line)).map(|line| format!("  {line}\n")).collect()
    };
    let (file, server) = (only(first, other), only(other, first));
    assert!(first == other, "after {step:?}\nonly SQLite has\n{file}only {endpoint} has\n{server}or in another order");
}

/// How many runs: a few in a test of all, more for whoever looks for a difference.
fn cases() -> u32 {
    std::env::var("SLUICE_COMPARED_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 100, ..ProptestConfig::default() })]

    /// SQLite, PostgreSQL and MariaDB, these two also with partitions.
    #[test]
    fn all_databases_hold_the_same_after_the_same_batches(steps in steps::steps()) {
        let mut world = World::new();
        for step in &steps {
            world.carry_out(step);
        }
        world.settle();
        world.check();
    }
}
