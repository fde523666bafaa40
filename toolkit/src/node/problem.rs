//! What goes wrong with a node, and what to do about it.

use std::path::{Path, PathBuf};

use crate::cluster::problem::log_tail;
use sluice_shell::error::Explain;
use sluice_shell::minor::Minor;

/// Namespaces, mounts and control groups are made.
#[derive(Debug, thiserror::Error)]
#[error("a node needs root: it mounts, and makes namespaces and control groups")]
pub struct NotRoot;

impl Explain for NotRoot {
    fn hint(&self) -> Option<String> {
        Some("run the command as root; `cargo xtask up` starts a control plane without nodes as any user".into())
    }
}

/// The machine has no control groups that a kubelet can work with.
#[derive(Debug, thiserror::Error)]
#[error("this machine lacks what containers are limited with: {0}")]
pub struct NoControlGroups(pub(super) String);

impl Explain for NoControlGroups {
    fn hint(&self) -> Option<String> {
        Some("mount control groups at /sys/fs/cgroup, of version 1 or 2, with cpu, cpuset, memory and pids".into())
    }
}

/// The kernel refused what a node is made of.
#[derive(Debug, thiserror::Error)]
#[error("the kernel refuses to {what}")]
pub struct Refused {
    pub(super) what: String,
    #[source]
    pub(super) cause: std::io::Error,
}

impl Explain for Refused {
    fn hint(&self) -> Option<String> {
        Some("in a container it needs to be privileged (CAP_SYS_ADMIN, CAP_NET_ADMIN, writable control groups)".into())
    }
}

/// The node's first process ended.
#[derive(Debug, thiserror::Error)]
#[error("the node does not run{}", if tail.is_empty() { String::new() } else { format!("; its last words:\n{}", tail.join("\n")) })]
pub struct Ended {
    log: PathBuf,
    tail: Vec<String>,
}

impl Ended {
    /// With the end of what it said.
    pub(super) fn of(log: &Path) -> Self {
        Self { log: log.to_owned(), tail: log_tail(log, 0) }
    }
}

impl Explain for Ended {
    fn hint(&self) -> Option<String> {
        Some(format!("the whole log is in {}\nstart the node again with `cargo xtask cluster up`", self.log.display()))
    }
}

/// The node was made without images that are wished for.
#[derive(Debug, thiserror::Error)]
#[error("the node in {} has no images for {what}", folder.display())]
pub struct NoImages {
    pub(super) folder: PathBuf,
    pub(super) what: &'static str,
}

impl Explain for NoImages {
    fn hint(&self) -> Option<String> {
        let folder = self.folder.display();
        Some(format!(
            "images are loaded when a node is made; remove this one with\ncargo xtask cluster down --dir {folder}"
        ))
    }
}

/// The node is one of another minor.
#[derive(Debug, thiserror::Error)]
#[error("the node in {} is one of Kubernetes {is}, not {wanted}", folder.display())]
pub struct OtherMinor {
    pub(super) folder: PathBuf,
    pub(super) is: String,
    pub(super) wanted: Minor,
}

impl Explain for OtherMinor {
    fn hint(&self) -> Option<String> {
        let folder = self.folder.display();
        Some(format!(
            "take it to the next minor with `cargo xtask cluster upgrade --dir {folder}`, remove it with `cargo xtask \
             cluster down --dir {folder}`, or give the new one another folder with `--dir`"
        ))
    }
}

/// The node runs upstream's Kubernetes where ours is wanted, or the other way round.
#[derive(Debug, thiserror::Error)]
#[error("the node in {} runs {}", folder.display(), if *stock { "stock Kubernetes on etcd" } else { "patched Kubernetes" })]
pub struct OtherKind {
    pub(super) folder: PathBuf,
    pub(super) stock: bool,
}

impl Explain for OtherKind {
    fn hint(&self) -> Option<String> {
        let (folder, flag) = (self.folder.display(), if self.stock { "with" } else { "without" });
        Some(format!(
            "start it again {flag} `--stock`, remove it with `cargo xtask cluster down --dir {folder}`, or give the \
             new one another folder with `--dir`"
        ))
    }
}

/// A stock node has no sluice-shim to replace.
#[derive(Debug, thiserror::Error)]
#[error("the node in {} runs stock Kubernetes on etcd, which is made to compare with", .0.display())]
pub struct StockUpgrade(pub(super) PathBuf);

impl Explain for StockUpgrade {
    fn hint(&self) -> Option<String> {
        Some("`cargo xtask cluster upgrade` is for nodes that `cluster up` made without `--stock`".into())
    }
}

/// The folder holds files of somebody else.
#[derive(Debug, thiserror::Error)]
#[error("{} holds no node, but files where a node keeps its own: {}", folder.display(), files.join(", "))]
pub struct Foreign {
    pub(super) folder: PathBuf,
    pub(super) files: Vec<&'static str>,
}

impl Explain for Foreign {
    fn hint(&self) -> Option<String> {
        Some("name a new or empty folder with `--dir`: `cluster down` removes what is in these places".into())
    }
}

/// There is no node in the folder.
#[derive(Debug, thiserror::Error)]
#[error("there is no node in {}", .0.display())]
pub struct NoNode(pub(super) PathBuf);

impl Explain for NoNode {
    fn hint(&self) -> Option<String> {
        Some(format!("start one there with `cargo xtask cluster up --dir {}`", self.0.display()))
    }
}

/// Another run of the toolkit is at work in the folder.
#[derive(Debug, thiserror::Error)]
#[error("another `cargo xtask cluster` is at work in {}", .0.display())]
pub struct Busy(pub(super) PathBuf);

impl Explain for Busy {
    fn hint(&self) -> Option<String> {
        Some("wait until it has ended".into())
    }
}
