//! Owners that leave their dependents alone.

use serde_json::json;

use super::Seen;
use super::side::{HOLD, Policy, Side, owners, reference};
use sluice_shell::error::Result;
use sluice_toolkit::cluster::wait::{LIMIT, until};

/// A hidden owner's dependents stay and lose the reference, whoever sees them.
pub(super) fn t07_dependents_stay(side: &Side<'_>) -> Result<Seen> {
    let owner = side.shirt("owner", &[])?;
    let other = side.shirt("other", &[])?;
    side.shirt("hidden", &[reference(&owner)])?;
    side.shirt("shared", &[reference(&owner), reference(&other)])?;
    side.visible("visible", &[reference(&owner)])?;
    side.config_map("map", &[reference(&owner)], &[])?;
    let metadata = json!({"name": "pod", "ownerReferences": [reference(&owner)]});
    let spec = json!({"automountServiceAccountToken": false, "containers": [{"name": "c", "image": "none"}]});
    // The namespace's service account is made in the background.
    until("creating a pod", LIMIT, || {
        match side.api.create(&side.path("pods"), &json!({"metadata": metadata, "spec": spec})) {
            Ok(_) => Ok(Some(())),
            Err(error) if error.status() == Some(403) => Ok(None),
            Err(error) => Err(error.into()),
        }
    })?;
    side.delete("shirts", "owner", Policy::Orphan)?;
    side.until_left("shirts", "hidden other shared visible")?;
    side.barrier()?;
    let mut seen = Seen::new();
    for (plural, name) in
        [("shirts", "hidden"), ("shirts", "shared"), ("shirts", "visible"), ("configmaps", "map"), ("pods", "pod")]
    {
        let object = side.get(plural, name)?.map_or("gone".to_owned(), |object| owners(&object));
        seen.insert(format!("owners of {name}"), object);
    }
    Ok(seen)
}

/// The owner is a ConfigMap with one more finalizer: when its key goes at last, `orphan` is not on it any more. And the
/// shim is killed in between.
pub(super) fn t08_owner_is_built_in(side: &Side<'_>) -> Result<Seen> {
    let owner = side.config_map("owner", &[], &[HOLD])?;
    for number in 0..20 {
        side.shirt(&format!("hidden-{number:02}"), &[reference(&owner)])?;
    }
    side.config_map("visible", &[reference(&owner)], &[])?;
    let all = side.left("shirts")?;
    side.delete("configmaps", "owner", Policy::Orphan)?;
    side.crash()?;
    side.until_is("configmaps", "owner", "losing the finalizer `orphan`", |owner| {
        owner.filter(|owner| owner["metadata"]["finalizers"] == json!([HOLD])).map(|_| ())
    })?;
    side.finalizers("configmaps", "owner", &[])?;
    side.until_left("configmaps", "visible")?;
    side.barrier()?;
    until("every dependent losing its owner", LIMIT, || {
        let list = side.api.get(&side.path("shirts"))?;
        let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(items.iter().all(|item| owners(item).is_empty()).then_some(()))
    })?;
    Ok(Seen::from([("all".into(), all), ("left".into(), side.left("shirts")?)]))
}
