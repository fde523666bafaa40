//! The shims in Pods of the node, several of which may share a database.

use serde_json::Value;

use super::lab::Lab;
use crate::kubectl::Kubectl;
use sluice_shell::error::{Error, Result};
use sluice_toolkit::cluster::wait::{LIMIT, until};

/// Those of a namespace.
pub(super) struct Shims<'a> {
    pub(super) host: Kubectl,
    pub(super) namespace: &'a str,
    /// The names of the Pods, each with one shim.
    pub(super) pods: &'a [&'static str],
}

impl Shims<'_> {
    /// The Pod whose shim serves the store, and does not stand by.
    pub(super) fn serving(&self) -> Result<&'static str> {
        // One that ends or begins has no metrics; one that never stands by lacks this one.
        let serves = |pod: &str| {
            self.metric(pod, "sluice_standby").is_ok_and(|stands_by| stands_by.is_none_or(|value| value == "0"))
        };
        until("a shim that serves", LIMIT, || Ok(self.pods.iter().copied().find(|pod| serves(pod))))
    }

    /// The value of a metric without labels.
    pub(super) fn metric(&self, pod: &str, name: &str) -> Result<Option<String>> {
        let path = format!("/api/v1/namespaces/{}/pods/{pod}:2381/proxy/metrics", self.namespace);
        let metrics = self.host.run(&format!("get --raw {path}"))?;
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.map(str::to_owned))
    }

    /// How often the container of a Pod's shim was started again.
    pub(super) fn restarts(&self, pod: &str) -> Result<u64> {
        let pod = self.host.run(&format!("get pod {pod} --namespace {} --output=json", self.namespace))?;
        let pod: Value = serde_json::from_str(&pod)?;
        let containers = ["initContainerStatuses", "containerStatuses"].map(|kind| pod["status"][kind].as_array());
        let shim = containers.into_iter().flatten().flatten().find(|container| container["name"] == "sluice-shim");
        let count = shim.and_then(|shim| shim["restartCount"].as_u64());
        count.ok_or_else(|| Error::input(format!("the Pod has no container sluice-shim: {}", pod["status"])))
    }

    /// Kills the shim of a Pod with SIGKILL. The host's own control plane has a shim as well, and other Pods may have.
    pub(super) fn kill(&self, lab: &Lab, pod: &str) -> Result<()> {
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
}
