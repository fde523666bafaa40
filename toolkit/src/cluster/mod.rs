//! A control plane on this machine: store, apiserver and controller manager as loopback processes, everything of it in
//! one folder.
//!
//! ```text
//! cluster.json   settings and ports        pki/    certificates and keys      kubeconfig   for the user
//! run/*.pid      who the processes are     log/    what they say              data/        the store
//! ```
//!
//! The verbs `up`, `down`, `status` and the end-to-end tests all work through [`Cluster`].

pub mod backend;
pub mod certs;
pub mod client;
pub mod component;
pub mod database;
mod kubeconfig;
pub mod launch;
pub mod leftover;
pub mod pid;
pub mod policies;
pub mod port;
pub(crate) mod private;
pub mod problem;
pub mod programs;
pub mod settings;
pub mod shard;
pub mod shirts;
pub mod standalone;
pub mod wait;

use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;

use self::certs::Certificates;
use self::client::Client;
use self::component::Component;
use self::launch::{Start, launch};
use self::pid::Process;
use self::problem::{Busy, Foreign, NoCluster, NoFolder, OtherPlace, OtherSettings, PortTaken};
use self::settings::{Backend, Place, Ports, Saved, Settings, Store};
use self::shard::ShardPorts;
use sluice_shell::error::{Attempt as _, Error, Result};

/// How long a process may take to end by itself.
const GRACE: Duration = Duration::from_secs(10);

/// What the toolkit puts into a cluster's folder, and so may remove.
const CONTENTS: [&str; 11] = [
    "cluster.json",
    "cluster.json.unfinished",
    "kubeconfig",
    "kubeconfig.unfinished",
    "kubectl",
    "run",
    "log",
    "pki",
    "pki.unfinished",
    "data",
    "lock",
];

/// A cluster whose settings are known. Its processes may or may not run.
pub struct Cluster {
    /// Where everything of it is; absolute.
    pub folder: PathBuf,
    /// How its processes are started.
    pub settings: Settings,
    /// Where they listen.
    pub ports: Ports,
    certs: Certificates,
    /// Held while we may start and stop processes; none if we only look.
    _lock: Option<fs::File>,
}

impl Cluster {
    /// Takes the cluster of a folder in hand, with the settings that it shall have. Ports that it had before are kept
    /// unless `port` (the apiserver's; 0 for any) says otherwise.
    ///
    /// # Errors
    /// [`OtherSettings`] when processes of it run that were started otherwise; [`OtherPlace`] when its objects are
    /// elsewhere; [`Busy`]; file errors.
    pub fn prepare(folder: &Path, settings: Settings, port: Option<u16>) -> Result<Self> {
        let folder = std::path::absolute(folder)?;
        refuse_foreign(&folder)?;
        // First of all: it tells the remains of a run that was killed from a folder of the person's own.
        fs::create_dir_all(&folder).map_err(|error| NoFolder { folder: folder.clone(), cause: error.to_string() })?;
        let lock = lock(&folder)?;
        for part in ["run", "log", "data"] {
            fs::create_dir_all(folder.join(part))?;
        }
        let saved = Saved::load(&folder.join("cluster.json"))?;
        let runs = saved.as_ref().is_some_and(|saved| Self::of(&folder, saved.clone()).runs());
        let ports = match &saved {
            Some(saved) if runs => {
                if let Some(difference) = difference(saved, &settings, port) {
                    return Err(OtherSettings { folder, difference }.into());
                }
                saved.ports.clone()
            }
            _ => {
                saved.as_ref().map_or(Ok(()), |saved| refuse_other_place(&folder, saved, settings.place()))?;
                choose_ports(saved.as_ref().map(|saved| &saved.ports), port, settings.shards.len())?
            }
        };
        let certs = Certificates::ensure(&folder.join("pki"))?;
        Saved::new(settings.clone(), ports.clone()).save(&folder.join("cluster.json"))?;
        let cluster = Self { folder, settings, ports, certs, _lock: Some(lock) };
        cluster.write_kubeconfigs()?;
        Ok(cluster)
    }

