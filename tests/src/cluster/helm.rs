//! The Helm chart on the node: as docs/helm.md has it for several replicas, and below vCluster's own chart.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::database::{self, Server};
use super::lab::Lab;
use super::shims::Shims;
use super::vcluster;
use crate::runner::Verdict;
use sluice_shell::error::{Error, Result};
use sluice_shell::process::{Limit, Run};
use sluice_toolkit::build;
use sluice_toolkit::cluster::certs::Issued;
use sluice_toolkit::cluster::database::Database;
use sluice_toolkit::cluster::leftover::{Guard, Leftover};
use sluice_toolkit::cluster::pid::Process;
use sluice_toolkit::cluster::port;
use sluice_toolkit::cluster::wait::{LIMIT, ensure, until};

/// The name of what the release `store` makes.
const NAME: &str = "store-sluice-shim";
/// Where the release is, unless something else is in the same namespace.
const NAMESPACE: &str = "tenant-1";
/// Values for PostgreSQL, with the connection string in a Secret, and the authority of the server's certificate.
const ON_POSTGRES: &str =
    "database.type=postgres,database.endpointSecret.name=sluice-database,database.caSecret.name=sluice-database";
const PODS: [&str; 2] = ["store-sluice-shim-0", "store-sluice-shim-1"];

/// Two replicas on PostgreSQL: one serves, and the other one hands requests on to it and takes its place. An update
/// loses nothing.
pub(super) fn replicas(lab: &mut Lab) -> Result<Verdict> {
    let server = database::server(lab, Database::Postgres)?;
    let release = Release::new(lab, NAMESPACE, &server)?;
    release.helm(lab, &["install", "--set", &format!("{ON_POSTGRES},replicas=2")])?;

    let shims = Shims { host: lab.kubectl(), namespace: NAMESPACE, pods: &PODS };
    for (number, pod) in PODS.into_iter().enumerate() {
        release.put(lab, pod, &format!("/{number}"))?;
    }
    let serving = shims.serving()?;
    let other = PODS.into_iter().find(|pod| *pod != serving).unwrap_or_default();
    let handed_on = shims.metric(other, "sluice_forwarded_requests_total")?;
    ensure(handed_on.as_ref().is_some_and(|count| count != "0"), || format!("{other} handed on {handed_on:?}"))?;

    shims.kill(lab, serving)?;
    release.put(lab, other, "/after-the-kill")?;
    let now = shims.serving()?;
    ensure(now == other, || format!("the shim of {serving} was killed, and that of {now} serves"))?;

    let again = format!("{ON_POSTGRES},replicas=2,podAnnotations.another=update");
    release.helm(lab, &["upgrade", "--set", &again])?;
    let stored = release.etcdctl(lab, PODS[0], &["get", "/", "--prefix", "--keys-only"])?;
    let keys: Vec<&str> = stored.split_whitespace().collect();
    ensure(keys == ["/0", "/1", "/after-the-kill"], || format!("after the update there are {keys:?}"))?;

    release.helm(lab, &["uninstall"])?;
    release.remove(lab)?;
    server.stop()?;
    Ok(Verdict::PASSED)
}

/// vCluster's own chart with our values, as their head says: the store is a release of our chart, which the virtual
/// cluster reaches by its Service, with a certificate.
pub(super) fn vcluster(lab: &mut Lab) -> Result<Verdict> {
    let server = database::server(lab, Database::Postgres)?;
    let release = Release::new(lab, vcluster::NAME, &server)?;
    let clock = Instant::now();
    release.helm(lab, &["install", "--set", &format!("{ON_POSTGRES},replicas=2")])?;
    let values = lab.workspace.join("images/manifests/vcluster/chart-values.yaml");
    let chart = build::module_folder(&lab.workspace, "vcluster", "github.com/loft-sh/vcluster")?.join("chart");
    let install = [Path::new("install"), Path::new(vcluster::NAME), &chart, Path::new("--values"), &values];
    release.run(lab, install)?;
    let ready = clock.elapsed();
    vcluster::walk_through(lab, &PODS, ready)?;
    release.run(lab, ["uninstall", vcluster::NAME])?;
    release.helm(lab, &["uninstall"])?;
    release.remove(lab)?;
    server.stop()?;
    Ok(Verdict::Passed(format!("ready {:.0} s after helm install", ready.as_secs_f64())))
}

/// A release of the chart in a namespace of its own, and who talks to its Pods.
struct Release {
    namespace: &'static str,
    folder: PathBuf,
}

