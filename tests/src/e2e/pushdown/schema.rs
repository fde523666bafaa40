//! Checks of what a schema does to stored objects.

use serde_json::{Value, json};

use super::probe::{Probe, Row, field, label};
use super::resource::{Version, create, create_labelled, define, path, redefine, wait_accepted, wait_reads};
use crate::e2e::raw::Raw;
use sluice_shell::error::{Error, Result};
use sluice_toolkit::cluster::component::Component;
use sluice_toolkit::cluster::shirts;
use sluice_toolkit::cluster::wait::{LIMIT, until};

/// What nothing stands in the way of is pushed: each row reads only what matches.
pub(super) fn plain(probe: &mut Probe<'_>, _: Option<&Raw>) -> Result<()> {
    let api = probe.api();
    let spec = json!({
        "color": {"type": "string"},
        "count": {"type": "integer"},
        "on": {"type": "boolean"},
        "deep": {"type": "object", "properties": {"part": {"type": "string"}}},
    });
    define(api, "plains", &[Version::v1(spec, &["color", "count", "on", "deep.part"])], &json!(null))?;
    let first = json!({"color": "green", "count": 1, "on": true, "deep": {"part": "a=b,c\\d"}});
    create_labelled(api, "v1", "plains", "a", &json!({"tone": "dark"}), &first)?;
    create_labelled(
        api,
        "v1",
        "plains",
        "b",
        &json!({"tone": "dark"}),
        &json!({"color": "red", "count": -20, "on": false}),
    )?;
    create(api, "v1", "plains", "c", &json!({}))?;
    let rows = [
        label("tone=dark", "a b", 2),
        label("tone!=dark", "c", 1),
        field("spec.color=green", "a", 1),
        field("spec.color!=green", "b c", 2),
        field("spec.color=", "c", 1),
        field("spec.color=green,spec.color!=red", "a", 1),
        field("spec.color=blue", "", 0),
        field("spec.count=-20", "b", 1),
        field("spec.count=01", "", 0),
        field("spec.count!=1", "b c", 2),
        field("spec.on=true", "a", 1),
        field("spec.on=false", "b", 1),
        field("spec.deep.part=a\\=b\\,c\\\\d", "a", 1),
        field("spec.deep.part=", "b c", 2),
        field("spec.color=green,spec.count=-20", "", 0),
        field("metadata.name!=b", "a c", 2),
        Row { labels: "tone=dark", fields: "spec.color=red", names: "b", fetched: 1 },
        Row { labels: "tone", fields: "spec.color=,metadata.name!=a", names: "", fetched: 0 },
    ];
    probe.expect("plain", &path("v1", "plains"), &rows)?;
    let everywhere = format!("/apis/{}/v1/plains", super::resource::GROUP);
    let rows = [field("metadata.namespace!=wardrobe", "", 0), field("metadata.name=b", "b", 1)];
    probe.expect("plain, all namespaces", &everywhere, &rows)
}

/// An object that is stored without the field reads as the default.
pub(super) fn defaulted(probe: &mut Probe<'_>, _: Option<&Raw>) -> Result<()> {
    let api = probe.api();
    let version = |size: Value| Version::v1(json!({"color": {"type": "string"}, "size": size}), &["color", "size"]);
    define(api, "defaulteds", &[version(json!({"type": "string"}))], &json!(null))?;
    create(api, "v1", "defaulteds", "with", &json!({"color": "green", "size": "L"}))?;
    create(api, "v1", "defaulteds", "without", &json!({"color": "green"}))?;
    redefine(api, "defaulteds", &[version(json!({"type": "string", "default": "M"}))])?;
    let path = path("v1", "defaulteds");
    wait_reads(api, &format!("{path}/without"), "/size", &json!("M"))?;
    let rows = [
        field("spec.size=M", "without", 2),
        field("spec.size!=M", "with", 2),
        field("spec.size=L", "with", 2),
        field("spec.size=", "", 2),
        field("spec.size=M,spec.color=green", "without", 2),
        field("spec.size=M,spec.color=red", "", 0),
    ];
    probe.expect("a default", &path, &rows)
}