    /// Takes a cluster in hand as it was last started.
    ///
    /// # Errors
    /// [`NoCluster`]; [`Busy`]; file errors.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let cluster = Self::look(folder)?;
        let lock = lock(&cluster.folder)?;
        Ok(Self { _lock: Some(lock), ..cluster })
    }

    /// A cluster to look at, even while another run of the toolkit starts or stops it.
    ///
    /// # Errors
    /// [`NoCluster`]; file errors.
    pub fn look(folder: &Path) -> Result<Self> {
        let folder = std::path::absolute(folder)?;
        let Some(saved) = Saved::load(&folder.join("cluster.json"))? else { return Err(NoCluster(folder).into()) };
        Certificates::ensure(&folder.join("pki"))?;
        Ok(Self::of(&folder, saved))
    }

    /// The cluster of a settings file, to look at.
    fn of(folder: &Path, saved: Saved) -> Self {
        let certs = Certificates::at(&folder.join("pki"));
        Self { folder: folder.to_owned(), settings: saved.settings, ports: saved.ports, certs, _lock: None }
    }

    /// Its processes, in the order in which they start.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = Component> + use<> {
        let database = self.settings.server().map(|_| Component::Database);
        let stores = [Component::Store].into_iter().chain((0..self.settings.shards.len()).map(Component::Shard));
        database.into_iter().chain(stores).chain([Component::Apiserver, Component::ControllerManager])
    }

    /// Whether one of its processes runs.
    fn runs(&self) -> bool {
        self.components().any(|component| self.process(component).is_some())
    }

    /// Refuses what [`Cluster::prepare`] and [`Cluster::start`] would, before minutes are spent on programs for it: a
    /// folder that can't be written or is somebody's, objects that are elsewhere, a port that is taken.
    ///
    /// # Errors
    /// [`Foreign`], [`NoFolder`], [`OtherPlace`], [`PortTaken`].
    pub(crate) fn check(folder: &Path, place: Place<'_>, port: Option<u16>) -> Result<()> {
        let folder = std::path::absolute(folder)?;
        refuse_foreign(&folder)?;
        let saved = Saved::load(&folder.join("cluster.json"))?;
        let before = saved.clone().map(|saved| Self::of(&folder, saved));
        if before.as_ref().is_some_and(Self::runs) {
            return Ok(());
        }
        saved.map_or(Ok(()), |saved| refuse_other_place(&folder, &saved, place))?;
        let port = port.or(before.map(|cluster| cluster.ports.apiserver)).filter(|&port| port != 0);
        Ok(port.map_or(Ok(()), |port| {
            port::bind(port).map_err(|why| PortTaken::of(&Component::Apiserver.file_name(), port, &why))
        })?)
    }

    /// Removes what a run left in the folder that was killed before there was a cluster. Says whether there was
    /// anything.
    ///
    /// # Errors
    /// [`Busy`]; when a file can't be removed.
    pub(crate) fn remove_remains(folder: &Path) -> Result<bool> {
        if !folder.join("lock").is_file() || folder.join("cluster.json").exists() {
            return Ok(false);
        }
        let _lock = lock(folder)?;
        remove_contents(folder)?;
        Ok(true)
    }

    /// Starts what does not run and waits until everything is ready. Says what was started. On failure, what was
    /// started is stopped again: else the next try with better settings would find a cluster that runs with the wrong
    /// ones.
    ///
    /// # Errors
    /// [`PortTaken`]; [`problem::NotReady`] with the last lines of the log.
    pub fn start(&self, mut progress: impl FnMut(&str)) -> Result<Vec<Component>> {
        let mut started = Vec::new();
        for component in self.components() {
            let runs = self.process(component).is_some();
            progress(&format!("{} {}", if runs { "waiting for" } else { "starting" }, component.title(self)));
            let result = if runs {
                self.wait_ready(component, 0)
            } else {
                started.push(component);
                self.start_one(component)
            };
            if let Err(error) = result {
                for component in started.into_iter().rev() {
                    self.stop_one(component)?;
                }
                return Err(error);
            }
        }
        Ok(started)
    }

    /// Starts one process and waits until it is ready.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub fn start_one(&self, component: Component) -> Result<()> {
        let title = component.title(self);
        for port in component.ports(self) {
            port::bind(port).map_err(|why| PortTaken::of(&title, port, &why))?;
        }
        let log = self.log(component);
        let said_before = fs::metadata(&log).map_or(0, |file| file.len());
        if let (Component::Database, Some(server)) = (component, self.settings.server()) {
            server.prepare(&self.data())?;
        }
        let process = launch(&title, &component.command(self)?, &log)?;
        if let Err(error) = process.save(&pid_file(&self.folder, component)) {
            process.kill()?;
            return Err(error);
        }
        self.wait_ready(component, said_before)
    }

    /// Waits until a process says that it is ready.
    fn wait_ready(&self, component: Component, said_before: u64) -> Result<()> {
        let (title, log) = (component.title(self), self.log(component));
        let start = Start { title: &title, log: &log, said_before };
        start.wait(|| component.probe(self), || self.process(component).is_some())
    }

    /// Ends all processes, the last one first.
    ///
    /// # Errors
    /// When one can't be ended.
    pub fn stop(&self) -> Result<()> {
        for component in self.components().rev() {
            self.stop_one(component)?;
        }
        Ok(())
    }

    /// Ends one process; fine if it does not run.
    ///
    /// # Errors
    /// When it can't be ended.
    pub fn stop_one(&self, component: Component) -> Result<()> {
        if let Some(process) = self.process(component) {
            process.stop(GRACE).attempting(|| format!("cannot stop {}", component.title(self)))?;
        }
        let file = pid_file(&self.folder, component);
        if file.exists() { Ok(fs::remove_file(file)?) } else { Ok(()) }
    }

    /// Removes everything that the toolkit put into the folder, and the folder itself if nothing else is in it.
    ///
    /// # Errors
    /// When a file can't be removed.
    pub fn remove(self) -> Result<()> {
        remove_contents(&self.folder)
    }

    /// The process, if it runs: that of the pid file, or one that was started as we do it, by a run that was killed
    /// before it had written the file.
    pub fn process(&self, component: Component) -> Option<Process> {
        let file = pid_file(&self.folder, component);
        let known = Process::load(&file).ok()?.filter(Process::is_alive);
        known.or_else(|| {
            let command = component.command(self).ok()?;
            Process::started_as(command.folder(), &command.words())
        })
    }

    /// Whether the process says that it can serve.
    pub(crate) fn is_ready(&self, component: Component) -> bool {
        self.process(component).is_some() && component.probe(self).is_ok()
    }

    /// The Kubernetes API as admin.
    ///
    /// # Errors
    /// When a certificate can't be read.
    pub fn client(&self) -> Result<Client> {
        Client::tls(self.ports.apiserver, &self.certs.authority(), Some(&self.certs.admin()))
    }

    /// The same cluster through an apiserver at another port, which is not one of its processes: who starts it ends it.
    pub fn through(&self, apiserver: u16) -> Self {
        Self {
            folder: self.folder.clone(),
            settings: self.settings.clone(),
            ports: Ports { apiserver, ..self.ports.clone() },
            certs: self.certs.clone(),
            _lock: None,
        }
    }

    /// The same cluster with a store and an apiserver at other ports, which are none of its processes: who starts them
    /// ends them.
    pub fn beside(&self, store: u16, store_metrics: u16, apiserver: u16) -> Self {
        let cluster = self.through(apiserver);
        Self { ports: Ports { store, store_metrics, ..cluster.ports }, ..cluster }
    }

    /// The certificates of its processes and users.
    pub fn certificates(&self) -> &Certificates {
        &self.certs
    }

    /// The certificate of the authority that the apiserver's is from.
    pub(crate) fn authority(&self) -> PathBuf {
        self.certs.authority().cert
    }

    /// Where [`Cluster::write_token`] puts the token of a cluster in that folder, for the apiserver's
    /// `--token-auth-file`.
    pub(crate) fn token_file(folder: &Path) -> PathBuf {
        folder.join("run/tokens.csv")
    }

    /// Makes a token for one more admin. For clients that make many requests: a token costs the apiserver less than a
    /// certificate.
    ///
    /// # Errors
    /// File errors.
    pub(crate) fn write_token(&self) -> Result<PathBuf> {
        let token = private::random()?;
        let path = Self::token_file(&self.folder);
        private::write(&path, format!("{token},load,load,\"system:masters\"\n").as_bytes())?;
        Ok(path)
    }

    /// The store's probes and metrics.
    pub fn store_client(&self) -> Client {
        Client::plain(self.ports.store_metrics)
    }

    /// Probes and metrics of a shard's shim.
    pub fn shard_client(&self, at: usize) -> Client {
        Client::plain(self.ports.shards[at].metrics)
    }

    /// The revision that the store is at, as the apiserver reads it.
    ///
    /// # Errors
    /// When the apiserver does not answer.
    pub(crate) fn store_revision(&self) -> Result<u64> {
        let list = self.client()?.get("/api/v1/namespaces?limit=1")?;
        let revision = list["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok());
        revision.ok_or_else(|| Error::input("the apiserver's list has no resourceVersion"))
    }

    /// The kubeconfig of the admin.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// What the process logs.
    pub fn log(&self, component: Component) -> PathBuf {
        self.folder.join("log").join(format!("{}.log", component.file_name()))
    }

    /// The shim's connection string.
    ///
    /// # Errors
    /// When the password of the cluster's own database can't be read.
    pub fn endpoint(&self) -> Result<String> {
        match &self.settings.backend {
            Some(Backend::Url(url)) => Ok(url.clone()),
            Some(Backend::Server { server }) => server.endpoint(&self.data(), self.ports.database),
            None => Ok(backend::sqlite(&self.database())),
        }
    }

    /// The connection string of a shard's shim.
    pub fn shard_endpoint(&self, at: usize) -> String {
        let shard = &self.settings.shards[at];
        shard.endpoint.clone().unwrap_or_else(|| backend::sqlite(&self.data().join(shard.file())))
    }

    /// Where databases are.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// The SQLite file of a cluster without a backend of its own.
    pub fn database(&self) -> PathBuf {
        self.data().join("sluice.db")
    }

    fn controller_manager_kubeconfig(&self) -> PathBuf {
        self.folder.join("pki/controller-manager.kubeconfig")
    }

    fn write_kubeconfigs(&self) -> Result<()> {
        let server = format!("https://127.0.0.1:{}", self.ports.apiserver);
        let (authority, admin, manager) = (self.certs.authority(), self.certs.admin(), self.certs.controller_manager());
        kubeconfig::write(&self.kubeconfig(), &server, &authority, ("admin", &admin))?;
        let path = self.controller_manager_kubeconfig();
        kubeconfig::write(&path, &server, &authority, ("controller-manager", &manager))
    }
}

