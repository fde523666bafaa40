//! A custom resource leaves the watch cache, and comes back, by an annotation of its definition.

use std::io::BufRead as _;

use serde_json::{Value, json};

use super::lab::{Lab, Wish};
use super::{Case, Column, Suite, Verdict};
use crate::kubectl::Event;
use sluice_shell::error::Result;
use sluice_toolkit::cluster::client::Client;
use sluice_toolkit::cluster::settings::Store;
use sluice_toolkit::cluster::shirts::{self, NAMESPACE, PATH, WATCH_CACHE, names, revision, shirt};
use sluice_toolkit::cluster::wait::{LIMIT, ensure, until};

/// Where kube-apiserver shows what has no watch cache.
const STATUS: &str = "/apis/watch-cache.sluice-project.github.io";
const DEFINITION: &str = "crd shirts.stable.example.com";

/// The server ends a watch after so many seconds: none of these may be what ended it.
const WATCH_SECONDS: u64 = 600;

pub(super) fn cases() -> Vec<Case> {
    let column = Column { patched: true, store: Store::Shim };
    vec![
        Case::new("watch-cache/annotation", move |suite| off_and_on(suite, column)).of(column),
        Case::new("watch-cache/flag-wins", move |suite| flag_wins(suite, column)).of(column),
    ]
}

fn off_and_on(suite: &Suite, column: Column) -> Result<Verdict> {
    let lab = Lab::start(suite, Wish::new(column))?;
    let api = &lab.api;
    shirts::prepare(api)?;
    let before = revision(&api.get(PATH)?)?;
    api.create(PATH, &shirt("before", "green", "S"))?;
    ensure(cached_lists(api)? > 0, || "a list was not read from the watch cache, though nothing is off".to_owned())?;
    shows(&lab, &[])?;

    // Off: a watch that runs ends without an error, and goes on from where it was.
    let last = watch_until_end(api, before, &["before"], || annotate(&lab, &format!("{WATCH_CACHE}=off")).map(|_| ()))?;
    shows(&lab, &["annotation"])?;
    ensure(cached_lists(api)? == 0, || "lists are read from the watch cache, though it is off".to_owned())?;
    api.create(PATH, &shirt("meanwhile", "green", "S"))?;

    // On: what was missed is there, as after any other change of the definition.
    watch_until_end(api, last, &["meanwhile"], || annotate(&lab, &format!("{WATCH_CACHE}-")).map(|_| ()))?;
    shows(&lab, &[])?;
    ensure(cached_lists(api)? > 0, || "the watch cache did not come back".to_owned())?;
    let found = names(&list(api, "")?);
    ensure(found == ["before", "meanwhile"], || format!("the list holds {found:?}"))?;

    let said = annotate(&lab, &format!("{WATCH_CACHE}=false"))?;
    ensure(said.contains("\"false\" has no meaning"), || format!("kubectl warned of nothing: {said}"))?;
    shows(&lab, &[])?;
    lab.finish()?;
    Ok(Verdict::PASSED)
}

fn flag_wins(suite: &Suite, column: Column) -> Result<Verdict> {
    for (flag, annotation, shown) in [
        ("--watch-cache-sizes=shirts.stable.example.com#100", "off", None),
        (shirts::NO_WATCH_CACHE, "on", Some("flag")),
    ] {
        let lab = Lab::start(suite, Wish::new(column).apiserver_arg(flag))?;
        shirts::prepare(&lab.api)?;
        annotate(&lab, &format!("{WATCH_CACHE}={annotation}"))?;
        shows(&lab, shown.as_slice())?;
        let cached = cached_lists(&lab.api)? > 0;
        ensure(cached == shown.is_none(), || format!("{flag} and {WATCH_CACHE}={annotation}: cached: {cached}"))?;
        lab.finish()?;
    }
    Ok(Verdict::PASSED)
}

/// As a user does it; returns what kubectl says beside its result.
fn annotate(lab: &Lab, annotation: &str) -> Result<String> {
    lab.kubectl().warns(&format!("annotate --overwrite {DEFINITION} {annotation}"))
}

/// Waits until the status and the metric show the shirts as out of the watch cache by `by`, or not at all.
fn shows(lab: &Lab, by: &[&str]) -> Result<()> {
    let off: Vec<Value> =
        by.iter().map(|by| json!({"group": "stable.example.com", "resource": "shirts", "by": by})).collect();
    let expected = json!({ "off": off });
    until("what the apiserver shows of the watch cache", LIMIT, || {
        let status: Value = serde_json::from_str(&lab.kubectl().run(&format!("get --raw {STATUS}"))?)?;
        Ok((status == expected).then_some(()))
    })?;
    let metrics = lab.api.text("/metrics")?;
    let shown: Vec<&str> =
        metrics.lines().filter(|line| line.starts_with("apiextensions_apiserver_watch_cache_off{")).collect();
    let expected: Vec<String> = by
        .iter()
        .map(|by| {
            let labels = format!(r#"by="{by}",group="stable.example.com",resource="shirts""#);
            format!("apiextensions_apiserver_watch_cache_off{{{labels}}} 1")
        })
        .collect();
    ensure(shown == expected, || format!("the metrics show {shown:?}, expected {expected:?}"))
}

/// How many of three lists that may be old are read from the watch cache. A new storage serves them once the cache of
/// the old one is gone.
fn cached_lists(api: &Client) -> Result<u64> {
    let count = || -> Result<u64> {
        let metrics = api.text("/metrics")?;
        let lines = metrics.lines().filter(|line| line.contains("stable.example.com") && counts_cached_lists(line));
        Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
    };
    let before = count()?;
    for _ in 0..3 {
        list(api, "?resourceVersion=0")?;
    }
    Ok(count()?.saturating_sub(before))
}

/// Lists the shirts, again and again while a new watch cache says that it is not ready, as client-go does.
fn list(api: &Client, query: &str) -> Result<Value> {
    until("the list of the shirts", LIMIT, || match api.get(&format!("{PATH}{query}")) {
        Err(error) if error.status() == Some(429) => Ok(None),
        other => Ok(Some(other?)),
    })
}

/// Before v1.37 a metric of its own counts them, since then a label tells them.
fn counts_cached_lists(line: &str) -> bool {
    line.starts_with("apiserver_cache_list_total{")
        || line.starts_with("apiserver_storage_list_total{") && line.contains(r#"storage="watchcache""#)
}

/// Watches from a revision, waits for the shirts of these names, does what ends the watch, and reads to its end.
/// Returns the last revision that the watch showed.
fn watch_until_end(api: &Client, from: u64, expected: &[&str], end: impl Fn() -> Result<()>) -> Result<u64> {
    let watch = api.watch(&format!("{PATH}?watch=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={from}"))?;
    let (mut seen, mut last) = (Vec::new(), from);
    for line in watch.lines() {
        let event = Event::from_json(&serde_json::from_str(&line?)?);
        ensure(event.kind != "ERROR", || format!("the watch in {NAMESPACE} ended with {}", event.object))?;
        last = revision(&event.object)?;
        seen.push(event.name().to_owned());
        if seen == expected {
            end()?;
        }
    }
    ensure(seen == expected, || format!("the watch showed {seen:?}, expected {expected:?}"))?;
    Ok(last)
}
