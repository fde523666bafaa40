//! The file system of a node: a few files of its own, the built programs, and places to mount the rest.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::{ADDRESS, NAME, PATH};
use sluice_shell::error::Result;

/// Where the node has this machine's network namespace.
pub const HOST_NETWORK: &str = "/run/netns/host";

/// Folders of this machine that the node sees as they are: Debian's programs are found through links in there.
pub(super) const SHARED: [&str; 1] = ["/etc/alternatives"];

/// Where things are mounted, and folders that programs expect.
const FOLDERS: [&str; 15] = [
    "dev",
    "etc/alternatives",
    "etc/cni/net.d",
    "etc/containerd",
    "etc/kubernetes",
    "etc/service",
    "etc/ssl/certs",
    "opt/bin",
    "proc",
    "root",
    "run",
    "sys",
    "tmp",
    "usr",
    "var/log",
];

/// Links of Debian's root folder into /usr.
const LINKS: [(&str, &str); 6] = [
    ("bin", "usr/bin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
    ("sbin", "usr/sbin"),
    ("var/run", "../run"),
    ("var/lock", "../run/lock"),
];

/// What differs between nodes.
pub(super) struct Settings<'a> {
    /// Where the API is on 127.0.0.1 of this machine.
    pub(super) port: u16,
    /// Programs that were built for it.
    pub(super) programs: &'a [PathBuf],
    /// The image that holds the namespaces of Pods.
    pub(super) pause: &'a str,
}

/// Makes the files below `root`.
pub(super) fn make(root: &Path, settings: &Settings<'_>) -> Result<()> {
    for folder in FOLDERS {
        fs::create_dir_all(root.join(folder))?;
    }
    for (link, target) in LINKS {
        fs::os::unix::fs::symlink(target, root.join(link))?;
    }
    for (path, text) in texts(settings) {
        fs::write(root.join(path), text)?;
    }
    for (name, script) in services(settings.port) {
        let path = root.join("etc/service").join(name);
        fs::write(&path, script)?;
        fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    }
    place(root, settings.programs)
}

/// Puts programs where those that were built are, in the place of older ones, which may run.
pub(super) fn place<'a>(root: &Path, programs: impl IntoIterator<Item = &'a PathBuf>) -> Result<()> {
    for program in programs {
        let to = root.join("opt/bin").join(program.file_name().unwrap_or_default());
        let fresh = to.with_extension("unfinished");
        // No link: a build looks at the state of its files.
        fs::copy(program, &fresh)?;
        fs::rename(fresh, to)?;
    }
    Ok(())
}

fn texts(settings: &Settings<'_>) -> Vec<(&'static str, String)> {
    let services = services(settings.port);
    let inittab: String = services.iter().map(|(name, _)| format!("::respawn:/etc/service/{name}\n")).collect();
    vec![
        ("etc/inittab", inittab),
        ("etc/hostname", format!("{NAME}\n")),
        ("etc/hosts", format!("127.0.0.1 localhost\n{ADDRESS} {NAME}\n")),
        ("etc/nsswitch.conf", "hosts: files dns\n".into()),
        // Nobody answers there, and says so at once: the cluster's name server wants one to pass questions on to.
        ("etc/resolv.conf", format!("nameserver {ADDRESS}\n")),
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n".into()),
        ("etc/group", "root:x:0:\n".into()),
        ("etc/containerd/config.toml", containerd(settings.pause)),
        ("etc/cni/net.d/10-bridge.conflist", CNI.into()),
    ]
}

/// What the init starts, and starts again when it ends, as systemd's units of these programs do. `api` is how the
/// API gets out: one socat listens on this machine's network, the other one on the node's.
fn services(port: u16) -> [(&'static str, String); 4] {
    let service = |name: &str, command: &str| {
        // The init has a PATH of its own.
        format!("#!/bin/sh\nexport PATH={PATH}\nexec >>/var/log/{name}.log 2>&1\n{command}\n")
    };
    let api = format!("exec socat UNIX-LISTEN:/run/api,fork,unlink-early TCP:{ADDRESS}:6443");
    let outside = format!(
        "exec nsenter --net={HOST_NETWORK} socat TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr UNIX-CONNECT:/run/api"
    );
    [
        ("containerd", service("containerd", "exec containerd")),
        ("kubelet", service("kubelet", KUBELET)),
        ("api", service("api", &api)),
        ("outside", service("api", &outside)),
    ]
}

/// As kubeadm's own unit does (kubernetes: cmd/krel/templates of the packages, 10-kubeadm.conf). Until kubeadm has
/// written what it reads, there is nothing to start.
const KUBELET: &str = "\
until [ -s /var/lib/kubelet/config.yaml ] && [ -s /var/lib/kubelet/kubeadm-flags.env ]; do sleep 0.2; done
. /var/lib/kubelet/kubeadm-flags.env
exec kubelet --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf \\
    --kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml $KUBELET_KUBEADM_ARGS";

fn containerd(pause: &str) -> String {
    format!(
        r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  disable_apparmor = true
  # Without CAP_SYS_RESOURCE a score below our own is refused.
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
"#
    )
}

/// Pods are on a bridge and have no way out of the machine.
const CNI: &str = r#"{
  "cniVersion": "1.0.0",
  "name": "bridge",
  "plugins": [
    {
      "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
      "ipam": {
        "type": "host-local",
        "ranges": [[{"subnet": "10.78.0.0/24"}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": "/run/cni"
      }
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
"#;