fn pid_file(folder: &Path, component: Component) -> PathBuf {
    folder.join("run").join(format!("{}.pid", component.file_name()))
}

/// Refuses a folder that is none, can't be written, or has files of somebody else where a cluster has its own: `down`
/// would remove those.
fn refuse_foreign(folder: &Path) -> Result<()> {
    // What is there of it: the folder or the nearest one above.
    let there = folder.ancestors().find(|above| above.symlink_metadata().is_ok()).unwrap_or(folder);
    let refuse = |cause| Err(NoFolder { folder: folder.to_owned(), cause }.into());
    match fs::metadata(there) {
        Ok(meta) if !meta.is_dir() => return refuse(format!("{} is no folder", there.display())),
        Err(error) => return refuse(error.to_string()),
        Ok(_) => {}
    }
    if let Err(error) = nix::unistd::access(there, nix::unistd::AccessFlags::W_OK) {
        return refuse(format!("{} can't be written: {}", there.display(), error.desc()));
    }
    if folder.join("lock").exists() || folder.join("cluster.json").exists() {
        return Ok(());
    }
    let files: Vec<&str> = CONTENTS.into_iter().filter(|name| folder.join(name).symlink_metadata().is_ok()).collect();
    if files.is_empty() { Ok(()) } else { Err(Foreign { folder: folder.to_owned(), files }.into()) }
}

