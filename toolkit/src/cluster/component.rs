//! The processes of a cluster: how each is started and asked whether it is ready.

use std::path::Path;

use serde::Serialize;

use super::Cluster;
use super::backend;
use super::certs::Pair;
use super::client::Client;
use super::settings::Store;
use super::shard::ShardPorts;
use sluice_shell::error::{Explain, Result};
use sluice_shell::process::Run;

/// The addresses of services. No kube-proxy serves them here; the apiserver wants a range all the same.
const SERVICE_RANGE: &str = "10.96.0.0/16";

/// The flag of kube-apiserver that says what is in which store.
pub(crate) const OVERRIDES: &str = "--etcd-servers-overrides";

/// One process of a cluster, in the order in which they start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub enum Component {
    /// A database server, if the cluster has one of its own.
    Database,
    /// sluice-shim, etcd or kine.
    Store,
    /// The shim of one of the cluster's shards, by its place among them.
    Shard(usize),
    /// kube-apiserver.
    Apiserver,
    /// kube-controller-manager.
    ControllerManager,
}

/// As reports name it.
impl From<Component> for String {
    fn from(component: Component) -> Self {
        match component {
            Component::Apiserver => "apiserver".to_owned(),
            Component::ControllerManager => "controller-manager".to_owned(),
            other => other.file_name(),
        }
    }
}

impl Component {
    /// What its files in the cluster's folder are named.
    pub(super) fn file_name(self) -> String {
        match self {
            Self::Database => "database".to_owned(),
            Self::Store => "store".to_owned(),
            Self::Shard(at) => format!("shard-{}", at + 1),
            Self::Apiserver => "kube-apiserver".to_owned(),
            Self::ControllerManager => "kube-controller-manager".to_owned(),
        }
    }

    /// What a person calls it.
    pub fn title(self, cluster: &Cluster) -> String {
        match self {
            Self::Database => cluster.settings.server().map_or_else(String::new, |server| server.to_string()),
            Self::Store => cluster.settings.store.to_string(),
            Self::Shard(at) => format!("{} of {}", cluster.settings.store, cluster.settings.shards[at]),
            other => other.file_name(),
        }
    }

    /// The port that others reach it by.
    pub(crate) fn port(self, cluster: &Cluster) -> u16 {
        match self {
            Self::Database => cluster.ports.database,
            Self::Store => cluster.ports.store,
            Self::Shard(at) => cluster.ports.shards[at].store,
            Self::Apiserver => cluster.ports.apiserver,
            Self::ControllerManager => cluster.ports.controller_manager,
        }
    }

    /// All ports that it listens on.
    pub(super) fn ports(self, cluster: &Cluster) -> Vec<u16> {
        match self {
            Self::Store => vec![cluster.ports.store, cluster.ports.store_metrics],
            Self::Shard(at) => vec![cluster.ports.shards[at].store, cluster.ports.shards[at].metrics],
            other => vec![other.port(cluster)],
        }
    }

    /// Asks the process whether it can serve.
    ///
    /// # Errors
    /// The answer, if it is no.
    pub fn probe(self, cluster: &Cluster) -> Result<()> {
        if let (Self::Database, Some(server)) = (self, cluster.settings.server()) {
            return server.probe(&cluster.data(), cluster.ports.database);
        }
        match self {
            Self::Database => return Err(NoServer.into()),
            // It has no probe; its metrics are served when the database is there.
            Self::Store if cluster.settings.store == Store::Kine => cluster.store_client().probe("/metrics")?,
            Self::Store => cluster.store_client().probe("/readyz")?,
            Self::Shard(at) => cluster.shard_client(at).probe("/readyz")?,
            Self::Apiserver => cluster.client()?.probe("/readyz")?,
            Self::ControllerManager => {
                let port = cluster.ports.controller_manager;
                Client::tls(port, &cluster.certs.authority(), None)?.probe("/healthz")?
            }
        };
        Ok(())
    }

