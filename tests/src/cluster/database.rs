//! What the data of a case is on: a volume of the node, or a server of this machine.

use serde_json::{Value, json};

use super::lab::Lab;
use crate::kubectl::Kubectl;
use sluice_shell::error::{Error, Result};
use sluice_toolkit::cluster::database::Database;
use sluice_toolkit::cluster::standalone::Standalone;
use sluice_toolkit::node::HOST_NETWORK;

/// Where Pods reach a server, on the node's address.
const PORT: u16 = 15432;

/// A server outside the node, as Pods see it.
pub(super) struct Server {
    /// Its connection string for Pods, without what it says of TLS.
    endpoint: String,
    server: Standalone,
}

/// Volumes for the claims of a case.
pub(super) struct Volumes {
    names: Vec<String>,
}

impl Volumes {
    /// Makes so many that claims get, as a cloud's provisioner would.
    pub(super) fn make(lab: &Lab, count: usize) -> Result<Self> {
        let names: Vec<String> = (1..=count).map(|number| format!("volume-{number}")).collect();
        let class = json!({
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {
                "name": "local",
                "annotations": { "storageclass.kubernetes.io/is-default-class": "true" },
            },
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "WaitForFirstConsumer",
        });
        let mut items = vec![class];
        for name in &names {
            lab.node()?.inside("busybox")?.args(["mkdir", "-p", &place(name)]).run()?;
            items.push(volume(name));
        }
        lab.kubectl().send("apply", &json!({ "apiVersion": "v1", "kind": "List", "items": items }))?;
        Ok(Self { names })
    }

    /// Removes them with what is on them.
    pub(super) fn remove(&self, lab: &Lab) -> Result<()> {
        for name in &self.names {
            lab.kubectl().run(&format!("delete persistentvolume {name}"))?;
            lab.node()?.inside("busybox")?.args(["rm", "-r", &place(name)]).run()?;
        }
        Ok(())
    }
}

/// Where a volume is on the node.
fn place(name: &str) -> String {
    format!("/var/lib/volumes/{name}")
}

/// A volume of a kind that the kubelet gives to the group of the Pod.
fn volume(name: &str) -> Value {
    let node = json!({ "key": "kubernetes.io/hostname", "operator": "In", "values": ["sluice-node"] });
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": { "name": name },
        "spec": {
            "capacity": { "storage": "10Gi" },
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "local",
            "persistentVolumeReclaimPolicy": "Retain",
            "local": { "path": place(name) },
            "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [node] }] } },
        },
    })
}

/// Starts a server on this machine's loopback, and lets Pods reach it at the node's address, which its certificate is
/// for. Nobody is let in without TLS.
pub(super) fn server(lab: &Lab, database: Database) -> Result<Server> {
    let address = lab.address()?;
    let folder = lab.report.folder.with_extension(database.value());
    let server = Standalone::encrypted(database, &folder, &[&address])?;
    let node = lab.node()?;
    let folder = lab.report.folder.with_extension("socat");
    fs_err::create_dir_all(&folder)?;
    let (port, log) = (server.port, folder.join("log"));
    let (socket, port_inside) = (format!("/run/{}", database.value()), port_inside(database));
    // One end is on this machine's network, the other one on the node's; both end with the node.
    let outside = format!("--net={HOST_NETWORK}");
    let (listen, connect) = (format!("UNIX-LISTEN:{socket},fork,unlink-early"), format!("TCP:127.0.0.1:{port}"));
    node.inside("nsenter")?.args([outside.as_str(), "socat", &listen, &connect]).spawn(&log)?;
    let listen = format!("TCP-LISTEN:{port_inside},bind={address},fork,reuseaddr");
    node.inside("socat")?.args([listen, format!("UNIX-CONNECT:{socket}")]).spawn(&log)?;
    let (here, there) = (format!("127.0.0.1:{port}"), format!("{address}:{port_inside}"));
    if !server.endpoint.contains(&here) {
        return Err(Error::input(format!("the server's connection string does not name {here}")));
    }
    Ok(Server { endpoint: server.endpoint.replace(&here, &there), server })
}

fn port_inside(database: Database) -> u16 {
    match database {
        Database::Postgres => PORT,
        Database::Mariadb => PORT + 1,
    }
}

impl Server {
    /// Makes the Secret that docs/clusters.md and docs/helm.md have for Pods. `folder` is where Pods find its keys.
    pub(super) fn create_secret(&self, kubectl: &Kubectl, namespace: &str, folder: &str) -> Result<()> {
        let authority = format!("--from-file=ca.crt={}", self.server.authority().display());
        let verified = format!("sslmode=verify-full&sslrootcert={folder}/ca.crt");
        let endpoint = format!("--from-literal=endpoint={}?{verified}", self.endpoint);
        let create = format!("create secret generic sluice-database --namespace {namespace} {authority} {endpoint}");
        kubectl.run(&create).map(drop)
    }

    /// Ends it and removes its data.
    pub(super) fn stop(&self) -> Result<()> {
        self.server.stop()
    }
}
