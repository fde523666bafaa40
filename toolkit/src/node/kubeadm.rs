//! The control plane, as kubeadm makes it from the files in `images/manifests/kubeadm`.

use fs_err as fs;

use super::{ADDRESS, Images, Node};
use crate::build_images::REGISTRY;
use crate::release::manifests;
use sluice_shell::error::{Error, Result};

/// Where the files that users get are.
const FILES: &str = "images/manifests/kubeadm";

/// The configuration, for kubeadm.
pub(super) const CONFIG: &str = "--config=/etc/kubernetes/config.yaml";

/// What kubeadm says about a machine with two processors, without a registry and without the kernel's configuration.
const IGNORED: &str = "--ignore-preflight-errors=ImagePull,NumCPU,Mem,Swap,SystemVerification";

/// What this node adds to kubeadm's first document: the address, which it would look for on the way out, and Pods on
/// the only node that there is.
const INIT: &str = "\
kind: InitConfiguration
localAPIEndpoint:
  advertiseAddress: ADDRESS
nodeRegistration:
  taints: []
";

/// And the documents that it adds: a kubelet in a control group of its own, and a kube-proxy that may not change the
/// kernel's tables of connections.
const DOCUMENTS: &str = "\
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
imageGCHighThresholdPercent: 100
evictionHard:
  memory.available: 100Mi
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
conntrack:
  maxPerCore: 0
  tcpEstablishedTimeout: 0s
  tcpCloseWaitTimeout: 0s
";

/// Runs `kubeadm init` in a node.
pub(super) fn init(node: &Node, images: &Images) -> Result<()> {
    write_files(node, images)?;
    let run = node.inside("kubeadm")?.args(["init", CONFIG, IGNORED]);
    run.log(node.logs().join("kubeadm.log")).run()
}

/// Puts the configuration and the patches where kubeadm looks for them; for a stock node no patch is there.
pub(super) fn write_files(node: &Node, images: &Images) -> Result<()> {
    let folder = node.root().join("etc/kubernetes");
    let config = images.workspace.join(FILES).join("config.yaml");
    let text = for_node(&with_images(&fs::read_to_string(config)?, images)?)?;
    fs::write(folder.join("config.yaml"), text)?;
    let to = folder.join("patches");
    fs::create_dir_all(&to)?;
    if images.stock {
        return Ok(());
    }
    for entry in fs::read_dir(images.workspace.join(FILES).join("patches"))? {
        let entry = entry?;
        let text = with_images(&fs::read_to_string(entry.path())?, images)?;
        fs::write(to.join(entry.file_name()), text)?;
    }
    Ok(())
}

/// A manifest with the images and the version of this build.
fn with_images(text: &str, images: &Images) -> Result<String> {
    let image = |name: &str| {
        let known = name.strip_prefix(REGISTRY).and_then(|rest| rest.strip_prefix('/'));
        let name = known.and_then(|rest| rest.split(':').next());
        let name = name.ok_or_else(|| Error::input(format!("the image {name:?} is none of {REGISTRY}")))?;
        Ok(images.reference(name)?.to_owned())
    };
    manifests::renamed(text, &images.kubernetes, image)
}

/// The configuration that users have, with what this node needs besides.
fn for_node(text: &str) -> Result<String> {
    let kind = "kind: InitConfiguration\n";
    if text.matches(kind).count() != 1 || text.contains("localAPIEndpoint") || text.contains("nodeRegistration") {
        return Err(Error::input("kubeadm/config.yaml has not one InitConfiguration without an address and a node"));
    }
    Ok(format!("{}{DOCUMENTS}", text.replace(kind, &INIT.replace("ADDRESS", ADDRESS))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_of_users_is_kept_and_added_to() {
        let file = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../images/manifests/kubeadm/config.yaml");
        let text = fs::read_to_string(file).unwrap();
        let ours = for_node(&text).unwrap();
        assert!(text.lines().all(|line| ours.contains(line)));
        assert!(ours.contains("kind: InitConfiguration\nlocalAPIEndpoint:\n  advertiseAddress: 10.77.0.1\n"));
        assert_eq!(ours.lines().filter(|line| *line == "---").count(), 3);
        assert!(for_node(&ours).is_err());
    }
}
