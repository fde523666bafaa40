//! A store with objects in it, and what API servers and controllers do to them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::database::Database;
use crate::hand::Hand;
use bytes::Bytes;
use serde_json::{Value, json};
use sluice_shim::clock::{Steady, Ticker};
use sluice_shim::engine::collector::Collector;
use sluice_shim::engine::metrics::Metrics;
use sluice_shim::engine::*;
use sluice_shim::gc::{Status, TaskState};
use sluice_shim::sql;

pub(crate) const LABEL: &str = "skip-controller-manager-metadata-caching";
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
pub(crate) const ORPHAN: &str = "orphan";
pub(crate) const HOLD: &str = sluice_shim::gc::HOLD;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// An object to be.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) group: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) namespace: &'static str,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) labelled: bool,
    pub(crate) finalizers: Vec<String>,
    pub(crate) owners: Vec<Value>,
}

/// The UID of a number.
pub(crate) fn uid(number: u64) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

/// A labelled custom resource; its name follows from its number.
pub(crate) fn shirt(number: u64) -> Object {
    Object {
        group: "example.com",
        kind: "Shirt",
        namespace: "a",
        name: format!("shirt-{number:06}"),
        uid: uid(number),
        labelled: true,
        finalizers: Vec::new(),
        owners: Vec::new(),
    }
}

/// A ConfigMap without the label.
pub(crate) fn configmap(number: u64) -> Object {
    Object { group: "", kind: "ConfigMap", labelled: false, ..shirt(number) }
}

impl Object {
    pub(crate) fn visible(self) -> Self {
        Self { labelled: false, ..self }
    }

    pub(crate) fn within(self, namespace: &'static str) -> Self {
        Self { namespace, ..self }
    }

    pub(crate) fn finalizer(mut self, name: &str) -> Self {
        self.finalizers.push(name.to_owned());
        self
    }

    pub(crate) fn owned_by(mut self, owner: &Self) -> Self {
        self.owners.push(owner.reference(false));
        self
    }

    pub(crate) fn blocking(mut self, owner: &Self) -> Self {
        self.owners.push(owner.reference(true));
        self
    }

    fn api_version(&self) -> String {
        if self.group.is_empty() { "v1".to_owned() } else { format!("{}/v1", self.group) }
    }

    pub(crate) fn reference(&self, block: bool) -> Value {
        json!({"apiVersion": self.api_version(), "kind": self.kind, "name": self.name, "uid": self.uid, "blockOwnerDeletion": block})
    }

    pub(crate) fn key(&self) -> String {
        let plural = format!("{}s", self.kind.to_lowercase());
        let group = if self.group.contains('.') { format!("{}/", self.group) } else { String::new() };
        let namespace = if self.namespace.is_empty() { String::new() } else { format!("{}/", self.namespace) };
        format!("/registry/{group}{plural}/{namespace}{}", self.name)
    }

    pub(crate) fn json(&self) -> Value {
        let mut metadata = json!({"name": self.name, "uid": self.uid, "generation": 1});
        if !self.namespace.is_empty() {
            metadata["namespace"] = self.namespace.into();
        }
        if self.labelled {
            metadata["labels"] = json!({LABEL: "true"});
        }
        if !self.finalizers.is_empty() {
            metadata["finalizers"] = json!(self.finalizers);
        }
        if !self.owners.is_empty() {
            metadata["ownerReferences"] = json!(self.owners);
        }
        json!({"apiVersion": self.api_version(), "kind": self.kind, "metadata": metadata, "spec": {"n": 1.0}})
    }
}

/// A store with its collector.
pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) metrics: Arc<Metrics>,
    collector: Collector,
    ticker: Arc<dyn Ticker>,
    /// Dropped after what uses it.
    pub(crate) database: Database,
}

/// A collector that does not spare anybody.
pub(crate) fn eager() -> Collector {
    Collector { rate: 1_000_000, ..Collector::default() }
}

pub(crate) fn idle() -> Collector {
    Collector { enabled: false, ..eager() }
}