    /// The command that starts the process.
    ///
    /// # Errors
    /// When the database server is not installed, or its password can't be read.
    pub fn command(self, cluster: &Cluster) -> Result<Run> {
        let settings = &cluster.settings;
        let programs = &settings.programs;
        let run =
            |program: &Path, ours, theirs: &[String]| Ok(Run::new(program, &cluster.folder).args(merge(ours, theirs)));
        match self {
            Self::Database => match settings.server() {
                Some(server) => server.command(&cluster.data(), cluster.ports.database),
                None => Err(NoServer.into()),
            },
            Self::Store => match settings.store {
                // Not on the command line, where every user of the machine could read its password.
                Store::Shim => Ok(run(&programs.store, shim(cluster, cluster.ports.main()), &settings.store_args)?
                    .env("SLUICE_ENDPOINT", cluster.endpoint()?)),
                Store::Etcd => run(&programs.store, etcd(cluster), &settings.store_args),
                Store::Kine => run(&programs.store, kine(cluster), &settings.store_args),
            },
            Self::Shard(at) => Ok(run(&programs.store, shard(cluster, at), &settings.store_args)?
                .env("SLUICE_ENDPOINT", cluster.shard_endpoint(at))),
            Self::Apiserver => run(&programs.apiserver, apiserver(cluster), &settings.apiserver_args),
            Self::ControllerManager => {
                run(&programs.controller_manager, controller_manager(cluster), &settings.controller_manager_args)
            }
        }
    }
}

/// Only a cluster that was started with one has a database server.
#[derive(Debug, thiserror::Error)]
#[error("the cluster has no database server of its own")]
struct NoServer;

impl Explain for NoServer {
    fn hint(&self) -> Option<String> {
        None
    }
}

/// Ours, but for those that are given anew; then theirs. A flag that is given twice means different things to different
/// programs.
fn merge(ours: Vec<String>, theirs: &[String]) -> Vec<String> {
    let name = |arg: &str| arg.split_once('=').map_or(arg, |(name, _)| name).to_owned();
    let given: Vec<String> = theirs.iter().map(|arg| name(arg)).collect();
    let mut args: Vec<String> = ours.into_iter().filter(|arg| !given.contains(&name(arg))).collect();
    args.extend(theirs.iter().cloned());
    args
}

fn shim(cluster: &Cluster, ports: ShardPorts) -> Vec<String> {
    let mut args = store_tls(cluster, ports);
    args.push("--watch-progress-notify-interval=5s".into());
    args
}

/// A shard has no definitions of its own, so its shim follows those of the main store.
fn shard(cluster: &Cluster, at: usize) -> Vec<String> {
    let mut args = shim(cluster, cluster.ports.shards[at]);
    let client = cluster.certs.store_client();
    args.extend([
        format!("--definitions-from=https://127.0.0.1:{}", cluster.ports.store),
        flag("definitions-cacert", &cluster.certs.store_authority().cert),
        flag("definitions-cert", &client.cert),
        flag("definitions-key", &client.key),
    ]);
    args
}

fn etcd(cluster: &Cluster) -> Vec<String> {
    let mut args = store_tls(cluster, cluster.ports.main());
    args.extend([
        "--name=local".into(),
        flag("data-dir", &cluster.folder.join("data/etcd")),
        format!("--advertise-client-urls=https://127.0.0.1:{}", cluster.ports.store),
        // A member of one talks to nobody; the port is for the form's sake, and the kernel picks it.
        "--listen-peer-urls=http://127.0.0.1:0".into(),
        "--watch-progress-notify-interval=5s".into(),
        "--log-level=warn".into(),
    ]);
    args
}

fn kine(cluster: &Cluster) -> Vec<String> {
    let (authority, serving) = (cluster.certs.store_authority(), cluster.certs.store_serving());
    vec![
        format!("--endpoint={}", backend::sqlite_of_kine(&cluster.folder.join("data/kine.db"))),
        format!("--listen-address=tcp://127.0.0.1:{}", cluster.ports.store),
        format!("--metrics-bind-address=127.0.0.1:{}", cluster.ports.store_metrics),
        "--metrics-ignore-tls-config=true".into(),
        flag("server-cert-file", &serving.cert),
        flag("server-key-file", &serving.key),
        flag("trusted-ca-file", &authority.cert),
    ]
}

