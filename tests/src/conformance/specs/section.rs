//! The results as a table, and as a section of docs/conformance.md.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::area::Area;
use super::ginkgo::Report;
use super::ground::Ground;
use super::system::System;
use crate::conformance::report;
use crate::conformance::suite::Store;
use crate::conformance::verdict::{Outcome, Verdict};
use sluice_shell::output;

/// What came out on one system.
pub(super) struct Ended {
    pub(super) system: System,
    /// Where a shim keeps its data.
    pub(super) store: Store,
    pub(super) report: Report,
    pub(super) verdict: Verdict,
    /// How long it took; none for a run before this one.
    pub(super) seconds: Option<f64>,
}

impl Ended {
    /// For people.
    pub(super) fn title(&self) -> String {
        match self.system {
            System::Stock => self.system.title().to_owned(),
            _ => format!("{} on {}", self.system.title(), self.store.title()),
        }
    }

    fn outcome(&self, spec: &str) -> Option<Outcome> {
        self.report.specs.get(spec).and_then(|spec| spec.outcome)
    }
}

/// The specs whose outcomes are not the same everywhere, with the outcomes.
pub(super) fn differing(results: &[Ended]) -> Vec<String> {
    let names: BTreeSet<&String> = results.iter().flat_map(|result| result.report.specs.keys()).collect();
    let differs = |name: &&String| results.iter().any(|result| result.outcome(name) != results[0].outcome(name));
    let shown = |name: &String| {
        let each = results.iter().map(|result| {
            let outcome = match result.outcome(name) {
                Some(Outcome::Passed) => "passed",
                Some(Outcome::Failed) => "failed",
                Some(Outcome::Skipped) => "skipped",
                None => "not run",
            };
            format!("{} {outcome}", result.system.name())
        });
        format!("{name} ({})", each.collect::<Vec<_>>().join(", "))
    };
    names.into_iter().filter(differs).map(shown).collect()
}

/// For a terminal.
pub(super) fn table(results: &[Ended]) -> String {
    let heading = ["SYSTEM", "PASSED", "SKIPPED", "LISTED", "FAILED", "SECONDS"].map(str::to_owned).to_vec();
    let row = |result: &Ended| {
        let verdict = &result.verdict;
        let counts = [verdict.passed, verdict.skipped, verdict.listed, verdict.problems().count()];
        let counts = counts.map(|count| count.to_string());
        let seconds = result.seconds.map_or_else(|| "before".to_owned(), |seconds| format!("{seconds:.0}"));
        [vec![result.title()], counts.to_vec(), vec![seconds]].concat()
    };
    let mut text = output::table(&[vec![heading], results.iter().map(row).collect()].concat());
    for result in results {
        for spec in &result.verdict.repeated {
            let _ = write!(text, "\n{}: {spec} passed at the second try", result.title());
        }
    }
    for spec in differing(results) {
        let _ = write!(text, "\nnot the same everywhere: {spec}");
    }
    text
}

/// docs/conformance.md with this section anew. What `previous`, the file as it is, says of other minors and databases
/// stays. The results are of all systems.
pub(super) fn document(area: &Area, ground: Ground, version: &str, results: &[Ended], previous: &str) -> String {
    let [before, old, after] = report::around(previous, ground.heading());
    let mut text = format!("{before}{}{}", ground.heading(), ground.about());
    text.push_str(concat!(
        "\n- for each system: passed / listed / failed. A listed spec can't pass on any system, and why stands below; if it\n",
        "  passes, that is an error\n",
        "- *skipped*: upstream's own code skips them\n",
        "- *differ*: the specs whose outcome is not the same on all systems\n\n",
    ));
    let titles: Vec<&str> = ground.systems().iter().map(|system| system.title()).collect();
    let _ = writeln!(text, "| Upstream | Database | Skipped | {} | Differ |", titles.join(" | "));
    let _ = writeln!(text, "|---|---|---:|{}---|", "---:|".repeat(titles.len()));
    for line in lines(ground, version, results, old) {
        let _ = writeln!(text, "{line}");
    }
    let _ = write!(text, "\n{}\n", area.about);
    report::entries(&mut text, "Can't pass:", &area.cannot);
    report::entries(&mut text, "Not run:", &area.outside);
    text + after
}

