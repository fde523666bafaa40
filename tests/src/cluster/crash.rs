//! Processes that are killed, as a crash and a power failure would: what was acknowledged is there.

use std::time::Duration;

use super::lab::Lab;
use super::pods;
use crate::kubectl::Kubectl;
use crate::runner::Verdict;
use sluice_shell::error::Result;
use sluice_toolkit::cluster::wait::{LIMIT, ensure, until};

/// How long the kubelet may take to start a container again, and its status to show it.
const AGAIN_LIMIT: Duration = Duration::from_secs(120);

const SHIM_POD: &str = "get pod etcd-sluice-node --namespace=kube-system --output=jsonpath=";

/// The shim's container is killed between two writes; a watch that was there before goes on after.
pub(super) fn shim(lab: &mut Lab) -> Result<Verdict> {
    let kubectl = lab.kubectl();
    let restarts = || kubectl.run(&format!("{SHIM_POD}{{.status.containerStatuses[0].restartCount}}"));
    let before = restarts()?;
    let written = write(&kubectl, "before-the-shim-died")?;
    let mut watch = kubectl.watch("configmaps")?;
    watch.wait_for("the last one written", LIMIT, |event| event.name() == written[written.len() - 1])?;
    let node = lab.node()?;
    let pid = node.inside("busybox")?.args(["pidof", "sluice-shim"]).read()?;
    node.inside("busybox")?.args(["kill", "-9", pid.trim()]).run()?;
    drop(node);
    until("a write after the shim was killed", AGAIN_LIMIT, || {
        Ok(kubectl.run("create configmap after-the-shim-died").ok())
    })?;
    all_there(&kubectl, &written)?;
    watch.wait_for("the one written after", AGAIN_LIMIT, |event| event.name() == "after-the-shim-died")?;
    until("the count of the restart", AGAIN_LIMIT, || {
        let now = restarts()?;
        Ok((!now.is_empty() && now != before).then_some(()))
    })?;
    Ok(Verdict::PASSED)
}

/// All of the node's processes are killed at once; `cluster up` starts it again with its Pods.
pub(super) fn node(lab: &mut Lab) -> Result<Verdict> {
    let kubectl = lab.kubectl();
    pods::reach_each_other(lab)?;
    let written = write(&kubectl, "before-the-node-died")?;
    lab.node()?.kill()?;
    let gone = kubectl.fails("get --raw=/readyz")?;
    ensure(gone.contains("refused"), || format!("the API says {gone:?} after the node was killed"))?;
    let report = lab.up()?;
    ensure(report.started, || "the node was not started again".to_owned())?;
    all_there(&kubectl, &written)?;
    pods::answers(&kubectl)?;
    Ok(Verdict::Passed(format!("ready again after {:.0} s", report.seconds)))
}

/// Writes a few objects; returns their names.
fn write(kubectl: &Kubectl, name: &str) -> Result<Vec<String>> {
    let names: Vec<String> = (0..10).map(|number| format!("{name}-{number}")).collect();
    for name in &names {
        kubectl.run(&format!("create configmap {name} --from-literal=name={name}"))?;
    }
    Ok(names)
}

/// Whether they are there as they were written.
fn all_there(kubectl: &Kubectl, names: &[String]) -> Result<()> {
    for name in names {
        let found = kubectl.run(&format!("get configmap {name} --output=jsonpath={{.data.name}}"))?;
        ensure(found == *name, || format!("the configmap {name} holds {found:?}"))?;
    }
    Ok(())
}
