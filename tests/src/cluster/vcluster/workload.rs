//! What a person runs in a virtual cluster: its Pods are on the host's node.

use std::time::Duration;

use serde_json::{Value, json};

use super::virtual_cluster::{NAME, VirtualCluster};
use crate::cluster::lab::Lab;
use crate::cluster::pods;
use crate::kubectl::Kubectl;
use sluice_shell::error::Result;
use sluice_toolkit::cluster::wait::ensure;

/// How long a Pod may take to come to its end.
const END_LIMIT: Duration = Duration::from_secs(180);

/// What the ConfigMap says.
const GREETING: &str = "from-the-configmap";

/// Two Pods of a Deployment answer a third one by the Service's name. One more Pod copies what a ConfigMap says onto a
/// volume, where the next one finds it.
pub(super) fn runs(lab: &Lab, cluster: &VirtualCluster) -> Result<()> {
    let (kubectl, host) = (&cluster.kubectl, lab.kubectl());
    kubectl.send("apply", &pods::workload(lab.image("agnhost")?))?;
    kubectl.send("apply", &data())?;
    pods::answers(kubectl)?;
    let done = kubectl.run("exec client -- /agnhost connect web:80 --timeout=20s")?;
    ensure(done.trim().is_empty(), || format!("connecting said {done:?}"))?;
    let image = lab.image("kubernetes")?;
    copied(kubectl, image, "writer", "busybox cat /config/greeting >/data/greeting")?;
    let read = copied(kubectl, image, "reader", "busybox cat /data/greeting")?;
    ensure(read == GREETING, || format!("the volume holds {read:?}"))?;
    // The host has them, under names of vCluster.
    let shown = host.run(&format!("get pod,service,configmap,pvc --namespace {NAME} --output=name"))?;
    for name in ["pod/client", "service/web", "configmap/greeting", "persistentvolumeclaim/greeting"] {
        let name = format!("{name}-x-default-x-{NAME}");
        ensure(shown.lines().any(|line| line == name), || format!("{name} is not on the host:\n{shown}"))?;
    }
    Ok(())
}

/// Runs a shell in a Pod with the ConfigMap and the volume until it ends; returns what it printed.
fn copied(kubectl: &Kubectl, image: &str, name: &str, script: &str) -> Result<String> {
    kubectl.send("create", &pod(image, name, script))?;
    let seconds = END_LIMIT.as_secs();
    kubectl.run(&format!("wait pod/{name} --for=jsonpath={{.status.phase}}=Succeeded --timeout={seconds}s"))?;
    let said = kubectl.run(&format!("logs {name}"))?;
    // Two Pods on two nodes could not have the volume at once.
    kubectl.run(&format!("delete pod {name}"))?;
    Ok(said)
}

fn data() -> Value {
    json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "greeting" },
          "data": { "greeting": GREETING } },
        { "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": "greeting" }, "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": { "requests": { "storage": "1Gi" } },
        }},
    ]})
}

fn pod(image: &str, name: &str, script: &str) -> Value {
    let container = json!({
        "name": name,
        "image": image,
        "command": ["sh", "-c", script],
        "volumeMounts": [
            { "name": "config", "mountPath": "/config", "readOnly": true },
            { "name": "data", "mountPath": "/data" },
        ],
    });
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name }, "spec": {
        "restartPolicy": "Never",
        "securityContext": { "runAsNonRoot": true, "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000 },
        "containers": [container],
        "volumes": [
            { "name": "config", "configMap": { "name": "greeting" } },
            { "name": "data", "persistentVolumeClaim": { "claimName": "greeting" } },
        ],
    }})
}
