//! Selective watches without the watch cache: what enters a selector, leaves it, stays, goes and comes again;
//! bookmarks; and history that is gone.

use std::io::BufRead;

use serde_json::{Value, json};

use super::lab::{Lab, Wish};
use super::raw::Raw;
use super::{Case, Column, Suite, Verdict};
use crate::kubectl::Event;
use sluice_shell::error::{Error, Result};
use sluice_toolkit::cluster::client::{Client, HttpError};
use sluice_toolkit::cluster::settings::Store;
use sluice_toolkit::cluster::shirts::{self, NAMESPACE, PATH, names, revision, shirt};
use sluice_toolkit::cluster::wait::ensure;

/// How often the store tells watches the revision that they have seen everything up to.
const PROGRESS: &str = "--watch-progress-notify-interval=1s";

/// Selectors of the same shirts: by label, by field, and by both.
const GREEN: [&str; 3] = [
    "labelSelector=color%3Dgreen",
    "fieldSelector=spec.color%3Dgreen",
    "labelSelector=color%3Dgreen&fieldSelector=spec.color%3Dgreen,metadata.name!%3Dother",
];

/// What each of them must see of [`change`].
const SEEN: &str = "ADDED a green S\nMODIFIED a green M\nDELETED a green M\nADDED a green L\nDELETED a green L\n\
    ADDED a green S\nDELETED a green S\nADDED end green S";

pub(super) fn cases() -> Vec<Case> {
    let columns = Column::ALL.into_iter().filter(|column| column.patched || column.store == Store::Etcd);
    let case =
        |column: Column| Case::new(format!("watches/{}", column.name()), move |suite| run(suite, column)).of(column);
    columns.map(case).collect()
}

fn run(suite: &Suite, column: Column) -> Result<Verdict> {
    let lab = Lab::start(suite, Wish::new(column).apiserver_arg(shirts::NO_WATCH_CACHE).store_arg(PROGRESS))?;
    shirts::prepare(&lab.api)?;
    let start = revision(&lab.api.get(PATH)?)?;
    let live = GREEN.map(|selector| open(&lab.api, selector, &format!("resourceVersion={start}")));
    let streamed = GREEN.map(|selector| open(&lab.api, selector, STREAMED));
    change(&lab.api)?;
    let replayed = GREEN.map(|selector| open(&lab.api, selector, &format!("resourceVersion={start}")));
    for (way, watches) in [("live", live), ("streamed", streamed), ("replayed", replayed)] {
        for (selector, watch) in GREEN.into_iter().zip(watches) {
            let seen = until_end(watch?)?;
            ensure(seen == SEEN, || format!("the {way} watch of {selector} saw:\n{seen}\nexpected:\n{SEEN}"))?;
        }
    }
    if column.patched {
        bookmarks(&lab.api)?;
    }
    if let Some(raw) = Raw::of(suite, &lab)? {
        compacted(&lab.api, &raw, start)?;
    }
    lab.finish()?;
    Ok(Verdict::PASSED)
}

/// A watch that sends first what there is.
const STREAMED: &str = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";

fn open(api: &Client, selector: &str, from: &str) -> Result<impl BufRead + use<>, HttpError> {
    api.watch(&format!("{PATH}?watch=true&timeoutSeconds=30&{selector}&{from}"))
}

/// A shirt enters the selector, stays, leaves, comes back, dies, is born again in it, dies, and is born again outside
/// of it.
fn change(api: &Client) -> Result<()> {
    let path = format!("{PATH}/a");
    let dye = |color: &str, size: &str| {
        api.merge(&path, &json!({"metadata": {"labels": {"color": color}}, "spec": {"color": color, "size": size}}))
    };
    api.create(PATH, &shirt("a", "red", "S"))?;
    dye("green", "S")?;
    dye("green", "M")?;
    dye("red", "M")?;
    dye("blue", "M")?;
    dye("green", "L")?;
    api.delete(&path)?;
    api.create(PATH, &shirt("a", "green", "S"))?;
    api.delete(&path)?;
    api.create(PATH, &shirt("a", "red", "S"))?;
    api.create(PATH, &shirt("end", "green", "S"))?;
    Ok(())
}

/// What a watch says, up to the shirt `end`.
fn until_end(watch: impl BufRead) -> Result<String> {
    let mut seen: Vec<String> = Vec::new();
    for event in events(watch) {
        let event = event?;
        if event.kind == "BOOKMARK" {
            continue;
        }
        let text = |field: &str| event.object["spec"][field].as_str().unwrap_or_default().to_owned();
        seen.push(format!("{} {} {} {}", event.kind, event.name(), text("color"), text("size")));
        if event.name() == "end" {
            return Ok(seen.join("\n"));
        }
    }
    Err(Error::input(format!("the watch ended before it showed the last shirt; it showed {seen:?}")))
}

fn events(watch: impl BufRead) -> impl Iterator<Item = Result<Event>> {
    watch.lines().map(|line| Ok(Event::from_json(&serde_json::from_str(&line?)?)))
}

/// A watch from which everything is filtered still learns how far it has come.
fn bookmarks(api: &Client) -> Result<()> {
    for selector in ["labelSelector=color%3Dnone", "fieldSelector=spec.color%3Dnone"] {
        let start = revision(&api.get(PATH)?)?;
        let watch = open(api, selector, &format!("allowWatchBookmarks=true&resourceVersion={start}"))?;
        let target = revision(&api.merge(&format!("{PATH}/a"), &json!({"spec": {"note": selector}}))?)?;
        let mut reached = false;
        for event in events(watch) {
            let event = event?;
            ensure(event.kind == "BOOKMARK", || format!("{selector}: {} {}", event.kind, event.object))?;
            if revision(&event.object)? >= target {
                reached = true;
                break;
            }
        }
        ensure(reached, || format!("{selector}: no bookmark came up to revision {target}"))?;
    }
    Ok(())
}

/// After a compaction, a watch and a list of what was before it fail as clients expect; a page that was begun before
/// goes on with what is now.
fn compacted(api: &Client, raw: &Raw, start: u64) -> Result<()> {
    api.create(PATH, &shirt("second", "green", "S"))?;
    let query = format!("{PATH}?limit=1&{}", GREEN[2]);
    let first = api.get(&query)?;
    let token = first["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
    let last = api.merge(&format!("{PATH}/second"), &json!({"spec": {"note": "later"}}))?;
    raw.compact(revision(&last)?)?;
    for selector in GREEN {
        let mut watch = events(open(api, selector, &format!("resourceVersion={start}"))?);
        let event = watch.next().unwrap_or_else(|| Err(Error::input("the watch of what is gone says nothing")))?;
        let status = (event.kind.as_str(), event.object["code"].as_u64(), event.object["reason"].as_str());
        ensure(status == ("ERROR", Some(410), Some("Expired")), || {
            format!("a watch of {selector} from before the compaction: {} {}", event.kind, event.object)
        })?;
        let exact = format!("{PATH}?{selector}&resourceVersion={start}&resourceVersionMatch=Exact");
        expect_gone("a list at a revision before the compaction", &api.get(&exact))?;
    }
    ensure(names(&first) == ["end"], || {
        format!("the first page of green shirts in {NAMESPACE} holds {:?}", names(&first))
    })?;
    expect_gone("a page that was begun before the compaction", &api.get(&format!("{query}&continue={token}")))
}

fn expect_gone(what: &str, answer: &Result<Value, HttpError>) -> Result<()> {
    ensure(matches!(answer, Err(error) if error.status() == Some(410)), || format!("{what} gives {answer:?}, not 410"))
}
