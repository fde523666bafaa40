//! Runs upstream's end-to-end specs with Ginkgo, and reads its report.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::area::Area;
use crate::conformance::verdict::Outcome;
use sluice_shell::context::Context;
use sluice_shell::error::{Attempt as _, Error, Result};
use sluice_shell::process::{Failed, Limit, Run};
use sluice_toolkit::cluster::programs::EndToEnd;

/// The file of the report.
pub(super) const REPORT: &str = "report.json";

/// How much longer than its own limit Ginkgo may live: it ends what it interrupts in half a minute.
const PATIENCE: Duration = Duration::from_mins(2);

/// A control plane to run the specs against.
pub(super) struct Subject<'a> {
    /// Named in messages and in the log's file.
    pub(super) name: &'a str,
    /// Of the admin.
    pub(super) kubeconfig: PathBuf,
    /// The kubectl that specs run.
    pub(super) kubectl: &'a Path,
    /// Where files of the run are put.
    pub(super) folder: &'a Path,
}

/// What became of the specs.
#[derive(Debug, Default)]
pub(in crate::conformance) struct Report {
    /// All specs that there are, by their names.
    pub(in crate::conformance) specs: BTreeMap<String, Spec>,
    /// What went wrong outside of specs.
    pub(in crate::conformance) broken: Vec<String>,
}

/// What became of a spec.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::conformance) struct Spec {
    /// None for one that was not chosen.
    pub(in crate::conformance) outcome: Option<Outcome>,
    /// Whether it failed first and passed then.
    pub(in crate::conformance) repeated: bool,
}

/// Runs the specs of an area. A spec that fails is tried once more.
///
/// # Errors
/// When there is no report.
pub(super) fn run(
    shell: &Context,
    area: &Area,
    programs: &EndToEnd,
    subject: &Subject<'_>,
    filter: Option<&str>,
) -> Result<Report> {
    let log = shell.paths.log(&format!("conformance-e2e-{}", subject.name));
    let title = format!("{} on {}", area.name, subject.name);
    let progress = shell.out.spinner(&title);
    shell.out.note(format!("what the specs on {} print goes to {}", subject.name, log.display()));
    // Specs wait more than they compute.
    let workers = 2 * thread::available_parallelism().map_or(1, usize::from);
    let limit = Duration::from_mins(area.timeout);
    let ended = Run::new(&programs.ginkgo, subject.folder)
        .args(["run", "--no-color", "--succinct", "--silence-skips", "--flake-attempts=2"])
        .args([format!("--json-report={REPORT}")])
        .args([format!("--procs={workers}"), format!("--timeout={}s", limit.as_secs())])
        .arg(format!("--output-dir={}", subject.folder.display()))
        .args(area.flags(filter))
        .arg(&programs.tests)
        .args(["--", "--provider=skeleton"])
        .arg(format!("--kubeconfig={}", subject.kubeconfig.display()))
        .arg(format!("--kubectl-path={}", subject.kubectl.display()))
        // Where kubectl keeps what it has discovered.
        .env("HOME", subject.folder)
        .log(log)
        .limit(Limit::Clock(limit + PATIENCE))
        .watch(|line| progress.now(line.trim()));
    let file = subject.folder.join(REPORT);
    match ended {
        Err(error) if error.downcast_ref::<Failed>().is_none() || !file.is_file() => return Err(error),
        _ => progress.done(""),
    }
    read(&file)
}

/// Reads a report.
///
/// # Errors
/// When the file is none, or holds no spec.
pub(super) fn read(file: &Path) -> Result<Report> {
    let report = read_any(file)?;
    if report.specs.is_empty() {
        return Err(Error::input(format!("{} names no spec", file.display())));
    }
    Ok(report)
}

/// Reads a report, which may hold no spec.
///
/// # Errors
/// When the file is none.
pub(in crate::conformance) fn read_any(file: &Path) -> Result<Report> {
    parse(&fs_err::read_to_string(file)?).attempting(|| format!("cannot read {}", file.display()))
}

