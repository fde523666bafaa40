//! The results as a table, and as docs/conformance.md.

use std::fmt::Write as _;

use super::suite::{Entry, Store, Suite};
use super::verdict::Verdict;
use sluice_shell::context::Context;
use sluice_shell::error::Result;
use sluice_shell::output;
use textwrap::{Options, WordSplitter};

/// The result of one suite on one database.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// The suite.
    pub(super) name: String,
    /// Upstream's version.
    pub(super) version: String,
    /// Where the shim kept its data.
    pub(super) store: Store,
    /// What came out.
    pub(super) verdict: Verdict,
    /// How long the tests took.
    pub(super) seconds: f64,
}

const HEADING: [&str; 9] =
    ["SUITE", "UPSTREAM", "DATABASE", "PASSED", "NO SERVER", "SKIPPED", "LISTED", "FAILED", "SECONDS"];

fn cells(row: &Row) -> [String; 9] {
    let verdict = &row.verdict;
    [
        row.name.clone(),
        row.version.clone(),
        row.store.title(),
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
            let _ = write!(text, "\n{} on {}: {test} passed at the second try", row.name, row.store.title());
        }
    }
    text
}

/// How long a line of the document is at most. Markdown does not let rows of tables break.
const COLUMNS: usize = 120;

/// Writes docs/conformance.md anew. `document`: the text, from the file as it is.
///
/// # Errors
/// Those of the file.
pub(super) fn write(shell: &Context, document: impl FnOnce(&str) -> String) -> Result<()> {
    let file = shell.paths.root().join("docs/conformance.md");
    let previous = if file.is_file() { fs_err::read_to_string(&file)? } else { String::new() };
    fs_err::write(&file, wrapped(&document(&previous)))?;
    shell.out.note(format!("wrote {}", file.display()));
    Ok(())
}

/// The text with paragraphs and items in lines that fit.
fn wrapped(text: &str) -> String {
    let wrap = |line: &str| {
        let indent = if line.starts_with("- ") { "  " } else { "" };
        let options = Options::new(COLUMNS).subsequent_indent(indent).break_words(false);
        textwrap::fill(line, options.word_splitter(WordSplitter::NoHyphenation)) + "\n"
    };
    let line = |line: &str| if line.starts_with('|') { format!("{line}\n") } else { wrap(line) };
    text.lines().map(line).collect()
}

/// Begins the section of docs/conformance.md about end-to-end specs, which `specs` writes.
pub(super) const END_TO_END: &str = "\n## End-to-end specs\n";

/// Begins the section of docs/conformance.md about those on a node that runs Pods, which `specs` writes too.
pub(super) const ON_A_NODE: &str = "\n## End-to-end specs on a node\n";

/// Begins the section of docs/conformance.md about client programs, which `clients` writes.
pub(super) const CLIENTS: &str = "\n## Client programs\n";

/// Begins the last section of docs/conformance.md, which people write.
pub(super) const DIFFERENCES: &str = "\n## How the shim differs from etcd\n";

/// What follows the suites in docs/conformance.md, in that order.
pub(super) const SECTIONS: [&str; 4] = [END_TO_END, ON_A_NODE, CLIENTS, DIFFERENCES];

/// What a document says before and after the section that begins with this heading, and what that section says.
pub(super) fn around<'a>(document: &'a str, heading: &str) -> [&'a str; 3] {
    let place = SECTIONS.iter().position(|section| *section == heading).unwrap_or(SECTIONS.len());
    let before = up_to(document, &SECTIONS[place..]);
    let after = from(document, SECTIONS.get(place + 1..).unwrap_or_default());
    [before, document.get(before.len()..document.len() - after.len()).unwrap_or_default(), after]
}

/// What a document says before the first of these headings that it has.
fn up_to<'a>(document: &'a str, headings: &[&str]) -> &'a str {
    let found = headings.iter().filter_map(|heading| document.find(heading)).min();
    document.get(..found.unwrap_or(document.len())).unwrap_or_default()
}

/// What a document says from the first of these headings on that it has.
fn from<'a>(document: &'a str, headings: &[&str]) -> &'a str {
    document.get(up_to(document, headings).len()..).unwrap_or_default()
}

/// Passed, listed and failed, for a table of the document.
pub(super) fn counts(verdict: &Verdict) -> String {
    format!("{} / {} / {}", verdict.passed, verdict.listed, verdict.problems().count())
}

