//! A control plane that runs while the specs do.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::node::Node;
use super::system::System;
use crate::cluster::up::{self, Report};
use crate::kubectl::Kubectl;
use sluice_shell::context::Context;
use sluice_shell::error::{Error, Result};
use sluice_toolkit::cluster::Cluster;
use sluice_toolkit::cluster::database::Database;
use sluice_toolkit::cluster::leftover::{Guard, Leftover};
use sluice_toolkit::cluster::settings::Programs;
use sluice_toolkit::cluster::wait::{LIMIT, until};
use sluice_toolkit::node;
use sluice_toolkit::source::Target;

/// The policy that keeps custom resources out of the watch cache.
const POLICY: &str = "images/manifests/policies/watch-cache-off.yaml";

/// It ends when it is dropped; its files stay until [`Running::remove`].
pub(super) enum Running {
    /// Processes of this machine.
    Processes { cluster: Box<Cluster>, kubectl: PathBuf, _node: Node, _guard: Guard },
    /// On a node that runs Pods.
    Node(Pods),
}

/// A node that runs Pods.
pub(super) struct Pods(Report);

impl Drop for Pods {
    fn drop(&mut self) {
        up::end_active();
    }
}

impl Running {
    /// Starts processes in a folder.
    ///
    /// # Errors
    /// When they do not get ready, or there is no kubectl.
    pub(super) fn processes(
        system: System,
        programs: &Programs,
        database: Option<Database>,
        folder: &Path,
    ) -> Result<Self> {
        let kubectl = programs.kubectl.clone().ok_or_else(|| Error::input("the specs need a kubectl"))?;
        let guard = Guard::new(Leftover::Cluster(folder.to_owned()));
        let cluster = system.start(programs, database, folder)?;
        let node = Node::start(cluster.client()?)?;
        Ok(Self::Processes { cluster: Box::new(cluster), kubectl, _node: node, _guard: guard })
    }

    /// Has the verb `cluster up` build what is missing and start a node.
    ///
    /// # Errors
    /// Those of the verb; when the policy does nothing.
    pub(super) fn node(shell: &Context, target: &Target, system: System) -> Result<Self> {
        let folder = up::scratch(shell)?.join(format!("{}-{}-0", system.name(), std::process::id()));
        let flags: &[&str] = if system == System::Stock { &["--with-specs", "--stock"] } else { &["--with-specs"] };
        let report = up::start(shell, &up::verb(shell, target, flags, &folder), &folder)?;
        let pods = Pods(report);
        if system == System::SluiceAnnotated {
            let policy = fs_err::read_to_string(shell.paths.root().join(POLICY))?;
            keep_out(&pods.0.client(), &policy)?;
        }
        Ok(Self::Node(pods))
    }

    /// The kubeconfig of the admin.
    pub(super) fn kubeconfig(&self) -> PathBuf {
        match self {
            Self::Processes { cluster, .. } => cluster.kubeconfig(),
            Self::Node(Pods(report)) => report.kubeconfig.clone(),
        }
    }

    /// The kubectl that specs run.
    pub(super) fn kubectl(&self) -> &Path {
        match self {
            Self::Processes { kubectl, .. } => kubectl,
            Self::Node(Pods(report)) => &report.kubectl,
        }
    }

    /// Its folder with logs and data.
    pub(super) fn folder(&self) -> &Path {
        match self {
            Self::Processes { cluster, .. } => &cluster.folder,
            Self::Node(Pods(report)) => &report.folder,
        }
    }

    /// Ends it and removes its files.
    ///
    /// # Errors
    /// When a process can't be ended or a file can't be removed.
    pub(super) fn remove(self) -> Result<()> {
        let folder = self.folder().to_owned();
        if let Self::Node(pods) = &self {
            node::Node::open(&folder)?.remove()?;
            let cache = pods.0.cache();
            return if cache.exists() { Ok(fs_err::remove_dir_all(cache)?) } else { Ok(()) };
        }
        drop(self);
        Ok(fs_err::remove_dir_all(folder)?)
    }
}

/// Applies the policy, and waits until a definition that is only tried gets the annotation.
fn keep_out(kubectl: &Kubectl, policy: &str) -> Result<()> {
    kubectl.apply(policy)?;
    let names = json!({"plural": "probes", "singular": "probe", "kind": "Probe"});
    let schema = json!({"openAPIV3Schema": {"type": "object"}});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "probes.sluice.test"},
        "spec": {
            "group": "sluice.test",
            "scope": "Namespaced",
            "names": names,
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}],
        },
    });
    until("the policy's annotation on a new definition", LIMIT, || {
        let tried = kubectl.send("create --dry-run=server --output=yaml", &definition)?;
        Ok(tried.contains("sluice-project.github.io/watch-cache: \"off\"").then_some(()))
    })
}
