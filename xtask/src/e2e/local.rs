//! `up`, `status`, `down` as a person types them.

use std::path::Path;

use serde_json::Value;

use super::lab::{folder, kubectl_of};
use super::leftover::{Guard, Leftover};
use super::wait::ensure;
use super::{Case, Column, Suite, Verdict};
use crate::cluster::Cluster;
use crate::cluster::component::Component;
use crate::error::{Error, Result};
use crate::process::{Outcome, Run};

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("up/round", round), Case::new("up/port-taken", port_taken)]
}

/// The toolkit's own program with the column's binaries.
fn xtask(suite: &Suite, folder: &Path, args: &[&str]) -> Result<Outcome> {
    let program = std::env::current_exe()?;
    let mut run = Run::new(program, &suite.scratch).args(args).arg("--dir").arg(folder).env("CI", "1");
    if args[0] == "up" {
        let programs = suite.programs(Column::OURS)?;
        run = run.arg("--bin").arg(&suite.bin_folder(programs)?);
    }
    run.outcome()
}

/// Up, up again, a crash of everything, up again, down: the data is there until down.
fn round(suite: &Suite) -> Result<Verdict> {
    let folder = folder(suite, "up");
    let _guard = Guard::new(Leftover::Cluster(folder.clone()));
    let up = || -> Result<String> {
        let outcome = xtask(suite, &folder, &["up"])?;
        ensure(outcome.status.success(), || outcome.stderr.clone())?;
        Ok(outcome.stdout + &outcome.stderr)
    };
    let kubeconfig = folder.join("kubeconfig");
    let kubectl = |args: &str| {
        let program = kubectl_of(suite.programs(Column::OURS)?)?;
        Run::new(program, &folder).env("KUBECONFIG", &kubeconfig).args(args.split(' ')).read()
    };

    let first = up()?;
    let line = format!("export KUBECONFIG={}", kubeconfig.display());
    ensure(first.lines().next() == Some(&line), || format!("up printed {first:?}"))?;
    ensure(kubectl("get ns -o name")?.contains("namespace/default"), || "no namespace default".to_owned())?;
    kubectl("create configmap kept --from-literal=a=b")?;

    let second = up()?;
    ensure(second.contains("already running"), || format!("the second up printed {second:?}"))?;
    let other = xtask(suite, &folder, &["up", "--apiserver-arg=--v=1"])?;
    ensure(other.status.code() == Some(1) && other.stderr.contains("runs with other settings"), || other.stderr)?;

    let cluster = Cluster::look(&folder)?;
    for component in Component::ALL {
        cluster.process(component).ok_or_else(|| Error::input("a process is missing"))?.kill()?;
    }
    let status = xtask(suite, &folder, &["status"])?;
    ensure(status.status.code() == Some(1), || format!("status after the crash: {}", status.stdout))?;
    up()?;
    ensure(kubectl("get configmap kept -o jsonpath={.data.a}")? == "b", || "the data is gone".to_owned())?;

    let status = xtask(suite, &folder, &["status", "--json"])?;
    let report: Value = serde_json::from_str(&status.stdout)?;
    let processes = report["processes"].as_array().cloned().unwrap_or_default();
    let sound = processes.len() == 3
        && processes.iter().all(|row| row["ready"] == true && row["resident_bytes"].as_u64() > Some(0))
        && report["store_revision"].as_u64() > Some(1);
    ensure(sound, || format!("status says {report:#}"))?;

    let down = xtask(suite, &folder, &["down"])?;
    ensure(down.status.success(), || down.stderr)?;
    ensure(!folder.exists(), || format!("{} is still there", folder.display()))?;
    Ok(Verdict::PASSED)
}

/// A taken port is named together with who holds it, and nothing is left running.
fn port_taken(suite: &Suite) -> Result<Verdict> {
    let folder = folder(suite, "port");
    let _guard = Guard::new(Leftover::Cluster(folder.clone()));
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    let outcome = xtask(suite, &folder, &["up", "--port", &port])?;
    let mine = format!("(process {})", std::process::id());
    ensure(
        outcome.status.code() == Some(1) && outcome.stderr.contains(&port) && outcome.stderr.contains(&mine),
        || format!("up on a taken port said: {}", outcome.stderr),
    )?;
    let cluster = Cluster::look(&folder)?;
    let runs = Component::ALL.into_iter().find(|&component| cluster.process(component).is_some());
    ensure(runs.is_none(), || format!("{runs:?} still runs"))?;
    cluster.remove()?;
    Ok(Verdict::PASSED)
}