fn store_tls(cluster: &Cluster, ports: ShardPorts) -> Vec<String> {
    let (authority, serving) = (cluster.certs.store_authority(), cluster.certs.store_serving());
    vec![
        format!("--listen-client-urls=https://127.0.0.1:{}", ports.store),
        format!("--listen-metrics-urls=http://127.0.0.1:{}", ports.metrics),
        flag("cert-file", &serving.cert),
        flag("key-file", &serving.key),
        flag("trusted-ca-file", &authority.cert),
        "--client-cert-auth=true".into(),
    ]
}

fn apiserver(cluster: &Cluster) -> Vec<String> {
    let certs = &cluster.certs;
    let store = certs.store_client();
    let mut args = vec![
        format!("--etcd-servers=https://127.0.0.1:{}", cluster.ports.store),
        flag("etcd-cafile", &certs.store_authority().cert),
        flag("etcd-certfile", &store.cert),
        flag("etcd-keyfile", &store.key),
        "--advertise-address=127.0.0.1".into(),
        // A loopback address is no valid endpoint of the service `kubernetes`.
        "--endpoint-reconciler-type=none".into(),
        flag("client-ca-file", &certs.authority().cert),
        "--authorization-mode=Node,RBAC".into(),
        format!("--service-cluster-ip-range={SERVICE_RANGE}"),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
        flag("service-account-key-file", &certs.service_account_public_key()),
        flag("service-account-signing-key-file", &certs.service_account_key()),
    ];
    let shards = cluster.settings.shards.iter().zip(&cluster.ports.shards);
    let overrides: Vec<String> = shards.map(|(shard, &ports)| shard.entry(ports)).collect();
    if !overrides.is_empty() {
        args.push(format!("{OVERRIDES}={}", overrides.join(",")));
    }
    args.extend(serve(cluster.ports.apiserver, &certs.serving()));
    args
}

fn controller_manager(cluster: &Cluster) -> Vec<String> {
    let certs = &cluster.certs;
    let (authority, kubeconfig) = (certs.authority(), cluster.controller_manager_kubeconfig());
    let mut args = vec![
        flag("kubeconfig", &kubeconfig),
        flag("authentication-kubeconfig", &kubeconfig),
        flag("authorization-kubeconfig", &kubeconfig),
        flag("service-account-private-key-file", &certs.service_account_key()),
        flag("root-ca-file", &authority.cert),
        flag("cluster-signing-cert-file", &authority.cert),
        flag("cluster-signing-key-file", &authority.key),
        "--use-service-account-credentials=true".into(),
        // There is one; an election would make every restart wait for the old lease to end.
        "--leader-elect=false".into(),
    ];
    if cluster.settings.programs.patched && cluster.settings.store != Store::Shim {
        // They collect no garbage: labelled objects must stay with the controller manager's collector, or they leak.
        args.push("--metadata-caching-skip-label=".into());
    }
    args.extend(serve(cluster.ports.controller_manager, &certs.serving()));
    args
}

fn serve(port: u16, pair: &Pair) -> [String; 4] {
    [
        format!("--secure-port={port}"),
        "--bind-address=127.0.0.1".into(),
        flag("tls-cert-file", &pair.cert),
        flag("tls-private-key-file", &pair.key),
    ]
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_name_a_process_without_what_kubernetes_puts_before_it() {
        for (component, name) in [
            (Component::Database, "database"),
            (Component::Store, "store"),
            (Component::Shard(1), "shard-2"),
            (Component::Apiserver, "apiserver"),
            (Component::ControllerManager, "controller-manager"),
        ] {
            assert_eq!(serde_json::to_value(component).expect("JSON"), name);
        }
    }

    #[test]
    fn what_is_given_replaces_what_we_say() {
        let ours = vec!["--a=1".to_owned(), "--b=2".to_owned()];
        let theirs = ["--b=3".to_owned(), "--c".to_owned()];
        assert_eq!(merge(ours, &theirs), ["--a=1", "--b=3", "--c"]);
    }
}
