//! What the controller manager does for everyone must go on for resources that are out of its cache and on another
//! store.

use serde_json::{Value, json};

use super::lab::{Lab, Wish};
use super::{Case, Column, Suite, Verdict};
use sluice_shell::error::Result;
use sluice_toolkit::cluster::client::Client;
use sluice_toolkit::cluster::shirts::{self, NAMESPACE, PATH, SKIP_LABEL, names, shirt};
use sluice_toolkit::cluster::wait::{LIMIT, ensure, until};

const CONFIG_MAPS: &str = "/api/v1/namespaces/wardrobe/configmaps";

pub(super) fn cases() -> Vec<Case> {
    Column::ALL
        .map(|column| Case::new(format!("controllers/{}", column.name()), move |suite| run(suite, column)).of(column))
        .into_iter()
        .collect()
}

fn run(suite: &Suite, column: Column) -> Result<Verdict> {
    let lab = Lab::start(suite, Wish::new(column))?;
    shirts::prepare(&lab.api)?;
    garbage(&lab.api)?;
    quota(&lab.api)?;
    lab.finish()?;
    Ok(Verdict::PASSED)
}

/// The dependents of a deleted owner go, those of a living one stay. One of each pair carries the label that hides
/// custom resources, and means nothing on a ConfigMap.
fn garbage(api: &Client) -> Result<()> {
    let labels = json!({SKIP_LABEL: "true"});
    let owners = [api.create(PATH, &shirt("doomed", "red", "S"))?, api.create(PATH, &shirt("living", "red", "S"))?];
    for owner in &owners {
        for kind in ["button", "label"] {
            let name = format!("{}-{kind}", owner["metadata"]["name"].as_str().unwrap_or_default());
            let labels = if kind == "label" { labels.clone() } else { json!({}) };
            let metadata = json!({"name": name, "labels": labels, "ownerReferences": [reference(owner)]});
            api.create(CONFIG_MAPS, &json!({"metadata": metadata}))?;
        }
    }
    api.delete(&format!("{PATH}/doomed"))?;
    let left = || -> Result<Vec<String>> { Ok(names(&api.get(CONFIG_MAPS)?)) };
    until("collecting the dependents of a deleted owner", LIMIT, || {
        Ok(left()?.iter().all(|name| !name.starts_with("doomed")).then_some(()))
    })?;
    let kept = left()?.iter().filter(|name| name.starts_with("living")).count();
    ensure(kept == 2, || format!("{kept} of the living owner's 2 dependents are left"))
}

fn reference(owner: &Value) -> Value {
    json!({
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
    })
}

/// A quota counts what is there, refuses what is too much, and counts down again.
fn quota(api: &Client) -> Result<()> {
    let quotas = format!("/api/v1/namespaces/{NAMESPACE}/resourcequotas");
    let count = "count/shirts.stable.example.com";
    api.create(&quotas, &json!({"metadata": {"name": "few"}, "spec": {"hard": {count: "3"}}}))?;
    let used = |wanted: &str| {
        until(&format!("a quota that counts {wanted} shirts"), LIMIT, || {
            let status = api.get(&format!("{quotas}/few"))?["status"]["used"][count].clone();
            Ok((status == wanted).then_some(()))
        })
    };
    used("1")?;
    api.create(PATH, &shirt("second", "red", "S"))?;
    api.create(PATH, &shirt("third", "red", "S"))?;
    let fourth = api.create(PATH, &shirt("fourth", "red", "S"));
    ensure(matches!(&fourth, Err(error) if error.status() == Some(403)), || format!("a fourth shirt: {fourth:?}"))?;
    api.delete(&format!("{PATH}/second"))?;
    used("2")
}
