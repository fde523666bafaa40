//! etcd's alerts and dashboards (contrib/mixin in its repository) on the shim's metrics: they load, each query finds
//! what it asks for, and the alerts fire when they should and only then. Rendered by jsonnet, evaluated by Prometheus'
//! promtool.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::http::exchange;
use super::lab::folder;
use super::stores::{Server, Tools, tool};
use super::{Case, Column, Suite, Verdict};
use sluice_shell::error::{Error, Result};
use sluice_shell::process::Run;
use sluice_toolkit::build::{self, Program};
use sluice_toolkit::cluster::leftover::{Guard, Leftover};
use sluice_toolkit::cluster::pid::Process;
use sluice_toolkit::cluster::wait::{LIMIT, ensure, until};

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("metrics/etcds-alerts-and-dashboards", alerts_and_dashboards).of(Column::OURS)]
}

/// What the queries of dashboards leave to the user.
const CHOICES: [(&str, &str); 4] = [
    ("$cluster", "etcd"),
    ("$job", "etcd"),
    // Two scrapes must be in it.
    ("$__rate_interval", "5m"),
    ("$datasource", "x"),
];

/// What the newer dashboards need of a library for Grafana: the text of a query.
const LIBRARY: &str = "{ query: { prometheus: { new(source, expr): { expr: expr }, withLegendFormat(format): {} } } }";
const LIBRARY_FILE: &str = "github.com/grafana/grafonnet/gen/grafonnet-v10.0.0/main.libsonnet";

struct Kit {
    promtool: PathBuf,
    jsonnet: PathBuf,
    folder: PathBuf,
}

fn alerts_and_dashboards(suite: &Suite) -> Result<Verdict> {
    let Some(tools) = Tools::of(suite)? else {
        return Ok(Verdict::Skipped("needs etcdctl and etcdutl beside etcd".to_owned()));
    };
    let (Some(promtool), Some(jsonnet)) = (tool(suite, Program::Promtool)?, tool(suite, Program::Jsonnet)?) else {
        return Ok(Verdict::Skipped("needs promtool and jsonnet beside etcd".to_owned()));
    };
    let folder = folder(suite, "mixin");
    fs_err::create_dir_all(&folder)?;
    let kit = Kit { promtool, jsonnet, folder: folder.clone() };
    let metrics = scrape(&tools, &folder)?;
    kit.lint(&metrics)?;
    let mixin = kit.render(&build::module_folder(&suite.workspace, "etcd-mixin", "go.etcd.io/etcd/v3")?)?;
    let queries = queries(&mixin)?;
    let absent = names_without(&suite.workspace, &metrics, &mixin, &queries)?;
    fs_err::write(folder.join("rules.json"), json!({ "groups": mixin["alerts"]["groups"] }).to_string())?;
    kit.promtool(&["check", "rules", "rules.json"])?;
    let answered: Vec<_> = queries.iter().filter(|query| !absent.iter().any(|name| query.contains(name))).collect();
    let alerts = mixin["alerts"]["groups"][0]["rules"].as_array().map_or(0, Vec::len);
    ensure(alerts >= 15 && answered.len() >= 12, || format!("{alerts} alerts, {} queries", answered.len()))?;
    kit.test(&metrics, &answered)?;
    fs_err::remove_dir_all(folder)?;
    Ok(Verdict::Passed(format!("{alerts} alerts, {} queries", answered.len())))
}

