//! The shims in the Pods of a virtual cluster.

use serde_json::Value;

use super::virtual_cluster::{NAME, VirtualCluster};
use crate::cluster::lab::Lab;
use crate::kubectl::Kubectl;
use sluice_shell::error::{Error, Result};
use sluice_toolkit::cluster::wait::{LIMIT, until};

/// The Pod whose shim serves the store, and does not stand by.
pub(super) fn serving(host: &Kubectl, cluster: &VirtualCluster) -> Result<&'static str> {
    until("a shim that serves", LIMIT, || {
        // One that ends or begins has no metrics; one that never stands by lacks that one.
        let serves = |pod: &str| {
            metric(host, pod, "sluice_standby").is_ok_and(|stands_by| stands_by.is_none_or(|value| value == "0"))
        };
        Ok(cluster.pods.iter().copied().find(|pod| serves(pod)))
    })
}

/// The value of a metric without labels.
pub(super) fn metric(host: &Kubectl, pod: &str, name: &str) -> Result<Option<String>> {
    let metrics = host.run(&format!("get --raw /api/v1/namespaces/{NAME}/pods/{pod}:2381/proxy/metrics"))?;
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(value.map(str::to_owned))
}

/// How often the container of a Pod's shim was started again.
pub(super) fn restarts(host: &Kubectl, pod: &str) -> Result<u64> {
    let pod: Value = serde_json::from_str(&host.run(&format!("get pod {pod} --namespace {NAME} --output=json"))?)?;
    let containers = pod["status"]["initContainerStatuses"].as_array().cloned().unwrap_or_default();
    let shim = containers.iter().find(|container| container["name"] == "sluice-shim");
    let count = shim.and_then(|shim| shim["restartCount"].as_u64());
    count.ok_or_else(|| Error::input(format!("the Pod has no container sluice-shim: {}", pod["status"])))
}

/// Kills the shim of a Pod with SIGKILL. The host's own control plane has a shim as well, and other Pods may have.
pub(super) fn kill(lab: &Lab, pod: &str) -> Result<()> {
    let node = lab.node()?;
    let busybox = |args: &[&str]| node.inside("busybox")?.args(args).read();
    for pid in busybox(&["pidof", "sluice-shim"])?.split_whitespace() {
        // The host name of a Pod is its name.
        if busybox(&["cat", &format!("/proc/{pid}/environ")])?.contains(&format!("HOSTNAME={pod}\0")) {
            return busybox(&["kill", "-9", pid]).map(drop);
        }
    }
    Err(Error::input(format!("no shim of the Pod {pod} runs on the node")))
}
