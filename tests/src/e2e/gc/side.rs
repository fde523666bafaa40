//! One of the two clusters, and the objects that scenes make there.

use serde_json::{Value, json};

use super::super::lab::Lab;
use sluice_shell::error::{Error, Result};
use sluice_toolkit::cluster::client::{Client, HttpError};
use sluice_toolkit::cluster::component::Component;
pub(super) use sluice_toolkit::cluster::shirts::SKIP_LABEL;
use sluice_toolkit::cluster::shirts::{self, names};
use sluice_toolkit::cluster::wait::{LIMIT, until};

/// Our cluster runs as a platform would: its kinds are out of the watch cache.
pub(super) const NO_WATCH_CACHE: &str = shirts::NO_WATCH_CACHE_FOR_GROUP;

/// A finalizer that nobody but the test removes.
pub(super) const HOLD: &str = "example.com/hold";

/// The definitions' API path.
pub(super) const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// The plurals of the custom resources, all of the group stable.example.com.
const KINDS: [(&str, &str); 3] = [("shirts", "Shirt"), ("hats", "Hat"), ("belts", "Belt")];

/// How an owner is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    Background,
    Foreground,
    Orphan,
}

/// Defines the custom resources and waits until they are served.
///
/// # Errors
/// When the API refuses, or does not serve them in time.
pub(super) fn define(api: &Client) -> Result<()> {
    for (plural, kind) in KINDS {
        let mut definition = shirts::definition();
        definition["metadata"]["name"] = format!("{plural}.stable.example.com").into();
        if plural == "shirts" {
            let version = &mut definition["spec"]["versions"][0];
            version["subresources"] = json!({"status": {}});
            version["schema"]["openAPIV3Schema"]["properties"]["status"] =
                json!({"type": "object", "additionalProperties": {"type": "string"}});
        }
        if plural == "belts" {
            let mut newer = definition["spec"]["versions"][0].clone();
            newer["name"] = "v2".into();
            newer["storage"] = false.into();
            definition["spec"]["versions"].as_array_mut().into_iter().for_each(|versions| versions.push(newer.clone()));
        }
        definition["spec"]["names"] = json!({"plural": plural, "singular": kind.to_lowercase(), "kind": kind});
        api.create(DEFINITIONS, &definition)?;
    }
    for (plural, _) in KINDS {
        until(&format!("serving {plural}"), LIMIT, || {
            served(api.get(&format!("/apis/stable.example.com/v1/namespaces/default/{plural}?limit=1")))
        })?;
    }
    Ok(())
}

/// Whether an answer is there; none if the kind is not served yet.
fn served(answer: Result<Value, HttpError>) -> Result<Option<Value>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.status(), None | Some(404 | 429 | 500 | 503)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A cluster, seen from one namespace.
#[derive(Clone)]
pub(super) struct Side<'a> {
    pub(super) lab: &'a Lab,
    pub(super) api: &'a Client,
    /// Whether it is ours, where [`Side::labels`] is more than nothing.
    pub(super) ours: bool,
    pub(super) namespace: String,
}

impl<'a> Side<'a> {
    /// The cluster, without a namespace.
    pub(super) fn new(lab: &'a Lab, ours: bool) -> Self {
        Self { lab, api: &lab.api, ours, namespace: String::new() }
    }

    /// The cluster with a new namespace of this name.
    pub(super) fn in_namespace(&self, name: &str) -> Result<Self> {
        let side = Self { namespace: name.to_owned(), ..self.clone() };
        match self.api.create("/api/v1/namespaces", &json!({"metadata": {"name": name}})) {
            Ok(_) => Ok(side),
            Err(error) if error.status() == Some(409) => Ok(side),
            Err(error) => Err(error.into()),
        }
    }

    /// The labels of an object that is hidden on ours.
    pub(super) fn labels(&self) -> Value {
        if self.ours { json!({SKIP_LABEL: "true"}) } else { json!({}) }
    }

    /// The API path of a kind in the namespace.
    pub(super) fn path(&self, plural: &str) -> String {
        let group = match plural {
            "configmaps" | "pods" | "resourcequotas" => "/api/v1",
            "leases" => "/apis/coordination.k8s.io/v1",
            _ => "/apis/stable.example.com/v1",
        };
        format!("{group}/namespaces/{}/{plural}", self.namespace)
    }

    /// Creates a shirt with the label.
    pub(super) fn shirt(&self, name: &str, owners: &[Value]) -> Result<Value> {
        self.hidden("shirts", name, owners, &[])
    }

    /// Creates an object of a custom resource with the label and with finalizers.
    pub(super) fn hidden(&self, plural: &str, name: &str, owners: &[Value], finalizers: &[&str]) -> Result<Value> {
        let metadata =
            json!({"name": name, "labels": self.labels(), "ownerReferences": owners, "finalizers": finalizers});
        self.custom(plural, metadata)
    }

    /// Creates a shirt without the label.
    pub(super) fn visible(&self, name: &str, owners: &[Value]) -> Result<Value> {
        self.custom("shirts", json!({"name": name, "ownerReferences": owners}))
    }

