//! `kubeadm upgrade apply`: a cluster goes from one minor of Kubernetes to the next.

use serde::Deserialize;

use super::lab::{self, Lab, image};
use super::pods;
use super::up::{self, Report};
use super::wardrobe;
use crate::kubectl::Kubectl;
use crate::runner::Verdict;
use sluice_shell::error::Result;
use sluice_shell::minor::Minor;
use sluice_shell::process::{Run, THIS};
use sluice_toolkit::cluster::shirts;
use sluice_toolkit::cluster::wait::ensure;
use sluice_toolkit::node::Node;

/// What `cluster upgrade --json` prints.
#[derive(Deserialize)]
struct Upgraded {
    images: Vec<String>,
    seconds: f64,
}

/// On a node of its own, which begins in the minor before the one that is tested. kubeadm asks the shim for its members
/// and waits for its Pod; all objects stay as they are, a watch goes on from where it ended, and Pods run on.
pub(super) fn upgrade(lab: &mut Lab) -> Result<Verdict> {
    let older = before(&lab.target.k8s);
    if !lab.workspace.join("patches").join(&older).is_dir() {
        return Ok(Verdict::Skipped(format!("there are no patches for {older}")));
    }
    let report = start(lab, &older)?;
    let kubectl = report.client();
    let was = pods::runs_ours(&kubectl, &report.images)?;
    ensure(was.starts_with(&older), || format!("the cluster begins as {was}, not as {older}"))?;
    fill(&kubectl, image(&report.images, "agnhost")?)?;
    let (objects, running) = (objects(&kubectl)?, running(&kubectl)?);
    let seen = wardrobe::seen(&kubectl)?;
    kubectl.send("apply", &wardrobe::shirt("before-the-upgrade", "green", "S"))?;

    let upgraded = take(lab, &report)?;
    let now = pods::runs_ours(&kubectl, &upgraded.images)?;
    ensure(now.starts_with(lab.target.k8s.as_str()), || format!("the API server is {now} after the upgrade"))?;
    let nodes = kubectl.run("get nodes --no-headers")?;
    let words: Vec<&str> = nodes.split_whitespace().collect();
    ensure(matches!(words[..], [_, "Ready", _, _, kubelet] if kubelet == now), || format!("the nodes are {nodes:?}"))?;
    kubectl.run("delete shirt before-the-upgrade")?;
    let still = self::objects(&kubectl)?;
    ensure(still == objects, || format!("before the upgrade there were\n{objects}\nand after it\n{still}"))?;
    kubectl.send("apply", &wardrobe::shirt("after-the-upgrade", "green", "S"))?;
    wardrobe::goes_on(&kubectl, &seen, &["before-the-upgrade", "before-the-upgrade", "after-the-upgrade"])?;
    wardrobe::shows(&kubectl, "--field-selector spec.color=blue", "NAME COLOR SIZE\nblue blue S")?;
    wardrobe::collected(&kubectl)?;
    pods::answers(&kubectl)?;
    let still = self::running(&kubectl)?;
    ensure(still == running, || format!("before the upgrade there ran\n{running}\nand after it\n{still}"))?;
    Node::open(&report.folder)?.remove()?;
    lab::remove(&report.cache())?;
    Ok(Verdict::Passed(format!("{was} to {now} in {:.0} s", upgraded.seconds)))
}

/// `v1.36` of `v1.37`.
fn before(minor: &Minor) -> String {
    let (major, minor) = minor.numbers();
    format!("v{major}.{}", minor.parse::<u32>().unwrap_or(0).saturating_sub(1))
}

/// A second node, of another minor.
fn start(lab: &Lab, minor: &str) -> Result<Report> {
    let folder = lab.scratch.join(format!("node-{}-1", std::process::id()));
    up::end_later(folder.clone());
    let verb = Run::new(THIS, &lab.workspace).args(["cluster", "up", "--json", "--k8s", minor, "--dir"]);
    up::read(&verb.arg(folder).read()?)
}

/// Has the verb take it to the minor that is tested.
fn take(lab: &Lab, report: &Report) -> Result<Upgraded> {
    let run = Run::new(THIS, &lab.workspace).args(["cluster", "upgrade", "--json", "--k8s", lab.target.k8s.as_str()]);
    let run = run.args(["--source", &lab.target.source.to_string(), "--dir"]).arg(&report.folder);
    Ok(serde_json::from_str(&run.read()?)?)
}

/// Shirts, one of which owns another one, and Pods that answer.
fn fill(kubectl: &Kubectl, agnhost: &str) -> Result<()> {
    let mut definition = shirts::definition();
    definition["metadata"]["annotations"][shirts::WATCH_CACHE] = "off".into();
    wardrobe::three(kubectl, &definition)?;
    wardrobe::owner(kubectl)?;
    kubectl.send("apply", &pods::workload(agnhost))?;
    pods::answers(kubectl)
}

/// What a person has stored, as it was written: nothing of it changes unless somebody changes it.
fn objects(kubectl: &Kubectl) -> Result<String> {
    let columns = "KIND:.kind,NAME:.metadata.name,UID:.metadata.uid,REVISION:.metadata.resourceVersion";
    kubectl.run(&format!("get shirts,services,configmaps,serviceaccounts --output=custom-columns={columns}"))
}

/// What runs, and what would be others if it had been made anew.
fn running(kubectl: &Kubectl) -> Result<String> {
    kubectl.run("get deployments,replicasets,pods --output=custom-columns=NAME:.metadata.name,UID:.metadata.uid")
}
