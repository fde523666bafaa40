//! Checks of built-in kinds: stored as protobuf, and read into an internal version with defaults of their own.

use serde_json::{Value, json};

use super::probe::{Probe, Row, field};
use crate::e2e::raw::Raw;
use sluice_shell::error::Result;
use sluice_toolkit::cluster::client::Client;
use sluice_toolkit::cluster::shirts::NAMESPACE;
use sluice_toolkit::cluster::wait::{LIMIT, until};

/// Those that the checks take out of the watch cache.
pub(super) const RESOURCES: [&str; 7] =
    ["pods", "secrets", "nodes", "services", "events", "jobs.batch", "replicationcontrollers"];

/// Where a resource of the core group is, in the namespace of the checks.
fn core(resource: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/{resource}")
}

/// Creates objects that have no labels.
fn create(api: &Client, path: &str, objects: impl IntoIterator<Item = (&'static str, Value)>) -> Result<()> {
    for (name, mut object) in objects {
        object["metadata"] = json!({"name": name});
        api.create(path, &object)?;
    }
    Ok(())
}

/// Every kind in turn.
pub(super) fn builtin(probe: &mut Probe<'_>, _: Option<&Raw>) -> Result<()> {
    nodes(probe)?;
    pods(probe)?;
    secrets(probe)?;
    services(probe)?;
    events(probe)?;
    workloads(probe)
}

fn nodes(probe: &mut Probe<'_>) -> Result<()> {
    let nodes = [("n1", json!({})), ("n2", json!({"spec": {"unschedulable": true}}))];
    create(probe.api(), "/api/v1/nodes", nodes)?;
    let rows = [
        field("spec.unschedulable=true", "n2", 1),
        field("spec.unschedulable=false", "n1", 1),
        field("spec.unschedulable!=true,metadata.name!=n1", "", 0),
    ];
    probe.expect("nodes", "/api/v1/nodes", &rows)
}

fn pods(probe: &mut Probe<'_>) -> Result<()> {
    let api = probe.api();
    let account = format!("{}/default", core("serviceaccounts"));
    until("the namespace's service account", LIMIT, || Ok(api.get(&account).ok().map(|_| ())))?;
    let pod = |spec: Value| {
        let mut pod = json!({"spec": spec});
        pod["spec"]["containers"] = json!([{"name": "main", "image": "none"}]);
        pod
    };
    let pods = [
        ("bound", pod(json!({"nodeName": "n1"}))),
        ("free", pod(json!({}))),
        ("other", pod(json!({"schedulerName": "mine", "restartPolicy": "Never"}))),
    ];
    create(api, &core("pods"), pods)?;
    let rows = [
        field("spec.nodeName=n1", "bound", 1),
        field("spec.nodeName=", "free other", 2),
        field("spec.nodeName!=n1,metadata.name!=free", "other", 1),
        field("status.phase=Pending", "bound free other", 3),
        field("status.phase=Running", "", 0),
        field("spec.restartPolicy=Never", "other", 1),
        field("spec.restartPolicy=Always,spec.nodeName=", "free", 1),
        field("spec.schedulerName=default-scheduler", "bound free", 2),
        field("spec.serviceAccountName=default", "bound free other", 3),
        field("spec.hostNetwork=false", "bound free other", 3),
        field("spec.hostNetwork=true", "", 0),
        // Not one that the storage may compare.
        field("status.podIP=", "bound free other", 3),
        field("status.podIP=10.0.0.1", "", 3),
    ];
    probe.expect("pods", &core("pods"), &rows)?;
    let everywhere = [field("spec.nodeName=n1", "bound", 1), field("metadata.namespace!=wardrobe", "", 0)];
    probe.expect("pods, all namespaces", "/api/v1/pods", &everywhere)
}

fn secrets(probe: &mut Probe<'_>) -> Result<()> {
    let secrets = [("plain", json!({})), ("special", json!({"type": "example.com/special"}))];
    create(probe.api(), &core("secrets"), secrets)?;
    let rows = [
        field("type=Opaque", "plain", 1),
        field("type=example.com/special", "special", 1),
        field("type!=Opaque", "special", 1),
        field("type=", "", 0),
    ];
    probe.expect("secrets", &core("secrets"), &rows)
}

fn services(probe: &mut Probe<'_>) -> Result<()> {
    let port = json!([{"port": 80}]);
    let services = [
        ("headless", json!({"spec": {"clusterIP": "None", "ports": port}})),
        ("outside", json!({"spec": {"type": "ExternalName", "externalName": "example.com"}})),
        ("usual", json!({"spec": {"ports": port}})),
    ];
    create(probe.api(), &core("services"), services)?;
    let rows = [
        field("spec.type=ClusterIP", "headless usual", 2),
        field("spec.type=ExternalName", "outside", 1),
        // Without an address of its own a service might have been given one while it was read.
        field("spec.clusterIP=None", "headless", 2),
        field("spec.clusterIP=", "outside", 1),
    ];
    probe.expect("services", &core("services"), &rows)
}

fn events(probe: &mut Probe<'_>) -> Result<()> {
    let about = |name: &str| json!({"kind": "Pod", "name": name, "namespace": NAMESPACE, "apiVersion": "v1"});
    let events = [
        (
            "first",
            json!({"involvedObject": about("bound"), "reason": "Tried", "type": "Warning", "source": {"component": "me"}}),
        ),
        (
            "second",
            json!({"involvedObject": about("free"), "reason": "Tried", "type": "Normal", "reportingComponent": "you"}),
        ),
    ];
    create(probe.api(), &core("events"), events)?;
    let tried = |fields, names, fetched| Row { labels: "", fields, names, fetched };
    let rows = [
        tried("involvedObject.name=bound,reason=Tried", "first", 1),
        tried("involvedObject.kind=Pod,involvedObject.uid=,reason=Tried", "first second", 2),
        tried("type=Warning,reason=Tried", "first", 1),
        tried("reason=Tried,type!=Warning", "second", 1),
        tried("reportingComponent=you,reason=Tried", "second", 1),
        // Without a component the source is who reports.
        tried("source=me,reason=Tried", "first", 2),
        tried("source=you,reason=Tried", "second", 1),
    ];
    probe.expect("events", &core("events"), &rows)?;
    let newer = format!("/apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events");
    probe.expect_list("events by their newer API", &newer, "regarding.name=free,reason=Tried", "second").map(drop)
}

fn workloads(probe: &mut Probe<'_>) -> Result<()> {
    let template = |policy: &str| {
        json!({
            "metadata": {"labels": {"of": "workloads"}},
            "spec": {"restartPolicy": policy, "containers": [{"name": "main", "image": "none"}]},
        })
    };
    let jobs = format!("/apis/batch/v1/namespaces/{NAMESPACE}/jobs");
    create(probe.api(), &jobs, [("late", json!({"spec": {"suspend": true, "template": template("Never")}}))])?;
    let rows = [
        field("status.successful=0", "late", 1),
        field("status.successful=1", "", 0),
        field("status.successful!=0", "", 0),
    ];
    probe.expect("jobs", &jobs, &rows)?;
    let spec = json!({"replicas": 0, "selector": {"of": "workloads"}, "template": template("Always")});
    let controllers = core("replicationcontrollers");
    create(probe.api(), &controllers, [("none", json!({"spec": spec}))])?;
    let rows = [field("status.replicas=0", "none", 1), field("status.replicas=1", "", 0)];
    probe.expect("replication controllers", &controllers, &rows)
}
