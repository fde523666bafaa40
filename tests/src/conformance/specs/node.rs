//! A node without a machine: the specs want one that is ready.

use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use sluice_shell::error::Result;
use sluice_toolkit::cluster::client::{Client, HttpError};
use sluice_toolkit::cluster::wait::{LIMIT, until};

const NAME: &str = "no-machine";

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// As often as a kubelet renews its lease. A node whose lease is 50 s old is no longer ready.
const RENEWAL: Duration = Duration::from_secs(10);

/// A Node that stays ready until this is dropped: its lease is renewed, as a kubelet would.
pub(super) struct Node {
    /// Dropping it ends the renewals.
    _running: mpsc::Sender<()>,
    _renewals: JoinHandle<()>,
}

impl Node {
    /// Makes it, and waits until Pods could be scheduled on it.
    ///
    /// # Errors
    /// When the API refuses, or the controller manager does not find the node ready.
    pub(super) fn start(api: Client) -> Result<Self> {
        api.create("/api/v1/nodes", &ready())?;
        until("the namespace of the nodes' leases", LIMIT, || match api.create(LEASES, &lease()) {
            Ok(_) => Ok(Some(())),
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error.into()),
        })?;
        until("a node without taints", LIMIT, || {
            let node = api.get(&format!("/api/v1/nodes/{NAME}"))?;
            Ok(node["spec"]["taints"].is_null().then_some(()))
        })?;
        let (running, ended) = mpsc::channel();
        let renewals = thread::spawn(move || {
            while ended.recv_timeout(RENEWAL) == Err(RecvTimeoutError::Timeout) {
                // One that fails is made up for by the next; the specs see what comes of several.
                let _ = renew(&api);
            }
        });
        Ok(Self { _running: running, _renewals: renewals })
    }
}

fn renew(api: &Client) -> Result<Value, HttpError> {
    api.merge(&format!("{LEASES}/{NAME}"), &json!({"spec": {"renewTime": now()}}))
}

/// With six digits of a second, which is the only form that a lease takes.
fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

fn lease() -> Value {
    json!({
        "metadata": {"name": NAME},
        "spec": {"holderIdentity": NAME, "leaseDurationSeconds": 40, "renewTime": now()},
    })
}

fn ready() -> Value {
    let size = json!({"cpu": "4", "memory": "8Gi", "pods": "110", "ephemeral-storage": "20Gi"});
    json!({
        "metadata": {
            "name": NAME,
            "labels": {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "kubernetes.io/hostname": NAME},
        },
        "status": {
            "capacity": size,
            "allocatable": size,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
            "nodeInfo": {
                "architecture": "amd64",
                "bootID": "",
                "containerRuntimeVersion": "",
                "kernelVersion": "",
                "kubeProxyVersion": "",
                "kubeletVersion": "",
                "machineID": "",
                "operatingSystem": "linux",
                "osImage": "",
                "systemUUID": "",
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_has_the_time_to_the_microsecond() {
        let now = now();
        let (_, fraction) = now.split_once('.').unwrap();
        assert_eq!(fraction.len(), "123456Z".len(), "{now}");
        assert!(now.parse::<Timestamp>().is_ok(), "{now}");
    }
}
