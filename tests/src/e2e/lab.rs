//! One cluster under test.

use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::{Column, Suite};
use crate::kubectl::Kubectl;
use sluice_shell::error::{Error, Result};
use sluice_toolkit::cluster::Cluster;
use sluice_toolkit::cluster::client::Client;
use sluice_toolkit::cluster::component::Component;
use sluice_toolkit::cluster::database::Database;
use sluice_toolkit::cluster::launch::launch;
use sluice_toolkit::cluster::leftover::{Guard, Leftover};
use sluice_toolkit::cluster::pid::Process;
use sluice_toolkit::cluster::port;
use sluice_toolkit::cluster::settings::{Backend, Programs, Settings, Store};
use sluice_toolkit::cluster::shard::Shard;
use sluice_toolkit::cluster::wait::{LIMIT, ensure, until};

/// What a case wants its cluster to be.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    column: Column,
    apiserver_args: Vec<String>,
    store_args: Vec<String>,
    backend: Option<Backend>,
    shards: Vec<String>,
}

impl Wish {
    /// A cluster of this column.
    pub(super) fn new(column: Column) -> Self {
        Self { column, apiserver_args: Vec::new(), store_args: Vec::new(), backend: None, shards: Vec::new() }
    }

    /// One more argument for the apiserver.
    pub(super) fn apiserver_arg(mut self, arg: impl Into<String>) -> Self {
        self.apiserver_args.push(arg.into());
        self
    }

    /// One more argument for the store.
    pub(super) fn store_arg(mut self, arg: impl Into<String>) -> Self {
        self.store_args.push(arg.into());
        self
    }

    /// Whether the store stands by for another one.
    pub(super) fn stands_by(&self) -> bool {
        self.store_args.iter().any(|arg| arg == "--standby")
    }

    /// The shim's connection string.
    pub(super) fn backend(mut self, backend: impl Into<String>) -> Self {
        self.backend = Some(Backend::Url(backend.into()));
        self
    }

    /// A group of custom resources, or one resource of it, in a database of its own.
    pub(super) fn shard(mut self, of: impl Into<String>) -> Self {
        self.shards.push(of.into());
        self
    }

    /// A database server for the shim, which runs with the cluster.
    pub(super) fn server(mut self, server: Database) -> Self {
        self.backend = Some(Backend::Server { server });
        self
    }
}

/// A running cluster. Dropping it stops the processes; its folder with the logs stays until [`Lab::finish`], so after a
/// failure it can be looked at.
pub(super) struct Lab {
    /// Its processes.
    pub(super) cluster: Cluster,
    /// The API as admin.
    pub(super) api: Client,
    kubectl: PathBuf,
    guard: Guard,
}

impl Lab {
    /// Starts a cluster and waits until it is ready.
    ///
    /// # Errors
    /// When it does not get ready.
    pub(super) fn start(suite: &Suite, wish: Wish) -> Result<Self> {
        let programs = suite.programs(wish.column)?.clone();
        let kubectl = kubectl_of(&programs)?;
        let folder = folder(suite, wish.column.name());
        let backend = match wish.backend {
            None if wish.column.store == Store::Shim && suite.data.database().is_some() => {
                Some(Backend::Url(suite.data.endpoint(&folder)?))
            }
            wished => wished,
        };
        let shards = wish.shards.iter().map(|of| shard(suite, &folder, of));
        let settings = Settings {
            kubernetes: wish.column.name().to_owned(),
            store: wish.column.store,
            backend,
            shards: shards.collect::<Result<_>>()?,
            programs,
            apiserver_args: wish.apiserver_args,
            controller_manager_args: Vec::new(),
            store_args: wish.store_args,
        };
        let guard = Guard::new(Leftover::Cluster(folder.clone()));
        let cluster = Cluster::prepare(&folder, settings, Some(0))?;
        cluster.start(|_| {})?;
        let api = cluster.client()?;
        Ok(Self { cluster, api, kubectl, guard })
    }

    /// Stops the cluster, does something, and starts the cluster with a group in a database of its own.
    ///
    /// # Errors
    /// When it does not get ready, and those of `between`.
    pub(super) fn with_shard(
        self,
        suite: &Suite,
        of: &str,
        between: impl FnOnce(&Cluster) -> Result<()>,
    ) -> Result<Self> {
        let Self { cluster, kubectl, guard, .. } = self;
        cluster.stop()?;
        let folder = cluster.folder.clone();
        let settings = Settings { shards: vec![shard(suite, &folder, of)?], ..cluster.settings.clone() };
        drop(cluster);
        let cluster = Cluster::prepare(&folder, settings, Some(0))?;
        between(&cluster)?;
        cluster.start(|_| {})?;
        let api = cluster.client()?;
        Ok(Self { cluster, api, kubectl, guard })
    }

