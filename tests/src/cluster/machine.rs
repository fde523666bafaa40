//! What a node could leave on the machine.

use std::collections::BTreeSet;
use std::path::Path;

use sluice_shell::error::Result;
use sluice_shell::process::Run;

/// Where containerd, the kubelet, CNI plugins and kubeadm keep their files.
const PLACES: [&str; 12] = [
    "/etc/cni",
    "/etc/kubernetes",
    "/opt/cni",
    "/opt/containerd",
    "/run/calico",
    "/run/containerd",
    "/run/netns",
    "/usr/libexec/kubernetes",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/log/pods",
];

/// Mounts, network interfaces, rules of packet filters, control groups and files, each as a line.
#[derive(Debug)]
pub(super) struct Machine(BTreeSet<String>);

impl Machine {
    /// What there is now.
    pub(super) fn look() -> Result<Self> {
        let mut all = BTreeSet::new();
        // Without the numbers, which change.
        let mounts = fs_err::read_to_string("/proc/self/mounts")?;
        all.extend(mounts.lines().map(|line| format!("mount {line}")));
        for entry in fs_err::read_dir("/sys/class/net")? {
            all.insert(format!("interface {}", entry?.file_name().display()));
        }
        for program in ["iptables-save", "ip6tables-save"] {
            // Comments hold times.
            let rules = Run::new(program, "/").read()?;
            let rules = rules.lines().filter(|line| !line.starts_with('#') && !line.starts_with(':'));
            all.extend(rules.map(|line| format!("{program} {line}")));
        }
        for entry in walkdir::WalkDir::new("/sys/fs/cgroup").into_iter().flatten() {
            let name = entry.file_name().to_string_lossy();
            if entry.file_type().is_dir() && (name.starts_with("sluice-node-") || name.starts_with("kubepods")) {
                all.insert(format!("control group {}", entry.path().display()));
            }
        }
        let places = PLACES.into_iter().filter(|place| Path::new(place).exists());
        all.extend(places.map(|place| format!("folder {place}")));
        Ok(Self(all))
    }

    /// What is there now, and was not there `before`.
    pub(super) fn since<'a>(&'a self, before: &'a Self) -> Vec<&'a str> {
        self.0.difference(&before.0).map(String::as_str).collect()
    }
}
