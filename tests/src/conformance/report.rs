//! The results as a table, and as docs/conformance.md.

use std::fmt::Write as _;

use super::suite::{Entry, Suite};
use super::verdict::Verdict;
use sluice_shell::output;

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

/// Begins the last section of docs/conformance.md, which people write.
const DIFFERENCES: &str = "\n## How the shim differs from etcd\n";

/// For docs/conformance.md: without times, so that the same results give the same file. What `previous`, the file as it
/// is, says of suites and minors that did not run stays, and so does its last section.
pub(super) fn document(rows: &[Row], suites: &[Suite], previous: &str) -> String {
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
    let new: Vec<String> = rows.iter().map(line).collect();
    let kept = previous.lines().filter(|old| key(old).is_some() && !new.iter().any(|new| key(new) == key(old)));
    let lines: Vec<&str> = kept.chain(new.iter().map(String::as_str)).collect();
    for suite in suites {
        let mut of_suite: Vec<&&str> =
            lines.iter().filter(|line| key(line).is_some_and(|(name, _)| name == suite.name)).collect();
        of_suite.sort_by_key(|line| std::cmp::Reverse(key(line)));
        for line in of_suite {
            let _ = writeln!(text, "{line}");
        }
    }
    for suite in suites {
        let _ = write!(text, "\n## {}\n{}\n", suite.name, suite.about);
        entries(&mut text, "Can't pass:", &suite.cannot);
        entries(&mut text, "Not about a store behind an endpoint, so not run:", &suite.outside);
    }
    text.push_str(previous.find(DIFFERENCES).and_then(|at| previous.get(at..)).unwrap_or_default());
    text
}

/// A line of the document's table.
fn line(row: &Row) -> String {
    let [name, version, passed, without, skipped, listed, failed, _] = cells(row);
    format!("| {name} | {version} | {passed} | {without} | {skipped} | {listed} | {failed} |")
}

/// Suite and upstream's minor of a line of the table; `None` for any other line.
fn key(line: &str) -> Option<(&str, &str)> {
    let mut cells = line.strip_prefix("| ")?.split(" | ");
    let (name, version) = (cells.next()?, cells.next()?);
    Some((name, version.strip_prefix('v')?.rsplit_once('.')?.0))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::suite::Upstream;

    fn row(name: &str, version: &str, passed: usize) -> Row {
        let verdict = Verdict { passed, ..Verdict::default() };
        Row { name: name.to_owned(), version: version.to_owned(), verdict, seconds: 1.0 }
    }

    #[test]
    fn what_did_not_run_stays_in_the_document() {
        let suites = ["a", "b"].map(|name| Suite {
            name: name.to_owned(),
            about: format!("About {name}."),
            upstream: Upstream::Kubernetes,
            quick: false,
            packages: vec![],
            tags: vec![],
            timeout: 1,
            outside: vec![],
            cannot: vec![],
        });
        let table = |document: &str| -> Vec<String> {
            document.lines().filter(|line| key(line).is_some()).map(str::to_owned).collect()
        };
        let first = document(&[row("a", "v1.37.2", 5), row("b", "v3.7.3", 6), row("gone", "v1.0.0", 1)], &suites, "");
        let second = document(&[row("a", "v1.34.4", 7)], &suites, &first);
        let third = document(&[row("a", "v1.37.3", 8)], &suites, &second);
        let b = "| b | v3.7.3 | 6 | 0 | 0 | 0 | 0 |";
        assert_eq!(table(&first), ["| a | v1.37.2 | 5 | 0 | 0 | 0 | 0 |", b]);
        let old = "| a | v1.34.4 | 7 | 0 | 0 | 0 | 0 |";
        assert_eq!(table(&third), ["| a | v1.37.3 | 8 | 0 | 0 | 0 | 0 |", old, b]);
        assert!(third.contains("## a\nAbout a.\n") && third.contains("## b\nAbout b.\n"));
        let by_hand = format!("{third}{DIFFERENCES}Written by hand.\n");
        assert_eq!(document(&[row("a", "v1.37.3", 8)], &suites, &by_hand), by_hand);
    }
}