    /// Starts one more apiserver on the same store, with the same arguments.
    ///
    /// # Errors
    /// When it does not get ready.
    pub(super) fn second_apiserver(&self) -> Result<SecondApiserver> {
        let cluster = self.cluster.through(port::free()?);
        let (_process, guard) = start_beside(&cluster, Component::Apiserver, "kube-apiserver-2")?;
        Ok(SecondApiserver { api: cluster.client()?, _guard: guard })
    }

    /// Starts one more store on the same database, and one more apiserver on that store.
    ///
    /// # Errors
    /// When they do not get ready.
    pub(super) fn second_plane(&self) -> Result<SecondPlane> {
        let cluster = self.cluster.beside(port::free()?, port::free()?, port::free()?);
        let store = start_beside(&cluster, Component::Store, "store-2")?;
        let apiserver = start_beside(&cluster, Component::Apiserver, "kube-apiserver-2")?;
        Ok(SecondPlane { api: cluster.client()?, cluster, store: Mutex::new(store), _apiserver: apiserver })
    }

    /// A kubectl for it.
    pub(super) fn kubectl(&self) -> Kubectl {
        Kubectl::new(&self.kubectl, &self.cluster.folder, &self.cluster.kubeconfig())
    }

    /// Stops the cluster and removes its folder, because all went well.
    ///
    /// # Errors
    /// When a process can't be stopped or a file can't be removed.
    pub(super) fn finish(self) -> Result<()> {
        let Self { cluster, guard, .. } = self;
        drop(guard);
        let cache = cluster.folder.join("kubectl");
        if cache.exists() {
            fs_err::remove_dir_all(cache)?;
        }
        cluster.remove()
    }
}

/// A shard on a database of the kind under test.
fn shard(suite: &Suite, folder: &Path, of: &str) -> Result<Shard> {
    let shard = Shard::from_str(of).map_err(|error| Error::input(error.to_string()))?;
    let endpoint = match suite.data.database() {
        Some(_) => Some(suite.data.endpoint(&folder.join(of.replace('/', "-")))?),
        None => None,
    };
    Ok(Shard { endpoint, ..shard })
}

/// Starts a process that is none of the cluster's own, and waits until it is ready. It ends with the guard.
fn start_beside(cluster: &Cluster, component: Component, name: &str) -> Result<(Process, Guard)> {
    let log = cluster.folder.join(format!("log/{name}.log"));
    let process = launch(name, &component.command(cluster)?, &log)?;
    let guard = Guard::new(Leftover::Process(process.clone()));
    until(&format!("the readiness of {name}"), LIMIT, || {
        ensure(process.is_alive(), || format!("{name} ended by itself: see {}", log.display()))?;
        Ok(component.probe(cluster).ok())
    })?;
    Ok((process, guard))
}

/// A store and an apiserver beside those of a cluster. Dropping it ends them.
pub(super) struct SecondPlane {
    /// Its API as admin.
    pub(super) api: Client,
    cluster: Cluster,
    store: Mutex<(Process, Guard)>,
    _apiserver: (Process, Guard),
}

impl SecondPlane {
    /// Kills its store with SIGKILL, and starts it again.
    ///
    /// # Errors
    /// When it does not get ready.
    pub(super) fn crash(&self) -> Result<()> {
        let mut store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        store.0.kill()?;
        *store = start_beside(&self.cluster, Component::Store, "store-2")?;
        Ok(())
    }
}

/// One more apiserver of a cluster. Dropping it ends it.
pub(super) struct SecondApiserver {
    /// Its API as admin.
    pub(super) api: Client,
    _guard: Guard,
}

/// The kubectl that tests drive clusters with.
pub(super) fn kubectl_of(programs: &Programs) -> Result<PathBuf> {
    programs.kubectl.clone().ok_or_else(|| Error::input("the tests need a kubectl beside the other programs"))
}

/// A folder that no other case and no other run uses.
pub(super) fn folder(suite: &Suite, name: &str) -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    suite.scratch.join(format!("{name}-{}-{number}", std::process::id()))
}
