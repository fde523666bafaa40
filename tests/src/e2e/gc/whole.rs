//! What takes all objects of a kind or a namespace: their deletion, quotas, the migration of stored versions.

use serde_json::{Value, json};

use super::Seen;
use super::side::{DEFINITIONS, HOLD, Side, is_deleting, reference};
use sluice_shell::error::Result;
use sluice_toolkit::cluster::client::HttpError;
use sluice_toolkit::cluster::shirts::{each, names};
use sluice_toolkit::cluster::wait::{LIMIT, ensure, until};

/// Objects in the namespace that ends.
const MANY: usize = 1_000;

/// Every so many of them are held by a finalizer.
const EVERY: usize = 100;

/// A namespace ends with all that is in it, and waits for finalizers.
pub(super) fn t33_a_namespace_ends(side: &Side<'_>) -> Result<Seen> {
    let root = reference(&side.shirt("root", &[])?);
    each(0..MANY, |number| {
        let finalizers = if number % EVERY == 0 { vec![HOLD] } else { Vec::new() };
        let metadata = json!({
            "name": format!("s{number:04}"), "labels": side.labels(), "finalizers": finalizers, "ownerReferences": [root],
        });
        let object = json!({"apiVersion": "stable.example.com/v1", "kind": "Shirt", "metadata": metadata});
        side.api.create(&side.path("shirts"), &object).map(|_| ())
    })?;
    let namespace = format!("/api/v1/namespaces/{}", side.namespace);
    side.api.delete(&namespace)?;
    let held: Vec<String> = (0..MANY).step_by(EVERY).map(|number| format!("s{number:04}")).collect();
    side.until_left("shirts", &held.join(" "))?;
    for name in &held {
        side.until_is("shirts", name, "being deleted", |shirt| shirt.filter(|held| is_deleting(held)).map(|_| ()))?;
        side.finalizers("shirts", name, &[])?;
    }
    until("the end of the namespace", LIMIT, || gone(side.api.get(&namespace)))?;
    Ok(Seen::new())
}

/// A definition ends with its objects, and these take their dependents with them.
pub(super) fn t34_a_definition_ends(side: &Side<'_>) -> Result<Seen> {
    let other = side.shirt("other", &[])?;
    for number in 0..20 {
        let hat = side.hidden("hats", &format!("hat-{number:02}"), &[], &[])?;
        side.shirt(&format!("hidden-{number:02}"), &[reference(&hat)])?;
        side.visible(&format!("visible-{number:02}"), &[reference(&hat)])?;
        if number == 0 {
            side.shirt("shared", &[reference(&hat), reference(&other)])?;
        }
    }
    side.barrier()?;
    let definition = format!("{DEFINITIONS}/hats.stable.example.com");
    side.api.delete(&definition)?;
    until("the end of the definition", LIMIT, || gone(side.api.get(&definition)))?;
    side.until_left("shirts", "other shared")?;
    Ok(Seen::new())
}

fn gone(answer: Result<Value, HttpError>) -> Result<Option<()>> {
    match answer {
        Ok(_) => Ok(None),
        Err(error) if error.status() == Some(404) => Ok(Some(())),
        Err(error) => Err(error.into()),
    }
}

