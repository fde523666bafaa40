//! kill -9 of the shim, or of its database server, or of two shims that stand by for each other, while 32 clients
//! create objects, ten times: nothing that was acknowledged is lost, every watch sees everything.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::lab::{Lab, Wish};
use super::{Case, Column, Suite, Verdict};
use crate::kubectl::Event;
use sluice_shell::error::{Error, Result};
use sluice_toolkit::cluster::client::{Client, HttpError};
use sluice_toolkit::cluster::component::Component;
use sluice_toolkit::cluster::database::Database;
use sluice_toolkit::cluster::pid::POLL;
use sluice_toolkit::cluster::shirts::{self, NAMESPACE, PATH, revision, shirt};
use sluice_toolkit::cluster::wait::{ensure, until};

const CREATORS: usize = 32;
const CRASHES: usize = 10;

/// Acknowledged creations between two crashes.
const BETWEEN: usize = 150;

/// How long the creators may take for that, and the watchers to catch up. After a crash the apiserver's connection
/// backs off for some seconds.
const LIMIT: Duration = Duration::from_secs(120);

/// The last object made: a watcher that has seen it has seen all.
const LAST: &str = "last";

pub(super) fn cases() -> Vec<Case> {
    let on_servers = Database::ALL.into_iter().map(|server| {
        let name = format!("crash/on-{server}").to_lowercase();
        Case::new(name, move |suite| run(suite, Wish::new(Column::OURS).server(server))).on(server)
    });
    let in_a_file = [
        Case::new("crash/watch-cache", |suite| run(suite, Wish::new(Column::OURS))),
        Case::new("crash/no-watch-cache", |suite| {
            run(suite, Wish::new(Column::OURS).apiserver_arg(shirts::NO_WATCH_CACHE))
        }),
    ];
    let standby = Database::ALL.into_iter().map(|server| {
        let name = format!("crash/standby-on-{server}").to_lowercase();
        let wish = move || Wish::new(Column::OURS).server(server).store_arg("--standby");
        Case::new(name, move |suite| run(suite, wish())).on(server)
    });
    in_a_file.into_iter().chain(on_servers).chain(standby).map(|case| case.of(Column::OURS)).collect()
}

/// One creation that the apiserver said yes to.
struct Ack {
    name: String,
    uid: String,
    revision: u64,
    asked: Instant,
    answered: Instant,
}

#[derive(Default)]
struct Creations {
    acks: Mutex<Vec<Ack>>,
    stop: AtomicBool,
}