/// An object that is stored without the ancestor reads as the ancestor's default.
pub(super) fn defaulted_ancestor(probe: &mut Probe<'_>, _: Option<&Raw>) -> Result<()> {
    let api = probe.api();
    let parts = json!({"type": "object", "properties": {"count": {"type": "integer"}}});
    let mut with_default = parts.clone();
    with_default["default"] = json!({"count": 2});
    let version = |parts: Value| Version::v1(json!({"parts": parts}), &["parts.count"]);
    define(api, "nesteds", &[version(parts)], &json!(null))?;
    create(api, "v1", "nesteds", "with", &json!({"parts": {"count": 7}}))?;
    create(api, "v1", "nesteds", "without", &json!({}))?;
    redefine(api, "nesteds", &[version(with_default)])?;
    let path = path("v1", "nesteds");
    wait_reads(api, &format!("{path}/without"), "/parts/count", &json!(2))?;
    let rows = [
        field("spec.parts.count=2", "without", 2),
        field("spec.parts.count!=2", "with", 2),
        field("spec.parts.count=", "", 2),
    ];
    probe.expect("a default on an ancestor", &path, &rows)
}

/// A field goes, and comes back with another type: what was stored before is still there.
pub(super) fn retyped(probe: &mut Probe<'_>, _: Option<&Raw>) -> Result<()> {
    let api = probe.api();
    let path = path("v1", "retypeds");
    let color = json!({"type": "string"});
    let text = Version::v1(json!({"color": color, "size": {"type": "string"}}), &["size", "color"]);
    let gone = Version::v1(json!({"color": color}), &["color"]);
    let number = Version::v1(json!({"color": color, "size": {"type": "integer"}}), &["color", "size"]);
    define(api, "retypeds", &[text], &json!(null))?;
    create(api, "v1", "retypeds", "five", &json!({"size": "5"}))?;
    create(api, "v1", "retypeds", "large", &json!({"size": "L"}))?;
    create(api, "v1", "retypeds", "lost", &json!({"size": "5"}))?;
    probe.expect("the first type", &path, &[field("spec.size=5", "five lost", 2)])?;

    redefine(api, "retypeds", &[gone])?;
    wait_reads(api, &format!("{path}/five"), "/size", &Value::Null)?;
    api.merge(&format!("{path}/lost"), &json!({"spec": {"color": "red"}}))?;
    probe.expect(
        "without the field",
        &path,
        &[field("spec.color=red", "lost", 1), field("spec.color=", "five large", 2)],
    )?;

    redefine(api, "retypeds", &[number])?;
    wait_accepted(api, &path, "size")?;
    create(api, "v1", "retypeds", "number", &json!({"size": 5}))?;
    let rows = [
        field("spec.size=5", "five number", 2),
        field("spec.size=", "lost", 1),
        field("spec.size=L", "large", 1),
        field("spec.size!=5", "large lost", 2),
    ];
    probe.expect("another type", &path, &rows)
}

/// Objects that are there when their field becomes selectable.
const LATE: usize = 1200;

/// One in so many is green.
const GREEN: usize = 100;

/// A field becomes selectable when there are many objects: while the store works on its index, and after it was killed
/// in that.
pub(super) fn made_selectable_later(probe: &mut Probe<'_>, _: Option<&Raw>) -> Result<()> {
    let api = probe.api();
    let path = path("v1", "latelies");
    let spec = json!({"color": {"type": "string"}});
    define(api, "latelies", &[Version::v1(spec.clone(), &[])], &json!(null))?;
    shirts::each(0..LATE, |number| {
        let color = if number % GREEN == 7 { "green" } else { "grey" };
        let spec = json!({"color": color});
        let late = super::resource::object("v1", "latelies", &format!("late-{number:04}"), &json!({}), &spec);
        api.create(&path, &late).map(|_| ())
    })?;
    let green: Vec<String> = (7..LATE).step_by(GREEN).map(|number| format!("late-{number:04}")).collect();
    let mut green = green.join(" ");
    redefine(api, "latelies", &[Version::v1(spec, &["color"])])?;
    wait_accepted(api, &path, "color")?;
    for _ in 0..5 {
        probe.expect_list("an index that grows", &path, "spec.color=green", &green)?;
    }
    let store = probe.lab.cluster.process(Component::Store).ok_or_else(|| Error::input("the store has ended"))?;
    store.kill()?;
    probe.lab.cluster.start_one(Component::Store)?;
    until("reading after the restart", LIMIT, || Ok(api.get(&format!("{path}?limit=1")).ok().map(|_| ())))?;
    create(api, "v1", "latelies", "later", &json!({"color": "green"}))?;
    green += " later";
    for _ in 0..5 {
        probe.expect_list("an index that grows after a crash", &path, "spec.color=green", &green)?;
    }
    Ok(())
}
