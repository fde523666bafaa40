//! etcd's alerts and dashboards (contrib/mixin in its repository) on the shim's metrics: they load, each query finds
//! what it asks for, and the alerts fire when they should and only then. Rendered by jsonnet, evaluated by Prometheus'
//! promtool.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::super::lab::folder;
use super::super::stores::{Tools, tool};
use super::super::{Suite, Verdict};
use super::promtool::{Promtool, gather};
use super::scrape;
use sluice_shell::error::Result;
use sluice_shell::process::Run;
use sluice_toolkit::build::{self, Program};
use sluice_toolkit::cluster::wait::ensure;

/// What the newer dashboards need of a library for Grafana: the text of a query.
const LIBRARY: &str = "{ query: { prometheus: { new(source, expr): { expr: expr }, withLegendFormat(format): {} } } }";
const LIBRARY_FILE: &str = "github.com/grafana/grafonnet/gen/grafonnet-v10.0.0/main.libsonnet";

/// What raises an alert, with the series that show it.
const FAULTS: [(&str, &[(&str, &str)]); 5] = [
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

pub(super) fn alerts_and_dashboards(suite: &Suite) -> Result<Verdict> {
    let Some(tools) = Tools::of(suite)? else {
        return Ok(Verdict::Skipped("needs etcdctl and etcdutl beside etcd".to_owned()));
    };
    let folder = folder(suite, "mixin");
    let (Some(promtool), Some(jsonnet)) = (Promtool::of(suite, &folder)?, tool(suite, Program::Jsonnet)?) else {
        return Ok(Verdict::Skipped("needs promtool and jsonnet beside etcd".to_owned()));
    };
    fs_err::create_dir_all(&folder)?;
    let metrics = scrape(&tools, &folder, &[])?;
    lint(&promtool, &metrics)?;
    let etcd = build::module_folder(&suite.workspace, "etcd-mixin", "go.etcd.io/etcd/v3")?;
    let mixin = render(&jsonnet, &folder, &etcd)?;
    let queries = queries(&mixin)?;
    let absent = names_without(&suite.workspace, &metrics, &mixin, &queries)?;
    fs_err::write(folder.join("rules.json"), json!({ "groups": mixin["alerts"]["groups"] }).to_string())?;
    promtool.run(&["check", "rules", "rules.json"])?;
    let answered: Vec<_> = queries.iter().filter(|query| !absent.iter().any(|name| query.contains(name))).collect();
    let alerts = mixin["alerts"]["groups"][0]["rules"].as_array().map_or(0, Vec::len);
    ensure(alerts >= 15 && answered.len() >= 12, || format!("{alerts} alerts, {} queries", answered.len()))?;
    promtool.test("rules.json", &metrics, &answered, &FAULTS)?;
    fs_err::remove_dir_all(folder)?;
    Ok(Verdict::Passed(format!("{alerts} alerts, {} queries", answered.len())))
}

/// promtool reads the metrics, and finds nothing but two names that are etcd's.
fn lint(promtool: &Promtool, metrics: &str) -> Result<()> {
    let etcds = ["etcd_debugging_mvcc_watch_stream_total ", "etcd_debugging_mvcc_watcher_total "];
    let text = promtool.lint(metrics)?;
    let others: Vec<_> = text.lines().filter(|line| !etcds.iter().any(|name| line.starts_with(name))).collect();
    ensure(others.is_empty(), || format!("promtool check metrics: {}", others.join("\n")))
}

/// Alerts, and the dashboards in both forms.
fn render(jsonnet: &Path, folder: &Path, etcd: &Path) -> Result<Value> {
    let library = folder.join(LIBRARY_FILE);
    fs_err::create_dir_all(library.parent().unwrap_or(folder))?;
    fs_err::write(&library, LIBRARY)?;
    let mixin = etcd.join("contrib/mixin").display().to_string();
    let program = format!(
        "local mixin = (import '{mixin}/mixin.libsonnet') + {{ _config+:: {{ grafana7x: true }} }};
         {{ alerts: mixin.prometheusAlerts, dashboards: mixin.grafanaDashboards,
            targets: (import '{mixin}/dashboards/targets.libsonnet')(
              {{ datasource: {{ name: 'x' }} }}, mixin._config) }}"
    );
    let text = Run::new(jsonnet, folder).args(["-J", ".", "-e", &program]).read()?;
    Ok(serde_json::from_str(&text)?)
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
