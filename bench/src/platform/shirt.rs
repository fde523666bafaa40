//! The custom resources of the load.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use serde_json::{Value, json};

use super::api::Connection;

/// The API group of all of them.
pub(super) const GROUP: &str = "stable.example.com";

/// The namespace of all objects.
pub(super) const NAMESPACE: &str = "wardrobe";

/// So many shirts have the same colour.
pub(super) const OF_A_COLOR: u64 = 20;

/// Makes a shirt some 600 bytes long, without what the server adds.
const NOTE_BYTES: usize = 250;

/// Keeps an object out of the controller manager's metadata informers, where those are patched.
const SKIP_LABEL: &str = sluice_wire::contract::SKIP_METADATA_CACHING_LABEL;

/// How long the apiserver may take to serve a new resource.
const PATIENCE: Duration = Duration::from_secs(60);

/// The path of all objects of a resource.
pub(super) fn path(plural: &str) -> String {
    format!("/apis/{GROUP}/v1/namespaces/{NAMESPACE}/{plural}")
}

/// The name of a shirt. The numbers are scattered: neighbours in time and in colour are not neighbours in the list, nor
/// in the database.
pub(super) fn name(number: u64) -> String {
    format!("shirt-{:08x}", (number as u32).wrapping_mul(0x9e37_79b1))
}

/// The colour of a shirt.
pub(super) fn color(number: u64) -> String {
    format!("color-{:06}", number / OF_A_COLOR)
}

/// A shirt.
pub(super) fn shirt(number: u64) -> Bytes {
    let color = color(number);
    let size = ["S", "M", "L", "XL"][(number % 4) as usize];
    let object = json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": "Shirt",
        "metadata": {"name": name(number), "labels": {"color": color, "size": size, SKIP_LABEL: "true"}},
        "spec": {"color": color, "size": size, "note": "n".repeat(NOTE_BYTES)},
    });
    Bytes::from(object.to_string())
}

/// Makes the namespace and a resource, and waits until it is served.
pub(super) async fn define(connection: &mut Connection, plural: &str) -> Result<()> {
    let namespace = json!({"metadata": {"name": NAMESPACE}});
    for (path, object) in [
        ("/api/v1/namespaces", namespace),
        ("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition(plural)),
    ] {
        let answer = connection.create(path, Bytes::from(object.to_string())).await?;
        if !answer.status.is_success() && answer.status.as_u16() != 409 {
            bail!("POST {path}: {}", answer.describe());
        }
    }
    let (begin, path) = (Instant::now(), format!("{}?limit=1", path(plural)));
    while let Err(error) = connection.get(&path).await {
        if begin.elapsed() > PATIENCE {
            return Err(error).with_context(|| format!("{plural} are not served"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn definition(plural: &str) -> Value {
    let singular = plural.trim_end_matches('s');
    let kind = format!("{}{}", singular[..1].to_uppercase(), &singular[1..]);
    let text = json!({"type": "string"});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{GROUP}")},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"plural": plural, "singular": singular, "kind": kind},
            "versions": [{
                "name": "v1",
                "served": true,
                "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {
                    "type": "object",
                    "properties": {"color": text, "size": text, "note": text},
                }}}},
                "selectableFields": [{"jsonPath": ".spec.color"}],
            }],
        },
    })
}

/// An object of the mixed load, with a label of its own.
pub(super) fn piece(plural: &str, name: &str, owner: &str) -> Bytes {
    let definition = definition(plural);
    let object = json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": definition["spec"]["names"]["kind"],
        "metadata": {"name": name, "labels": {"owner": owner, "size": "M", SKIP_LABEL: "true"}},
        "spec": {"color": "green", "size": "M", "note": "n".repeat(NOTE_BYTES)},
    });
    Bytes::from(object.to_string())
}

/// How many objects are in a list: each has one uid.
pub(super) fn count(list: &[u8]) -> usize {
    const UID: &[u8] = b"\"uid\":\"";
    list.windows(UID.len()).filter(|window| *window == UID).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn shirts_are_of_the_size_and_their_names_differ() {
        let length = shirt(7).len();
        assert!((450..=600).contains(&length), "{length}");
        let names: BTreeSet<String> = (0..10_000).map(name).collect();
        assert_eq!(names.len(), 10_000);
        assert_eq!((color(19), color(20)), ("color-000000".into(), "color-000001".into()));
    }

    #[test]
    fn objects_are_counted() {
        let list = br#"{"items":[{"metadata":{"uid":"a"}},{"metadata":{"uid":"b"}}]}"#;
        assert_eq!(count(list), 2);
    }
}
