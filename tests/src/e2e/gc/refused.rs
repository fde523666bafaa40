//! Deletions that do not take place.

use std::io::BufRead as _;

use serde_json::{Value, json};

use super::Seen;
use super::side::{HOLD, Policy, Side, is_deleting, reference};
use crate::kubectl::Event;
use sluice_shell::error::{Error, Result};
use sluice_toolkit::cluster::client::HttpError;
use sluice_toolkit::cluster::shirts::revision;
use sluice_toolkit::cluster::wait::ensure;

/// The end of what is watched.
const LAST: &str = "last";

/// Whatever a request that is only tried out, or whose precondition fails, would have done: nothing is written, and
/// nobody collects anything. The same requests in earnest do it.
pub(super) fn t35_what_does_not_take_place_collects_nothing(side: &Side<'_>) -> Result<Seen> {
    let owner = side.shirt("owner", &[])?;
    side.shirt("child", &[reference(&owner)])?;
    side.visible("child-visible", &[reference(&owner)])?;
    // Its end is one patch away.
    side.hidden("shirts", "held", &[], &[HOLD])?;
    let held = side.get("shirts", "held")?.ok_or_else(|| Error::input("the shirt that is held is gone"))?;
    side.shirt("child-of-held", &[reference(&held)])?;
    side.delete("shirts", "held", Policy::Background)?;
    side.until_is("shirts", "held", "being deleted", |held| held.filter(|held| is_deleting(held)).map(|_| ()))?;
    side.barrier()?;

    let (shirts, before) = (side.path("shirts"), revision(&side.api.get(&side.path("shirts"))?)?);
    let (objects, collected) = (versions(side)?, side.collected()?);
    let (path, held) = (format!("{shirts}/owner"), format!("{shirts}/held"));
    let mut seen = Seen::new();
    for policy in ["Background", "Foreground", "Orphan"] {
        let with = |mut options: Value| {
            options["propagationPolicy"] = policy.into();
            side.api.delete_with(&path, &options)
        };
        let mut note = |what: &str, answer| seen.insert(format!("{what}, {policy}"), code(answer));
        note("dry run", with(json!({"dryRun": ["All"]})));
        note("another UID", with(json!({"preconditions": {"uid": "6f1c7f3e-0000-4000-8000-000000000000"}})));
        note("another version", with(json!({"preconditions": {"resourceVersion": "1"}})));
        let all = side.api.delete_with(&shirts, &json!({"propagationPolicy": policy, "dryRun": ["All"]}));
        note("dry run of all", all);
    }
    let lifted = side.api.merge(&format!("{held}?dryRun=All"), &json!({"metadata": {"finalizers": null}}));
    seen.insert("dry run of the last finalizer's removal".into(), code(lifted));
    let kubectl = format!("delete shirt owner -n {} --dry-run=server --cascade=foreground", side.namespace);
    side.lab.kubectl().run(&kubectl)?;
    ensure(side.collected()? == collected, || "the shim collected something".to_owned())?;

    // Whoever had something to do would have done it when this is done.
    side.barrier()?;
    let after = versions(side)?;
    ensure(after == objects, || format!("the objects were {objects:?} and are {after:?}"))?;
    side.visible(LAST, &[])?;
    let events = others_than_the_barrier_s(side, before)?;
    ensure(events.is_empty(), || format!("a watch shows {events:?}"))?;

    let metadata = &owner["metadata"];
    let right = json!({"preconditions": {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}});
    seen.insert("in earnest".into(), code(side.api.delete_with(&path, &right)));
    side.finalizers("shirts", "held", &[])?;
    side.until_left("shirts", LAST)?;
    let expected = |what: &str| if what.starts_with("another") { "409" } else { "200" };
    ensure(seen.iter().all(|(what, code)| code == expected(what)), || format!("{seen:?}"))?;
    Ok(seen)
}

/// The status code of an answer.
fn code(answer: Result<Value, HttpError>) -> String {
    match answer {
        Ok(_) => "200".to_owned(),
        Err(error) => error.status().map_or_else(|| error.to_string(), |status| status.to_string()),
    }
}

/// Each object with its version.
fn versions(side: &Side<'_>) -> Result<Vec<String>> {
    let mut versions = Vec::new();
    for object in side.api.get(&side.path("shirts"))?["items"].as_array().into_iter().flatten() {
        versions.push(format!("{} {}", object["metadata"]["name"], object["metadata"]["resourceVersion"]));
    }
    Ok(versions)
}

/// What a watch from a revision on shows of shirts until the last one comes, but for what [`Side::barrier`] does.
fn others_than_the_barrier_s(side: &Side<'_>, from: u64) -> Result<Vec<String>> {
    let path = format!("{}?watch=1&resourceVersion={from}&timeoutSeconds=20", side.path("shirts"));
    let mut others = Vec::new();
    for line in side.api.watch(&path)?.lines() {
        let event = Event::from_json(&serde_json::from_str::<Value>(&line?)?);
        if event.name() == LAST {
            return Ok(others);
        }
        if !event.name().starts_with("barrier") {
            others.push(format!("{} {}", event.kind, event.name()));
        }
    }
    Err(Error::input(format!("a watch from {from} on shows {others:?} alone")))
}