/// Refuses to start a cluster that was stopped without its objects. Whoever names a database by its connection string
/// knows what is in there.
fn refuse_other_place(folder: &Path, saved: &Saved, wanted: Place<'_>) -> Result<()> {
    let is = saved.settings.place();
    if let Some(shard) = is.lost_shard(wanted) {
        let before = format!("with `--shard {shard}{}`", if shard.endpoint.is_some() { "=CONNECTION" } else { "" });
        let (is, wanted) = (format!("two places: those of {shard} are in a shard"), "what is asked for".to_owned());
        return Err(OtherPlace { folder: folder.to_owned(), is, wanted, before }.into());
    }
    let elsewhere = matches!(is.backend, Some(Backend::Url(_)));
    // After a first start that failed there may be none.
    let has_files = fs::read_dir(folder.join("data")).is_ok_and(|mut files| files.next().is_some());
    if (is.store, is.backend) == (wanted.store, wanted.backend)
        || matches!(wanted.backend, Some(Backend::Url(_)))
        || !(elsewhere || has_files)
    {
        return Ok(());
    }
    let (folder, before) = (folder.to_owned(), is.flag());
    Err(OtherPlace { folder, is: is.name(), wanted: wanted.name(), before }.into())
}

fn remove_contents(folder: &Path) -> Result<()> {
    for name in CONTENTS {
        let path = folder.join(name);
        if path.is_dir() {
            fs::remove_dir_all(&path)?;
        } else if path.exists() {
            fs::remove_file(&path)?;
        }
    }
    if fs::read_dir(folder)?.next().is_none() {
        fs::remove_dir(folder)?;
    }
    Ok(())
}

