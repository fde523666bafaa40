//! One system, measured: a cluster is filled, the owner deleted, and what follows is watched.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use super::others::{self, Latency};
use crate::cluster::Cluster;
use crate::cluster::client::Client;
use crate::cluster::component::Component;
use crate::cluster::settings::{Backend, Programs, Settings, Store};
use crate::cluster::shirts::{self, NAMESPACE, PATH, SKIP_LABEL};
use crate::cluster::wait::{LIMIT, until};
use sluice_shell::context::Context;
use sluice_shell::error::{Error, Result};

/// How long writers are watched before anything is collected, and memory is at rest.
const CALM: Duration = Duration::from_secs(8);

/// A dependent takes about 600 bytes.
const NOTE_BYTES: usize = 200;

/// ConfigMaps that others write.
const OTHERS: usize = 4;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum System {
    /// Patched Kubernetes over sluice-shim; dependents have the label.
    Ours,
    /// Kubernetes over etcd as they come.
    Stock,
}

/// How much there is to do.
#[derive(Debug, Clone)]
pub(super) struct Work {
    pub(super) dependents: usize,
    pub(super) limit: Duration,
    /// The store's database, if it is none of its own.
    pub(super) backend: Option<Backend>,
}

/// Resident memory. Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Memory {
    pub(super) apiserver: u64,
    pub(super) controller_manager: u64,
    pub(super) store: u64,
}

/// What came out.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Measured {
    pub(super) system: System,
    pub(super) dependents: usize,
    /// How long the creation took. Seconds.
    pub(super) load_seconds: f64,
    /// From the answer to the owner's deletion until the last dependent was gone, or the limit. Seconds.
    pub(super) seconds: f64,
    /// Dependents that were left at the limit.
    pub(super) left: u64,
    pub(super) latency_before: Latency,
    pub(super) latency_during: Latency,
    /// Without the dependents, with them, and the most while they went.
    pub(super) memory: [Memory; 3],
}

impl Measured {
    /// Objects that were collected in a second.
    pub(super) fn rate(&self) -> f64 {
        (self.dependents as u64 - self.left) as f64 / self.seconds.max(1e-3)
    }
}

impl System {
    /// Starts a cluster in the folder, measures it, and removes it.
    ///
    /// # Errors
    /// When the cluster does not start or its API refuses.
    pub(super) fn measure(self, shell: &Context, programs: Programs, folder: &Path, work: Work) -> Result<Measured> {
        let (store, apiserver_args) = match self {
            Self::Ours => (Store::Shim, vec![shirts::NO_WATCH_CACHE_FOR_GROUP.to_owned()]),
            Self::Stock => (Store::Etcd, Vec::new()),
        };
        let settings = Settings {
            kubernetes: "bench".to_owned(),
            store,
            backend: work.backend.clone(),
            shards: Vec::new(),
            programs,
            apiserver_args,
            controller_manager_args: Vec::new(),
            store_args: Vec::new(),
        };
        let folder = folder.join(format!("{self:?}").to_lowercase());
        if folder.exists() {
            // What a run that was interrupted left.
            if let Ok(cluster) = Cluster::open(&folder) {
                cluster.stop()?;
            }
            fs_err::remove_dir_all(&folder)?;
        }
        let cluster = Cluster::prepare(&folder, settings, Some(0))?;
        let progress = shell.out.spinner(format!("{self:?}, {} dependents", work.dependents));
        let measured =
            cluster.start(|step| progress.now(step)).and_then(|_| self.run(&cluster, work, |step| progress.now(step)));
        cluster.stop()?;
        let measured = measured?;
        progress.done(format!("{:.0} objects/s", measured.rate()));
        cluster.remove()?;
        Ok(measured)
    }

    fn run(self, cluster: &Cluster, work: Work, now: impl Fn(&str)) -> Result<Measured> {
        let api = cluster.client()?;
        prepare(cluster, &api)?;
        let others = others_of(&api)?;
        now("writers alone");
        let (without, latency_before) = others::while_writing(&api, &others, || at_rest(cluster));
        let owner = api.create(PATH, &self.dependent("owner", None))?;
        now("loading");
        let clock = Instant::now();
        let reference = json!({"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": "owner", "uid": owner["metadata"]["uid"]});
        shirts::each(0..work.dependents, |number| {
            api.create(PATH, &self.dependent(&format!("d{number:06}"), Some(&reference))).map(|_| ())
        })?;
        let load_seconds = clock.elapsed().as_secs_f64();
        now("at rest with all of them");
        let with = at_rest(cluster)?;
        now("collecting");
        let (collected, latency_during) = others::while_writing(&api, &others, || collect(cluster, &api, work.limit));
        let Collected { seconds, left, peak } = collected?;
        let memory = [without?, with, peak];
        let dependents = work.dependents;
        Ok(Measured { system: self, dependents, load_seconds, seconds, left, latency_before, latency_during, memory })
    }

