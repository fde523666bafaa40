//! The same walk through the API with patched and stock Kubernetes, on the shim and on etcd: what a user sees must not
//! differ.

use std::time::Duration;

use serde_json::{Value, json};

use super::lab::{Lab, Wish};
use super::{Case, Column, Suite, Verdict};
use crate::kubectl::Event;
use sluice_shell::error::{Error, Result};
use sluice_toolkit::cluster::database::Database;
use sluice_toolkit::cluster::shirts::{self, NAMESPACE, PATH, names, shirt};
use sluice_toolkit::cluster::wait::{LIMIT, ensure, until};

/// What every column must show, step by step: upstream's behaviour.
const EXPECTED: &[(&str, &str)] = &[
    ("define", "customresourcedefinition.apiextensions.k8s.io/shirts.stable.example.com created"),
    (
        "create",
        "shirt.stable.example.com/blue created\nshirt.stable.example.com/green created\nshirt.stable.example.com/red created",
    ),
    ("get", "NAME COLOR SIZE\nblue blue S\ngreen green M\nred red L"),
    ("-l color=green", "green"),
    ("-l color==green", "green"),
    ("-l color!=green", "blue red"),
    ("-l color in (green,red)", "green red"),
    ("-l color notin (green,red)", "blue"),
    ("-l color", "blue green red"),
    ("-l !color", ""),
    ("-l !sleeves", "blue green red"),
    ("-l sleeves!=long", "blue green red"),
    ("-l color=green,size=M", "green"),
    ("-l color=green,size=L", ""),
    ("--field-selector spec.color=green", "green"),
    ("--field-selector spec.color!=green", "blue red"),
    ("--field-selector spec.color=green,spec.size=M", "green"),
    ("--field-selector metadata.name=red", "red"),
    ("-l color=green --field-selector spec.size=S", ""),
    (
        "watch",
        "ADDED green green M\nDELETED green\nADDED green green M\nMODIFIED green green XL\nADDED late green S\nDELETED late",
    ),
    ("pages of 2", "page0 page1 page2 page3 page4"),
    ("pages are one snapshot", "page0 page1 | page2 page3 page4"),
    ("delete", "shirt.stable.example.com \"blue\" deleted from wardrobe namespace"),
    ("get what is gone", "Error from server (NotFound): shirts.stable.example.com \"blue\" not found"),
    ("delete -l", "page0 page1 page2 page3 page4 page5 stay: green red"),
    ("delete the namespace", "namespace \"wardrobe\" deleted"),
    ("nothing is left", "0 shirts; Error from server (NotFound): namespaces \"wardrobe\" not found"),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for column in Column::ALL {
        for (cache, arg) in [("cached", None), ("uncached", Some(shirts::NO_WATCH_CACHE))] {
            let name = format!("walkthrough/{}/{cache}", column.name());
            let wish = arg.into_iter().fold(Wish::new(column), Wish::apiserver_arg);
            cases.push(Case::new(name, move |suite| run(suite, wish.clone())).of(column));
        }
    }
    for server in Database::ALL {
        let name = format!("walkthrough/{}-on-{server}/uncached", Column::OURS.name()).to_lowercase();
        let wish = Wish::new(Column::OURS).apiserver_arg(shirts::NO_WATCH_CACHE).server(server);
        cases.push(Case::new(name, move |suite| run(suite, wish.clone())).of(Column::OURS).on(server));
    }
    cases
}

fn run(suite: &Suite, wish: Wish) -> Result<Verdict> {
    let lab = Lab::start(suite, wish)?;
    compare(&walk(&lab)?)?;
    lab.finish()?;
    Ok(Verdict::PASSED)
}

fn compare(seen: &[(String, String)]) -> Result<()> {
    let mut wrong = Vec::new();
    for (index, (step, shown)) in seen.iter().enumerate() {
        match EXPECTED.get(index) {
            Some((name, expected)) if name == step && expected == shown => {}
            Some((name, expected)) => wrong.push(format!("{name}: expected {expected:?}\n{step}: seen {shown:?}")),
            None => wrong.push(format!("{step}: not expected at all: {shown:?}")),
        }
    }
    ensure(seen.len() >= EXPECTED.len(), || format!("the walk ended after {} steps", seen.len()))?;
    ensure(wrong.is_empty(), || wrong.join("\n"))
}

