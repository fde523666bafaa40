//! Virtual clusters on the node, from the manifests that users apply: the same walk on each database.

mod access;
mod small;
mod stock;
mod upgrade;
mod virtual_cluster;
mod walk;
mod workload;

use std::time::Duration;

pub(super) use self::small::{small, stock_small};
pub(super) use self::upgrade::upgrade;
pub(super) use self::virtual_cluster::NAME;
use self::virtual_cluster::VirtualCluster;
use super::database::{self, Server, Volumes};
use super::lab::Lab;
use crate::runner::Verdict;
use sluice_shell::error::Result;
use sluice_toolkit::cluster::database::Database;

/// On a SQLite file in a persistent volume.
pub(super) fn sqlite(lab: &mut Lab) -> Result<Verdict> {
    run(lab, "sqlite", None)
}

/// On a PostgreSQL server outside the cluster, which takes connections by TLS alone.
pub(super) fn postgres(lab: &mut Lab) -> Result<Verdict> {
    let server = database::server(lab, Database::Postgres)?;
    let verdict = run(lab, "postgres", Some(&server))?;
    server.stop()?;
    Ok(verdict)
}

/// On a MariaDB server outside the cluster, which takes connections by TLS alone.
pub(super) fn mysql(lab: &mut Lab) -> Result<Verdict> {
    let server = database::server(lab, Database::Mariadb)?;
    let verdict = run(lab, "mysql", Some(&server))?;
    server.stop()?;
    Ok(verdict)
}

/// Walks through a virtual cluster that somebody else made and removes, and whose shims are in these Pods.
pub(super) fn walk_through(lab: &Lab, pods: &'static [&'static str], ready: Duration) -> Result<()> {
    let cluster = VirtualCluster::reach(lab, pods, ready)?;
    walk::shirts(&cluster)?;
    walk::name_server(&cluster)?;
    walk::collector(&cluster)?;
    walk::stays_inside(lab, &cluster)?;
    walk::shim_killed(lab, &cluster)
}

/// Makes a virtual cluster of a manifest, walks through it, and removes it.
fn run(lab: &Lab, manifest: &str, server: Option<&Server>) -> Result<Verdict> {
    // One for the file of SQLite, one for the workload.
    let volumes = Volumes::make(lab, if server.is_some() { 1 } else { 2 })?;
    let mut cluster = VirtualCluster::make(lab, &VirtualCluster::file(lab, manifest), server)?;
    walk::shirts(&cluster)?;
    walk::name_server(&cluster)?;
    walk::collector(&cluster)?;
    walk::stays_inside(lab, &cluster)?;
    workload::runs(lab, &cluster)?;
    access::from_the_host(lab, &cluster)?;
    access::disconnects(lab, &cluster)?;
    walk::shim_killed(lab, &cluster)?;
    walk::pod_deleted(lab, &mut cluster)?;
    let ready = cluster.ready.as_secs_f64();
    cluster.remove(lab)?;
    volumes.remove(lab)?;
    Ok(Verdict::Passed(format!("ready {ready:.0} s after kubectl apply")))
}
