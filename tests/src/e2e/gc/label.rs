//! The label comes and goes, and where it means nothing.

use serde_json::json;

use super::Seen;
use super::side::{Policy, Side, owners, reference};
use sluice_shell::error::Result;
use sluice_toolkit::cluster::shirts::SKIP_LABEL;
use sluice_toolkit::cluster::wait::ensure;

/// A living owner that gets the label leaves the controller manager's informers as if it were deleted. Its dependents
/// must stay, and keep their reference; when it is deleted in truth, they go.
pub(super) fn t20_label_comes(side: &Side<'_>) -> Result<Seen> {
    let owner = side.visible("owner", &[])?;
    let other = side.visible("other", &[])?;
    side.visible("only", &[reference(&owner)])?;
    side.visible("shared", &[reference(&owner), reference(&other)])?;
    side.shirt("hidden", &[reference(&owner)])?;
    side.config_map("map", &[reference(&owner)], &[])?;
    // The controller manager knows them now.
    side.barrier()?;
    side.merge("shirts", "owner", &json!({"metadata": {"labels": {SKIP_LABEL: "true"}}}))?;
    side.barrier()?;
    let mut seen = Seen::from([("shirts".into(), side.left("shirts")?), ("maps".into(), side.left("configmaps")?)]);
    for name in ["only", "shared", "hidden"] {
        let names = side.get("shirts", name)?.map_or("gone".to_owned(), |object| owners(&object));
        seen.insert(format!("owners of {name}"), names);
    }
    side.delete("shirts", "owner", Policy::Background)?;
    side.until_left("shirts", "other shared")?;
    Ok(seen)
}

/// An object without the label is the controller manager's again.
pub(super) fn t21_label_goes(side: &Side<'_>) -> Result<Seen> {
    let owner = side.shirt("owner", &[])?;
    side.shirt("first", &[reference(&owner)])?;
    side.config_map("map", &[reference(&owner)], &[])?;
    for name in ["owner", "first"] {
        side.merge("shirts", name, &json!({"metadata": {"labels": {SKIP_LABEL: null}}}))?;
    }
    side.barrier()?;
    let before = side.collected()?;
    side.delete("shirts", "owner", Policy::Background)?;
    side.until_left("shirts", "")?;
    side.until_left("configmaps", "")?;
    let actions = side.collected()? - before;
    ensure(actions == 0, || format!("the shim did {actions} things with objects that it has no part in"))?;
    Ok(Seen::new())
}

/// A labelled Lease of a node that is gone.
pub(super) fn t23_leases_are_the_controller_managers(side: &Side<'_>) -> Result<Seen> {
    let before = side.collected()?;
    let node = side.api.create("/api/v1/nodes", &json!({"metadata": {"name": "t23"}}))?;
    let metadata = json!({"name": "lease", "labels": side.labels(), "ownerReferences": [reference(&node)]});
    side.api.create(&side.path("leases"), &json!({"metadata": metadata, "spec": {"holderIdentity": "t23"}}))?;
    side.api.delete("/api/v1/nodes/t23")?;
    side.until_left("leases", "")?;
    no_part(side, before)
}

/// A labelled ConfigMap of a ConfigMap.
pub(super) fn t24_built_in_kinds_are_the_controller_managers(side: &Side<'_>) -> Result<Seen> {
    let before = side.collected()?;
    let owner = side.config_map("owner", &[], &[])?;
    let metadata = json!({"name": "labelled", "labels": side.labels(), "ownerReferences": [reference(&owner)]});
    side.api
        .create(&side.path("configmaps"), &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}))?;
    side.delete("configmaps", "owner", Policy::Background)?;
    side.until_left("configmaps", "")?;
    no_part(side, before)
}

fn no_part(side: &Side<'_>, before: u64) -> Result<Seen> {
    let actions = side.collected()? - before;
    ensure(actions == 0, || format!("the shim did {actions} things with objects that it has no part in"))?;
    Ok(Seen::new())
}
