//! Custom resources as the checks need them.

use serde_json::{Value, json};

use sluice_shell::error::Result;
use sluice_toolkit::cluster::client::Client;
use sluice_toolkit::cluster::shirts::NAMESPACE;
use sluice_toolkit::cluster::wait::{LIMIT, until};

/// The group of all of them.
pub(super) const GROUP: &str = "stable.example.com";

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// One version of a custom resource.
#[derive(Debug, Clone)]
pub(super) struct Version {
    /// `v1`.
    pub(super) name: &'static str,
    /// Whether new objects are stored in it.
    pub(super) storage: bool,
    /// The schema's properties of `spec`.
    pub(super) spec: Value,
    /// Selectable fields below `spec`.
    pub(super) selectable: &'static [&'static str],
}

impl Version {
    /// The version v1, which is the stored one.
    pub(super) fn v1(spec: Value, selectable: &'static [&'static str]) -> Self {
        Self { name: "v1", storage: true, spec, selectable }
    }

    fn definition(&self) -> Value {
        let selectable: Vec<Value> =
            self.selectable.iter().map(|field| json!({"jsonPath": format!(".spec.{field}")})).collect();
        let spec = json!({"type": "object", "properties": self.spec});
        json!({
            "name": self.name,
            "served": true,
            "storage": self.storage,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}},
            "selectableFields": selectable,
        })
    }
}

/// Where a custom resource is served.
pub(super) fn path(version: &str, plural: &str) -> String {
    format!("/apis/{GROUP}/{version}/namespaces/{NAMESPACE}/{plural}")
}

/// Its key in the store.
pub(super) fn key(plural: &str, name: &str) -> String {
    format!("/registry/{GROUP}/{plural}/{NAMESPACE}/{name}")
}

/// `plains` → `Plain`.
fn kind(plural: &str) -> String {
    let singular = plural.trim_end_matches('s');
    singular[..1].to_uppercase() + &singular[1..]
}

/// Defines a custom resource and waits until it is served.
///
/// # Errors
/// When the API refuses, or does not serve it in time.
pub(super) fn define(api: &Client, plural: &str, versions: &[Version], conversion: &Value) -> Result<()> {
    let definitions: Vec<Value> = versions.iter().map(Version::definition).collect();
    let singular = kind(plural).to_lowercase();
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{GROUP}")},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": singular, "kind": kind(plural)},
            "versions": definitions,
            "conversion": conversion,
        },
    });
    api.create(DEFINITIONS, &definition)?;
    for version in versions {
        wait_accepted(api, &path(version.name, plural), "")?;
    }
    Ok(())
}

/// Replaces the versions of a definition; does not wait.
///
/// # Errors
/// When the API refuses.
pub(super) fn redefine(api: &Client, plural: &str, versions: &[Version]) -> Result<()> {
    let definitions: Vec<Value> = versions.iter().map(Version::definition).collect();
    api.merge(&format!("{DEFINITIONS}/{plural}.{GROUP}"), &json!({"spec": {"versions": definitions}}))?;
    Ok(())
}

/// Waits until the apiserver knows the resource, and its selectable field.
///
/// # Errors
/// When that takes too long.
pub(super) fn wait_accepted(api: &Client, path: &str, field: &str) -> Result<()> {
    let query = if field.is_empty() { String::new() } else { format!("&fieldSelector=spec.{field}%3Dx") };
    until(&format!("serving {path} with {field:?}"), LIMIT, || match api.get(&format!("{path}?limit=1{query}")) {
        Ok(_) => Ok(Some(())),
        Err(error) if matches!(error.status(), Some(400 | 404 | 429 | 503)) => Ok(None),
        Err(error) => Err(error.into()),
    })
}

/// Waits until an object reads with this value in its spec.
///
/// # Errors
/// When that takes too long.
pub(super) fn wait_reads(api: &Client, path: &str, pointer: &str, value: &Value) -> Result<()> {
    until(&format!("{path} with {pointer} = {value}"), LIMIT, || match api.get(path) {
        Ok(object) => Ok((object["spec"].pointer(pointer).unwrap_or(&Value::Null) == value).then_some(())),
        Err(error) if matches!(error.status(), Some(404 | 429 | 503)) => Ok(None),
        Err(error) => Err(error.into()),
    })
}

/// An object with a spec and labels.
pub(super) fn object(version: &str, plural: &str, name: &str, labels: &Value, spec: &Value) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/{version}"),
        "kind": kind(plural),
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": spec,
    })
}

/// Creates an object of a version without labels.
///
/// # Errors
/// When the API refuses.
pub(super) fn create(api: &Client, version: &str, plural: &str, name: &str, spec: &Value) -> Result<()> {
    create_labelled(api, version, plural, name, &json!({}), spec)
}

/// Creates an object of a version.
///
/// # Errors
/// When the API refuses.
pub(super) fn create_labelled(
    api: &Client,
    version: &str,
    plural: &str,
    name: &str,
    labels: &Value,
    spec: &Value,
) -> Result<()> {
    api.create(&path(version, plural), &object(version, plural, name, labels, spec))?;
    Ok(())
}
