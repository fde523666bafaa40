//! Prometheus' promtool: metrics as series of an hour, and queries on them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::super::Suite;
use super::super::stores::tool;
use sluice_shell::error::Result;
use sluice_shell::process::Run;
use sluice_toolkit::build::Program;

/// What the queries of dashboards leave to the user.
const CHOICES: [(&str, &str); 6] = [
    ("${datasource}", "x"),
    ("$datasource", "x"),
    ("$cluster", "etcd"),
    ("$instance", ".+"),
    ("$job", "etcd"),
    // Two scrapes must be in it.
    ("$__rate_interval", "5m"),
];

/// promtool, which works in a folder.
pub(super) struct Promtool {
    program: PathBuf,
    folder: PathBuf,
}

impl Promtool {
    /// Builds it, or takes the one beside the given programs; `None` if it is not there.
    ///
    /// # Errors
    /// When it can't be built.
    pub(super) fn of(suite: &Suite, folder: &Path) -> Result<Option<Self>> {
        Ok(tool(suite, Program::Promtool)?.map(|program| Self { program, folder: folder.to_owned() }))
    }

    /// Runs it.
    ///
    /// # Errors
    /// When it fails.
    pub(super) fn run(&self, args: &[&str]) -> Result<()> {
        Run::new(&self.program, &self.folder).args(args).run()
    }

    /// What it finds wrong with metrics, a line each.
    ///
    /// # Errors
    /// When it can't be run.
    pub(super) fn lint(&self, metrics: &str) -> Result<String> {
        let said = Run::new(&self.program, &self.folder).args(["check", "metrics"]).stdin(metrics).outcome()?;
        Ok(format!("{}{}", said.stdout, said.stderr))
    }

    /// On healthy metrics no alert of the file `rules` fires, and each query finds something. An alert fires when what
    /// `faults` names beside it has those values instead.
    ///
    /// # Errors
    /// When that is not so.
    pub(super) fn test(
        &self,
        rules: &str,
        metrics: &str,
        queries: &[&String],
        faults: &[(&str, &[(&str, &str)])],
    ) -> Result<()> {
        let mut expected = vec![firing("", false)];
        expected.extend(queries.iter().map(|query| {
            json!({
                "expr": format!("count({query}) > bool 0"), "eval_time": "1h",
                "exp_samples": [{ "labels": "{}", "value": 1 }],
            })
        }));
        let healthy = series(metrics, &[]);
        let mut tests = vec![json!({ "interval": "1m", "input_series": healthy, "promql_expr_test": expected })];
        for (alert, changed) in faults {
            let input = series(metrics, changed);
            let told = [firing(alert, true)];
            tests.push(json!({ "interval": "1m", "input_series": input, "promql_expr_test": told }));
        }
        let file = json!({ "rule_files": [rules], "evaluation_interval": "1m", "tests": tests });
        fs_err::write(self.folder.join("test.json"), file.to_string())?;
        self.run(&["test", "rules", "test.json"])
    }
}

/// Whether that alert (any, for no name) fires after an hour.
fn firing(alert: &str, fires: bool) -> Value {
    let which = if alert.is_empty() { String::new() } else { format!("alertname=\"{alert}\",") };
    let samples = if fires { json!([{ "labels": "{}", "value": 1 }]) } else { json!([]) };
    let query = format!("count(ALERTS{{{which}alertstate=\"firing\"}}) > bool 0");
    json!({ "expr": query, "eval_time": "1h", "exp_samples": samples })
}

/// The metrics as series of an hour that stay as they are, but for those that are changed or come with `changed`; of a
/// target that is up.
fn series(metrics: &str, changed: &[(&str, &str)]) -> Vec<Value> {
    let lines = metrics.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
    let mut all: BTreeMap<&str, String> = lines.map(|(name, value)| (name, format!("{value}x60"))).collect();
    all.insert("up", "1x60".to_owned());
    all.extend(changed.iter().map(|(name, values)| (*name, (*values).to_owned())));
    all.into_iter().map(|(name, values)| json!({ "series": of_target(name), "values": values })).collect()
}

/// The series with the labels of the target that was scraped.
fn of_target(name: &str) -> String {
    const TARGET: &str = "job=\"etcd\",instance=\"shim\",cluster=\"etcd\"";
    match name.strip_suffix('}') {
        Some(name) => format!("{name},{TARGET}}}"),
        None => format!("{name}{{{TARGET}}}"),
    }
}

/// The queries in `value`, with the choices made.
pub(super) fn gather(value: &Value, queries: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(query)) = fields.get("expr") {
                let chosen = |query: String, (name, value): &(&str, &str)| query.replace(name, value);
                queries.insert(CHOICES.iter().fold(query.clone(), chosen));
            }
            fields.values().for_each(|value| gather(value, queries));
        }
        Value::Array(values) => values.iter().for_each(|value| gather(value, queries)),
        _ => {}
    }
}
