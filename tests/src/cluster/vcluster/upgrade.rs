//! A virtual cluster goes from one minor of Kubernetes to the next.

use std::path::PathBuf;
use std::time::Duration;

use fs_err as fs;

use super::virtual_cluster::{NAME, VirtualCluster};
use super::walk;
use crate::cluster::database::Volumes;
use crate::cluster::lab::Lab;
use crate::cluster::pods;
use crate::cluster::wardrobe;
use crate::kubectl::Kubectl;
use crate::runner::Verdict;
use sluice_shell::error::{Error, Result};
use sluice_toolkit::cluster::wait::ensure;

/// How long the new Pod may take to be ready.
const ROLLOUT_LIMIT: Duration = Duration::from_secs(420);

/// On SQLite: the same file as before holds all, a watch goes on from where it ended, and the Pods of the virtual
/// cluster run on.
pub(in crate::cluster) fn upgrade(lab: &mut Lab) -> Result<Verdict> {
    let volumes = Volumes::make(lab, 1)?;
    let (older, newer) = (older(lab)?, VirtualCluster::file(lab, "sqlite"));
    let mut cluster = VirtualCluster::make(lab, &older, None)?;
    fs::remove_file(older)?;
    let before = version(&cluster.kubectl)?;
    walk::shirts(&cluster)?;
    walk::collector(&cluster)?;
    cluster.kubectl.send("apply", &pods::workload(lab.image("agnhost")?))?;
    pods::answers(&cluster.kubectl)?;
    let (objects, running) = (objects(&cluster.kubectl)?, running(lab)?);
    let seen = wardrobe::seen(&cluster.kubectl)?;
    cluster.kubectl.send("apply", &wardrobe::shirt("before-the-upgrade", "green", "S"))?;

    let host = lab.kubectl();
    host.run(&format!("apply -f {}", newer.display()))?;
    let limit = ROLLOUT_LIMIT.as_secs();
    host.run(&format!("rollout status --namespace {NAME} statefulset/{NAME} --timeout={limit}s"))?;
    cluster.reconnect(lab)?;
    let kubectl = &cluster.kubectl;
    let after = version(kubectl)?;
    ensure(!before.starts_with(&minor(&after)), || format!("the virtual cluster was {before}, and is {after}"))?;
    kubectl.run("delete shirt before-the-upgrade")?;
    let now = self::objects(kubectl)?;
    ensure(now == objects, || format!("before the upgrade there were\n{objects}\nand after it\n{now}"))?;
    kubectl.send("apply", &wardrobe::shirt("after-the-upgrade", "green", "S"))?;
    wardrobe::goes_on(kubectl, &seen, &["before-the-upgrade", "before-the-upgrade", "after-the-upgrade"])?;
    pods::answers(kubectl)?;
    let still = self::running(lab)?;
    ensure(still == running, || format!("before the upgrade there ran\n{running}\nand after it\n{still}"))?;
    cluster.remove(lab)?;
    volumes.remove(lab)?;
    Ok(Verdict::Passed(format!("{before} to {after}")))
}

/// The manifest for SQLite with the image of the older minor.
fn older(lab: &Lab) -> Result<PathBuf> {
    let (text, ours) = (fs::read_to_string(VirtualCluster::file(lab, "sqlite"))?, lab.image("kubernetes")?);
    let image = format!("image: {ours}\n");
    if text.matches(&image).count() != 1 {
        return Err(Error::input(format!("the manifest does not name {ours} once")));
    }
    let file = lab.report.folder.with_extension("older.yaml");
    fs::write(&file, text.replace(&image, &format!("image: {}\n", lab.load_older()?)))?;
    Ok(file)
}

/// `v1.37.2+sluice.1`.
fn version(kubectl: &Kubectl) -> Result<String> {
    let version: serde_json::Value = serde_json::from_str(&kubectl.run("get --raw /version")?)?;
    Ok(version["gitVersion"].as_str().unwrap_or_default().to_owned())
}

/// `v1.37.` of `v1.37.2+sluice.1`.
fn minor(version: &str) -> String {
    version.split_inclusive('.').take(2).collect()
}

/// What a person has in the virtual cluster, with its UIDs.
fn objects(kubectl: &Kubectl) -> Result<String> {
    let columns = "--output=custom-columns=KIND:.kind,NAME:.metadata.name,UID:.metadata.uid";
    kubectl.run(&format!("get shirts,deployments,services,pods,configmaps,secrets,serviceaccounts {columns}"))
}

/// The Pods of the virtual cluster on the node, with what would be another one if it had been started again.
fn running(lab: &Lab) -> Result<String> {
    let columns = "--output=custom-columns=NAME:.metadata.name,UID:.metadata.uid";
    let chosen = format!("--namespace {NAME} --selector=vcluster.loft.sh/namespace=default");
    lab.kubectl().run(&format!("get pods {chosen} {columns}"))
}
