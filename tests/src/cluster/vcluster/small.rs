//! A virtual cluster with many objects in little memory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::stock;
use super::virtual_cluster::{NAME, PODS, VirtualCluster};
use crate::cluster::database::Volumes;
use crate::cluster::lab::Lab;
use crate::kubectl::Kubectl;
use crate::runner::Verdict;
use sluice_shell::error::{Error, Result};
use sluice_shell::process::Run;
use sluice_toolkit::cluster::client::{Client, HttpError};
use sluice_toolkit::cluster::launch::launch;
use sluice_toolkit::cluster::leftover::{Guard, Leftover};
use sluice_toolkit::cluster::port;
use sluice_toolkit::cluster::shirts::{self, SKIP_LABEL};
use sluice_toolkit::cluster::wait::{LIMIT, ensure, until};

/// How many shirts there are, one in five of them green.
const SHIRTS: usize = 20_000;

/// How long the Pod with its limit may take to be ready.
const ROLLOUT_LIMIT: Duration = Duration::from_secs(420);

/// So many shirts fit into the memory for certain, also with upstream's control plane.
const ENOUGH: usize = SHIRTS / 4;

/// How often a shirt is sent to a control plane that does not answer.
const ATTEMPTS: usize = 5;

/// As docs/clusters.md has it: 20,000 labelled shirts are written and listed, and nothing of the Pod is started again.
pub(in crate::cluster) fn small(lab: &mut Lab) -> Result<Verdict> {
    let volumes = Volumes::make(lab, 1)?;
    let mut cluster = VirtualCluster::make(lab, &VirtualCluster::file(lab, "sqlite"), None)?;
    limit(lab, &["sluice-shim"])?;
    cluster.reconnect(lab)?;
    let (client, _proxy) = proxy(lab, &cluster)?;
    let clock = Instant::now();
    shirts::prepare(&client)?;
    shirts::each(0..SHIRTS, |number| create(&client, number))?;
    let written = clock.elapsed().as_secs_f64();
    list(&cluster.kubectl)?;
    let restarts = restarts(lab)?;
    ensure(restarts == 0, || format!("containers of the Pod were restarted {restarts} times"))?;
    cluster.remove(lab)?;
    volumes.remove(lab)?;
    Ok(Verdict::Passed(format!("{SHIRTS} shirts written in {written:.0} s")))
}

/// The same with upstream's control plane on kine and without anything of ours. It does not get through: the kernel
/// kills it, or so little memory is left for its programs themselves that it answers no more.
pub(in crate::cluster) fn stock_small(lab: &mut Lab) -> Result<Verdict> {
    let mut cluster = stock::make(lab)?;
    limit(lab, &[])?;
    cluster.reconnect(lab)?;
    let (client, _proxy) = proxy(lab, &cluster)?;
    shirts::prepare(&client)?;
    let written = AtomicUsize::new(0);
    let answered = insist(&client, &written).and_then(|()| list(&cluster.kubectl));
    let (written, restarts) = (written.load(Ordering::Relaxed), restarts(lab)?);
    // With fewer there is memory enough: what failed is something else.
    ensure(written >= ENOUGH, || format!("{written} shirts were written, and then: {answered:?}"))?;
    let end = match answered {
        Err(error) => error.to_string(),
        Ok(()) if restarts > 0 => "all was answered in the end".to_owned(),
        Ok(()) => return Err(Error::input(format!("upstream's control plane has stored and listed {written} shirts"))),
    };
    cluster.remove(lab)?;
    Ok(Verdict::Passed(format!("{written} of {SHIRTS} shirts, {restarts} restarts: {end}")))
}

/// Writes all shirts, and counts them. A control plane without memory to spare is slow, so each one is tried again.
fn insist(client: &Client, written: &AtomicUsize) -> Result<()> {
    let stored = |number| match create(client, number) {
        Err(error) if error.status() != Some(409) => Err(error),
        _ => {
            written.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    };
    shirts::each(0..SHIRTS, |number| (1..ATTEMPTS).find_map(|_| stored(number).ok()).map_or_else(|| stored(number), Ok))
}

/// Lists all of them, three times, and the green ones.
fn list(kubectl: &Kubectl) -> Result<()> {
    for _ in 0..3 {
        let all = kubectl.run(&format!("get shirts --namespace {} --output=name", shirts::NAMESPACE))?;
        ensure(all.lines().count() == SHIRTS, || format!("a list shows {} shirts", all.lines().count()))?;
    }
    let green = kubectl.run(&format!("get shirts --namespace {} -l color=green --output=name", shirts::NAMESPACE))?;
    ensure(green.lines().count() == SHIRTS / 5, || format!("a list shows {} green shirts", green.lines().count()))
}

/// How often containers of the Pod were started again.
fn restarts(lab: &Lab) -> Result<u32> {
    let counts =
        of_pod(lab, "{.status.initContainerStatuses[*].restartCount} {.status.containerStatuses[*].restartCount}")?;
    Ok(counts.split_whitespace().filter_map(|count| count.parse::<u32>().ok()).sum())
}

fn of_pod(lab: &Lab, path: &str) -> Result<String> {
    lab.kubectl().run_words(&["get", "pod", PODS[0], "--namespace", NAME, "--output", &format!("jsonpath={path}")])
}

/// Gives the whole Pod 512 MiB, and no container a limit of its own.
fn limit(lab: &Lab, sidecars: &[&str]) -> Result<()> {
    let none = json!({ "limits": { "memory": null } });
    let sidecars: Vec<Value> = sidecars.iter().map(|name| json!({ "name": name, "resources": none })).collect();
    let pod = json!({
        "resources": { "limits": { "memory": "512Mi" } },
        "initContainers": sidecars,
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
