//! `cargo xtask cluster`: a node by hand.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use super::problem::NoImages;
use super::{Images, Node, Wish, boot, upgrade};
use crate::source::Target;
use sluice_shell::context::Context;
use sluice_shell::error::Result;
use sluice_shell::process::quoted;

/// A cluster with a node that runs Pods: Kubernetes as kubeadm sets it up, in namespaces of its own (as root)
#[derive(clap::Args)]
pub struct Cmd {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Starts the cluster and prints the line that points kubectl at it
    ///
    /// containerd, the kubelet, kube-proxy and CoreDNS are of this machine or built here; the control plane is that of
    /// images/manifests/kubeadm, with sluice-shim where kubeadm puts etcd; with `--stock` that of upstream, on etcd.
    /// Nothing is left on the machine after `down`. A second `up` starts a node again that was killed, with its data.
    Up(Up),
    /// Takes a cluster that runs to the next minor, as its user would: `kubeadm upgrade apply` with our images
    ///
    /// sluice-shim is replaced first, then the rest of the control plane, in the end the kubelet. What runs and what is
    /// stored stays. `--k8s` says which minor: the one after that of `up`. When something failed, do it again.
    Upgrade(Upgrade),
    /// Ends the cluster and removes its data
    Down(Down),
    /// What `up` starts: the first process of a node
    #[command(hide = true)]
    Boot(Boot),
}

#[derive(clap::Args)]
struct Up {
    /// The cluster's folder [default: .sluice/node in the workspace]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Also build and load what the virtual clusters of images/manifests/vcluster run
    #[arg(long)]
    with_vcluster: bool,
    /// Also build and load what upstream's end-to-end specs of the API machinery run in Pods
    #[arg(long)]
    with_specs: bool,
    /// Upstream's Kubernetes as it is, on etcd, to compare with
    #[arg(long)]
    stock: bool,
    #[command(flatten)]
    target: Target,
    /// Print a report instead
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct Upgrade {
    /// The cluster's folder [default: .sluice/node in the workspace]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
    /// Print a report instead
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct Down {
    /// The cluster's folder [default: .sluice/node in the workspace]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Boot {
    folder: PathBuf,
    /// We are the first process of a pid namespace
    #[arg(long)]
    first: bool,
}

/// What `cluster up --json` prints.
#[derive(Serialize)]
struct Report {
    folder: PathBuf,
    kubeconfig: PathBuf,
    kubectl: PathBuf,
    logs: PathBuf,
    /// Images that Pods can run: there is no registry.
    images: Vec<String>,
    /// Whether this run started it.
    started: bool,
    /// Without what had to be built.
    seconds: f64,
}

/// What `cluster upgrade --json` prints.
#[derive(Serialize)]
struct Upgraded {
    folder: PathBuf,
    /// Images that Pods can run now.
    images: Vec<String>,
    /// What kubeadm said.
    log: PathBuf,
    /// Without what had to be built.
    seconds: f64,
}

impl Cmd {
    /// Starts, upgrades or ends a node.
    pub(crate) fn run(self, shell: &Context) -> Result<()> {
        match self.verb {
            Verb::Up(up) => up.run(shell),
            Verb::Upgrade(upgrade) => upgrade.run(shell),
            Verb::Down(down) => down.run(shell),
            Verb::Boot(Boot { folder, first: false }) => boot::enter(&folder),
            Verb::Boot(Boot { folder, first: true }) => boot::first(&folder),
        }
    }
}

impl Up {
    fn run(self, shell: &Context) -> Result<()> {
        let folder = folder(shell, self.dir.as_deref());
        // Before minutes are spent on programs for it.
        let mut node = Node::prepare(&folder, &self.target.k8s, self.stock)?;
        let clock = Cell::new(Instant::now());
        let wish = Wish { stock: self.stock, vclusters: self.with_vcluster, specs: self.with_specs };
        let build = || {
            let images = Images::build(shell, &self.target, wish)?;
            clock.set(Instant::now());
            Ok(images)
        };
        let progress = shell.out.spinner("node");
        let started = node.start(build, |step| progress.now(step))?;
        if let Some(what) = Images::lacking(wish, node.images()) {
            return Err(NoImages { folder: node.folder.clone(), what }.into());
        }
        progress.done(if started { "ready" } else { "already running" });
        if self.json {
            return shell.out.json(&Report {
                folder: node.folder.clone(),
                kubeconfig: node.kubeconfig(),
                kubectl: node.kubectl_program(),
                logs: node.logs(),
                images: node.images().to_vec(),
                started,
                seconds: clock.get().elapsed().as_secs_f64(),
            });
        }
        shell.out.note(format!(
            "logs are in {}; kubectl is {}",
            node.logs().display(),
            node.kubectl_program().display()
        ));
        shell.out.data(format!("export KUBECONFIG={}", quoted(&node.kubeconfig())))
    }
}

impl Upgrade {
    fn run(self, shell: &Context) -> Result<()> {
        let mut node = Node::open(&folder(shell, self.dir.as_deref()))?;
        // Before minutes are spent on programs for it.
        node.check_upgrade()?;
        let images = Images::build(shell, &self.target, Wish::default())?;
        let clock = Instant::now();
        let progress = shell.out.spinner("node");
        node.upgrade(&self.target.k8s, &images, |step| progress.now(step))?;
        progress.done(format!("now of Kubernetes {}", self.target.k8s));
        let log = node.logs().join(upgrade::LOG);
        if self.json {
            let (folder, images) = (node.folder.clone(), node.images().to_vec());
            return shell.out.json(&Upgraded { folder, images, log, seconds: clock.elapsed().as_secs_f64() });
        }
        shell.out.note(format!("what kubeadm said is in {}", log.display()));
        Ok(())
    }
}

impl Down {
    fn run(self, shell: &Context) -> Result<()> {
        let node = Node::open(&folder(shell, self.dir.as_deref()))?;
        let folder = node.folder.clone();
        let progress = shell.out.spinner("node");
        node.remove()?;
        progress.done(format!("stopped and removed from {}", folder.display()));
        Ok(())
    }
}

/// Where a node is unless `--dir` says otherwise.
fn folder(shell: &Context, dir: Option<&Path>) -> PathBuf {
    dir.map_or_else(|| shell.paths.cache().join("node"), Path::to_owned)
}