/// A quota counts what the controller manager does not see, whenever it counts anew.
pub(super) fn t38_quotas_count(side: &Side<'_>) -> Result<Seen> {
    const COUNT: &str = "count/shirts.stable.example.com";
    let hard = |number: usize| json!({"spec": {"hard": {COUNT: number.to_string()}}});
    let mut quota = hard(5);
    quota["metadata"] = json!({"name": "few"});
    side.api.create(&side.path("resourcequotas"), &quota)?;
    let counted = |number: usize| {
        let allowed = number.to_string();
        side.until_is("resourcequotas", "few", &format!("counted with {number} allowed"), |quota| {
            let status = &quota?["status"];
            (status["hard"][COUNT] == allowed).then(|| status["used"][COUNT].clone())
        })
    };
    let mut seen = Seen::from([("used at first".into(), counted(5)?.to_string())]);
    let create = |number: usize| match side.shirt(&format!("s{number}"), &[]) {
        Ok(_) => "made ".to_owned(),
        Err(error) => {
            if error.to_string().contains("exceeded quota") {
                "refused ".to_owned()
            } else {
                error.to_string()
            }
        }
    };
    let made: String = (0..7).map(create).collect();
    seen.insert("of seven".into(), made);
    // A change of the quota has it counted anew, as happens by itself every five minutes.
    side.merge("resourcequotas", "few", &hard(6))?;
    seen.insert("used by five".into(), counted(6)?.to_string());
    seen.insert("of two more".into(), (7..9).map(create).collect());
    for name in ["s0", "s1"] {
        side.api.delete(&format!("{}/{name}", side.path("shirts")))?;
    }
    side.merge("resourcequotas", "few", &hard(7))?;
    seen.insert("used by four".into(), counted(7)?.to_string());
    Ok(seen)
}

/// After a migration of the stored version the old one can be removed, and every object is still readable.
pub(super) fn t39_storage_versions_are_migrated(side: &Side<'_>) -> Result<Seen> {
    for number in 0..4 {
        side.hidden("belts", &format!("hidden-{number}"), &[], &[])?;
    }
    side.api.create(
        &side.path("belts"),
        &json!({
            "apiVersion": "stable.example.com/v1", "kind": "Belt", "metadata": {"name": "visible"},
        }),
    )?;
    let definition = format!("{DEFINITIONS}/belts.stable.example.com");
    let mut versions = side.api.get(&definition)?["spec"]["versions"].clone();
    for version in versions.as_array_mut().into_iter().flatten() {
        version["storage"] = (version["name"] == "v2").into();
    }
    side.api.merge(&definition, &json!({"spec": {"versions": versions}}))?;
    let migrations = "/apis/storagemigration.k8s.io/v1/storageversionmigrations";
    let resource = json!({"group": "stable.example.com", "resource": "belts"});
    side.api.create(migrations, &json!({"metadata": {"name": "belts"}, "spec": {"resource": resource}}))?;
    let mut round = 0;
    until("the migration", LIMIT, || {
        // It waits until the controller manager's informer is at its revision: something must happen there.
        round += 1;
        if round % 50 == 1 {
            side.merge("belts", "visible", &json!({"spec": {"note": format!("{round}")}}))?;
        }
        let migration = side.api.get(&format!("{migrations}/belts"))?;
        let conditions = migration["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let is =
            |kind: &str| conditions.iter().any(|condition| condition["type"] == kind && condition["status"] == "True");
        ensure(!is("Failed"), || format!("the migration failed: {migration}"))?;
        Ok(is("Succeeded").then_some(()))
    })?;
    let stored = until("forgetting the old version", LIMIT, || {
        let stored = side.api.get(&definition)?["status"]["storedVersions"].clone();
        Ok((stored.as_array().map(Vec::len) == Some(1)).then_some(stored))
    })?;
    if let Some(versions) = versions.as_array_mut() {
        versions.retain(|version| version["name"] == "v2");
    }
    side.api.merge(&definition, &json!({"spec": {"versions": versions}}))?;
    let path = side.path("belts").replace("/v1/", "/v2/");
    until("the end of the old version", LIMIT, || gone(side.api.get(&side.path("belts"))))?;
    let left = until("listing what was stored in it", LIMIT, || match side.api.get(&path) {
        Ok(list) => Ok(Some(names(&list).join(" "))),
        Err(error) if matches!(error.status(), Some(404 | 429)) => Ok(None),
        Err(error) => Err(error.into()),
    })?;
    Ok(Seen::from([("stored versions".into(), stored.to_string()), ("left".into(), left)]))
}
