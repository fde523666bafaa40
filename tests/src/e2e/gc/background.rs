//! Owners that are deleted in the background: their dependents follow.

use std::collections::BTreeSet;
use std::io::BufRead as _;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Seen;
use super::side::{HOLD, Policy, Side, is_deleting, owners, reference};
use crate::kubectl::Event;
use sluice_shell::error::{Error, Result};
use sluice_toolkit::cluster::shirts::revision;
use sluice_toolkit::cluster::wait::ensure;

/// What a dependent may outlive its owner by.
const SOON: Duration = Duration::from_secs(5);

/// A tree goes from its root on, and nothing else does.
pub(super) fn t01_a_tree_goes_from_its_root(side: &Side<'_>) -> Result<Seen> {
    let chain = ["root", "child", "grandchild", "leaf"];
    let mut owner = side.shirt(chain[0], &[])?;
    for name in &chain[1..] {
        owner = side.shirt(name, &[reference(&owner)])?;
    }
    let other = side.shirt("other", &[])?;
    side.shirt("other-child", &[reference(&other)])?;
    let before = revision(&side.api.get(&side.path("shirts"))?)?;
    let collected = side.collected()?;
    side.delete("shirts", "root", Policy::Background)?;
    side.until_left("shirts", "other other-child")?;
    let order = deletions(side, before, chain.len())?;
    ensure(!side.ours || side.collected()? > collected, || "the shim says that it collected nothing".to_owned())?;
    Ok(Seen::from([("order".into(), order)]))
}

/// The names of so many objects, in the order in which a watch from a revision on says that they were deleted.
fn deletions(side: &Side<'_>, from: u64, count: usize) -> Result<String> {
    let path = format!("{}?watch=1&resourceVersion={from}&timeoutSeconds=20", side.path("shirts"));
    let (mut names, mut last) = (Vec::new(), from);
    for line in side.api.watch(&path)?.lines() {
        let event = Event::from_json(&serde_json::from_str::<Value>(&line?)?);
        let at = revision(&event.object)?;
        ensure(event.kind == "DELETED" && at > last, || {
            format!("{} {} at {at} after {last}", event.kind, event.name())
        })?;
        last = at;
        names.push(event.name().to_owned());
        if names.len() == count {
            return Ok(names.join(" "));
        }
    }
    Err(Error::input(format!("a watch from {from} on shows the end of {names:?} alone")))
}

/// The owner is a ConfigMap, which the controller manager sees; the dependents it does not see.
pub(super) fn t03_owner_is_built_in(side: &Side<'_>) -> Result<Seen> {
    let [doomed, living] = [side.config_map("doomed", &[], &[])?, side.config_map("living", &[], &[])?];
    side.shirt("of-doomed", &[reference(&doomed)])?;
    side.shirt("of-living", &[reference(&living)])?;
    side.shirt("of-both", &[reference(&doomed), reference(&living)])?;
    side.delete("configmaps", "doomed", Policy::Background)?;
    side.until_left("shirts", "of-both of-living")?;
    let of_both = side.until_is("shirts", "of-both", "losing the dead owner", |shirt| {
        shirt.map(owners).filter(|owners| !owners.contains("doomed"))
    })?;
    side.barrier()?;
    Ok(Seen::from([("owners".into(), of_both), ("left".into(), side.left("shirts")?)]))
}

/// The owner is hidden, its dependents are not. The shim collects custom resources at once; the controller manager
/// finds the others when it looks at the owner.
pub(super) fn t04_dependents_are_visible(side: &Side<'_>) -> Result<Seen> {
    let owners = [side.shirt("doomed", &[])?, side.shirt("living", &[])?];
    for owner in &owners {
        let name = format!("of-{}", owner["metadata"]["name"].as_str().unwrap_or_default());
        side.visible(&name, &[reference(owner)])?;
        side.config_map(&name, &[reference(owner)], &[])?;
    }
    side.barrier()?;
    side.delete("shirts", "doomed", Policy::Background)?;
    let clock = Instant::now();
    side.until_left("shirts", "living of-living")?;
    let soon = !side.ours || clock.elapsed() < SOON;
    ensure(soon, || format!("a visible dependent outlived its hidden owner by {:?}", clock.elapsed()))?;
    side.until_left("configmaps", "of-living")?;
    Ok(Seen::new())
}

/// A dependent with a finalizer is marked as the API server would, and goes when the finalizer is lifted.
pub(super) fn t16_dependent_has_a_finalizer(side: &Side<'_>) -> Result<Seen> {
    let root = side.shirt("root", &[])?;
    let held = side.hidden("shirts", "held", &[reference(&root)], &[HOLD])?;
    side.shirt("below", &[reference(&held)])?;
    side.delete("shirts", "root", Policy::Background)?;
    let marked =
        side.until_is("shirts", "held", "being deleted", |shirt| shirt.filter(|held| is_deleting(held)).cloned())?;
    side.barrier()?;
    let kept = side.left("shirts")?;
    side.finalizers("shirts", "held", &[])?;
    side.until_left("shirts", "")?;
    let metadata = &marked["metadata"];
    let fields: BTreeSet<&String> = metadata.as_object().map(|fields| fields.keys().collect()).unwrap_or_default();
    let mut seen = Seen::from([
        ("kept".into(), kept),
        ("fields".into(), fields.iter().filter(|name| **name != "labels").map(|name| format!("{name} ")).collect()),
    ]);
    for field in ["deletionGracePeriodSeconds", "generation", "finalizers"] {
        seen.insert(field.into(), metadata[field].to_string());
    }
    Ok(seen)
}
