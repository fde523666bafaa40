//! A cluster as kubeadm leaves it: the node, Pods, Services and names.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::lab::{Lab, image};
use crate::kubectl::Kubectl;
use crate::runner::Verdict;
use sluice_shell::error::Result;
use sluice_toolkit::cluster::wait::{ensure, until};

/// How long Pods may take to serve.
const SERVE_LIMIT: Duration = Duration::from_secs(180);

/// What asks: each time through the API server's proxy to a Pod, which finds the Service by its name.
const DIAL: &str = "/api/v1/namespaces/default/pods/client:8080/proxy/dial?host=web.default.svc.cluster.local&port=80\
                    &protocol=http&request=hostname&tries=20";

/// The control plane is of our images, and the API server reads and writes through the shim.
pub(super) fn ready(lab: &mut Lab) -> Result<Verdict> {
    let kubectl = lab.kubectl();
    let nodes = kubectl.run("get nodes --no-headers")?;
    let words: Vec<&str> = nodes.split_whitespace().collect();
    ensure(matches!(words[..], [_, "Ready", "control-plane", ..]), || format!("the nodes are {nodes:?}"))?;
    let version = runs_ours(&kubectl, &lab.report.images)?;
    Ok(Verdict::Passed(format!("{version} ready after {:.0} s", lab.report.seconds)))
}

/// Whether the Pods of the control plane run these images of ours; returns the API server's version.
pub(super) fn runs_ours(kubectl: &Kubectl, images: &[String]) -> Result<String> {
    for (pod, name) in [
        ("etcd", "sluice-shim"),
        ("kube-apiserver", "kube-apiserver"),
        ("kube-controller-manager", "kube-controller-manager"),
    ] {
        let args = format!("get pods --namespace=kube-system --selector=component={pod} --output=json");
        let pods: Value = serde_json::from_str(&kubectl.run(&args)?)?;
        let status = &pods["items"][0]["status"]["containerStatuses"][0];
        let (runs, wanted) = (status["image"].as_str().unwrap_or_default(), image(images, name)?);
        ensure(runs == wanted, || format!("the Pod {pod} runs {runs:?} instead of {wanted:?}"))?;
    }
    let version: Value = serde_json::from_str(&kubectl.run("version --output=json")?)?;
    let version = version["serverVersion"]["gitVersion"].as_str().unwrap_or_default().to_owned();
    ensure(version.contains("+sluice."), || format!("the API server is {version:?}"))?;
    Ok(version)
}

/// Two Pods behind a Service answer a third one, which knows the Service's name; `logs` and `exec` reach them.
pub(super) fn reach_each_other(lab: &mut Lab) -> Result<Verdict> {
    let kubectl = lab.kubectl();
    kubectl.send("apply", &workload(lab.image("agnhost")?))?;
    answers(&kubectl)?;
    let said = kubectl.run("logs client")?;
    ensure(said.contains("8080"), || format!("the Pod's log is {said:?}"))?;
    let done = kubectl.run("exec client -- /agnhost connect web:80 --timeout=20s")?;
    ensure(done.trim().is_empty(), || format!("connecting said {done:?}"))?;
    Ok(Verdict::PASSED)
}

/// A second `cluster up` finds the node running.
pub(super) fn up_again(lab: &mut Lab) -> Result<Verdict> {
    ensure(lab.report.started, || "the first one found a node".to_owned())?;
    let again = lab.up()?;
    ensure(!again.started, || "it was started once more".to_owned())?;
    ensure(again.kubeconfig == lab.report.kubeconfig, || format!("the kubeconfig is {}", again.kubeconfig.display()))?;
    Ok(Verdict::PASSED)
}

/// Waits until both Pods of the workload have answered the third.
pub(super) fn answers(kubectl: &Kubectl) -> Result<()> {
    let mut last = String::new();
    let answered = until("an answer of both Pods", SERVE_LIMIT, || {
        let pods = kubectl.run("get pods --selector=app=web --output=jsonpath={.items[*].metadata.name}")?;
        let wanted: BTreeSet<String> = pods.split_whitespace().map(str::to_owned).collect();
        let Ok(answer) = kubectl.run(&format!("get --raw {DIAL}")) else { return Ok(None) };
        last.clone_from(&answer);
        let answer: Value = serde_json::from_str(&answer)?;
        let names = answer["responses"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let names: BTreeSet<String> = names.map(str::to_owned).collect();
        Ok((names == wanted && wanted.len() == 2).then_some(()))
    });
    answered.map_err(|error| error.attempting(format!("the last answer was {last:?}")))
}

/// A Deployment of two servers, the Service in front of them, and a Pod that asks.
pub(super) fn workload(image: &str) -> Value {
    let container = json!({
        "name": "agnhost",
        "image": image,
        "args": ["netexec", "--http-port=8080"],
        "ports": [{ "containerPort": 8080 }],
        "readinessProbe": { "httpGet": { "path": "/", "port": 8080 }, "periodSeconds": 1 },
    });
    let labels = json!({ "app": "web" });
    json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" }, "spec": {
            "replicas": 2,
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": { "containers": [container] } },
        }},
        { "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" }, "spec": {
            "selector": labels,
            "ports": [{ "port": 80, "targetPort": 8080 }],
        }},
        { "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "client" }, "spec": { "containers": [container] } },
    ]})
}