/// For docs/conformance.md: without times, so that the same results give the same file. What `previous`, the file as
/// it is, says of suites, minors and databases that did not run stays, and so do its last sections.
pub(super) fn document(rows: &[Row], suites: &[Suite], previous: &str) -> String {
    let mut text = String::from(concat!(
        "# Upstream's tests against sluice-shim\n\n",
        "`cargo xtask test conformance --write-docs` writes this file: the column of SQLite, and with `--database postgres`\n",
        "or `mariadb` that of the server. The tests are upstream's, unchanged; only the file that starts their server is\n",
        "exchanged. The numbers count tests without subtests.\n\n",
        "- *no server*: of those that pass, tests of upstream's code that start no server\n",
        "- *skipped*: upstream's own code skips them\n",
        "- for each database: passed / listed / failed. A listed test can't pass, and why stands below; if it passes, that\n",
        "  is an error. –: not run\n\n",
    ));
    let titles = Store::ALL.map(Store::title).join(" | ");
    let _ = write!(text, "| Suite | Upstream | No server | Skipped | {titles} |\n|---|---|{}\n", "---:|".repeat(5));
    for line in lines(rows, suites, previous) {
        let Line { suite, version, without_server, skipped, results } = line;
        let results = results.join(" | ");
        let _ = writeln!(text, "| {suite} | {version} | {without_server} | {skipped} | {results} |");
    }
    for suite in suites {
        let _ = write!(text, "\n## {}\n{}\n", suite.name, suite.about);
        entries(&mut text, "Can't pass:", &suite.cannot);
        entries(&mut text, "Not about a store behind an endpoint, so not run:", &suite.outside);
    }
    text + from(previous, &SECTIONS)
}

/// A line of the document's table.
#[derive(Clone, Debug)]
struct Line {
    suite: String,
    version: String,
    without_server: String,
    skipped: String,
    /// In the order of the databases.
    results: [String; Store::ALL.len()],
}

/// Stands where nothing ran.
const NOTHING: &str = "–";

impl Line {
    /// `None` for what is no line of the table.
    fn parse(text: &str) -> Option<Self> {
        let cells: Vec<&str> = text.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
        let [suite, version, without_server, skipped, results @ ..] = &cells[..] else { return None };
        let [suite, version, without_server, skipped] =
            [suite, version, without_server, skipped].map(|&text| text.into());
        let results = <[&str; Store::ALL.len()]>::try_from(results).ok()?.map(str::to_owned);
        let line = Self { suite, version, without_server, skipped, results };
        line.minor().is_some().then_some(line)
    }

    fn new(row: &Row) -> Self {
        let nothing = Store::ALL.map(|_| NOTHING.to_owned());
        let mut line = Self {
            suite: row.name.clone(),
            version: row.version.clone(),
            without_server: String::new(),
            skipped: String::new(),
            results: nothing,
        };
        line.write(row);
        line
    }

    fn write(&mut self, row: &Row) {
        let verdict = &row.verdict;
        self.without_server = verdict.without_server.to_string();
        self.skipped = verdict.skipped.to_string();
        for (store, result) in Store::ALL.into_iter().zip(&mut self.results) {
            if store == row.store {
                *result = counts(verdict);
            }
        }
    }

    /// Upstream's minor.
    fn minor(&self) -> Option<&str> {
        Some(self.version.strip_prefix('v')?.rsplit_once('.')?.0)
    }
}

/// What stood there, with what ran: suite by suite, the newest minor first.
fn lines(rows: &[Row], suites: &[Suite], previous: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = previous.lines().filter_map(Line::parse).collect();
    for row in rows {
        let new = Line::new(row);
        match lines.iter_mut().find(|line| line.suite == new.suite && line.minor() == new.minor()) {
            Some(line) if line.version == new.version => line.write(row),
            // What another patch release did says nothing of this one.
            Some(line) => *line = new,
            None => lines.push(new),
        }
    }
    lines.sort_by(|a, b| b.minor().cmp(&a.minor()));
    suites.iter().flat_map(|suite| lines.iter().filter(|line| line.suite == suite.name)).cloned().collect()
}

