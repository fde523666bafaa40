//! The admission policies of `images/manifests/policies`: the label is put on at creation and stays as it is, and
//! nobody else notices.

use serde_json::{Value, json};

use super::lab::{Lab, Wish};
use super::{Case, Column, Suite, Verdict};
use sluice_shell::error::Result;
use sluice_toolkit::cluster::client::{Client, HttpError};
use sluice_toolkit::cluster::policies;
use sluice_toolkit::cluster::shirts::{self, NAMESPACE, PATH, SKIP_LABEL, shirt};
use sluice_toolkit::cluster::wait::{LIMIT, ensure, until};

const CONFIG_MAPS: &str = "/api/v1/namespaces/wardrobe/configmaps";

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("policies/skip-label", run).of(Column::OURS)]
}

fn run(suite: &Suite) -> Result<Verdict> {
    let wish = policies::apiserver_args(&suite.minor).fold(Wish::new(Column::OURS), Wish::apiserver_arg);
    let lab = Lab::start(suite, wish)?;
    shirts::prepare(&lab.api)?;
    let api = &lab.api;
    add_status(api)?;
    api.create(PATH, &shirt("early", "red", "S"))?;
    api.create(CONFIG_MAPS, &labelled("early"))?;
    policies::install(&lab.cluster, &suite.workspace, &["stable.example.com".to_owned()])?;
    wait_labelling(api)?;

    on_creation(api)?;
    afterwards(api)?;
    of_what_was_there(api)?;
    on_others(api)?;
    namespaces_go(&lab)?;
    lab.finish()?;
    Ok(Verdict::PASSED)
}

/// Gives shirts a status with a door of its own, and waits until that is served.
fn add_status(api: &Client) -> Result<()> {
    let mut versions = shirts::definition()["spec"]["versions"].clone();
    versions[0]["subresources"] = json!({"status": {}});
    let status = json!({"type": "object", "properties": {"clean": {"type": "boolean"}}});
    versions[0]["schema"]["openAPIV3Schema"]["properties"]["status"] = status;
    let definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/shirts.stable.example.com";
    api.merge(definition, &json!({"spec": {"versions": versions}}))?;
    until("serving the status of shirts", LIMIT, || {
        let resources = api.get("/apis/stable.example.com/v1")?["resources"].clone();
        let resources = resources.as_array().cloned().unwrap_or_default();
        Ok(resources.iter().any(|resource| resource["name"] == "shirts/status").then_some(()))
    })
}

/// The label of a new shirt, its own other labels, and one that it brought along.
fn on_creation(api: &Client) -> Result<()> {
    let blue = api.create(PATH, &shirt("blue", "blue", "S"))?;
    ensure(blue["metadata"]["labels"] == json!({"color": "blue", "size": "S", SKIP_LABEL: "true"}), || {
        format!("a created shirt has {}", blue["metadata"]["labels"])
    })?;
    let mut bare = shirt("bare", "none", "S");
    bare["metadata"]["labels"] = Value::Null;
    let bare = api.create(PATH, &bare)?;
    ensure(bare["metadata"]["labels"] == json!({SKIP_LABEL: "true"}), || {
        format!("a shirt without labels has {}", bare["metadata"]["labels"])
    })?;
    let mut own = shirt("own", "red", "S");
    own["metadata"]["labels"] = json!({SKIP_LABEL: "mine"});
    let own = api.create(PATH, &own)?;
    ensure(own["metadata"]["labels"] == json!({SKIP_LABEL: "mine"}), || {
        format!("a shirt with the label has {}", own["metadata"]["labels"])
    })
}

/// A labelled shirt keeps the label; all else of it can change.
fn afterwards(api: &Client) -> Result<()> {
    let blue = format!("{PATH}/blue");
    for value in [Value::Null, json!("false")] {
        refused(&format!("the label set to {value}"), api.merge(&blue, &relabel(&value)))?;
    }
    refused("all labels removed", api.merge(&blue, &json!({"metadata": {"labels": null}})))?;
    let owner = api.get(&format!("{PATH}/own"))?["metadata"]["uid"].clone();
    let reference = json!({"apiVersion": "stable.example.com/v1", "kind": "Shirt", "name": "own", "uid": owner});
    for metadata in [
        json!({"labels": {"color": "green"}}),
        json!({"ownerReferences": [reference]}),
        json!({"finalizers": ["example.com/wash"]}),
        json!({"finalizers": null, "ownerReferences": null}),
    ] {
        api.merge(&blue, &json!({"metadata": metadata}))?;
    }
    api.merge(&format!("{blue}/status"), &json!({"status": {"clean": true}}))?;
    let blue = api.get(&blue)?;
    ensure(blue["status"]["clean"] == true && blue["metadata"]["labels"][SKIP_LABEL] == "true", || {
        format!("after all updates the shirt is {blue}")
    })
}

