//! A virtual cluster on the node, and a connection to it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fs_err as fs;

use crate::cluster::database::Server;
use crate::cluster::lab::Lab;
use crate::cluster::shims::Shims;
use crate::kubectl::Kubectl;
use sluice_shell::error::Result;
use sluice_shell::process::{Limit, Run};
use sluice_toolkit::cluster::launch::launch;
use sluice_toolkit::cluster::leftover::{Guard, Leftover};
use sluice_toolkit::cluster::shirts;
use sluice_toolkit::cluster::wait::{ensure, until};

/// The name of all that the manifests make, and of their namespace.
pub(in crate::cluster) const NAME: &str = "my-vcluster";

/// What goes on as long as there is a connection.
const CONNECT: &str = "vcluster connect";

/// The Pods that it may have.
pub(super) const PODS: [&str; 2] = ["my-vcluster-0", "my-vcluster-1"];

/// How long a virtual cluster may take to be ready, on a machine that does other things.
const READY_LIMIT: Duration = Duration::from_secs(420);

/// How long the connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(120);

/// A virtual cluster that is ready.
pub(super) struct VirtualCluster {
    /// How long it took from `kubectl apply` on.
    pub(super) ready: Duration,
    /// The Pods with its shims.
    pub(super) pods: &'static [&'static str],
    /// kubectl inside.
    pub(super) kubectl: Kubectl,
    /// vCluster's command line, without what it shall do.
    cli: Run,
    /// Where that keeps its files, and we ours.
    pub(super) folder: PathBuf,
    _connection: Guard,
}

impl VirtualCluster {
    /// The manifest of a database.
    pub(super) fn file(lab: &Lab, manifest: &str) -> PathBuf {
        lab.workspace.join(format!("images/manifests/vcluster/vcluster-{manifest}.yaml"))
    }

    /// Does what the head of a manifest says, word for word.
    pub(super) fn make(lab: &Lab, file: &Path, server: Option<&Server>) -> Result<Self> {
        let kubectl = lab.kubectl();
        // A file has one process that serves it.
        let pods = if server.is_some() { &PODS[..] } else { &PODS[..1] };
        let clock = Instant::now();
        let warned = kubectl.warns(&format!("apply -f {}", file.display()))?;
        // The namespace warns of Pods that are not `restricted`.
        ensure(warned.is_empty(), || format!("the API server warns of {}: {warned}", file.display()))?;
        if let Some(server) = server {
            server.create_secret(&kubectl, NAME, "/database")?;
        }
        wait_ready(&kubectl, pods.len())?;
        Self::reach(lab, pods, clock.elapsed())
    }

    /// Connects to one that is ready, and waits until it has our policies.
    pub(super) fn reach(lab: &Lab, pods: &'static [&'static str], ready: Duration) -> Result<Self> {
        let made = Self::connect(lab, pods, ready)?;
        made.wait_policies()?;
        Ok(made)
    }

    /// Connects to one that is ready.
    pub(super) fn connect(lab: &Lab, pods: &'static [&'static str], ready: Duration) -> Result<Self> {
        let folder = lab.report.folder.with_extension("vcluster");
        fs::create_dir_all(&folder)?;
        let cli = Run::new(lab.vcluster()?, &folder).env("KUBECONFIG", &lab.report.kubeconfig).env("HOME", &folder);
        let (kubectl, connection) = connect(lab, &cli, &folder)?;
        Ok(Self { ready, pods, kubectl, cli, folder, _connection: connection })
    }

    /// The shims in its Pods.
    pub(super) fn shims(&self, lab: &Lab) -> Shims<'static> {
        Shims { host: lab.kubectl(), namespace: NAME, pods: self.pods }
    }

    /// Runs kubectl through `vcluster connect`, as a person does who wants to do one thing.
    pub(super) fn connected(&self, lab: &Lab, args: &str) -> Result<String> {
        let kubectl = lab.report.kubectl.to_string_lossy().into_owned();
        let run = self.cli.clone().args(["connect", NAME, "--background-proxy=false", "--", kubectl.as_str()]);
        run.args(args.split(' ')).limit(Limit::ANSWER).read()
    }

    /// Connects a kubeconfig that is in use, in a terminal of its own.
    pub(super) fn connect_current(&self, kubeconfig: &Path) -> Result<Guard> {
        let run = self.cli.clone().env("KUBECONFIG", kubeconfig).args(["connect", NAME, "--background-proxy=false"]);
        Ok(Guard::new(Leftover::Process(launch(CONNECT, &run, &self.folder.join("connect-current.log"))?)))
    }

    /// Disconnects it again.
    pub(super) fn disconnect_current(&self, kubeconfig: &Path) -> Result<()> {
        self.cli.clone().env("KUBECONFIG", kubeconfig).arg("disconnect").run()
    }

    /// Waits until it is ready after its Pod was replaced, and connects again.
    pub(super) fn reconnect(&mut self, lab: &Lab) -> Result<()> {
        wait_ready(&lab.kubectl(), self.pods.len())?;
        (self.kubectl, self._connection) = connect(lab, &self.cli, &self.folder)?;
        Ok(())
    }

    /// Removes it with its data.
    pub(super) fn remove(self, lab: &Lab) -> Result<()> {
        lab.kubectl().run(&format!("delete namespace {NAME} --timeout=180s"))?;
        Ok(fs::remove_dir_all(&self.folder)?)
    }

    /// Waits until the policies of the manifest are followed: vCluster applies them once all else runs.
    fn wait_policies(&self) -> Result<()> {
        let file = self.folder.join("definition.json");
        fs::write(&file, shirts::definition().to_string())?;
        let annotation = r"jsonpath={.metadata.annotations.sluice-project\.github\.io/watch-cache}";
        let try_it = format!("create --dry-run=server -f {} --output={annotation}", file.display());
        until("an annotation that a policy puts on", CONNECT_LIMIT, || {
            Ok((self.kubectl.run(&try_it)? == "off").then_some(()))
        })
    }
}

/// As the head of the manifest says.
pub(super) fn wait_ready(kubectl: &Kubectl, replicas: usize) -> Result<()> {
    let condition = format!("--for=jsonpath={{.status.readyReplicas}}={replicas}");
    let seconds = READY_LIMIT.as_secs();
    kubectl.run(&format!("wait --namespace {NAME} statefulset/{NAME} {condition} --timeout={seconds}s")).map(drop)
}

/// Connects as a person does, in a terminal of its own.
fn connect(lab: &Lab, cli: &Run, folder: &Path) -> Result<(Kubectl, Guard)> {
    let (kubeconfig, log) = (folder.join("kubeconfig"), folder.join("connect.log"));
    if kubeconfig.exists() {
        fs::remove_file(&kubeconfig)?;
    }
    let run = cli.clone().args(["connect", NAME, "--background-proxy=false", "--update-current=false"]);
    let process = launch(CONNECT, &run.arg(format!("--kube-config={}", kubeconfig.display())), &log)?;
    let guard = Guard::new(Leftover::Process(process.clone()));
    let kubectl = Kubectl::new(&lab.report.kubectl, folder, &kubeconfig);
    until("an answer through vcluster connect", CONNECT_LIMIT, || {
        let said = || fs::read_to_string(&log).unwrap_or_default();
        ensure(process.is_alive(), || format!("vcluster connect ended: {}", said()))?;
        Ok(kubeconfig.exists().then(|| kubectl.run("get --raw=/readyz").ok()).flatten().map(drop))
    })?;
    Ok((kubectl, guard))
}
