//! The alerts and the dashboard of the chart `sluice-shim` on a real shim's metrics: each query of the dashboard finds
//! something, a healthy shim with another one that stands by raises no alert, and what is not healthy raises the alert
//! about it.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::lab::folder;
use super::super::stores::Tools;
use super::super::{Suite, Verdict};
use super::promtool::{Promtool, gather};
use super::scrape;
use sluice_shell::error::Result;
use sluice_toolkit::cluster::database::Database;
use sluice_toolkit::cluster::wait::ensure;

/// Where they are in the workspace.
const FILES: &str = "images/charts/sluice-shim/files";

/// What is scraped of a second process, which stands by.
const STANDBY: &str = "sluice_standby{pod=\"second\"} 1\nsluice_forwarded_requests_total{pod=\"second\"} 7\n";

/// What raises an alert, with the series that show it.
const FAULTS: [(&str, &[(&str, &str)]); 11] = [
    ("SluiceUnhealthy", &[("etcd_server_healthcheck{type=\"readyz\",name=\"serializable_read\"}", "0x60")]),
    ("SluiceNobodyServes", &[("sluice_standby", "1x60")]),
    ("SluiceCommitsFail", &[("sluice_commit_failures_total", "0+1x60")]),
    (
        "SluiceCommitsSlow",
        // None was faster than 2 s.
        &[
            ("sluice_commit_seconds_bucket{le=\"+Inf\"}", "0+100x60"),
            ("sluice_commit_seconds_bucket{le=\"4.096\"}", "0+100x60"),
        ],
    ),
    ("SluiceDatabaseUnstable", &[("sluice_database_retries_total", "0+120x60")]),
    ("SluiceQuotaNearlyReached", &[("etcd_mvcc_db_total_size_in_use_in_bytes", "990000000x60")]),
    ("SluiceCompactionHangs", &[("sluice_compaction_pending", "1x60")]),
    ("SluiceCollectorFails", &[("sluice_gc_failures_total", "0+1x60")]),
    ("SluiceCollectorBehind", &[("sluice_gc_oldest_task_seconds", "900x60")]),
    ("SluiceSelectorsRefused", &[("sluice_selectors_refused_total{reason=\"version\"}", "0+60x60")]),
    ("SluiceConnectionsRefused", &[("sluice_refused_connections_total{cause=\"no certificate\"}", "0+120x60")]),
];

pub(super) fn alerts_and_dashboard(suite: &Suite) -> Result<Verdict> {
    let suite = &suite.on(Database::Postgres)?;
    let Some(tools) = Tools::of(suite)? else {
        return Ok(Verdict::Skipped("needs etcdctl and etcdutl beside etcd".to_owned()));
    };
    let folder = folder(suite, "chart-metrics");
    let Some(promtool) = Promtool::of(suite, &folder)? else {
        return Ok(Verdict::Skipped("needs promtool beside etcd".to_owned()));
    };
    fs_err::create_dir_all(&folder)?;
    let metrics = scrape(&tools, &folder, &["--standby"])? + STANDBY;
    let files = suite.workspace.join(FILES);
    let rules = fs_err::read_to_string(files.join("alerts.yaml"))?;
    fs_err::write(folder.join("rules.yaml"), &rules)?;
    promtool.run(&["check", "rules", "rules.yaml"])?;
    let alerts: BTreeSet<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let tried: BTreeSet<_> = FAULTS.iter().map(|(alert, _)| *alert).collect();
    ensure(alerts == tried, || format!("alerts.yaml has {alerts:?}, the test raises {tried:?}"))?;
    let dashboard: Value = serde_json::from_str(&fs_err::read_to_string(files.join("dashboard.json"))?)?;
    let mut queries = BTreeSet::new();
    gather(&dashboard, &mut queries);
    promtool.test("rules.yaml", &metrics, &queries.iter().collect::<Vec<_>>(), &FAULTS)?;
    suite.data.remove()?;
    fs_err::remove_dir_all(folder)?;
    Ok(Verdict::Passed(format!("{} alerts, {} queries", alerts.len(), queries.len())))
}