fn lock(folder: &Path) -> Result<fs::File> {
    let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(folder.join("lock"))?;
    match file.file().try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Busy(folder.to_owned()).into()),
        Err(std::fs::TryLockError::Error(error)) => Err(error.into()),
    }
}

/// In what the running cluster differs from the one asked for; never shows a connection string.
fn difference(saved: &Saved, wanted: &Settings, port: Option<u16>) -> Option<String> {
    let is = &saved.settings;
    let store = |settings: &Settings| settings.store;
    if is.kubernetes != wanted.kubernetes || is.programs != wanted.programs {
        let flavor =
            |s: &Settings| format!("{} {}", if s.programs.patched { "patched" } else { "stock" }, s.kubernetes);
        return Some(format!("its programs are {}, not {}", flavor(is), flavor(wanted)));
    }
    if store(is) != store(wanted) {
        return Some(format!("its store is {}, not {}", store(is), store(wanted)));
    }
    if is.backend != wanted.backend {
        return Some("its database is another one".into());
    }
    if is.shards != wanted.shards {
        return Some("what is in databases of its own".into());
    }
    if is != wanted {
        return Some("arguments passed on to its processes".into());
    }
    let port = port.filter(|&port| port != 0 && port != saved.ports.apiserver)?;
    Some(format!("its port is {}, not {port}", saved.ports.apiserver))
}

/// Ports for a cluster none of whose processes run. The apiserver's is kept, because kubeconfigs name it; the others
/// only if they are still free.
fn choose_ports(before: Option<&Ports>, apiserver: Option<u16>, shards: usize) -> Result<Ports> {
    let keep = |port: Option<u16>| match port.filter(|&port| port::is_free(port)) {
        Some(port) => Ok(port),
        None => port::free(),
    };
    let apiserver = match (apiserver, before) {
        (Some(0), None) | (None, None) => port::free()?,
        (Some(0), Some(before)) => keep(Some(before.apiserver))?,
        (Some(port), _) => port,
        (None, Some(before)) => before.apiserver,
    };
    let shard = |at| {
        let before: Option<&ShardPorts> = before.and_then(|ports| ports.shards.get(at));
        Ok(ShardPorts {
            store: keep(before.map(|ports| ports.store))?,
            metrics: keep(before.map(|ports| ports.metrics))?,
        })
    };
    Ok(Ports {
        apiserver,
        controller_manager: keep(before.map(|ports| ports.controller_manager))?,
        store: keep(before.map(|ports| ports.store))?,
        store_metrics: keep(before.map(|ports| ports.store_metrics))?,
        // 0 in a folder of an older toolkit.
        database: keep(before.map(|ports| ports.database).filter(|&port| port != 0))?,
        shards: (0..shards).map(shard).collect::<Result<_>>()?,
    })
}

/// The flags that named databases of the user's own, in which objects are left when the cluster's folder is gone.
pub(crate) fn foreign_databases(settings: &Settings) -> Vec<&'static str> {
    let by_shard = settings.shards.iter().any(|shard| shard.endpoint.is_some());
    let named = [("`--backend`", matches!(settings.backend, Some(Backend::Url(_)))), ("`--shard`", by_shard)];
    let named = named.into_iter().filter(|(_, named)| *named && settings.store == Store::Shim);
    named.map(|(flag, _)| flag).collect()
}
