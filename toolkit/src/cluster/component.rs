//! The processes of a cluster: how each is started and asked whether it is ready.

use std::path::Path;

use serde::Serialize;

use super::Cluster;
use super::backend;
use super::certs::Pair;
use super::client::Client;
use super::settings::Store;
use sluice_shell::error::{Explain, Result};
use sluice_shell::process::Run;

/// The addresses of services. No kube-proxy serves them here; the apiserver wants a range all the same.
const SERVICE_RANGE: &str = "10.96.0.0/16";

/// One process of a cluster, in the order in which they start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Component {
    /// A database server, if the cluster has one of its own.
    Database,
    /// sluice-shim, etcd or kine.
    Store,
    /// kube-apiserver.
    Apiserver,
    /// kube-controller-manager.
    ControllerManager,
}

impl Component {
    /// All, in the order in which they start.
    pub const ALL: [Self; 4] = [Self::Database, Self::Store, Self::Apiserver, Self::ControllerManager];

    /// What its files in the cluster's folder are named.
    pub(super) fn file_name(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Store => "store",
            Self::Apiserver => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
        }
    }

    /// What a person calls it.
    pub fn title(self, cluster: &Cluster) -> String {
        match self {
            Self::Database => cluster.settings.server().map_or_else(String::new, |server| server.to_string()),
            Self::Store => cluster.settings.store.to_string(),
            other => other.file_name().to_owned(),
        }
    }

    /// The port that others reach it by.
    pub(crate) fn port(self, cluster: &Cluster) -> u16 {
        match self {
            Self::Database => cluster.ports.database,
            Self::Store => cluster.ports.store,
            Self::Apiserver => cluster.ports.apiserver,
            Self::ControllerManager => cluster.ports.controller_manager,
        }
    }

    /// All ports that it listens on.
    pub(super) fn ports(self, cluster: &Cluster) -> Vec<u16> {
        match self {
            Self::Store => vec![cluster.ports.store, cluster.ports.store_metrics],
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
                Store::Shim => Ok(run(&programs.store, shim(cluster), &settings.store_args)?
                    .env("SLUICE_ENDPOINT", cluster.endpoint()?)),
                Store::Etcd => run(&programs.store, etcd(cluster), &settings.store_args),
                Store::Kine => run(&programs.store, kine(cluster), &settings.store_args),
            },
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

fn shim(cluster: &Cluster) -> Vec<String> {
    let mut args = store_tls(cluster);
    args.push("--watch-progress-notify-interval=5s".into());
    args
}

fn etcd(cluster: &Cluster) -> Vec<String> {
    let mut args = store_tls(cluster);
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

fn store_tls(cluster: &Cluster) -> Vec<String> {
    let (authority, serving) = (cluster.certs.store_authority(), cluster.certs.store_serving());
    vec![
        format!("--listen-client-urls=https://127.0.0.1:{}", cluster.ports.store),
        format!("--listen-metrics-urls=http://127.0.0.1:{}", cluster.ports.store_metrics),
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
    fn what_is_given_replaces_what_we_say() {
        let ours = vec!["--a=1".to_owned(), "--b=2".to_owned()];
        let theirs = ["--b=3".to_owned(), "--c".to_owned()];
        assert_eq!(merge(ours, &theirs), ["--a=1", "--b=3", "--c"]);
    }
}
