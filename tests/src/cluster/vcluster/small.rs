//! A virtual cluster with many objects in little memory.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::virtual_cluster::{NAME, VirtualCluster};
use crate::cluster::database::Volumes;
use crate::cluster::lab::Lab;
use crate::runner::Verdict;
use sluice_shell::error::Result;
use sluice_shell::process::Run;
use sluice_toolkit::cluster::client::{Client, HttpError};
use sluice_toolkit::cluster::launch::launch;
use sluice_toolkit::cluster::leftover::{Guard, Leftover};
use sluice_toolkit::cluster::port;
use sluice_toolkit::cluster::shirts::{self, SKIP_LABEL};
use sluice_toolkit::cluster::wait::{LIMIT, ensure, until};

/// How many shirts there are, one in five of them green.
const SHIRTS: usize = 20_000;

/// How long the patched Pod may take to be ready.
const ROLLOUT_LIMIT: Duration = Duration::from_secs(420);

/// As docs/clusters.md has it: 20,000 labelled shirts are written and listed, and nothing of the Pod is started again.
pub(in crate::cluster) fn small(lab: &mut Lab) -> Result<Verdict> {
    let volumes = Volumes::make(lab, 1)?;
    let mut cluster = VirtualCluster::make(lab, &VirtualCluster::file(lab, "sqlite"), None)?;
    limit(lab)?;
    cluster.reconnect(lab)?;
    let (client, _proxy) = proxy(lab, &cluster)?;
    shirts::prepare(&client)?;
    let clock = Instant::now();
    shirts::each(0..SHIRTS, |number| create(&client, number))?;
    let written = clock.elapsed().as_secs_f64();
    let kubectl = &cluster.kubectl;
    for _ in 0..3 {
        let all = kubectl.run(&format!("get shirts --namespace {} --output=name", shirts::NAMESPACE))?;
        ensure(all.lines().count() == SHIRTS, || format!("a list shows {} shirts", all.lines().count()))?;
    }
    let green = kubectl.run(&format!("get shirts --namespace {} -l color=green --output=name", shirts::NAMESPACE))?;
    ensure(green.lines().count() == SHIRTS / 5, || format!("a list shows {} green shirts", green.lines().count()))?;
    let statuses =
        "jsonpath={.status.initContainerStatuses[*].restartCount} {.status.containerStatuses[*].restartCount}";
    let get = ["get", "pod", "my-vcluster-0", "--namespace", NAME, "--output", statuses];
    let restarts = lab.kubectl().run_words(&get)?;
    ensure(restarts.split(' ').all(|count| count == "0"), || format!("the containers were restarted: {restarts}"))?;
    cluster.remove(lab)?;
    volumes.remove(lab)?;
    Ok(Verdict::Passed(format!("{SHIRTS} shirts written in {written:.0} s")))
}

/// Gives the whole Pod 512 MiB.
fn limit(lab: &Lab) -> Result<()> {
    let none = json!({ "limits": { "memory": null } });
    let pod = json!({
        "resources": { "limits": { "memory": "512Mi" } },
        "initContainers": [{ "name": "sluice-shim", "resources": none }],
        "containers": [{ "name": "syncer", "env": [{ "name": "GOGC", "value": "50" }], "resources": none }],
    });
    let patch = json!({ "spec": { "template": { "spec": pod } } }).to_string();
    let host = lab.kubectl();
    host.run_words(&["patch", "statefulset", NAME, "--namespace", NAME, "--patch", &patch])?;
    let seconds = ROLLOUT_LIMIT.as_secs();
    host.run(&format!("rollout status --namespace {NAME} statefulset/{NAME} --timeout={seconds}s")).map(drop)
}

/// Lets many threads in.
fn proxy(lab: &Lab, cluster: &VirtualCluster) -> Result<(Client, Guard)> {
    let (port, log) = (port::free()?, cluster.folder.join("proxy.log"));
    let run = Run::new(&lab.report.kubectl, &cluster.folder).env("KUBECONFIG", cluster.folder.join("kubeconfig"));
    let process = launch("kubectl proxy", &run.arg("proxy").arg(format!("--port={port}")), &log)?;
    let (guard, client) = (Guard::new(Leftover::Process(process)), Client::plain(port));
    until("an answer of kubectl proxy", LIMIT, || Ok(client.probe("/readyz").ok().map(drop)))?;
    Ok((client, guard))
}

fn create(client: &Client, number: usize) -> Result<(), HttpError> {
    let color = ["blue", "green", "red", "white", "black"][number % 5];
    let mut shirt: Value = shirts::shirt(&format!("shirt-{number}"), color, "M");
    shirt["metadata"]["labels"][SKIP_LABEL] = "true".into();
    client.create(shirts::PATH, &shirt).map(drop)
}
