//! Shirts as a person has them, in any cluster that kubectl reaches.

use serde_json::{Value, json};

use crate::kubectl::{Event, Kubectl};
use sluice_shell::error::Result;
use sluice_toolkit::cluster::shirts::{self, SKIP_LABEL};
use sluice_toolkit::cluster::wait::{LIMIT, ensure, until};

/// The green shirts, for the API.
const GREEN: &str = "/apis/stable.example.com/v1/namespaces/default/shirts?labelSelector=color%3Dgreen";

/// A definition, and three shirts.
pub(super) fn three(kubectl: &Kubectl, definition: &Value) -> Result<()> {
    kubectl.send("apply", definition)?;
    kubectl.run("wait --for=condition=Established crd/shirts.stable.example.com --timeout=60s")?;
    let three = [shirt("blue", "blue", "S"), shirt("green", "green", "M"), shirt("red", "red", "L")];
    kubectl.send("apply", &json!({ "apiVersion": "v1", "kind": "List", "items": three })).map(drop)
}

/// Two white shirts, of which one owns another one. All are hidden from the controller manager.
pub(super) fn owner(kubectl: &Kubectl) -> Result<()> {
    kubectl.send("apply", &labelled(shirt("owner", "white", "S")))?;
    let uid = kubectl.run("get shirt owner --output=jsonpath={.metadata.uid}")?;
    let mut dependent = labelled(shirt("dependent", "white", "S"));
    dependent["metadata"]["ownerReferences"] =
        json!([{ "apiVersion": "stable.example.com/v1", "kind": "Shirt", "name": "owner", "uid": uid }]);
    kubectl.send("apply", &dependent)?;
    kubectl.send("apply", &labelled(shirt("nobodys", "white", "S"))).map(drop)
}

/// The owner goes, and what it owned goes after it.
pub(super) fn collected(kubectl: &Kubectl) -> Result<()> {
    kubectl.run("delete shirt owner")?;
    until("the end of what a deleted shirt owned", LIMIT, || {
        Ok((names(kubectl, "-l color=white")? == "nobodys").then_some(()))
    })
}

/// The revision of a list of the green ones.
pub(super) fn seen(kubectl: &Kubectl) -> Result<String> {
    let list: Value = serde_json::from_str(&kubectl.run(&format!("get --raw {GREEN}"))?)?;
    Ok(list["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned())
}

/// Whether a watch of the green ones from a revision on shows these.
pub(super) fn goes_on(kubectl: &Kubectl, seen: &str, expected: &[&str]) -> Result<()> {
    let events = kubectl.run(&format!("get --raw {GREEN}&watch=1&resourceVersion={seen}&timeoutSeconds=5"))?;
    let events = events.lines().map(|line| Ok(Event::from_json(&serde_json::from_str(line)?)));
    let events = events.collect::<Result<Vec<Event>>>()?;
    let events: Vec<&str> = events.iter().map(Event::name).collect();
    ensure(events == expected, || format!("the watch went on with {events:?}"))
}

/// In the namespace that kubectl has without being told of one.
pub(super) fn shirt(name: &str, color: &str, size: &str) -> Value {
    let mut shirt = shirts::shirt(name, color, size);
    shirt["metadata"]["namespace"] = "default".into();
    shirt
}

fn labelled(mut shirt: Value) -> Value {
    shirt["metadata"]["labels"][SKIP_LABEL] = "true".into();
    shirt
}

/// Whether `kubectl get shirts` with flags shows this table.
pub(super) fn shows(kubectl: &Kubectl, flags: &str, expected: &str) -> Result<()> {
    let shown = kubectl.run(&format!("get shirts {flags}"))?;
    let line = |line: &str| line.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    let shown = shown.lines().map(line).collect::<Vec<_>>().join("\n");
    ensure(shown == expected, || format!("`kubectl get shirts {flags}` shows\n{shown}"))
}

/// The names of the shirts that flags select.
pub(super) fn names(kubectl: &Kubectl, flags: &str) -> Result<String> {
    Ok(short_names(&kubectl.run(&format!("get shirts {flags} -o name"))?))
}

/// `shirt.stable.example.com/a` and more of them, one a line → `a b`.
pub(super) fn short_names(output: &str) -> String {
    output.lines().filter_map(|line| line.rsplit('/').next()).collect::<Vec<_>>().join(" ")
}
