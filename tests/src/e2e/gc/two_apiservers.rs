//! Two apiservers on one shim: clients of both edit dependents while these are collected.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use serde_json::{Value, json};

use super::super::Verdict;
use super::side::{HOLD, Policy, Side, is_deleting, owners, reference};
use sluice_shell::error::{Error, Result};
use sluice_toolkit::cluster::client::{Client, HttpError};
use sluice_toolkit::cluster::shirts::each;
use sluice_toolkit::cluster::wait::{LIMIT, ensure, until};

/// Owners that are deleted, one after the other.
const OWNERS: usize = 8;

/// Dependents of each: a quarter of each [`Fate`].
const DEPENDENTS: usize = 24;

/// Clients; every other one talks to the second apiserver.
const CLIENTS: usize = 4;

/// Edits before each deletion, and after it.
const EDITS: usize = 40;

/// What becomes of a dependent when its owner is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It has no other owner.
    Goes,
    /// It has a living one.
    Shared,
    /// It has only a living one.
    Other,
    /// It has no other owner, and a finalizer.
    Held,
}

fn fate(number: usize) -> Fate {
    [Fate::Goes, Fate::Shared, Fate::Other, Fate::Held][number % 4]
}

/// What a client was told is stored: for each dependent, the number of its last edit of labels and annotations, and of
/// the status.
type Told = BTreeMap<usize, [String; 2]>;

/// How far all are.
#[derive(Default)]
struct Course {
    /// The owner whose dependents are edited.
    owner: AtomicUsize,
    edits: AtomicUsize,
    conflicts: AtomicUsize,
    stop: AtomicBool,
}

/// No edit that was acknowledged is lost on an object that survives, whoever else wrote it meanwhile; nobody gets an
/// error but 404 for what is gone, and conflicts, which are tried again; and what should go goes, as seen through both
/// apiservers.
pub(super) fn run(ours: &Side<'_>) -> Result<Verdict> {
    let side = ours.in_namespace("t29")?;
    let second = side.lab.second_apiserver()?;
    let apis = [&side.api.clone(), &second.api];
    create(&side)?;
    until("serving shirts from the second apiserver", LIMIT, || Ok(second.api.get(&side.path("shirts")).ok()))?;

    let course = Course::default();
    let told = thread::scope(|scope| -> Result<Vec<Told>> {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (side, course, api) = (&side, &course, apis[client % 2]);
                scope.spawn(move || {
                    edit(side, api, client, course).inspect_err(|_| course.stop.store(true, Ordering::Relaxed))
                })
            })
            .collect();
        let deleted = delete_all(&side, apis, &course);
        course.stop.store(true, Ordering::Relaxed);
        let told = clients.into_iter().map(|client| client.join().map_err(|_| Error::input("a client broke"))?);
        let told = told.collect::<Result<Vec<_>>>()?;
        deleted.map(|()| told)
    })?;

    let seen = apis.map(|api| api.get(&side.path("shirts")).map(|list| list["items"].clone()));
    let [first, second] = seen;
    let first = first?;
    ensure(first == second?, || "the apiservers show different objects".to_owned())?;
    check(&side, &first, &told)?;
    for number in (0..OWNERS * DEPENDENTS).filter(|number| fate(*number) == Fate::Held) {
        side.finalizers("shirts", &name(number), &[])?;
    }
    let survivors = (0..OWNERS * DEPENDENTS).filter(|number| matches!(fate(*number), Fate::Shared | Fate::Other));
    let left: Vec<String> = survivors.map(name).chain(["living".to_owned()]).collect();
    side.until_left("shirts", &left.join(" "))?;
    let (edits, conflicts) = (course.edits.into_inner(), course.conflicts.into_inner());
    Ok(Verdict::Passed(format!("{edits} edits, {conflicts} conflicts tried again")))
}

fn name(number: usize) -> String {
    format!("d{number:03}")
}

fn create(side: &Side<'_>) -> Result<()> {
    let living = reference(&side.shirt("living", &[])?);
    let doomed = (0..OWNERS).map(|number| Ok(reference(&side.shirt(&format!("owner-{number}"), &[])?)));
    let doomed = doomed.collect::<Result<Vec<_>>>()?;
    each(0..OWNERS * DEPENDENTS, |number| {
        let doomed = doomed[number / DEPENDENTS].clone();
        let (owners, finalizers) = match fate(number) {
            Fate::Goes => (vec![doomed], vec![]),
            Fate::Shared => (vec![doomed, living.clone()], vec![]),
            Fate::Other => (vec![living.clone()], vec![]),
            Fate::Held => (vec![doomed], vec![HOLD]),
        };
        let metadata = json!({
            "name": name(number), "labels": side.labels(), "ownerReferences": owners, "finalizers": finalizers,
        });
        let object = json!({"apiVersion": "stable.example.com/v1", "kind": "Shirt", "metadata": metadata});
        side.api.create(&side.path("shirts"), &object).map(|_| ())
    })
}

