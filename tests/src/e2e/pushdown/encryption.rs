//! Checks with encryption at rest: a store that can't read an object must hand it out.

use serde_json::{Value, json};

use super::probe::{Probe, field, label};
use super::resource::{GROUP, Version, create_labelled, define, key, object, path};
use crate::e2e::at_rest::{Plugin, local};
use crate::e2e::raw::Raw;
use sluice_shell::error::Result;
use sluice_toolkit::cluster::wait::ensure;

/// The checks' resources that are encrypted, and by what.
pub(super) fn resources(plugin: Option<&Plugin>) -> Vec<(String, Value)> {
    let mut providers = vec![("ciphereds", local("aescbc")), ("boxeds", local("secretbox"))];
    providers.extend(plugin.map(|plugin| ("sealeds", plugin.provider("sealeds"))));
    providers.into_iter().map(|(plural, provider)| (format!("{plural}.{GROUP}"), provider)).collect()
}

/// By a key that the apiserver has.
pub(super) fn encrypted(probe: &mut Probe<'_>, raw: Option<&Raw>) -> Result<()> {
    let Some(raw) = raw else { return Ok(()) };
    selected(probe, raw, "ciphereds", "k8s:enc:aescbc:v1:")?;
    selected(probe, raw, "boxeds", "k8s:enc:secretbox:v1:")
}

/// By a key of the API KMS v2, which a plugin keeps.
pub(super) fn sealed(probe: &mut Probe<'_>, raw: Option<&Raw>) -> Result<()> {
    let Some(raw) = raw else { return Ok(()) };
    selected(probe, raw, "sealeds", "k8s:enc:kms:v2:")
}

/// Encrypted objects beside one that was stored before encryption began.
fn selected(probe: &mut Probe<'_>, raw: &Raw, plural: &str, prefix: &str) -> Result<()> {
    let api = probe.api();
    let version = Version::v1(json!({"color": {"type": "string"}}), &["color"]);
    define(api, plural, &[version], &json!(null))?;
    for (name, color) in [("a", "green"), ("b", "red")] {
        create_labelled(api, "v1", plural, name, &json!({"color": color}), &json!({"color": color}))?;
    }
    let stored = raw.get(&key(plural, "a"))?;
    ensure(stored.starts_with(prefix), || format!("{plural} are not encrypted: {stored}"))?;
    let before = object("v1", plural, "plain", &json!({"color": "green"}), &json!({"color": "green"}));
    raw.put(&key(plural, "plain"), before.to_string())?;
    let rows = [
        label("color=green", "a plain", 3),
        label("color=red", "b", 2),
        label("!color", "", 2),
        field("spec.color=green", "a plain", 3),
        field("spec.color=red", "b", 2),
        field("metadata.name!=b", "a plain", 3),
    ];
    probe.expect("encrypted", &path("v1", plural), &rows)
}
