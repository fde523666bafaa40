//! The way to the next minor of Kubernetes, in the steps that `images/manifests/kubeadm/config.yaml` gives users.

use std::path::Path;
use std::time::Duration;

use super::{Images, NAME, Node, files, kubeadm};
use crate::build::Program;
use crate::cluster::wait::until;
use sluice_shell::error::Result;

/// How long the kubelet may take to start a container or itself again, and Kubernetes to show it.
const AGAIN_LIMIT: Duration = Duration::from_secs(180);

/// What kubeadm would pull although patches name other images, and what this machine lacks.
const IGNORED: &str = "--ignore-preflight-errors=ImagePull,SystemVerification";

/// What `kubeadm upgrade apply` said, among the logs of the node.
pub(super) const LOG: &str = "kubeadm-upgrade.log";

/// All steps. Each one does nothing, or the same again, where it was done before.
pub(super) fn run(node: &Node, images: &Images, mut progress: impl FnMut(&str)) -> Result<()> {
    progress("loading images");
    images.load(node)?;
    kubeadm::write_files(node, images)?;
    let is_kubelet = |program: &Path| program.ends_with(Program::Kubelet.name());
    files::place(&node.root(), images.programs.iter().filter(|program| !is_kubelet(program)))?;
    progress("replacing sluice-shim");
    replace_shim(node, images)?;
    progress("kubeadm upgrade apply");
    kubeadm(node, "kubeadm-plan.log", &["upgrade", "plan", &images.kubernetes, IGNORED])?;
    let flags = ["--yes", "--etcd-upgrade=false", "--patches=/etc/kubernetes/patches"];
    kubeadm(node, LOG, &[&["upgrade", "apply", &images.kubernetes, IGNORED], &flags[..]].concat())?;
    progress("replacing the kubelet");
    files::place(&node.root(), images.programs.iter().filter(|program| is_kubelet(program)))?;
    restart_kubelet(node)?;
    progress("waiting for the node to be ready");
    node.wait_ready()
}

/// Runs kubeadm inside, with its output in a log.
fn kubeadm(node: &Node, log: &str, args: &[&str]) -> Result<()> {
    node.inside("kubeadm")?.args(args).log(node.logs().join(log)).run()
}

/// Has kubeadm write the manifest of the static Pod anew, and waits until the Pod runs. It has new certificates then,
/// which `upgrade apply` only makes for an etcd that it upgrades itself.
fn replace_shim(node: &Node, images: &Images) -> Result<()> {
    for certificate in ["etcd-server", "etcd-peer", "etcd-healthcheck-client"] {
        kubeadm(node, "kubeadm-certs.log", &["certs", "renew", certificate])?;
    }
    kubeadm(node, "kubeadm-etcd.log", &["init", "phase", "etcd", "local", kubeadm::CONFIG])?;
    let pod = format!("etcd-{NAME}");
    let output = "--output=jsonpath={.spec.containers[0].image} {.status.containerStatuses[0].ready}";
    let wanted = format!("{} true", images.reference("sluice-shim")?);
    until("the start of the new sluice-shim", AGAIN_LIMIT, || {
        // The API server has no store meanwhile.
        let shown = node.kubectl(&["get", "pod", &pod, "--namespace=kube-system", output])?.outcome()?;
        Ok((shown.status.success() && shown.stdout == wanted).then_some(()))
    })
}

/// Ends the kubelet, which the init starts again, and waits until the node is of the new one's version.
fn restart_kubelet(node: &Node) -> Result<()> {
    let version = node.inside("kubelet")?.arg("--version").read()?;
    let pids = node.inside("busybox")?.args(["pidof", "kubelet"]).read()?;
    node.inside("busybox")?.arg("kill").args(pids.split_whitespace()).run()?;
    let output = "--output=jsonpath=Kubernetes {.status.nodeInfo.kubeletVersion}";
    until("the start of the new kubelet", AGAIN_LIMIT, || {
        let shown = node.kubectl(&["get", "node", NAME, output])?.outcome()?;
        Ok((shown.status.success() && shown.stdout == version.trim()).then_some(()))
    })
}
