//! `patch stats`: the series of all minors beside each other, as numbers.

use serde::Serialize;
use std::collections::BTreeSet;

use super::diff::FileDiff;
use super::list::minors;
use super::series::Series;
use sluice_shell::context::Context;
use sluice_shell::error::Result;
use sluice_shell::output::table;

/// Shows each patch in each Kubernetes minor: its size, or that it is the same as in the next newer minor
#[derive(clap::Args)]
pub(super) struct Cmd {
    /// Print a report for programs
    #[arg(long)]
    json: bool,
}

/// The report.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The newest first.
    pub(super) minors: Vec<Totals>,
    /// In the order of the newest minor; those that only older ones have come last.
    patches: Vec<Row>,
}

/// One minor.
#[derive(Debug, Serialize)]
pub(super) struct Totals {
    pub(super) minor: String,
    patches: usize,
    production_lines: usize,
    test_lines: usize,
    /// Lines added to or removed from files that the patch does not create: upstream's, and those of earlier patches.
    pub(super) lines_changed_in_existing_files: usize,
    /// Lines added to or removed from files that upstream has: what a rebase may have to fight with.
    pub(super) touched_upstream_lines: usize,
    /// Of these, lines of upstream that are removed or replaced.
    removed_upstream_lines: usize,
}

/// One patch in all minors.
#[derive(Debug, Serialize)]
struct Row {
    file: String,
    /// One for each minor; none where the minor has no such patch.
    minors: Vec<Option<Size>>,
}

/// One patch in one minor.
#[derive(Clone, Copy, Debug, Serialize)]
struct Size {
    /// Lines that the patch adds or removes outside of tests.
    production: usize,
    /// Lines that the patch adds or removes in tests and their data.
    test: usize,
    /// Says and changes the same as in the next newer minor. Positions and context may differ.
    same_as_newer: bool,
}

impl Cmd {
    pub(super) fn run(self, shell: &Context) -> Result<()> {
        let report = report(&all(shell)?);
        if self.json { shell.out.json(&report) } else { shell.out.data(report.text()) }
    }
}

/// The series of the workspace; the newest minor comes first.
pub(super) fn all(shell: &Context) -> Result<Vec<(String, Series)>> {
    let minors = minors(&shell.paths.root().join("patches"))?;
    minors.into_iter().rev().map(|minor| Ok((minor.to_string(), Series::of(shell, &minor)?))).collect()
}

/// Compares series; the newest minor comes first.
pub(super) fn report(series: &[(String, Series)]) -> Report {
    let mut names: Vec<&str> = Vec::new();
    for entry in series.iter().flat_map(|(_, series)| &series.entries) {
        if !names.contains(&entry.name.as_str()) {
            names.push(&entry.name);
        }
    }
    let patch = |series: &'_ Series, name: &str| {
        series.entries.iter().find(|entry| entry.name == name).map(|entry| entry.patch.clone())
    };
    let rows = names.into_iter().map(|name| {
        let found: Vec<_> = series.iter().map(|(_, series)| patch(series, name)).collect();
        let sizes = found.iter().enumerate().map(|(index, patch)| {
            let newer = index.checked_sub(1).and_then(|newer| found[newer].as_ref());
            patch.as_ref().map(|patch| {
                let same_as_newer = newer.is_some_and(|newer| newer.essence() == patch.essence());
                let (production, test) = lines(&patch.files);
                Size { production, test, same_as_newer }
            })
        });
        Row { file: name.to_owned(), minors: sizes.collect() }
    });
    Report { patches: rows.collect(), minors: series.iter().map(|(minor, series)| totals(minor, series)).collect() }
}

/// Lines that are added or removed outside of tests, and in tests.
fn lines(files: &[FileDiff]) -> (usize, usize) {
    let (mut production, mut test) = (0, 0);
    for file in files {
        let (added, removed) = file.churn();
        let is_test = file.path.ends_with("_test.go") || file.path.contains("/testdata/");
        *(if is_test { &mut test } else { &mut production }) += added + removed;
    }
    (production, test)
}

fn totals(minor: &str, series: &Series) -> Totals {
    let mut totals = Totals {
        minor: minor.to_owned(),
        patches: series.entries.len(),
        production_lines: 0,
        test_lines: 0,
        lines_changed_in_existing_files: 0,
        touched_upstream_lines: 0,
        removed_upstream_lines: 0,
    };
    let mut ours = BTreeSet::new();
    for entry in &series.entries {
        let (production, test) = lines(&entry.patch.files);
        totals.production_lines += production;
        totals.test_lines += test;
        for file in &entry.patch.files {
            let (added, removed) = file.churn();
            if file.old_mode.is_none() {
                ours.insert(&file.path);
                continue;
            }
            totals.lines_changed_in_existing_files += added + removed;
            if !ours.contains(&file.path) {
                totals.touched_upstream_lines += added + removed;
                totals.removed_upstream_lines += removed;
            }
        }
    }
    totals
}

impl Report {
    /// For a person.
    pub(super) fn text(&self) -> String {
        let mut rows = vec![vec!["PATCH".to_owned()]];
        rows[0].extend(self.minors.iter().map(|totals| totals.minor.clone()));
        for row in &self.patches {
            let cell = |size: &Option<Size>| match size {
                None => "-".to_owned(),
                Some(Size { same_as_newer: true, .. }) => "=".to_owned(),
                Some(Size { production, test, .. }) => format!("{production}+{test}"),
            };
            rows.push([row.file.clone()].into_iter().chain(row.minors.iter().map(cell)).collect());
        }
        let mut total = |what: &str, number: fn(&Totals) -> String| {
            rows.push([what.to_owned()].into_iter().chain(self.minors.iter().map(number)).collect());
        };
        total("all patches", |all| format!("{}+{}", all.production_lines, all.test_lines));
        total("lines changed in existing files", |all| all.lines_changed_in_existing_files.to_string());
        total("lines touched in upstream's files", |all| all.touched_upstream_lines.to_string());
        total("upstream's lines removed or replaced", |all| all.removed_upstream_lines.to_string());
        format!(
            "{}\n\nA+B: A lines in production code and B in tests are added or removed; =: the same as in the minor to \
             the left,\nbut for positions and context; -: the minor has no such patch",
            table(&rows)
        )
    }
}