    /// Creates an object of a custom resource.
    pub(super) fn custom(&self, plural: &str, metadata: Value) -> Result<Value> {
        let kind = KINDS.iter().find(|(known, _)| *known == plural).map(|(_, kind)| *kind);
        let kind = kind.ok_or_else(|| Error::input(format!("no kind {plural}")))?;
        let object = json!({"apiVersion": "stable.example.com/v1", "kind": kind, "metadata": metadata, "spec": {"color": "red"}});
        Ok(self.api.create(&self.path(plural), &object)?)
    }

    /// Creates a ConfigMap, with finalizers.
    pub(super) fn config_map(&self, name: &str, owners: &[Value], finalizers: &[&str]) -> Result<Value> {
        let metadata = json!({"name": name, "ownerReferences": owners, "finalizers": finalizers});
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
        Ok(self.api.create(&self.path("configmaps"), &object)?)
    }

    /// Deletes an object.
    pub(super) fn delete(&self, plural: &str, name: &str, policy: Policy) -> Result<()> {
        self.api.delete(&format!("{}/{name}?propagationPolicy={policy:?}", self.path(plural)))?;
        Ok(())
    }

    /// Sets an object's finalizers; fine if that was its end.
    pub(super) fn finalizers(&self, plural: &str, name: &str, finalizers: &[&str]) -> Result<()> {
        self.merge(plural, name, &json!({"metadata": {"finalizers": finalizers}}))
    }

    /// Changes an object with a merge patch.
    pub(super) fn merge(&self, plural: &str, name: &str, patch: &Value) -> Result<()> {
        self.api.merge(&format!("{}/{name}", self.path(plural)), patch)?;
        Ok(())
    }

    /// An object, if it is there.
    pub(super) fn get(&self, plural: &str, name: &str) -> Result<Option<Value>> {
        match self.api.get(&format!("{}/{name}", self.path(plural))) {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The names of all objects of a kind, parted by blanks. ConfigMaps that Kubernetes itself makes do not count.
    pub(super) fn left(&self, plural: &str) -> Result<String> {
        let mut names = names(&self.api.get(&self.path(plural))?);
        names.retain(|name| name != "kube-root-ca.crt");
        Ok(names.join(" "))
    }

    /// Waits until these are the names that are left.
    pub(super) fn until_left(&self, plural: &str, names: &str) -> Result<()> {
        let mut last = String::new();
        let result = until(&format!("only {names:?} being left of {plural}"), LIMIT, || {
            last = self.left(plural)?;
            Ok((last == names).then_some(()))
        });
        result.map_err(|error| error.attempting(format!("left of {plural} in {}: {last:?}", self.namespace)))
    }

    /// Waits until an object is as wanted, and returns what is wanted of it.
    pub(super) fn until_is<T>(
        &self,
        plural: &str,
        name: &str,
        what: &str,
        mut is: impl FnMut(Option<&Value>) -> Option<T>,
    ) -> Result<T> {
        until(&format!("{plural} {name}: {what}"), LIMIT, || Ok(is(self.get(plural, name)?.as_ref())))
    }

    /// Returns when both collectors have done what was to do so far, as far as that shows: when objects that come up
    /// for collection now are collected. One pair for each way through.
    pub(super) fn barrier(&self) -> Result<()> {
        let owner = reference(&self.config_map("barrier", &[], &[])?);
        self.config_map("barrier-visible", std::slice::from_ref(&owner), &[])?;
        self.visible("barrier-visible", std::slice::from_ref(&owner))?;
        self.hidden("shirts", "barrier-hidden", &[owner], &[])?;
        self.delete("configmaps", "barrier", Policy::Background)?;
        let left = |plural: &str| -> Result<bool> {
            Ok(self.left(plural)?.split(' ').any(|name| name.starts_with("barrier")))
        };
        until("collecting what came up last", LIMIT, || Ok((!left("configmaps")? && !left("shirts")?).then_some(())))
    }

    /// Deletions that the shim's collector did by now, of any kind; nothing on stock Kubernetes.
    pub(super) fn collected(&self) -> Result<u64> {
        if !self.ours {
            return Ok(0);
        }
        let metrics = self.lab.cluster.store_client().text("/metrics")?;
        let lines = metrics.lines().filter(|line| line.starts_with("sluice_gc_actions_total"));
        Ok(lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum())
    }

    /// Ends the shim as a power cut would and starts it again; nothing on stock Kubernetes.
    pub(super) fn crash(&self) -> Result<()> {
        if !self.ours {
            return Ok(());
        }
        let store =
            self.lab.cluster.process(Component::Store).ok_or_else(|| Error::input("the shim ended by itself"))?;
        store.kill()?;
        self.lab.cluster.start_one(Component::Store)?;
        until("serving again", LIMIT, || served(self.api.get("/api/v1/namespaces/default")))?;
        Ok(())
    }
}

/// A reference to an owner that does not block it.
pub(super) fn reference(owner: &Value) -> Value {
    json!({
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
    })
}

/// A reference to an owner that waits for this dependent.
pub(super) fn blocking(owner: &Value) -> Value {
    let mut reference = reference(owner);
    reference["blockOwnerDeletion"] = true.into();
    reference
}

/// The names of an object's owners, parted by blanks.
pub(super) fn owners(object: &Value) -> String {
    let owners = object["metadata"]["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names = owners.iter().map(|owner| owner["name"].as_str().unwrap_or_default());
    names.collect::<Vec<_>>().join(" ")
}

/// Whether an object's deletion has begun.
pub(super) fn is_deleting(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}