async fn open(database: &Database, collector: Collector, ticker: Arc<dyn Ticker>) -> (Engine, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::default());
    let store = sql::open_by(database.endpoint(), Arc::clone(&metrics), ticker).unwrap();
    let threads = ReaderThreads { small: 1, large: 1 };
    (Engine::start_with(store, threads, Arc::clone(&metrics), collector).await.unwrap(), metrics)
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(eager()).await
    }

    pub(crate) async fn with(collector: Collector) -> Self {
        Self::at(Database::new(), collector).await
    }

    /// One in a file with a clock of the test's own. A server has a clock itself, which goes on.
    pub(crate) async fn in_file(collector: Collector, hand: &Hand) -> Self {
        Self::open(Database::sqlite(), collector, Arc::new(hand.clone())).await
    }

    /// The one on a database.
    pub(crate) async fn at(database: Database, collector: Collector) -> Self {
        Self::open(database, collector, Arc::new(Steady::default())).await
    }

    async fn open(database: Database, collector: Collector, ticker: Arc<dyn Ticker>) -> Self {
        let (engine, metrics) = open(&database, collector.clone(), Arc::clone(&ticker)).await;
        Self { engine, metrics, collector, ticker, database }
    }

    /// Stops and starts again, as it was or with another collector.
    pub(crate) async fn restart(&mut self, collector: Option<Collector>) {
        self.engine.shutdown().await;
        self.collector = collector.unwrap_or_else(|| self.collector.clone());
        let (collector, ticker) = (self.collector.clone(), Arc::clone(&self.ticker));
        (self.engine, self.metrics) = open(&self.database, collector, ticker).await;
    }

    pub(crate) async fn create(&self, object: &Object) -> Revision {
        self.put(&object.key(), &object.json()).await
    }

    pub(crate) async fn create_all<'o>(&self, objects: impl IntoIterator<Item = &'o Object>) {
        let creations: Vec<_> = objects.into_iter().map(|object| self.create(object)).collect();
        futures::future::join_all(creations).await;
    }

    pub(crate) async fn put(&self, key: &str, value: &Value) -> Revision {
        let put = Put { key: key.to_owned().into(), value: value.to_string().into(), ..Put::default() };
        self.engine.write(Op::Put(put)).await.unwrap().0
    }

    pub(crate) async fn get(&self, key: &str) -> Option<KeyValue> {
        let range = KeyRange::single(key.to_owned());
        self.engine.range(RangeQuery { range, ..RangeQuery::default() }).await.unwrap().kvs.pop()
    }

    pub(crate) async fn exists(&self, object: &Object) -> bool {
        self.get(&object.key()).await.is_some()
    }

    pub(crate) async fn metadata(&self, object: &Object) -> Value {
        let kv = self.get(&object.key()).await.unwrap_or_else(|| panic!("{} is gone", object.key()));
        serde_json::from_slice::<Value>(&kv.value).unwrap()["metadata"].take()
    }

    /// The UIDs that an object's owner references name.
    pub(crate) async fn owners(&self, object: &Object) -> Vec<String> {
        let metadata = self.metadata(object).await;
        let owners = metadata["ownerReferences"].as_array().cloned().unwrap_or_default();
        owners.iter().map(|owner| owner["uid"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) async fn finalizers(&self, object: &Object) -> Vec<String> {
        let metadata = self.metadata(object).await;
        let finalizers = metadata["finalizers"].as_array().cloned().unwrap_or_default();
        finalizers.iter().map(|finalizer| finalizer.as_str().unwrap().to_owned()).collect()
    }

    /// Changes an object as kube-apiserver does: what was read is what is replaced, and an object under deletion goes
    /// with its last finalizer.
    pub(crate) async fn update(&self, key: &str, change: impl Fn(&mut Value)) {
        loop {
            let Some(kv) = self.get(key).await else { return };
            let mut value: Value = serde_json::from_slice(&kv.value).unwrap();
            change(&mut value["metadata"]);
            let metadata = &value["metadata"];
            let finalizers = metadata["finalizers"].as_array().map_or(0, Vec::len);
            let goes = metadata.get("deletionTimestamp").is_some() && finalizers == 0;
            let key = Bytes::from(key.to_owned());
            let op = if goes {
                Op::Delete(DeleteRange { range: KeyRange::single(key.clone()), prev_kv: false })
            } else {
                Op::Put(Put { key: key.clone(), value: value.to_string().into(), ..Put::default() })
            };
            let compare = Compare {
                range: KeyRange::single(key),
                result: CompareResult::Equal,
                target: CompareTarget::Mod(kv.mod_revision),
            };
            let txn = Txn { compares: vec![compare], success: vec![op], failure: Vec::new() };
            let (_, result) = self.engine.write(Op::Txn(txn)).await.unwrap();
            if matches!(result, OpResult::Txn(TxnResult { succeeded: true, .. })) {
                return;
            }
        }
    }

    /// `kubectl delete --cascade=background`.
    pub(crate) async fn delete(&self, object: &Object) {
        self.update(&object.key(), |metadata| mark(metadata, None)).await;
    }

    /// `kubectl delete --cascade=foreground` or `orphan`: the finalizer.
    pub(crate) async fn delete_with(&self, object: &Object, finalizer: &str) {
        self.update(&object.key(), |metadata| mark(metadata, Some(finalizer))).await;
    }

    pub(crate) async fn lift(&self, object: &Object, finalizer: &str) {
        self.update(&object.key(), |metadata| {
            if let Some(finalizers) = metadata["finalizers"].as_array_mut() {
                finalizers.retain(|of| of != finalizer);
            }
        })
        .await;
    }

    /// Waits until the collector has nothing to do.
    pub(crate) async fn settle(&self) {
        let none = |status: &Status| !status.tasks.iter().any(|(_, state, _)| *state == TaskState::Ready);
        self.until("the queue is empty", none).await;
    }

    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Status) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.engine.collector().await.unwrap();
            if holds(&status) {
                return;
            }
            assert!(Instant::now() < deadline, "never: {what}; now {status:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// All keys, in order.
    pub(crate) async fn keys(&self) -> Vec<String> {
        let range = KeyRange { start: Bytes::from_static(b"\0"), end: RangeEnd::Unbounded };
        let result = self.engine.range(RangeQuery { range, ..RangeQuery::default() }).await.unwrap();
        result.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect()
    }

    /// All events from a revision on.
    pub(crate) async fn events(&self, from: Revision) -> Vec<Arc<Event>> {
        let until = self.engine.status().await.unwrap().revision;
        let mut session = self.engine.watch();
        session.create(WatchSpec {
            id: 1,
            range: KeyRange { start: Bytes::from_static(b"\0"), end: RangeEnd::Unbounded },
            start_revision: from,
            no_put: false,
            no_delete: false,
            selection: None,
        });
        let mut seen: Vec<Arc<Event>> = Vec::new();
        while seen.last().is_none_or(|last| last.kv.mod_revision < until) && from <= until {
            match session.next().await {
                WatchMessage::Events { events, .. } => seen.extend(events),
                other => panic!("{other:?}"),
            }
        }
        seen
    }

    /// Waits until a metric has reached a value; the collector counts what it did a moment later.
    pub(crate) async fn counts(&self, line: &str, expected: f64) {
        let mut registry = prometheus_client::registry::Registry::default();
        self.metrics.register(&mut registry);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            let found: Option<f64> = text.lines().find_map(|of| of.strip_prefix(line)?.trim().parse().ok());
            if found.is_some_and(|found| found >= expected) {
                return;
            }
            assert!(Instant::now() < deadline, "{line} is {found:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// What kube-apiserver does at a deletion: a finalizer says what is to become of the dependents.
pub(crate) fn mark(metadata: &mut Value, finalizer: Option<&str>) {
    let mut finalizers: Vec<Value> = metadata["finalizers"].as_array().cloned().unwrap_or_default();
    if let Some(finalizer) = finalizer {
        finalizers.retain(|of| of != FOREGROUND && of != ORPHAN);
        finalizers.push(finalizer.into());
    }
    if metadata.get("deletionTimestamp").is_none() {
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        metadata["deletionGracePeriodSeconds"] = 0.into();
        metadata["generation"] = (metadata["generation"].as_i64().unwrap() + 1).into();
    }
    metadata["finalizers"] = finalizers.into();
}
