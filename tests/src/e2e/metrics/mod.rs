//! What dashboards and alerts ask a shim's metrics for: etcd's own ([`mixin`]), and those of the chart ([`chart`]).
//! Prometheus' [`promtool`] evaluates each query on the metrics of a shim that was used.

mod chart;
mod mixin;
mod promtool;

use std::path::Path;

use super::http::exchange;
use super::stores::{Server, Tools};
use super::{Case, Column};
use sluice_shell::error::{Error, Result};
use sluice_shell::process::Run;
use sluice_toolkit::cluster::database::Database;
use sluice_toolkit::cluster::leftover::{Guard, Leftover};
use sluice_toolkit::cluster::pid::Process;
use sluice_toolkit::cluster::wait::{LIMIT, ensure, until};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("metrics/etcds-alerts-and-dashboards", mixin::alerts_and_dashboards).of(Column::OURS),
        // A server has metrics that a file has not.
        Case::new("metrics/alerts-and-dashboard", chart::alerts_and_dashboard).of(Column::OURS).on(Database::Postgres),
    ]
}

/// The metrics of a shim that was used, with a watch open; and etcd's own check of a server is run, since it reads them
/// too. `flags`: more of the shim's.
fn scrape(tools: &Tools, folder: &Path, flags: &[&str]) -> Result<String> {
    let flags = [&["--quota-backend-bytes=1000000000"][..], flags].concat();
    let shim = Server::shim_with(tools, folder, "state.db", &flags)?;
    let etcdctl = |line: &str| Run::new(&tools.etcdctl, folder).arg(shim.flag()).args(line.split_ascii_whitespace());
    for line in ["put a 1", "get a", "check datascale --load=s --auto-compact"] {
        let said = etcdctl(line).outcome()?;
        let failed = !said.status.success() || said.stdout.contains("FAIL");
        ensure(!failed, || format!("etcdctl {line}: {}{}", said.stdout, said.stderr))?;
    }
    let granted = etcdctl("lease grant 600").read()?;
    let lease = granted.split(' ').nth(1).unwrap_or_default();
    etcdctl(&format!("lease keep-alive --once {lease}")).run()?;
    get(&shim, "/readyz")?;
    let watch = etcdctl("watch a").spawn(&folder.join("watch.log"))?;
    let pid = i32::try_from(watch.id()).map_err(anyhow::Error::from)?;
    let process = Process::of(pid).ok_or_else(|| Error::input("the watch ended at once"))?;
    let watching = Guard::new(Leftover::Process(process));
    let metrics = until("an open watch in the metrics", LIMIT, || {
        let body = get(&shim, "/metrics")?;
        Ok(body.filter(|body| body.contains("etcd_debugging_mvcc_watcher_total 1\n")))
    })?;
    drop(watching);
    shim.stop()?;
    Ok(metrics)
}

/// The body of what the shim answers over HTTP.
fn get(shim: &Server, path: &str) -> Result<Option<String>> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let answer = exchange(shim.port, &request)?;
    Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()))
}