/// The metrics of a shim that was used, with a watch open; and etcd's own check of a server is run, since it reads them
/// too.
fn scrape(tools: &Tools, folder: &Path) -> Result<String> {
    let shim = Server::shim_with(tools, folder, "state.db", &["--quota-backend-bytes=1000000000"])?;
    let etcdctl = |line: &str| Run::new(&tools.etcdctl, folder).arg(shim.flag()).args(line.split_ascii_whitespace());
    for line in ["put a 1", "get a", "check datascale --load=s --auto-compact"] {
        let said = etcdctl(line).outcome()?;
        let failed = !said.status.success() || said.stdout.contains("FAIL");
        ensure(!failed, || format!("etcdctl {line}: {}{}", said.stdout, said.stderr))?;
    }
    let granted = etcdctl("lease grant 600").read()?;
    let lease = granted.split(' ').nth(1).unwrap_or_default();
    etcdctl(&format!("lease keep-alive --once {lease}")).run()?;
    let watch = etcdctl("watch a").spawn(&folder.join("watch.log"))?;
    let pid = i32::try_from(watch.id()).map_err(anyhow::Error::from)?;
    let process = Process::of(pid).ok_or_else(|| Error::input("the watch ended at once"))?;
    let watching = Guard::new(Leftover::Process(process));
    let metrics = until("an open watch in the metrics", LIMIT, || {
        let answer = exchange(shim.port, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        Ok(body.filter(|body| body.contains("etcd_debugging_mvcc_watcher_total 1\n")))
    })?;
    drop(watching);
    shim.stop()?;
    Ok(metrics)
}

impl Kit {
    fn promtool(&self, args: &[&str]) -> Result<()> {
        Run::new(&self.promtool, &self.folder).args(args).run()
    }

    /// promtool reads the metrics, and finds nothing but two names that are etcd's.
    fn lint(&self, metrics: &str) -> Result<()> {
        let said = Run::new(&self.promtool, &self.folder).args(["check", "metrics"]).stdin(metrics).outcome()?;
        let etcds = ["etcd_debugging_mvcc_watch_stream_total ", "etcd_debugging_mvcc_watcher_total "];
        let text = format!("{}{}", said.stdout, said.stderr);
        let others: Vec<_> = text.lines().filter(|line| !etcds.iter().any(|name| line.starts_with(name))).collect();
        ensure(others.is_empty(), || format!("promtool check metrics: {}", others.join("\n")))
    }

    /// Alerts, and the dashboards in both forms.
    fn render(&self, etcd: &Path) -> Result<Value> {
        let library = self.folder.join(LIBRARY_FILE);
        fs_err::create_dir_all(library.parent().unwrap_or(&self.folder))?;
        fs_err::write(&library, LIBRARY)?;
        let mixin = etcd.join("contrib/mixin").display().to_string();
        let program = format!(
            "local mixin = (import '{mixin}/mixin.libsonnet') + {{ _config+:: {{ grafana7x: true }} }};
             {{ alerts: mixin.prometheusAlerts, dashboards: mixin.grafanaDashboards,
                targets: (import '{mixin}/dashboards/targets.libsonnet')(
                  {{ datasource: {{ name: 'x' }} }}, mixin._config) }}"
        );
        let text = Run::new(&self.jsonnet, &self.folder).args(["-J", ".", "-e", &program]).read()?;
        Ok(serde_json::from_str(&text)?)
    }

    /// What is healthy raises no alert and answers each query; what is not raises the alert about it.
    fn test(&self, metrics: &str, queries: &[&String]) -> Result<()> {
        let healthy = series(metrics, &[]);
        let mut expected = vec![firing("", false)];
        expected.extend(queries.iter().map(|query| {
            json!({
                "expr": format!("count({query}) > bool 0"), "eval_time": "30m",
                "exp_samples": [{ "labels": "{}", "value": 1 }],
            })
        }));
        let mut tests = vec![json!({ "interval": "1m", "input_series": healthy, "promql_expr_test": expected })];
        let faults: [(&str, &[(&str, &str)]); 5] = [
            ("etcdNoLeader", &[("etcd_server_has_leader", "0x60")]),
            ("etcdDatabaseQuotaLowSpace", &[("etcd_mvcc_db_total_size_in_bytes", "990000000x60")]),
            ("etcdHighNumberOfFailedProposals", &[("etcd_server_proposals_failed_total", "0+600x60")]),
            (
                "etcdHighFsyncDurations",
                // None of the syncs was faster than 4 s.
                &[
                    ("etcd_disk_wal_fsync_duration_seconds_bucket{le=\"+Inf\"}", "0+100x60"),
                    ("etcd_disk_wal_fsync_duration_seconds_bucket{le=\"8.192\"}", "0+100x60"),
                ],
            ),
            (
                "etcdHighCommitDurations",
                &[
                    ("etcd_disk_backend_commit_duration_seconds_bucket{le=\"+Inf\"}", "0+100x60"),
                    ("etcd_disk_backend_commit_duration_seconds_bucket{le=\"8.192\"}", "0+100x60"),
                ],
            ),
        ];
        for (alert, changed) in faults {
            let input = series(metrics, changed);
            let told = [firing(alert, true)];
            tests.push(json!({ "interval": "1m", "input_series": input, "promql_expr_test": told }));
        }
        let file = json!({ "rule_files": ["rules.json"], "evaluation_interval": "1m", "tests": tests });
        fs_err::write(self.folder.join("test.json"), file.to_string())?;
        self.promtool(&["test", "rules", "test.json"])
    }
}

/// Whether that alert (any, for no name) fires after half an hour.
fn firing(alert: &str, fires: bool) -> Value {
    let which = if alert.is_empty() { String::new() } else { format!("alertname=\"{alert}\",") };
    let samples = if fires { json!([{ "labels": "{}", "value": 1 }]) } else { json!([]) };
    let query = format!("count(ALERTS{{{which}alertstate=\"firing\"}}) > bool 0");
    json!({ "expr": query, "eval_time": "30m", "exp_samples": samples })
}

/// The metrics as series of an hour that stay as they are, but for those that are changed; of a target that is up.
fn series(metrics: &str, changed: &[(&str, &str)]) -> Vec<Value> {
    const TARGET: &str = "job=\"etcd\",instance=\"shim\",cluster=\"etcd\"";
    let mut series = vec![json!({ "series": format!("up{{{TARGET}}}"), "values": "1x60" })];
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, value)) = line.rsplit_once(' ') else { continue };
        let values = changed.iter().find(|(changed, _)| *changed == name).map(|(_, values)| (*values).to_owned());
        let labelled = match name.strip_suffix('}') {
            Some(name) => format!("{name},{TARGET}}}"),
            None => format!("{name}{{{TARGET}}}"),
        };
        series.push(json!({ "series": labelled, "values": values.unwrap_or_else(|| format!("{value}x60")) }));
    }
    series
}

