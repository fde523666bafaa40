//! Checks with bytes that the apiserver would not write today: older releases, other tools and broken disks did.

use serde_json::json;

use super::probe::{Probe, field, label};
use super::resource::{GROUP, Version, create_labelled, define, key, path};
use crate::e2e::raw::Raw;
use sluice_shell::error::Result;
use sluice_toolkit::cluster::shirts::NAMESPACE;

/// An object with these texts as labels and spec.
fn stored(name: &str, labels: &str, spec: &str) -> String {
    format!(
        r#"{{"apiVersion":"{GROUP}/v1","kind":"Odd","metadata":{{"name":"{name}","namespace":"{NAMESPACE}","labels":{labels}}},"spec":{spec}}}"#
    )
}

/// For each name: labels and spec as they are stored.
const ODD: [(&str, &str, &str); 14] = [
    ("big", "{}", r#"{"count":9223372036854775808}"#),
    ("boolean", "{}", r#"{"color":true}"#),
    ("duplicate", "{}", r#"{"color":"red","color":"green"}"#),
    ("escaped", "{}", r#"{"co\u006cor":"gr\u0065en"}"#),
    ("exponent", "{}", r#"{"count":1e0}"#),
    ("float", "{}", r#"{"count":1.0}"#),
    ("labels-mixed", r#"{"color":"green","size":1}"#, "{}"),
    ("labels-null", r#"{"color":null}"#, "{}"),
    ("list", "{}", r#"{"color":["green"]}"#),
    ("minus", "{}", r#"{"count":-0}"#),
    ("null", "{}", r#"{"color":null}"#),
    ("number", "{}", r#"{"color":5}"#),
    ("text", "{}", r#""green""#),
    ("upper", "{}", r#"{"Color":"green"}"#),
];

/// JSON that is legal, but not as the apiserver writes it.
pub(super) fn odd(probe: &mut Probe<'_>, raw: Option<&Raw>) -> Result<()> {
    let Some(raw) = raw else { return Ok(()) };
    let version = Version::v1(json!({"color": {"type": "string"}, "count": {"type": "integer"}}), &["color", "count"]);
    define(probe.api(), "odds", &[version], &json!(null))?;
    for (name, labels, spec) in ODD {
        raw.put(&key("odds", name), stored(name, labels, spec))?;
    }
    let rows = [
        field("spec.color=green", "duplicate escaped", 5),
        field("spec.color=true", "boolean", 5),
        field("spec.color=5", "number", 5),
        field("spec.color=[green]", "list", 4),
        field("spec.color=", "big exponent float labels-mixed labels-null minus null text upper", 11),
        field("spec.count=1", "exponent float", 6),
        field("spec.count=0", "minus", 6),
        field("spec.count=9.223372036854776e+18", "big", 6),
        label("color=green", "", 1),
        label("color", "labels-null", 2),
        label("color=", "labels-null", 2),
        label("size", "", 1),
    ];
    probe.expect("odd bytes", &path("v1", "odds"), &rows)
}

/// What can't be decoded fails every list, also one whose selector nothing matches: it is for the operator to see.
pub(super) fn undecodable(probe: &mut Probe<'_>, raw: Option<&Raw>) -> Result<()> {
    let Some(raw) = raw else { return Ok(()) };
    let api = probe.api();
    let version = Version::v1(json!({"color": {"type": "string"}}), &["color"]);
    define(api, "brokens", &[version], &json!(null))?;
    create_labelled(api, "v1", "brokens", "a", &json!({"color": "green"}), &json!({"color": "green"}))?;
    let path = path("v1", "brokens");
    let rows = [
        label("color=green", "a", 1),
        label("color=blue", "", 0),
        field("spec.color=green", "a", 1),
        field("spec.color=blue", "", 0),
    ];
    let cut = stored("broken", r#"{"color":"red"}"#, r#"{"color":"red""#);
    for (what, bytes) in [("no object", b"\x00\xff nothing".to_vec()), ("an object that is cut off", cut.into_bytes())]
    {
        raw.put(&key("brokens", "broken"), bytes)?;
        probe.expect_refused(what, &path, 500, &rows)?;
        raw.delete(&key("brokens", "broken"))?;
    }
    probe.expect("after the repair", &path, &rows)
}
