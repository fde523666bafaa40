//! The custom resource of the tests, and a way to make many of it fast.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};

use super::wait::{LIMIT, until};
use crate::cluster::client::Client;
use crate::cluster::client::HttpError;
use sluice_shell::error::{Error, Result};

/// The namespace that shirts live in.
pub const NAMESPACE: &str = "wardrobe";

/// The API path of the shirts in [`NAMESPACE`].
pub const PATH: &str = "/apis/stable.example.com/v1/namespaces/wardrobe/shirts";

/// The annotation of a definition that says whether its objects are in the watch cache.
pub const WATCH_CACHE: &str = "sluice-project.github.io/watch-cache";

/// Takes the shirts out of the watch cache.
pub const NO_WATCH_CACHE: &str = "--watch-cache-sizes=shirts.stable.example.com#0";

/// Hides an object from the controller manager's metadata informers; `labels.skip_metadata_caching` of
/// `patches/contract.toml`.
pub const SKIP_LABEL: &str = "skip-controller-manager-metadata-caching";

/// Threads that load objects. The apiserver is what limits beyond that.
const LOADERS: usize = 16;

/// Takes all custom resources of the group out of it; only a patched apiserver understands that.
pub const NO_WATCH_CACHE_FOR_GROUP: &str = "--watch-cache-sizes=*.stable.example.com#0";

/// The CustomResourceDefinition.
pub fn definition() -> Value {
    let text = json!({"type": "string"});
    let column = |name: &str, path: &str| json!({"name": name, "type": "string", "jsonPath": path});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "shirts.stable.example.com"},
        "spec": {
            "group": "stable.example.com",
            "scope": "Namespaced",
            "names": {"plural": "shirts", "singular": "shirt", "kind": "Shirt"},
            "versions": [{
                "name": "v1",
                "served": true,
                "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {
                    "type": "object",
                    "properties": {"color": text, "size": text, "note": text},
                }}}},
                "selectableFields": [{"jsonPath": ".spec.color"}, {"jsonPath": ".spec.size"}],
                "additionalPrinterColumns": [column("Color", ".spec.color"), column("Size", ".spec.size")],
            }],
        },
    })
}

/// A shirt.
pub fn shirt(name: &str, color: &str, size: &str) -> Value {
    json!({
        "apiVersion": "stable.example.com/v1",
        "kind": "Shirt",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"color": color, "size": size}},
        "spec": {"color": color, "size": size},
    })
}

/// Makes a cluster ready for shirts: definition and namespace.
///
/// # Errors
/// When the API refuses, or does not serve them in time.
pub fn prepare(api: &Client) -> Result<()> {
    api.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition())?;
    api.create("/api/v1/namespaces", &json!({"metadata": {"name": NAMESPACE}}))?;
    wait_served(api)
}

/// Waits until the apiserver serves the resource.
///
/// # Errors
/// When that takes too long.
pub fn wait_served(api: &Client) -> Result<()> {
    until("serving shirts", LIMIT, || match api.get(&format!("{PATH}?limit=1")) {
        Ok(_) => Ok(Some(())),
        Err(error) if matches!(error.status(), Some(404 | 429 | 503)) => Ok(None),
        Err(error) => Err(error.into()),
    })
}

/// Does a piece of work for each number, on many threads.
///
/// # Errors
/// The first one; the other threads stop then.
pub fn each(numbers: std::ops::Range<usize>, work: impl Fn(usize) -> Result<(), HttpError> + Sync) -> Result<()> {
    let next = AtomicUsize::new(numbers.start);
    let failed: Mutex<Option<HttpError>> = Mutex::new(None);
    let slot = || failed.lock().unwrap_or_else(PoisonError::into_inner);
    thread::scope(|scope| {
        for _ in 0..LOADERS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= numbers.end || slot().is_some() {
                        return;
                    }
                    if let Err(error) = work(number) {
                        slot().get_or_insert(error);
                        return;
                    }
                }
            });
        }
    });
    match slot().take() {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

/// The names in a list.
pub fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().map(|item| item["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect()
}

/// An object's resourceVersion as a number. Every apiserver over an etcd API writes one.
///
/// # Errors
/// When there is none.
pub fn revision(object: &Value) -> Result<u64> {
    let text = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    text.parse().map_err(|_| Error::input(format!("resourceVersion {text:?} is no number")))
}
