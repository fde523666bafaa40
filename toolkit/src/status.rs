//! `cargo xtask status`: what the control plane that `up` started is doing.

use std::path::PathBuf;

use serde::Serialize;

use crate::cluster::Cluster;
use crate::cluster::component::Component;
use crate::up;
use sluice_shell::context::Context;
use sluice_shell::error::{Explain, Result};
use sluice_shell::output::table;

/// Shows the processes of the control plane and the store's revision
///
/// Exit code 1 if a process is not ready; the hint then names the command that starts what is missing.
#[derive(clap::Args)]
pub struct Cmd {
    /// The cluster's folder [default: .sluice/cluster in the workspace]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Print a report instead
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    folder: PathBuf,
    kubeconfig: PathBuf,
    kubernetes: String,
    patched: bool,
    processes: Vec<Row>,
    /// None if the apiserver does not answer.
    store_revision: Option<u64>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    pid: Option<i32>,
    ready: bool,
    resident_bytes: Option<u64>,
    port: u16,
    log: PathBuf,
}

/// Not all is well with the cluster.
#[derive(Debug, thiserror::Error)]
#[error("{}", .problems.join("; "))]
struct NotServing {
    problems: Vec<String>,
    /// The command that starts what is missing.
    again: String,
}

impl Explain for NotServing {
    fn hint(&self) -> Option<String> {
        Some(format!(
            "start what does not run (the data is kept), and wait for what is not ready:\n{}\nthe end of a log says why a process ended",
            self.again
        ))
    }
}

impl Cmd {
    /// Looks at the cluster.
    pub(crate) fn run(self, shell: &Context) -> Result<()> {
        let cluster = Cluster::look(&up::folder(shell, self.dir.as_deref()))?;
        let report = look(&cluster);
        if self.json {
            shell.out.json(&report)?;
        } else {
            shell.out.data(render(&report))?;
        }
        let problem = |row: &Row| match row.pid {
            _ if row.ready => None,
            Some(_) => Some(format!("{} is not ready", row.name)),
            None => Some(format!("{} does not run", row.name)),
        };
        let problems: Vec<String> = report.processes.iter().filter_map(problem).collect();
        if problems.is_empty() { Ok(()) } else { Err(NotServing { problems, again: up::again(&cluster) }.into()) }
    }
}

fn look(cluster: &Cluster) -> Report {
    let row = |component: Component| {
        let process = cluster.process(component);
        Row {
            name: component.title(cluster),
            pid: process.as_ref().map(|process| process.pid),
            ready: cluster.is_ready(component),
            resident_bytes: process.and_then(|process| process.resident_bytes()),
            port: component.port(cluster),
            log: cluster.log(component),
        }
    };
    Report {
        folder: cluster.folder.clone(),
        kubeconfig: cluster.kubeconfig(),
        kubernetes: cluster.settings.kubernetes.clone(),
        patched: cluster.settings.programs.patched,
        processes: cluster.components().map(row).collect(),
        store_revision: cluster.store_revision().ok(),
    }
}

fn render(report: &Report) -> String {
    let unknown = || "-".to_owned();
    let mut rows = vec![["PROCESS", "PID", "READY", "MEMORY", "PORT", "LOG"].map(str::to_owned).to_vec()];
    rows.extend(report.processes.iter().map(|row| {
        vec![
            row.name.clone(),
            row.pid.map_or_else(unknown, |pid| pid.to_string()),
            if row.ready { "yes" } else { "no" }.to_owned(),
            row.resident_bytes.map_or_else(unknown, |bytes| format!("{} MiB", bytes >> 20)),
            row.port.to_string(),
            row.log.display().to_string(),
        ]
    }));
    let flavor = if report.patched { "patched" } else { "stock" };
    let revision = report.store_revision.map_or_else(unknown, |revision| revision.to_string());
    format!(
        "{}\n\nKubernetes {} ({flavor}), store revision {revision}\nKUBECONFIG={}",
        table(&rows),
        report.kubernetes,
        report.kubeconfig.display()
    )
}