/// One suite of Ginkgo's report (its `types.Report` documents the fields).
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SuiteReport {
    #[serde(default)]
    special_suite_failure_reasons: Option<Vec<String>>,
    #[serde(default)]
    spec_reports: Option<Vec<SpecReport>>,
}

/// A spec, or something that runs before or after all specs.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SpecReport {
    #[serde(default)]
    container_hierarchy_texts: Option<Vec<String>>,
    leaf_node_type: String,
    #[serde(default)]
    leaf_node_text: String,
    state: String,
    #[serde(default)]
    num_attempts: u32,
    #[serde(default)]
    failure: Option<Failure>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    #[serde(default)]
    message: String,
}

fn parse(text: &str) -> Result<Report> {
    let suites: Vec<SuiteReport> = serde_json::from_str(text)?;
    let mut report = Report::default();
    for suite in suites {
        report.broken.extend(suite.special_suite_failure_reasons.into_iter().flatten());
        for spec in suite.spec_reports.into_iter().flatten() {
            report.add(spec);
        }
    }
    Ok(report)
}

impl Report {
    fn add(&mut self, spec: SpecReport) {
        let outcome = match spec.state.as_str() {
            "passed" => Some(Outcome::Passed),
            "pending" => None,
            // Those that were not chosen were never tried.
            "skipped" => (spec.num_attempts > 0).then_some(Outcome::Skipped),
            _ => Some(Outcome::Failed),
        };
        if spec.leaf_node_type == "It" {
            let repeated = outcome == Some(Outcome::Passed) && spec.num_attempts > 1;
            let name = spec.container_hierarchy_texts.into_iter().flatten().chain([spec.leaf_node_text]);
            self.specs.insert(name.collect::<Vec<_>>().join(" "), Spec { outcome, repeated });
        } else if outcome == Some(Outcome::Failed) {
            let message = spec.failure.map(|failure| failure.message).unwrap_or_default();
            self.broken.push(format!("{}: {}", spec.leaf_node_type, message.lines().next().unwrap_or_default()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_became_of_each_spec() {
        let spec = |text: &str, state: &str, attempts: u32| {
            format!(
                r#"{{"ContainerHierarchyTexts": ["[a] Things", "deep"], "LeafNodeType": "It", "LeafNodeText": "{text}",
                    "State": "{state}", "NumAttempts": {attempts}}}"#
            )
        };
        let specs = [
            spec("pass", "passed", 1),
            spec("flake", "passed", 2),
            spec("fail", "failed", 2),
            spec("hang", "timedout", 1),
            spec("leave", "skipped", 1),
            spec("other", "skipped", 0),
            r#"{"ContainerHierarchyTexts": null, "LeafNodeType": "SynchronizedBeforeSuite", "LeafNodeText": "",
                "State": "failed", "Failure": {"Message": "no node\nat all"}}"#
                .to_owned(),
            r#"{"ContainerHierarchyTexts": null, "LeafNodeType": "ReportAfterSuite", "State": "passed"}"#.to_owned(),
        ];
        let suite = |specs: &str| {
            format!(r#"[{{"SpecialSuiteFailureReasons": ["Interrupted by Timeout"], "SpecReports": [{specs}]}}]"#)
        };
        let report = parse(&suite(&specs.join(","))).unwrap();
        assert_eq!(report.broken, ["Interrupted by Timeout", "SynchronizedBeforeSuite: no node"]);
        let outcome = |name: &str| report.specs[&format!("[a] Things deep {name}")].outcome;
        assert_eq!(outcome("pass"), Some(Outcome::Passed));
        assert_eq!(outcome("fail"), Some(Outcome::Failed));
        assert_eq!(outcome("hang"), Some(Outcome::Failed));
        assert_eq!(outcome("leave"), Some(Outcome::Skipped));
        assert_eq!(outcome("other"), None);
        let repeated: Vec<&String> =
            report.specs.iter().filter(|(_, spec)| spec.repeated).map(|(name, _)| name).collect();
        assert_eq!(repeated, ["[a] Things deep flake"]);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(REPORT);
        fs_err::write(&file, suite("")).unwrap();
        assert!(read_any(&file).unwrap().specs.is_empty());
        assert!(read(&file).is_err());
    }
}