/// What has the same reason, below a heading.
pub(super) fn entries(text: &mut String, heading: &str, entries: &[Entry]) {
    if entries.is_empty() {
        return;
    }
    let _ = write!(text, "\n{heading}\n\n");
    for entry in entries {
        let tests: Vec<String> = entry.tests.iter().map(|test| format!("`{test}`")).collect();
        let only: Vec<String> = entry.only.iter().map(|store| store.title()).collect();
        let on = if only.is_empty() { String::new() } else { format!("On {} alone: ", only.join(" and ")) };
        let _ = writeln!(text, "- {on}{}: {}", entry.reason, tests.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::suite::Upstream;

    #[test]
    fn lines_fit_but_those_of_tables() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let written = fs_err::read_to_string(root.join("docs/conformance.md")).unwrap();
        assert_eq!(wrapped(&written), written, "as it was written");
        let (word, row) = ("`TestOfAClient/with-a-name`", format!("| {} |\n", "x".repeat(COLUMNS)));
        let item = format!("- A reason: {}\n", [word; 9].join(", "));
        let text = wrapped(&format!("{row}{item}"));
        assert!(text.starts_with(&row) && text[row.len()..].lines().all(|line| line.len() <= COLUMNS), "{text}");
        assert_eq!(text[row.len()..].replace("\n  ", " "), item);
    }

    fn row(name: &str, version: &str, store: Store, passed: usize) -> Row {
        let verdict = Verdict { passed, ..Verdict::default() };
        Row { name: name.to_owned(), version: version.to_owned(), store, verdict, seconds: 1.0 }
    }

    fn suites() -> [Suite; 2] {
        ["a", "b"].map(|name| Suite {
            name: name.to_owned(),
            about: format!("About {name}."),
            upstream: Upstream::Kubernetes,
            quick: false,
            packages: vec![],
            tags: vec![],
            timeout: 1,
            outside: vec![],
            cannot: vec![],
        })
    }

    fn table(document: &str) -> Vec<&str> {
        document.lines().filter(|line| Line::parse(line).is_some()).collect()
    }

    #[test]
    fn what_did_not_run_stays_in_the_document() {
        let suites = suites();
        let on = |name: &str, version: &str, passed| row(name, version, Store::Sqlite, passed);
        let first = document(&[on("a", "v1.37.2", 5), on("b", "v3.7.3", 6), on("gone", "v1.0.0", 1)], &suites, "");
        let second = document(&[on("a", "v1.34.4", 7)], &suites, &first);
        let third = document(&[on("a", "v1.37.3", 8)], &suites, &second);
        let b = "| b | v3.7.3 | 0 | 0 | 6 / 0 / 0 | – | – |";
        assert_eq!(table(&first), ["| a | v1.37.2 | 0 | 0 | 5 / 0 / 0 | – | – |", b]);
        let old = "| a | v1.34.4 | 0 | 0 | 7 / 0 / 0 | – | – |";
        assert_eq!(table(&third), ["| a | v1.37.3 | 0 | 0 | 8 / 0 / 0 | – | – |", old, b]);
        assert!(third.contains("## a\nAbout a.\n") && third.contains("## b\nAbout b.\n"));
        let by_hand = format!("{third}{END_TO_END}Of specs.\n{DIFFERENCES}Written by hand.\n");
        assert_eq!(document(&[on("a", "v1.37.3", 8)], &suites, &by_hand), by_hand);
    }

    #[test]
    fn each_database_has_a_column_of_the_same_version() {
        let suites = suites();
        let first = document(&[row("a", "v1.37.2", Store::Sqlite, 5)], &suites, "");
        let second = document(&[row("a", "v1.37.2", Store::Mariadb, 4)], &suites, &first);
        assert_eq!(table(&second), ["| a | v1.37.2 | 0 | 0 | 5 / 0 / 0 | – | 4 / 0 / 0 |"]);
        let newer = document(&[row("a", "v1.37.3", Store::Postgres, 3)], &suites, &second);
        assert_eq!(table(&newer), ["| a | v1.37.3 | 0 | 0 | – | 3 / 0 / 0 | – |"]);
    }

    #[test]
    fn an_entry_says_which_databases_it_is_about() {
        let mut suites = suites();
        let entry =
            |only| Entry { package: None, tests: vec!["TestA".to_owned()], only, reason: "It can't".to_owned() };
        suites[0].cannot = vec![entry(vec![]), entry(vec![Store::Postgres, Store::Mariadb])];
        let text = document(&[], &suites, "");
        assert!(text.contains("- It can't: `TestA`\n- On PostgreSQL and MariaDB alone: It can't: `TestA`\n"), "{text}");
    }
}