/// Does all steps; what each one showed, without what differs from run to run.
fn walk(lab: &Lab) -> Result<Vec<(String, String)>> {
    let kubectl = lab.kubectl();
    let mut seen: Vec<(String, String)> = Vec::new();
    let mut saw = |step: &str, shown: String| seen.push((step.to_owned(), shown));

    saw("define", kubectl.send("apply", &shirts::definition())?);
    kubectl.run(&format!("create namespace {NAMESPACE}"))?;
    shirts::wait_served(&lab.api)?;
    let three = [shirt("blue", "blue", "S"), shirt("green", "green", "M"), shirt("red", "red", "L")];
    saw("create", kubectl.send("create", &json!({"apiVersion": "v1", "kind": "List", "items": three}))?);

    let columns = "custom-columns=NAME:.metadata.name,COLOR:.spec.color,SIZE:.spec.size";
    saw("get", single_blanks(&kubectl.run(&format!("get shirts -n {NAMESPACE} -o {columns}"))?));
    for (step, _) in EXPECTED.iter().filter(|(step, _)| step.starts_with('-')) {
        saw(step, select(lab, step)?);
    }
    saw("watch", watch(lab)?);
    for number in 0..5 {
        lab.api.create(PATH, &shirt(&format!("page{number}"), "white", "S"))?;
    }
    saw("pages of 2", select(lab, "--chunk-size=2 -l color=white")?);
    saw("pages are one snapshot", pages(lab)?);

    saw("delete", kubectl.run(&format!("delete shirt blue -n {NAMESPACE}"))?);
    saw("get what is gone", kubectl.fails(&format!("get shirt blue -n {NAMESPACE}"))?);
    let gone = kubectl.run(&format!("delete shirts -n {NAMESPACE} -l color=white -o name"))?;
    saw("delete -l", format!("{} stay: {}", short_names(&gone), select(lab, "-l color")?));

    let deleted = kubectl.run(&format!("delete namespace {NAMESPACE} --wait --timeout=90s"))?;
    saw("delete the namespace", deleted);
    let left = names(&lab.api.get("/apis/stable.example.com/v1/shirts")?).len();
    let error = kubectl.fails(&format!("get namespace {NAMESPACE}"))?;
    saw("nothing is left", format!("{left} shirts; {error}"));
    Ok(seen)
}

/// The names that `kubectl get shirts` with some flags shows. A selector may hold blanks: only flags are parted.
fn select(lab: &Lab, flags: &str) -> Result<String> {
    let mut words = vec!["get", "shirts", "-n", NAMESPACE, "-o", "name"];
    for flag in flags.split(" -").filter(|flag| !flag.is_empty()) {
        let (name, value) = flag.split_once(' ').unwrap_or((flag, ""));
        let name = match name.trim_start_matches('-') {
            "l" => "-l",
            "field-selector" => "--field-selector",
            other if other.starts_with("chunk-size=") => "--chunk-size=2",
            other => return Err(Error::input(format!("no such flag here: {other:?}"))),
        };
        words.push(name);
        words.extend((!value.is_empty()).then_some(value));
    }
    Ok(short_names(&lab.kubectl().run_words(&words)?))
}

/// `shirt.stable.example.com/a` and more of them, one a line → `a b`.
fn short_names(output: &str) -> String {
    output.lines().filter_map(|line| line.rsplit('/').next()).collect::<Vec<_>>().join(" ")
}

fn single_blanks(output: &str) -> String {
    let line = |line: &str| line.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    output.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// A shirt leaves the selector and comes back, changes in it, another one is born in it and dies in it.
fn watch(lab: &Lab) -> Result<String> {
    let mut watch = lab.kubectl().watch(&format!("shirts -n {NAMESPACE} -l color=green"))?;
    let green = format!("{PATH}/green");
    let dye = |color: &str| json!({"metadata": {"labels": {"color": color}}, "spec": {"color": color}});
    let mut wait = |kind: &'static str, name: &'static str, times: usize| {
        let is_it = |event: &Event| event.kind == kind && event.name() == name;
        until(&format!("{kind} {name}"), LIMIT, || {
            Ok((watch.events()?.iter().filter(|event| is_it(event)).count() >= times).then_some(()))
        })
    };
    wait("ADDED", "green", 1)?;
    lab.api.merge(&green, &dye("red"))?;
    wait("DELETED", "green", 1)?;
    lab.api.merge(&format!("{PATH}/blue"), &json!({"spec": {"note": "nobody looks"}}))?;
    lab.api.merge(&green, &dye("green"))?;
    wait("ADDED", "green", 2)?;
    lab.api.merge(&green, &json!({"spec": {"size": "XL"}}))?;
    lab.api.create(PATH, &shirt("late", "green", "S"))?;
    lab.kubectl().run(&format!("delete shirt late -n {NAMESPACE}"))?;
    let seen = watch.wait_for("DELETED late", LIMIT, |event| event.kind == "DELETED" && event.name() == "late")?;
    let line = |event: &Event| {
        let spec = &event.object["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match event.kind.as_str() {
            "DELETED" => format!("DELETED {}", event.name()),
            kind => format!("{kind} {} {} {}", event.name(), text(&spec["color"]), text(&spec["size"])),
        }
    };
    Ok(seen.iter().map(line).collect::<Vec<_>>().join("\n"))
}

/// A shirt that is made between two pages is in neither; no page is larger than asked for.
fn pages(lab: &Lab) -> Result<String> {
    let query = format!("{PATH}?limit=2&labelSelector=color%3Dwhite");
    let first = lab.api.get(&query)?;
    lab.api.create(PATH, &shirt("page5", "white", "S"))?;
    let mut rest = Vec::new();
    let mut page = first.clone();
    until("the last page", Duration::from_secs(20), || {
        let Some(token) = page["metadata"]["continue"].as_str().filter(|token| !token.is_empty()) else {
            return Ok(Some(()));
        };
        page = lab.api.get(&format!("{query}&continue={token}"))?;
        let found = names(&page);
        ensure(found.len() <= 2, || format!("a page of 2 holds {found:?}"))?;
        rest.extend(found);
        Ok(None)
    })?;
    Ok(format!("{} | {}", names(&first).join(" "), rest.join(" ")))
}