/// The queries of all dashboards, with the choices made.
fn queries(mixin: &Value) -> Result<BTreeSet<String>> {
    let mut queries = BTreeSet::new();
    for part in ["dashboards", "targets"] {
        let mut found = BTreeSet::new();
        gather(&mixin[part], &mut found);
        ensure(!found.is_empty(), || format!("the {part} have no queries"))?;
        queries.append(&mut found);
    }
    Ok(queries)
}

fn gather(value: &Value, queries: &mut BTreeSet<String>) {
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

/// The metrics that alerts or dashboards ask for and that are not there: each must be listed in docs/monitoring.md.
fn names_without(
    workspace: &Path,
    metrics: &str,
    mixin: &Value,
    queries: &BTreeSet<String>,
) -> Result<BTreeSet<String>> {
    let there: BTreeSet<&str> = metrics.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
    let mut alerts = BTreeSet::new();
    gather(&mixin["alerts"], &mut alerts);
    let asked = queries.iter().chain(&alerts).flat_map(|query| names(query));
    let absent: BTreeSet<String> = asked.filter(|name| !there.contains(&name[..])).collect();
    let documented = fs_err::read_to_string(workspace.join("docs/monitoring.md"))?;
    let listed = documented.split_once("These do not").map_or("", |(_, rest)| rest);
    let unlisted: Vec<_> =
        absent.iter().filter(|name| !listed.contains(&format!("| `{}` |", name.trim_end_matches("_bucket")))).collect();
    ensure(unlisted.is_empty(), || {
        format!("etcd's alerts or dashboards ask for {unlisted:?}: neither there nor listed with a reason")
    })?;
    Ok(absent)
}

/// The metrics of a query. Those that etcd's alerts and dashboards ask for begin with one of these.
fn names(query: &str) -> impl Iterator<Item = String> {
    let words = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let words = words.filter(|word| ["etcd_", "grpc_server_", "process_"].iter().any(|begin| word.starts_with(begin)));
    words.map(str::to_owned).collect::<Vec<_>>().into_iter()
}