impl Release {
    /// Makes the namespace, with the connection string and the certificates of the store and of its clients, for which
    /// docs/helm.md says the names.
    fn new(lab: &Lab, namespace: &'static str, server: &Server) -> Result<Self> {
        let folder = lab.report.folder.with_extension("helm");
        fs_err::create_dir_all(&folder)?;
        let service = format!("{NAME}.{namespace}.svc");
        Issued::new(&folder, &["127.0.0.1", &service, &format!("*.{NAME}-peers.{namespace}.svc")])?;
        let kubectl = lab.kubectl();
        kubectl.run(&format!("create namespace {namespace}"))?;
        kubectl.run(&format!("label namespace {namespace} pod-security.kubernetes.io/enforce=restricted"))?;
        server.create_secret(&kubectl, namespace, "/database-ca")?;
        let file = |name: &str| format!("--from-file={name}={}", folder.join(name).display());
        let files = ["ca.crt", "tls.crt", "tls.key"].map(file).join(" ");
        for name in ["sluice-shim-tls", "sluice-shim-tls-client"] {
            kubectl.run(&format!("create secret generic {name} --namespace {namespace} {files}"))?;
        }
        Ok(Self { namespace, folder })
    }

    /// Removes the namespace.
    fn remove(&self, lab: &Lab) -> Result<()> {
        lab.kubectl().run(&format!("delete namespace {} --timeout=180s", self.namespace))?;
        Ok(fs_err::remove_dir_all(&self.folder)?)
    }

    /// Runs a command of Helm about the release `store` of our chart.
    fn helm(&self, lab: &Lab, words: &[&str]) -> Result<()> {
        let chart = lab.workspace.join("images/charts/sluice-shim");
        let (repository, tag) = lab.image("sluice-shim")?.rsplit_once(':').unwrap_or_default();
        let image = format!("image.repository={repository},image.tag={tag}");
        let chart = [chart.as_os_str(), OsStr::new("--set"), OsStr::new(&image)];
        let chart = if words[0] == "uninstall" { &[][..] } else { &chart };
        let command = [words[0], "store"].map(OsStr::new);
        let words = [&command, chart, &words[1..].iter().map(OsStr::new).collect::<Vec<_>>()].concat();
        self.run(lab, words)
    }

    /// Runs Helm in the namespace, and waits until all Pods are as they shall be.
    fn run(&self, lab: &Lab, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<()> {
        let [program, _] = lab.release_tools()?;
        let run = Run::new(program, &self.folder).args(words);
        let run = run.args(["--namespace", self.namespace, "--wait", "--timeout=420s"]);
        let run = run.env("KUBECONFIG", &lab.report.kubeconfig).limit(Limit::HUNG);
        let homes = ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"];
        homes.iter().fold(run, |run, name| run.env(name, self.folder.join(name))).run()
    }

    /// Writes a key by way of one Pod, as soon as that one answers.
    fn put(&self, lab: &Lab, pod: &str, key: &str) -> Result<()> {
        until("a write", LIMIT, || Ok(self.etcdctl(lab, pod, &["put", key, "x"]).ok().map(drop)))
    }

    /// Runs etcdctl on a Pod.
    fn etcdctl(&self, lab: &Lab, pod: &str, words: &[&str]) -> Result<String> {
        let (port, log) = (port::free()?, self.folder.join("forward.log"));
        let forward = Run::new(&lab.report.kubectl, &self.folder).arg("--kubeconfig").arg(&lab.report.kubeconfig);
        let forward = forward.args(["port-forward", "--namespace", self.namespace, pod, &format!("{port}:2379")]);
        let child = forward.spawn(&log)?;
        let pid = i32::try_from(child.id()).map_err(anyhow::Error::from)?;
        let process = Process::of(pid).ok_or_else(|| Error::input("kubectl port-forward is gone after its start"))?;
        let _guard = Guard::new(Leftover::Process(process.clone()));
        until("a forwarded port", LIMIT, || {
            let said = || fs_err::read_to_string(&log).unwrap_or_default();
            ensure(process.is_alive(), || format!("kubectl port-forward ended: {}", said()))?;
            Ok(std::net::TcpStream::connect(("127.0.0.1", port)).ok().map(drop))
        })?;
        let [_, etcdctl] = lab.release_tools()?;
        let file = |flag: &str, name: &str| format!("--{flag}={}", self.folder.join(name).display());
        let tls = [file("cacert", "ca.crt"), file("cert", "tls.crt"), file("key", "tls.key")];
        let endpoint = format!("--endpoints=https://127.0.0.1:{port}");
        Run::new(etcdctl, &self.folder).arg(endpoint).args(tls).args(words).read()
    }
}
