//! The results as a table, and as docs/conformance.md.

use std::fmt::Write as _;

use super::suite::{Entry, Suite};
use super::verdict::Verdict;
use crate::output;

/// The result of one suite.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// The suite.
    pub(super) name: String,
    /// Upstream's version.
    pub(super) version: String,
    /// What came out.
    pub(super) verdict: Verdict,
    /// How long it took.
    pub(super) seconds: f64,
}

const HEADING: [&str; 8] = ["SUITE", "UPSTREAM", "PASSED", "NO SERVER", "SKIPPED", "LISTED", "FAILED", "SECONDS"];

fn cells(row: &Row) -> [String; 8] {
    let verdict = &row.verdict;
    [
        row.name.clone(),
        row.version.clone(),
        verdict.passed.to_string(),
        verdict.without_server.to_string(),
        verdict.skipped.to_string(),
        verdict.listed.to_string(),
        verdict.problems().count().to_string(),
        format!("{:.0}", row.seconds),
    ]
}

/// For a terminal.
pub(super) fn table(rows: &[Row]) -> String {
    let mut lines = vec![HEADING.map(str::to_owned).to_vec()];
    lines.extend(rows.iter().map(|row| cells(row).to_vec()));
    let mut text = output::table(&lines);
    for row in rows {
        for test in &row.verdict.repeated {
            let _ = write!(text, "\n{}: {test} passed at the second try", row.name);
        }
    }
    text
}

/// For docs/conformance.md: without times, so that the same results give the same file.
pub(super) fn document(rows: &[Row], suites: &[Suite]) -> String {
    let mut text = String::from(concat!(
        "# Upstream's tests against sluice-shim\n\n",
        "`cargo xtask test conformance --write-docs` writes this file. The tests are upstream's, unchanged; only the file that starts\n",
        "their server is exchanged. The numbers count tests without subtests.\n\n",
        "- *passed*: of these, *no server* are tests of upstream's code that start no server\n",
        "- *skipped*: upstream's own code skips them\n",
        "- *listed*: can't pass, and why stands below; a listed test that passes is an error\n\n",
        "| Suite | Upstream | Passed | No server | Skipped | Listed | Failed |\n",
        "|---|---|---:|---:|---:|---:|---:|\n"
    ));
    for row in rows {
        let [name, version, passed, without, skipped, listed, failed, _] = cells(row);
        let _ = writeln!(text, "| {name} | {version} | {passed} | {without} | {skipped} | {listed} | {failed} |");
    }
    for suite in suites {
        let _ = write!(text, "\n## {}\n{}\n", suite.name, suite.about);
        entries(&mut text, "Can't pass:", &suite.cannot);
        entries(&mut text, "Not about a store behind an endpoint, so not run:", &suite.outside);
    }
    text
}

fn entries(text: &mut String, heading: &str, entries: &[Entry]) {
    if entries.is_empty() {
        return;
    }
    let _ = write!(text, "\n{heading}\n\n");
    for entry in entries {
        let tests: Vec<String> = entry.tests.iter().map(|test| format!("`{test}`")).collect();
        let _ = writeln!(text, "- {}: {}", entry.reason, tests.join(", "));
    }
}
