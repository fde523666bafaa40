//! What a cluster runs with. Kept in the cluster's folder, so that `up` after a crash starts the same processes again.

use std::fmt;
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::database::Database;
use super::private;
use super::shard::{Shard, ShardPorts};
use sluice_shell::error::{Error, Result};

/// The format of the settings file.
const SCHEMA: u32 = 1;

/// The server that keeps the cluster's objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Store {
    /// sluice-shim.
    #[default]
    Shim,
    /// Stock etcd, to compare with.
    Etcd,
    /// kine on SQLite, to compare with.
    Kine,
}

impl Store {
    /// As `--store` takes it.
    pub(crate) fn value(self) -> &'static str {
        match self {
            Self::Shim => "shim",
            Self::Etcd => "etcd",
            Self::Kine => "kine",
        }
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shim => "sluice-shim",
            Self::Etcd => "etcd",
            Self::Kine => "kine",
        })
    }
}

/// The programs that the cluster runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Programs {
    /// kube-apiserver.
    pub apiserver: PathBuf,
    /// kube-controller-manager.
    pub controller_manager: PathBuf,
    /// sluice-shim, etcd or kine.
    pub store: PathBuf,
    /// kubectl of the same minor.
    pub kubectl: Option<PathBuf>,
    /// Whether the Kubernetes programs carry the patches, and so know their flags.
    pub patched: bool,
}

/// Loopback ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// The Kubernetes API.
    pub apiserver: u16,
    /// The controller manager's probes and metrics.
    pub controller_manager: u16,
    /// The etcd API.
    pub store: u16,
    /// The store's probes and metrics (plain HTTP).
    pub store_metrics: u16,
    /// The database server, if the cluster has one of its own.
    #[serde(default)]
    pub database: u16,
    /// The shims of [`Settings::shards`], in their order.
    #[serde(default)]
    pub shards: Vec<ShardPorts>,
}

impl Ports {
    /// Where the store of all that is in no shard listens.
    pub(super) fn main(&self) -> ShardPorts {
        ShardPorts { store: self.store, metrics: self.store_metrics }
    }
}

/// Everything that decides how the processes are started, except for the folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The Kubernetes minor, or the folder that the programs came from.
    pub kubernetes: String,
    /// What keeps the objects.
    pub store: Store,
    /// The shim's database; none for an SQLite file in the cluster's folder.
    pub backend: Option<Backend>,
    /// Custom resources that are in databases of their own, in the order of their names.
    #[serde(default)]
    pub shards: Vec<Shard>,
    /// What is run.
    pub programs: Programs,
    /// More arguments for kube-apiserver; they win over ours.
    pub apiserver_args: Vec<String>,
    /// More arguments for kube-controller-manager; they win over ours.
    pub controller_manager_args: Vec<String>,
    /// More arguments for the store, and for the shims of shards; they win over ours.
    pub store_args: Vec<String>,
}

/// The shim's database, where it is no file in the cluster's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Backend {
    /// A connection string. May hold a password.
    Url(String),
    /// A server that runs with the cluster.
    Server {
        /// Which.
        server: Database,
    },
}

impl Settings {
    /// Where the objects are.
    pub(crate) fn place(&self) -> Place<'_> {
        Place { store: self.store, backend: self.backend.as_ref(), shards: &self.shards }
    }

    /// The database server that runs with the cluster.
    pub(super) fn server(&self) -> Option<Database> {
        match self.backend {
            Some(Backend::Server { server }) => Some(server),
            _ => None,
        }
    }
}

/// Where a cluster keeps its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place<'a> {
    /// Whose files they are.
    pub(crate) store: Store,
    /// The shim's database.
    pub(crate) backend: Option<&'a Backend>,
    /// What is in databases of its own.
    pub(crate) shards: &'a [Shard],
}

impl Place<'_> {
    /// A shard whose objects would be out of sight if the cluster kept them in the `wanted` place from now on. Whoever
    /// names a database by its connection string knows what is in there.
    pub(super) fn lost_shard(self, wanted: Self) -> Option<Shard> {
        let is_kept = |shard: &Shard| {
            let same = wanted.shards.iter().find(|other| other.is_of_same(shard));
            same.is_some_and(|other| other.endpoint.is_some() || shard.endpoint.is_none())
        };
        self.shards.iter().find(|shard| !is_kept(shard)).cloned()
    }

    /// For people; never shows a connection string.
    pub(super) fn name(self) -> String {
        match (self.store, self.backend) {
            (Store::Shim, None) => "a SQLite file in its folder".to_owned(),
            (Store::Shim, Some(Backend::Server { server })) => format!("the {server} of its own"),
            (Store::Shim, Some(Backend::Url(_))) => "the database that `--backend` named".to_owned(),
            (store, _) => format!("{store}'s files in its folder"),
        }
    }

    /// How to ask `up` for it.
    pub(super) fn flag(self) -> String {
        match (self.store, self.backend) {
            (Store::Shim, None) => "without `--database` and `--backend`".to_owned(),
            (Store::Shim, Some(Backend::Server { server })) => format!("with `--database {}`", server.value()),
            (Store::Shim, Some(Backend::Url(_))) => "with the `--backend` that it had".to_owned(),
            (store, _) => format!("with `--store {}`", store.value()),
        }
    }
}

/// The settings file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Saved {
    schema: u32,
    /// How the processes are started.
    #[serde(flatten)]
    pub(super) settings: Settings,
    /// Where they listen.
    pub(super) ports: Ports,
}

impl Saved {
    pub(super) fn new(settings: Settings, ports: Ports) -> Self {
        Self { schema: SCHEMA, settings, ports }
    }

    /// Reads the file; none if there is none.
    pub(super) fn load(path: &Path) -> Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let saved: Self = serde_json::from_slice(&fs::read(path)?)
            .map_err(|error| Error::input(format!("{} is no cluster of this toolkit: {error}", path.display())))?;
        if saved.schema != SCHEMA {
            let found = saved.schema;
            return Err(Error::input(format!("{} has format {found}; this is format {SCHEMA}", path.display())));
        }
        Ok(Some(saved))
    }

    pub(super) fn save(&self, path: &Path) -> Result<()> {
        private::write(path, &serde_json::to_vec_pretty(self)?)
    }
}
