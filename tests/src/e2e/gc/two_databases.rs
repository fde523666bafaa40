//! Two databases under one apiserver: `--etcd-servers-overrides` sends the ConfigMaps to a shim of their own.
//!
//! Labelled objects are on one side, objects of a built-in kind on the other. What is labelled on both sides is the
//! same to a shim: it knows what is in its database.

use std::slice::from_ref;

use serde_json::Value;

use super::super::lab::{self, Lab, Wish};
use super::super::stores::{Server, Tools};
use super::super::{Column, Suite, Verdict};
use super::side::{self, HOLD, Policy, Side, blocking, owners, reference};
use sluice_shell::error::Result;
use sluice_shell::process::{Limit, Run};
use sluice_toolkit::cluster::client::Client;
use sluice_toolkit::cluster::component::Component;
use sluice_toolkit::cluster::wait::ensure;

/// An owner in another database is neither living nor dead to the shim: what is labelled stays, with its reference,
/// whatever becomes of the owner. All others are collected as ever.
pub(super) fn run(suite: &Suite) -> Result<Verdict> {
    let Some(tools) = Tools::of(suite)? else {
        return Ok(Verdict::Skipped("needs an etcdctl beside etcd".to_owned()));
    };
    let folder = lab::folder(suite, "second-database");
    fs_err::create_dir_all(&folder)?;
    let second = Server::shim(&tools, &folder, "second.db")?;
    let overrides = format!("--etcd-servers-overrides=/configmaps#http://127.0.0.1:{}", second.port);
    let lab = Lab::start(suite, Wish::new(Column::OURS).apiserver_arg(side::NO_WATCH_CACHE).apiserver_arg(overrides))?;
    // It knows from its start on what is there then.
    lab.cluster.stop_one(Component::ControllerManager)?;
    side::define(&lab.api)?;
    lab.cluster.start_one(Component::ControllerManager)?;

    let side = Side::new(&lab, true).in_namespace("t26")?;
    create(&side)?;
    let keys = Run::new(&tools.etcdctl, &folder).limit(Limit::ANSWER).arg(second.flag());
    let keys = keys.args(["get", "--prefix", "--keys-only", "/"]).read()?;
    let apart = keys.contains("/registry/configmaps/t26/map") && !keys.contains("shirts");
    ensure(apart, || format!("in the second database there is {keys}"))?;

    for (plural, name, policy) in [
        ("configmaps", "map", Policy::Background),
        ("configmaps", "front", Policy::Foreground),
        ("shirts", "shirt", Policy::Background),
        ("shirts", "front-shirt", Policy::Foreground),
        ("configmaps", "orphaning", Policy::Orphan),
    ] {
        side.delete(plural, name, policy)?;
    }
    // The controller manager's part, late where the owner is labelled.
    side.until_left("configmaps", "living map-of-living")?;
    let kept =
        "held-by-front hidden-of-living hidden-of-map hidden-of-orphaning hidden-of-two living-shirt visible-of-living";
    side.until_left("shirts", kept)?;
    let of_two = |shirt: Option<&Value>| (shirt.map(owners)? == "map").then_some(());
    side.until_is("shirts", "hidden-of-two", "losing the reference to the shirt that is gone", of_two)?;
    for (name, owner) in [("hidden-of-map", "map"), ("held-by-front", "front"), ("hidden-of-orphaning", "orphaning")] {
        let found =
            side.get("shirts", name)?.map(|shirt| (owners(&shirt), shirt["metadata"]["deletionTimestamp"].clone()));
        let expected = Some((owner.to_owned(), Value::Null));
        ensure(found == expected, || format!("{name} has {found:?}, expected {expected:?}"))?;
    }
    let actions = collected(&Client::plain(second.port))?;
    ensure(actions == 0, || format!("the second shim collected: {actions}"))?;
    lab.finish()?;
    second.stop()?;
    fs_err::remove_dir_all(folder)?;
    Ok(Verdict::PASSED)
}

fn create(side: &Side<'_>) -> Result<()> {
    let map = |name: &str, owners: &[Value]| side.config_map(name, owners, &[]);
    let (doomed, living) = (reference(&map("map", &[])?), reference(&map("living", &[])?));
    let (front, orphaning) = (blocking(&map("front", &[])?), reference(&map("orphaning", &[])?));
    let (shirt, other) = (reference(&side.shirt("shirt", &[])?), reference(&side.shirt("living-shirt", &[])?));
    let front_shirt = blocking(&side.shirt("front-shirt", &[])?);
    // Across, with the label.
    side.shirt("hidden-of-map", from_ref(&doomed))?;
    side.shirt("hidden-of-two", &[doomed.clone(), shirt.clone()])?;
    side.shirt("hidden-of-living", from_ref(&living))?;
    side.shirt("hidden-of-orphaning", &[orphaning])?;
    side.hidden("shirts", "held-by-front", &[front], &[HOLD])?;
    // Across, without it.
    side.visible("visible-of-map", from_ref(&doomed))?;
    side.visible("visible-of-living", &[living])?;
    map("map-of-shirt", from_ref(&shirt))?;
    map("map-of-front-shirt", from_ref(&front_shirt))?;
    map("map-of-living", &[other])?;
    // On one side.
    side.shirt("hidden-of-shirt", &[shirt])?;
    side.shirt("hidden-of-front-shirt", &[front_shirt])?;
    map("map-of-map", &[doomed])?;
    Ok(())
}

/// How many changes a shim's collector made.
fn collected(shim: &Client) -> Result<u64> {
    let metrics = shim.text("/metrics")?;
    let lines = metrics.lines().filter(|line| line.starts_with("sluice_gc_actions_total"));
    let counts = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
    Ok(counts.sum())
}