    fn dependent(self, name: &str, owner: Option<&Value>) -> Value {
        let mut shirt = shirts::shirt(name, "red", "M");
        if self == Self::Ours {
            shirt["metadata"]["labels"][SKIP_LABEL] = "true".into();
        }
        if let Some(owner) = owner {
            shirt["metadata"]["ownerReferences"] = json!([owner]);
        }
        shirt["spec"]["note"] = "n".repeat(NOTE_BYTES).into();
        shirt
    }
}

/// Defines the kind, and starts the controller manager again: it would find the kind within 30 s otherwise. Returns
/// when it collects.
fn prepare(cluster: &Cluster, api: &Client) -> Result<()> {
    cluster.stop_one(Component::ControllerManager)?;
    api.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &shirts::definition())?;
    api.create("/api/v1/namespaces", &json!({"metadata": {"name": NAMESPACE}}))?;
    shirts::wait_served(api)?;
    cluster.start_one(Component::ControllerManager)?;
    let owner = api.create(PATH, &shirts::shirt("first", "red", "M"))?;
    let mut dependent = shirts::shirt("first-dependent", "red", "M");
    let reference = json!({"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": "first", "uid": owner["metadata"]["uid"]});
    dependent["metadata"]["ownerReferences"] = json!([reference]);
    api.create(PATH, &dependent)?;
    api.delete(&format!("{PATH}/first"))?;
    until("the first collection", LIMIT, || Ok((count(api)? == 0).then_some(())))
}

/// Makes the objects that others write; returns their paths.
fn others_of(api: &Client) -> Result<Vec<String>> {
    let maps = "/api/v1/namespaces/default/configmaps";
    let paths = (0..OTHERS).map(|number| {
        api.create(maps, &json!({"metadata": {"name": format!("other-{number}")}}))?;
        Ok(format!("{maps}/other-{number}"))
    });
    paths.collect()
}

/// How many shirts there are.
fn count(api: &Client) -> Result<u64> {
    let list = api.get(&format!("{PATH}?limit=1"))?;
    let here = list["items"].as_array().map_or(0, Vec::len) as u64;
    Ok(here + list["metadata"]["remainingItemCount"].as_u64().unwrap_or_default())
}

struct Collected {
    seconds: f64,
    left: u64,
    peak: Memory,
}

/// Deletes the owner in the background and waits until everything is gone, or for the limit.
fn collect(cluster: &Cluster, api: &Client, limit: Duration) -> Result<Collected> {
    let mut peak = memory(cluster)?;
    api.delete(&format!("{PATH}/owner?propagationPolicy=Background"))?;
    let clock = Instant::now();
    loop {
        let left = count(api)?;
        let elapsed = clock.elapsed();
        peak = peak.with(memory(cluster)?, u64::max);
        if left == 0 || elapsed >= limit {
            return Ok(Collected { seconds: elapsed.as_secs_f64(), left, peak });
        }
        // Counting must not be what the system is busy with.
        thread::sleep((elapsed / 20).clamp(Duration::from_millis(20), Duration::from_secs(1)));
    }
}

/// The least memory of a while: what is garbage by then is a matter of chance.
fn at_rest(cluster: &Cluster) -> Result<Memory> {
    let (clock, mut least) = (Instant::now(), memory(cluster)?);
    while clock.elapsed() < CALM {
        thread::sleep(CALM / 20);
        least = least.with(memory(cluster)?, u64::min);
    }
    Ok(least)
}

fn memory(cluster: &Cluster) -> Result<Memory> {
    let of = |component: Component| {
        let bytes = cluster.process(component).and_then(|process| process.resident_bytes());
        bytes.ok_or_else(|| Error::input(format!("{} ended by itself", component.title(cluster))))
    };
    Ok(Memory {
        apiserver: of(Component::Apiserver)?,
        controller_manager: of(Component::ControllerManager)?,
        store: of(Component::Store)?,
    })
}

impl Memory {
    fn with(self, other: Self, choose: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            apiserver: choose(self.apiserver, other.apiserver),
            controller_manager: choose(self.controller_manager, other.controller_manager),
            store: choose(self.store, other.store),
        }
    }
}