/// Deletes one owner after the other, through both apiservers in turns, while the clients are at its dependents.
fn delete_all(side: &Side<'_>, apis: [&Client; 2], course: &Course) -> Result<()> {
    let edited = |many: usize| {
        let before = course.edits.load(Ordering::Relaxed);
        until("editing by the clients", LIMIT, || {
            ensure(!course.stop.load(Ordering::Relaxed), || "a client ended".to_owned())?;
            Ok((course.edits.load(Ordering::Relaxed) >= before + many).then_some(()))
        })
    };
    for owner in 0..OWNERS {
        course.owner.store(owner, Ordering::Relaxed);
        edited(EDITS)?;
        let policy = if owner % 4 < 2 { Policy::Background } else { Policy::Foreground };
        let path = format!("{}/owner-{owner}?propagationPolicy={policy:?}", side.path("shirts"));
        apis[owner % 2].delete(&path)?;
        for number in owner * DEPENDENTS..(owner + 1) * DEPENDENTS {
            let done = |shirt: Option<&Value>| match fate(number) {
                Fate::Goes => shirt.is_none(),
                Fate::Held => shirt.is_some_and(is_deleting),
                Fate::Shared | Fate::Other => shirt.is_some_and(|shirt| owners(shirt) == "living"),
            };
            side.until_is("shirts", &name(number), "what becomes of it", |shirt| done(shirt).then_some(()))?;
        }
        edited(EDITS)?;
    }
    Ok(())
}

/// One client: edits the dependents of the owner whose turn it is, its own label, annotation and status field of each.
fn edit(side: &Side<'_>, api: &Client, client: usize, course: &Course) -> Result<Told> {
    let (mut told, mut round) = (Told::new(), 0);
    while !course.stop.load(Ordering::Relaxed) {
        round += 1;
        let first = course.owner.load(Ordering::Relaxed) * DEPENDENTS;
        // Where this one is, others are as well.
        let number = first + (round + client) % DEPENDENTS;
        let path = format!("{}/{}", side.path("shirts"), name(number));
        let (field, value) = (format!("client-{client}"), round.to_string());
        let own = json!({field.as_str(): value});
        let metadata = retried(course, || api.merge(&path, &json!({"metadata": {"labels": own, "annotations": own}})));
        let status = retried(course, || {
            let mut shirt = api.get(&path)?;
            shirt["status"][field.as_str()] = value.clone().into();
            api.replace(&format!("{path}/status"), &shirt)
        });
        for (which, answer) in [metadata, status].into_iter().enumerate() {
            match answer {
                Ok(_) => told.entry(number).or_default()[which].clone_from(&value),
                Err(error) if error.status() == Some(404) && fate(number) == Fate::Goes => {}
                Err(error) => return Err(Error::from(error).attempting(format!("an edit of {}", name(number)))),
            }
        }
        course.edits.fetch_add(1, Ordering::Relaxed);
    }
    Ok(told)
}

fn retried(course: &Course, request: impl Fn() -> Result<Value, HttpError>) -> Result<Value, HttpError> {
    loop {
        match request() {
            Err(error) if error.status() == Some(409) => course.conflicts.fetch_add(1, Ordering::Relaxed),
            answer => return answer,
        };
    }
}

/// Every object that is left holds the last edit of each client.
fn check(side: &Side<'_>, items: &Value, told: &[Told]) -> Result<()> {
    for number in (0..OWNERS * DEPENDENTS).filter(|number| fate(*number) != Fate::Goes) {
        let name = name(number);
        let shirt = items.as_array().into_iter().flatten().find(|shirt| shirt["metadata"]["name"] == name.as_str());
        let shirt = shirt.ok_or_else(|| Error::input(format!("{name} is gone from {}", side.namespace)))?;
        for (client, told) in told.iter().enumerate() {
            let Some([metadata, status]) = told.get(&number) else { continue };
            let field = format!("client-{client}");
            let kept = shirt["metadata"]["labels"][&field] == metadata.as_str()
                && shirt["metadata"]["annotations"][&field] == metadata.as_str()
                && shirt["status"][&field] == status.as_str();
            ensure(kept, || format!("client {client} was told of {metadata} and {status}; there is {shirt}"))?;
        }
    }
    Ok(())
}