/// Objects that are older than the policies go on as they are, but for a label on what is no custom resource: that may
/// go.
fn of_what_was_there(api: &Client) -> Result<()> {
    let early = format!("{PATH}/early");
    refused("a label on an old shirt", api.merge(&early, &relabel(&json!("true"))))?;
    let changed = api.merge(&early, &json!({"metadata": {"finalizers": ["example.com/wash"]}}))?;
    ensure(changed["metadata"]["labels"][SKIP_LABEL].is_null(), || "an update labelled an old shirt".to_owned())?;
    api.merge(&early, &json!({"metadata": {"finalizers": null}}))?;

    let early = format!("{CONFIG_MAPS}/early");
    api.merge(&early, &json!({"data": {"a": "b"}}))?;
    refused("another value on an old ConfigMap", api.merge(&early, &relabel(&json!("false"))))?;
    api.merge(&early, &relabel(&Value::Null))?;
    refused("the label back on an old ConfigMap", api.merge(&early, &relabel(&json!("true"))))
}

/// What is no custom resource never gets the label, and is else left alone.
fn on_others(api: &Client) -> Result<()> {
    refused("a labelled ConfigMap", api.create(CONFIG_MAPS, &labelled("new")))?;
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let definition = format!("{definitions}/shirts.stable.example.com");
    refused("a labelled definition", api.merge(&definition, &relabel(&json!("true"))))?;
    let plain = api.create(CONFIG_MAPS, &json!({"metadata": {"name": "plain"}}))?;
    ensure(plain["metadata"]["labels"].is_null(), || format!("a ConfigMap was labelled: {plain}"))?;
    // The controller manager writes into every new namespace.
    api.create("/api/v1/namespaces", &json!({"metadata": {"name": "fresh"}}))?;
    for path in ["serviceaccounts/default", "configmaps/kube-root-ca.crt"] {
        let path = format!("/api/v1/namespaces/fresh/{path}");
        until(&format!("the controller manager's {path}"), LIMIT, || found(api, &path))?;
    }
    Ok(())
}

/// The namespace controller deletes labelled objects.
fn namespaces_go(lab: &Lab) -> Result<()> {
    lab.kubectl().run(&format!("delete namespace {NAMESPACE} --wait --timeout=90s"))?;
    let left = lab.api.get("/apis/stable.example.com/v1/shirts")?;
    ensure(left["items"] == json!([]), || format!("after the namespace is gone there are {left}"))
}

fn labelled(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {SKIP_LABEL: "true"}}})
}

fn relabel(value: &Value) -> Value {
    json!({"metadata": {"labels": {SKIP_LABEL: value}}})
}

/// Waits until a shirt that is not really created would get the label. A policy that does not know the resource's
/// schema yet answers 503.
fn wait_labelling(api: &Client) -> Result<()> {
    until("labelling of a new shirt", LIMIT, || {
        match api.create(&format!("{PATH}?dryRun=All"), &shirt("probe", "red", "S")) {
            Ok(shirt) => Ok((shirt["metadata"]["labels"][SKIP_LABEL] == "true").then_some(())),
            Err(error) if error.status() == Some(503) => Ok(None),
            Err(error) => Err(error.into()),
        }
    })
}

fn found(api: &Client, path: &str) -> Result<Option<()>> {
    match api.get(path) {
        Ok(_) => Ok(Some(())),
        Err(error) if error.status() == Some(404) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Fails the case unless the policy refused the request.
fn refused(what: &str, result: Result<Value, HttpError>) -> Result<()> {
    let policy = "ValidatingAdmissionPolicy 'sluice-label-is-final'";
    match &result {
        Err(HttpError::Refused { status: 422, message, .. }) if message.contains(policy) => Ok(()),
        other => ensure(false, || format!("{what}: expected a refusal by the policy, got {other:?}")),
    }
}
