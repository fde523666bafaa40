//! What a person does in a virtual cluster, and what happens to it.

use std::time::Duration;

use serde_json::{Value, json};

use super::virtual_cluster::{NAME, VirtualCluster};
use crate::cluster::lab::Lab;
use crate::cluster::wardrobe::{self, goes_on, names, seen, shirt, short_names, shows};
use crate::kubectl::Event;
use sluice_shell::error::Result;
use sluice_toolkit::cluster::shirts::{self, SKIP_LABEL};
use sluice_toolkit::cluster::wait::{LIMIT, ensure, until};

/// How long the kubelet may take to start a container again, and Kubernetes to find the store again.
const AGAIN_LIMIT: Duration = Duration::from_secs(120);

/// A definition, three shirts, and all ways to look for green ones.
pub(super) fn shirts(cluster: &VirtualCluster) -> Result<()> {
    let kubectl = &cluster.kubectl;
    wardrobe::three(kubectl, &shirts::definition())?;
    shows(kubectl, "", "NAME COLOR SIZE\nblue blue S\ngreen green M\nred red L")?;
    for selector in ["-l color=green", "--field-selector spec.color=green", "-l color=green,size=M"] {
        shows(kubectl, selector, "NAME COLOR SIZE\ngreen green M")?;
    }
    // The storage answers, without anybody having said so.
    let off: Value = serde_json::from_str(&kubectl.run("get --raw /apis/watch-cache.sluice-project.github.io")?)?;
    let expected = json!([{ "group": "stable.example.com", "resource": "shirts", "by": "annotation" }]);
    ensure(off["off"] == expected, || format!("out of the watch cache are {off}"))?;

    let mut watch = kubectl.watch("shirts -l color=green")?;
    watch.wait_for("the green one", LIMIT, |event| event.name() == "green")?;
    kubectl.send("apply", &shirt("rose", "red", "S"))?;
    kubectl.send("apply", &shirt("olive", "green", "S"))?;
    let seen = watch.wait_for("another green one", LIMIT, |event| event.name() == "olive")?;
    let names: Vec<&str> = seen.iter().map(Event::name).collect();
    ensure(names == ["green", "olive"], || format!("a watch of green shirts showed {names:?}"))
}

/// A Pod of the virtual cluster runs on the host's node: its own name server, with the rights that the manifest leaves.
pub(super) fn name_server(cluster: &VirtualCluster) -> Result<()> {
    let seconds = AGAIN_LIMIT.as_secs();
    let wait =
        format!("wait --namespace kube-system deployment/coredns --for=condition=Available --timeout={seconds}s");
    cluster.kubectl.run(&wait).map(drop)
}

/// An owner goes, and what it owned goes after it: both are hidden from the controller manager.
pub(super) fn collector(cluster: &VirtualCluster) -> Result<()> {
    let kubectl = &cluster.kubectl;
    wardrobe::owner(kubectl)?;
    wardrobe::collected(kubectl)?;
    // And the label stays as it was.
    let refused = kubectl.fails(&format!("label shirt blue {SKIP_LABEL}=true"))?;
    ensure(refused.contains("stays as it was"), || format!("labelling later was answered with {refused:?}"))
}

/// vCluster's own way in shows the shirts, and the host knows nothing of them; the index answers.
pub(super) fn stays_inside(lab: &Lab, cluster: &VirtualCluster) -> Result<()> {
    let through = cluster.connected(lab, "get shirts -l color=green -o name")?;
    // Before kubectl's own lines stand those of vCluster's log.
    let lines = through.lines().filter(|line| line.starts_with("shirt.")).collect::<Vec<_>>();
    let through = short_names(&lines.join("\n"));
    ensure(through == "green olive", || format!("`vcluster connect -- kubectl get shirts` shows {through:?}"))?;
    let host = lab.kubectl();
    let unknown = host.fails("get shirts")?;
    ensure(unknown.contains("doesn't have a resource type"), || format!("the host says of shirts: {unknown}"))?;
    let shims = cluster.shims(lab);
    // One that stands by reads lists itself.
    let reads =
        shims.pods.iter().map(|pod| shims.metric(pod, "sluice_index_reads_total")).collect::<Result<Vec<_>>>()?;
    let answered = reads.iter().flatten().any(|reads| reads != "0");
    ensure(answered, || format!("reads that an index answered in the Pods {:?}: {reads:?}", shims.pods))
}

/// The shim that serves gets SIGKILL between two writes; a watch that was there before goes on after. Another one takes
/// its place, if there is one.
pub(super) fn shim_killed(lab: &Lab, cluster: &VirtualCluster) -> Result<()> {
    let (shims, kubectl) = (cluster.shims(lab), &cluster.kubectl);
    let mut watch = kubectl.watch("shirts -l color=green")?;
    watch.wait_for("the green ones", LIMIT, |event| event.name() == "olive")?;
    let pod = shims.serving()?;
    let before = shims.restarts(pod)?;
    shims.kill(lab, pod)?;
    until("a write after the shim was killed", AGAIN_LIMIT, || {
        Ok(kubectl.send("apply", &shirt("after-the-kill", "green", "S")).ok())
    })?;
    watch.wait_for("the one written after", AGAIN_LIMIT, |event| event.name() == "after-the-kill")?;
    if cluster.pods.len() > 1 {
        let now = shims.serving()?;
        ensure(now != pod, || format!("the shim of {pod} was killed, and serves again"))?;
    }
    until("the count of the restart", AGAIN_LIMIT, || Ok((shims.restarts(pod)? > before).then_some(())))?;
    let all = names(kubectl, "")?;
    ensure(all == "after-the-kill blue green nobodys olive red rose", || format!("after the kill there are {all}"))
}

/// The Pod whose shim serves is deleted: the others have all, and a watch goes on from where it ended.
pub(super) fn pod_deleted(lab: &Lab, cluster: &mut VirtualCluster) -> Result<()> {
    let seen = seen(&cluster.kubectl)?;
    cluster.kubectl.send("apply", &shirt("before-the-end", "green", "S"))?;
    let pod = cluster.shims(lab).serving()?;
    lab.kubectl().run(&format!("delete pod {pod} --namespace {NAME} --timeout=120s"))?;
    cluster.reconnect(lab)?;
    let kubectl = &cluster.kubectl;
    kubectl.send("apply", &shirt("unseen", "red", "S"))?;
    kubectl.send("apply", &shirt("after-the-end", "green", "S"))?;
    goes_on(kubectl, &seen, &["before-the-end", "after-the-end"])?;
    let all = names(kubectl, "")?;
    let expected = "after-the-end after-the-kill before-the-end blue green nobodys olive red rose unseen";
    ensure(all == expected, || format!("after the end of the Pod there are {all}"))
}