impl Creations {
    fn acks(&self) -> MutexGuard<'_, Vec<Ack>> {
        self.acks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn run(suite: &Suite, wish: Wish) -> Result<Verdict> {
    let several = wish.stands_by();
    let lab = Lab::start(suite, wish)?;
    let second = several.then(|| lab.second_plane()).transpose()?;
    shirts::prepare(&lab.api)?;
    let apis: Vec<&Client> = [&lab.api].into_iter().chain(second.as_ref().map(|second| &second.api)).collect();
    for api in &apis {
        until("serving shirts", LIMIT, || Ok(api.get(PATH).ok()))?;
    }
    let mut kubectl = lab.kubectl().watch(&format!("shirts -n {NAMESPACE}"))?;
    lab.api.create(PATH, &shirt("first", "red", "S"))?;
    kubectl.wait_for("first", LIMIT, |event| event.name() == "first")?;

    let creations = Creations::default();
    let give_up = AtomicBool::new(false);
    let raw = thread::scope(|scope| -> Result<Vec<Event>> {
        let watcher = scope.spawn(|| follow(apis[apis.len() - 1], &give_up));
        let crash = |number: usize| match &second {
            Some(second) if number.is_multiple_of(2) => second.crash(),
            _ => crash(&lab, number),
        };
        let crashed = create_and_crash(&apis, &creations, crash).and_then(|()| create_last(&lab.api));
        give_up.store(crashed.is_err(), Ordering::Relaxed);
        crashed?;
        watcher.join().map_err(|_| Error::input("the watcher broke"))?
    })?;

    let acks = creations.acks();
    let stored = check_stored(&lab.api, &acks)?;
    check_order(&acks)?;
    check_watch("the resuming watch", &raw, &stored)?;
    let mut shown = format!("{} acknowledged, {} stored", acks.len(), stored.len());
    match kubectl.wait_for(LAST, LIMIT, |event| event.name() == LAST) {
        Ok(seen) => check_watch("kubectl get -w", seen, &stored)?,
        Err(error) => {
            // On a machine with too much to do, the apiserver ends the watch of a client that reads too slowly.
            ensure(ended_as_slow(&lab.api)?, || error.to_string())?;
            let seen = kubectl.events()?;
            let until = seen.last().map(|event| revision(&event.object)).transpose()?.unwrap_or_default();
            let by_then = stored.iter().filter(|(_, at)| **at <= until).map(|(name, at)| (name.clone(), *at)).collect();
            check_watch("kubectl get -w", seen, &by_then)?;
            shown.push_str(&format!("; the apiserver ended kubectl's watch as too slow after {} events", seen.len()));
        }
    }
    drop(acks);
    drop(kubectl);
    drop(second);
    lab.finish()?;
    Ok(Verdict::Passed(shown))
}

/// Lets clients create shirts, and crashes something again and again in the middle of the work. When it returns, all
/// creators have ended.
fn create_and_crash(apis: &[&Client], creations: &Creations, crash: impl Fn(usize) -> Result<()>) -> Result<()> {
    thread::scope(|scope| {
        for thread in 0..CREATORS {
            scope.spawn(move || create(apis[thread % apis.len()], thread, creations));
        }
        let crashed = crash_often(creations, crash);
        creations.stop.store(true, Ordering::Relaxed);
        crashed
    })
}

fn crash_often(creations: &Creations, crash: impl Fn(usize) -> Result<()>) -> Result<()> {
    let more = |what: &str| {
        let before = creations.acks().len();
        until(what, LIMIT, || Ok((creations.acks().len() >= before + BETWEEN).then_some(())))
    };
    for number in 1..=CRASHES {
        more(&format!("creating {BETWEEN} shirts before crash {number}"))?;
        crash(number)?;
    }
    more(&format!("creating {BETWEEN} shirts after the last crash"))
}

/// Crashes and restarts the shim, or in turns the shim and its database server, if that is the cluster's own: the shim
/// must find a server again that went and came back.
fn crash(lab: &Lab, number: usize) -> Result<()> {
    let server = lab.cluster.components().find(|&one| one == Component::Database);
    let victim = server.filter(|_| number.is_multiple_of(2)).unwrap_or(Component::Store);
    let gone = || Error::input(format!("{} ended by itself", victim.title(&lab.cluster)));
    lab.cluster.process(victim).ok_or_else(gone)?.kill()?;
    lab.cluster.start_one(victim)
}

fn create_last(api: &Client) -> Result<()> {
    until("creating the last shirt", LIMIT, || match api.create(PATH, &shirt(LAST, "red", "S")) {
        Ok(_) => Ok(Some(())),
        Err(error) if error.status() == Some(409) => Ok(Some(())),
        Err(_) => Ok(None),
    })
}

/// One client that creates one shirt after the other. After an error it is unknown whether the shirt is there: it takes
/// a new name.
fn create(api: &Client, thread: usize, creations: &Creations) {
    for number in 0.. {
        if creations.stop.load(Ordering::Relaxed) {
            return;
        }
        let name = format!("shirt-{thread:02}-{number:05}");
        let asked = Instant::now();
        match api.create(PATH, &shirt(&name, "red", "S")) {
            Ok(object) => {
                let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
                let revision = revision(&object).unwrap_or_default();
                creations.acks().push(Ack { name, uid, revision, asked, answered: Instant::now() });
            }
            Err(_) => thread::sleep(POLL),
        }
    }
}

/// Watches as clients do: lists, watches from there, and when the watch ends, goes on from the last revision that it
/// saw.
fn follow(api: &Client, give_up: &AtomicBool) -> Result<Vec<Event>> {
    let list = api.get(PATH)?;
    let mut from = revision(&list)?;
    let mut seen = Vec::new();
    for object in list["items"].as_array().cloned().unwrap_or_default() {
        seen.push((revision(&object)?, Event { kind: "ADDED".to_owned(), object }));
    }
    // A list comes in the order of names.
    seen.sort_by_key(|(revision, _)| *revision);
    let mut seen: Vec<Event> = seen.into_iter().map(|(_, event)| event).collect();
    let mut progress = Instant::now();
    loop {
        let path = format!("{PATH}?watch=1&allowWatchBookmarks=true&timeoutSeconds=5&resourceVersion={from}");
        match api.watch(&path) {
            Ok(stream) => {
                for line in stream.lines() {
                    let Ok(line) = line else { break };
                    // A connection that is cut in the middle of a line ends the watch like any other.
                    let Ok(value) = serde_json::from_str::<Value>(&line) else { break };
                    let event = Event::from_json(&value);
                    ensure(event.kind != "ERROR", || format!("the watch from {from} was refused: {}", event.object))?;
                    from = revision(&event.object)?;
                    progress = Instant::now();
                    if event.name() == LAST {
                        seen.push(event);
                        return Ok(seen);
                    }
                    seen.extend((event.kind != "BOOKMARK").then_some(event));
                }
            }
            Err(HttpError::Refused { status: 410, message, .. }) => {
                return Err(Error::input(format!("the watch from {from} was refused: {message}")));
            }
            Err(_) => thread::sleep(POLL),
        }
        let stuck = progress.elapsed() > LIMIT || give_up.load(Ordering::Relaxed);
        ensure(!stuck, || format!("the watch from {from} does not show the last shirt"))?;
    }
}

/// What is stored, by name: revision of each. Every acknowledged shirt is there as it was acknowledged, no revision is
/// there twice.
fn check_stored(api: &Client, acks: &[Ack]) -> Result<BTreeMap<String, u64>> {
    let list = api.get(PATH)?;
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut stored = BTreeMap::new();
    let mut uids = BTreeMap::new();
    for item in items {
        let text = |field: &str| item["metadata"][field].as_str().unwrap_or_default().to_owned();
        stored.insert(text("name"), revision(item)?);
        uids.insert(text("name"), text("uid"));
    }
    for ack in acks {
        let is = (stored.get(&ack.name), uids.get(&ack.name));
        ensure(is == (Some(&ack.revision), Some(&ack.uid)), || {
            format!("{} was acknowledged at revision {}; stored is {is:?}", ack.name, ack.revision)
        })?;
    }
    let revisions: BTreeSet<u64> = stored.values().copied().collect();
    ensure(revisions.len() == stored.len(), || "two shirts have one revision".to_owned())?;
    let newest = revision(&list)?;
    ensure(revisions.last() <= Some(&newest), || format!("a shirt is newer than its list, {newest}"))?;
    Ok(stored)
}

/// A creation that was asked for after another one was answered has the higher revision.
fn check_order(acks: &[Ack]) -> Result<()> {
    let mut by_asked: Vec<&Ack> = acks.iter().collect();
    by_asked.sort_by_key(|ack| ack.asked);
    let mut by_answered: Vec<&Ack> = acks.iter().collect();
    by_answered.sort_by_key(|ack| ack.answered);
    let mut answered = by_answered.into_iter().peekable();
    let mut newest: Option<&Ack> = None;
    for ack in by_asked {
        while let Some(before) = answered.next_if(|before| before.answered < ack.asked) {
            if newest.is_none_or(|newest| newest.revision < before.revision) {
                newest = Some(before);
            }
        }
        if let Some(newest) = newest {
            ensure(newest.revision < ack.revision, || {
                format!(
                    "{} got revision {} after {} had been answered with {}",
                    ack.name, ack.revision, newest.name, newest.revision
                )
            })?;
        }
    }
    Ok(())
}

/// Whether the apiserver says that it ended a watch of shirts because its client did not keep up
/// (apiserver: pkg/storage/cacher/metrics, `TerminatedWatchersCounter`).
fn ended_as_slow(api: &Client) -> Result<bool> {
    let metrics = api.text("/metrics")?;
    let counter = |line: &&str| line.starts_with("apiserver_terminated_watchers_total{") && line.contains("\"shirts\"");
    Ok(metrics.lines().find(counter).is_some_and(|line| !line.ends_with(" 0")))
}

/// Every stored shirt was added exactly once, at its revision, in the order of revisions.
fn check_watch(who: &str, events: &[Event], stored: &BTreeMap<String, u64>) -> Result<()> {
    let mut added = BTreeMap::new();
    let mut last = 0;
    for event in events {
        let at = revision(&event.object)?;
        ensure(event.kind == "ADDED", || format!("{who} saw {} of {}", event.kind, event.name()))?;
        ensure(at > last, || format!("{who} saw revision {at} after {last}"))?;
        ensure(added.insert(event.name().to_owned(), at).is_none(), || format!("{who} saw {} twice", event.name()))?;
        last = at;
    }
    let missing: Vec<&String> = stored.keys().filter(|name| !added.contains_key(*name)).collect();
    ensure(missing.is_empty(), || format!("{who} never saw {missing:?}"))?;
    ensure(added == *stored, || format!("{who} saw shirts that are not stored, or at other revisions"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ack(revision: u64, asked: u64, answered: u64, zero: Instant) -> Ack {
        let at = |milliseconds| zero + Duration::from_millis(milliseconds);
        Ack { name: format!("s{revision}"), uid: String::new(), revision, asked: at(asked), answered: at(answered) }
    }

    #[test]
    fn order_is_that_of_answers() {
        let zero = Instant::now();
        let cases = [
            (vec![(2, 0, 10), (3, 11, 20)], true),
            (vec![(3, 0, 10), (2, 11, 20)], false),
            (vec![(3, 0, 10), (2, 5, 20)], true),
            (vec![(5, 0, 10), (2, 5, 30), (4, 11, 20)], false),
        ];
        for (acks, good) in cases {
            let acks: Vec<Ack> = acks.into_iter().map(|(revision, from, to)| ack(revision, from, to, zero)).collect();
            assert_eq!(check_order(&acks).is_ok(), good);
        }
    }

    #[test]
    fn a_watch_may_neither_lose_nor_repeat_nor_reorder() {
        let stored = BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 4)]);
        let event = |name: &str, at: u64| Event {
            kind: "ADDED".to_owned(),
            object: json!({"metadata": {"name": name, "resourceVersion": at.to_string()}}),
        };
        assert!(check_watch("it", &[event("a", 2), event("b", 4)], &stored).is_ok());
        for wrong in [
            vec![event("a", 2)],
            vec![event("a", 2), event("b", 4), event("b", 4)],
            vec![event("b", 4), event("a", 2)],
            vec![event("a", 2), event("b", 4), event("c", 5)],
            vec![event("a", 1), event("b", 4)],
        ] {
            assert!(check_watch("it", &wrong, &stored).is_err(), "{wrong:?}");
        }
    }
}