/// The lines of the table: what stood there, with what ran; the newest minor first.
fn lines(ground: Ground, version: &str, results: &[Ended], old: &str) -> Vec<String> {
    let store = results.iter().find(|result| result.system != System::Stock).map(|result| result.store.title());
    let cell = |system: &System| {
        let result = results.iter().find(|result| result.system == *system);
        result.map_or_else(|| "–".to_owned(), |Ended { verdict, .. }| report::counts(verdict))
    };
    let skipped = results.iter().map(|result| result.verdict.skipped).max().unwrap_or_default();
    let differ = match differing(results) {
        differing if differing.is_empty() => "none".to_owned(),
        differing => differing.join("; "),
    };
    let store = store.unwrap_or_default();
    let cells = ground.systems().iter().map(cell).collect::<Vec<_>>().join(" | ");
    let new = format!("| {version} | {store} | {skipped} | {cells} | {differ} |");
    let key = |line: &str| {
        let mut cells = line.split(" | ");
        let minor = cells.next()?.strip_prefix("| v")?.rsplit_once('.')?.0.to_owned();
        Some((minor, cells.next()?.to_owned()))
    };
    let mut lines: Vec<String> =
        old.lines().filter(|line| key(line).is_some() && key(line) != key(&new)).map(str::to_owned).collect();
    lines.push(new);
    let place = |title: Option<&str>| Store::ALL.iter().position(|store| Some(store.title().as_str()) == title);
    lines.sort_by_cached_key(|line| {
        let (minor, store) = key(line).unwrap_or_default();
        (std::cmp::Reverse(minor), place(Some(&store)))
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::super::ginkgo::Spec;
    use super::*;
    use crate::conformance::report::DIFFERENCES;

    fn result(system: System, store: Store, outcomes: &[(&str, Outcome)]) -> Ended {
        let spec = |outcome| Spec { outcome: Some(outcome), repeated: false };
        let specs = outcomes.iter().map(|(name, outcome)| ((*name).to_owned(), spec(*outcome))).collect();
        let passed = outcomes.iter().filter(|(_, outcome)| *outcome == Outcome::Passed).count();
        let report = Report { specs, broken: vec![] };
        Ended { system, store, report, verdict: Verdict { passed, ..Verdict::default() }, seconds: None }
    }

    fn area(ground: Ground) -> Area {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../ci/conformance/e2e/api-machinery.toml");
        Area::load(&file, ground).unwrap()
    }

    #[test]
    fn a_spec_with_other_outcomes_is_named() {
        use Outcome::{Failed, Passed};
        let stock = result(System::Stock, Store::Sqlite, &[("a", Passed), ("b", Failed)]);
        let ours = result(System::Sluice, Store::Sqlite, &[("a", Failed), ("b", Failed), ("c", Passed)]);
        let expected = ["a (stock passed, sluice failed)", "c (stock not run, sluice passed)"];
        assert_eq!(differing(&[stock, ours]), expected);
    }

    #[test]
    fn the_rest_of_the_document_and_what_did_not_run_stay() {
        let document = |ground: Ground, version, store, previous: &str| {
            let one = |system: &System| result(*system, store, &[("a", Outcome::Passed)]);
            let results: Vec<Ended> = ground.systems().iter().map(one).collect();
            document(&area(ground), ground, version, &results, previous)
        };
        let by_hand = format!("# Suites\n{DIFFERENCES}Written by hand.\n");
        let node = document(Ground::Node, "v1.37.2", Store::Sqlite, &by_hand);
        let first = document(Ground::Processes, "v1.37.2", Store::Postgres, &node);
        let second = document(Ground::Processes, "v1.36.3", Store::Sqlite, &first);
        let third = document(Ground::Processes, "v1.37.3", Store::Sqlite, &second);
        let table: Vec<&str> = third.lines().filter(|line| line.starts_with("| v1.")).collect();
        let line = |start: &str, systems: usize| format!("| {start} | 0 | {}none |", "1 / 0 / 0 | ".repeat(systems));
        let lines =
            [("v1.37.3 | SQLite", 3), ("v1.37.2 | PostgreSQL", 3), ("v1.36.3 | SQLite", 3), ("v1.37.2 | SQLite", 2)];
        assert_eq!(table, lines.map(|(start, systems)| line(start, systems)));
        assert!(third.starts_with("# Suites\n") && third.ends_with(&format!("{DIFFERENCES}Written by hand.\n")));
        assert_eq!(document(Ground::Processes, "v1.37.3", Store::Sqlite, &third), third);
        assert_eq!(document(Ground::Node, "v1.37.2", Store::Sqlite, &third), third);
    }
}
