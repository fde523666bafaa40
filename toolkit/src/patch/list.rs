//! `patch list`: what we carry, and what it costs.

use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;

use super::header;
use super::series::Series;
use sluice_shell::context::Context;
use sluice_shell::error::Result;
use sluice_shell::minor::Minor;
use sluice_shell::output::table;

/// Shows the series of each Kubernetes minor and how many upstream lines it touches
#[derive(clap::Args)]
pub(super) struct Cmd {
    /// Only this Kubernetes minor, such as v1.37
    #[arg(long, value_name = "MINOR")]
    k8s: Option<Minor>,
    /// Print a report for programs
    #[arg(long)]
    json: bool,
}

/// The report.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    minors: Vec<MinorReport>,
}

#[derive(Debug, Serialize)]
struct MinorReport {
    minor: String,
    /// Lines added to or removed from files that upstream has: what a rebase may have to fight with.
    touched_upstream_lines: usize,
    touched_upstream_files: usize,
    patches: Vec<PatchReport>,
}

#[derive(Debug, Serialize)]
struct PatchReport {
    file: String,
    subject: String,
    files: Vec<String>,
    added: usize,
    removed: usize,
    touched_upstream_lines: usize,
    upstream: String,
    drop_when: String,
}

impl Cmd {
    pub(super) fn run(self, shell: &Context) -> Result<()> {
        let minors = match self.k8s {
            Some(minor) => vec![minor],
            None => minors(&shell.paths.root().join("patches"))?,
        };
        let mut report = Report { minors: Vec::new() };
        for minor in minors {
            report.minors.push(describe(&minor, &Series::of(shell, &minor)?));
        }
        if self.json { shell.out.json(&report) } else { shell.out.data(report.text()) }
    }
}

/// The minors that have a series, oldest first.
///
/// # Errors
/// When the folder can't be read.
pub fn minors(patches: &Path) -> Result<Vec<Minor>> {
    let mut minors = Vec::new();
    for entry in fs_err::read_dir(patches)? {
        let entry = entry?;
        let minor = entry.file_name().to_string_lossy().parse::<Minor>();
        if let Ok(minor) = minor
            && entry.path().join("series").is_file()
        {
            minors.push(minor);
        }
    }
    let number = |minor: &Minor| minor.numbers().1.parse::<u32>().unwrap_or_default();
    minors.sort_by_key(number);
    Ok(minors)
}

fn describe(minor: &Minor, series: &Series) -> MinorReport {
    let (mut ours, mut theirs) = (BTreeSet::new(), BTreeSet::new());
    let mut patches = Vec::new();
    for entry in &series.entries {
        let patch = &entry.patch;
        let mut touched = 0;
        for file in &patch.files {
            if file.old_mode.is_none() {
                ours.insert(&file.path);
            } else if !ours.contains(&file.path) {
                theirs.insert(&file.path);
                touched += file.churn().0 + file.churn().1;
            }
        }
        let (header, (added, removed)) = (header::parse(&patch.body), patch.churn());
        patches.push(PatchReport {
            file: entry.name.clone(),
            subject: patch.subject.clone(),
            files: patch.files.iter().map(|file| file.path.clone()).collect(),
            added,
            removed,
            touched_upstream_lines: touched,
            upstream: header.upstream,
            drop_when: header.drop_when,
        });
    }
    MinorReport {
        minor: minor.to_string(),
        touched_upstream_lines: patches.iter().map(|patch| patch.touched_upstream_lines).sum(),
        touched_upstream_files: theirs.len(),
        patches,
    }
}

impl Report {
    /// For a person.
    pub(super) fn text(&self) -> String {
        let mut parts = Vec::new();
        for minor in &self.minors {
            let mut rows = vec![["PATCH", "FILES", "+", "-", "UPSTREAM LINES"].map(String::from).to_vec()];
            let mut notes = String::new();
            for patch in &minor.patches {
                let numbers = [patch.files.len(), patch.added, patch.removed, patch.touched_upstream_lines];
                let mut row = vec![patch.subject.clone()];
                row.extend(numbers.map(|number| number.to_string()));
                rows.push(row);
                notes +=
                    &format!("\n{}\n  upstream:  {}\n  drop when: {}\n", patch.file, patch.upstream, patch.drop_when);
            }
            let (lines, files) = (minor.touched_upstream_lines, minor.touched_upstream_files);
            parts.push(format!(
                "{}\n{}\n{notes}\n{}: {} patches touch {lines} upstream lines in {files} files",
                minor.minor,
                table(&rows),
                minor.minor,
                minor.patches.len()
            ));
        }
        parts.join("\n\n")
    }
}

/// The report on one series.
#[cfg(test)]
pub(super) fn report(minor: &Minor, series: &Series) -> Report {
    Report { minors: vec![describe(minor, series)] }
}
