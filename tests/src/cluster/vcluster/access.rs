//! Who reaches a virtual cluster: a Pod of the host with the token of a ServiceAccount inside, and a person who
//! connects and disconnects.

use std::time::Duration;

use fs_err as fs;
use serde_json::{Value, json};

use super::virtual_cluster::{NAME, VirtualCluster};
use crate::cluster::lab::Lab;
use crate::kubectl::Kubectl;
use sluice_shell::error::Result;
use sluice_toolkit::cluster::wait::{LIMIT, ensure, until};

/// How long the Pod on the host may take.
const END_LIMIT: Duration = Duration::from_secs(180);

/// The green shirts, as kubectl names them.
const GREEN: &str = "shirt.stable.example.com/green\nshirt.stable.example.com/olive";

/// As docs/clusters.md has it.
pub(super) fn from_the_host(lab: &Lab, cluster: &VirtualCluster) -> Result<()> {
    let (kubectl, host) = (&cluster.kubectl, lab.kubectl());
    kubectl.run("create serviceaccount reader")?;
    kubectl.run("create role reader --verb=get,list --resource=shirts.stable.example.com")?;
    kubectl.run("create rolebinding reader --role=reader --serviceaccount=default:reader")?;
    kubectl.send("apply", &token())?;
    let secret = format!("reader-token-x-default-x-{NAME}");
    let get = format!("get secret {secret} --namespace {NAME} --ignore-not-found --output=jsonpath={{.data.token}}");
    until("the token of a ServiceAccount on the host", LIMIT, || Ok((!host.run(&get)?.is_empty()).then_some(())))?;
    host.send("apply", &client(lab.image("kubectl")?, &secret))?;
    let seconds = END_LIMIT.as_secs();
    let succeeded = format!("--for=jsonpath={{.status.phase}}=Succeeded --timeout={seconds}s");
    let ended = host.run(&format!("wait pod/client --namespace {NAME} {succeeded}"));
    let said = host.run(&format!("logs client --namespace {NAME}"))?;
    ended.map_err(|error| error.attempting(format!("the Pod on the host said {said:?}")))?;
    ensure(said == GREEN, || format!("the Pod on the host found {said:?}"))
}

/// The context of kubectl is that of the virtual cluster between `connect` and `disconnect`.
pub(super) fn disconnects(lab: &Lab, cluster: &VirtualCluster) -> Result<()> {
    let kubeconfig = cluster.folder.join("current");
    fs::copy(&lab.report.kubeconfig, &kubeconfig)?;
    let kubectl = Kubectl::new(&lab.report.kubectl, &cluster.folder.join("both"), &kubeconfig);
    let context = || kubectl.run("config current-context");
    let before = context()?;
    let connection = cluster.connect_current(&kubeconfig)?;
    // A file that is being written has no context.
    until("the context of the virtual cluster", LIMIT, || Ok(context().ok().filter(|now| *now != before).map(drop)))?;
    until("an answer in that context", LIMIT, || {
        let green = kubectl.run("get shirts -l color=green --output=name").ok();
        Ok(green.filter(|green| green == GREEN).map(drop))
    })?;
    cluster.disconnect_current(&kubeconfig)?;
    drop(connection);
    let after = context()?;
    ensure(after == before, || format!("the context is {after:?}, and was {before:?}"))?;
    let unknown = kubectl.fails("get shirts")?;
    ensure(unknown.contains("doesn't have a resource type"), || format!("the host says of shirts: {unknown}"))
}

/// A Secret that gets the token of the ServiceAccount, and that vCluster copies to the host.
fn token() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": "reader-token",
            "annotations": {
                "kubernetes.io/service-account.name": "reader",
                "vcluster.loft.sh/force-sync": "true",
            },
        },
        "type": "kubernetes.io/service-account-token",
    })
}

/// A Pod of the host that finds the virtual cluster's API where programs look for the API of their own cluster.
fn client(image: &str, secret: &str) -> Value {
    let place = "/var/run/secrets/kubernetes.io/serviceaccount";
    let container = json!({
        "name": "kubectl",
        "image": image,
        "args": ["get", "shirts", "--selector=color=green", "--output=name"],
        "env": [
            { "name": "KUBERNETES_SERVICE_HOST", "value": format!("{NAME}.{NAME}.svc") },
            { "name": "KUBERNETES_SERVICE_PORT", "value": "443" },
        ],
        "volumeMounts": [{ "name": "token", "mountPath": place, "readOnly": true }],
    });
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "client", "namespace": NAME }, "spec": {
        "restartPolicy": "Never",
        "automountServiceAccountToken": false,
        "containers": [container],
        "volumes": [{ "name": "token", "secret": { "secretName": secret } }],
    }})
}
