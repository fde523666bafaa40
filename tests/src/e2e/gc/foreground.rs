//! Owners that are deleted in the foreground: they wait for their dependents.

use serde_json::{Value, json};

use super::Seen;
use super::side::{HOLD, Policy, Side, blocking, is_deleting, reference};
use sluice_shell::error::Result;

/// A chain goes from its end on; a foreign finalizer holds up all that is above it, unless it does not block.
pub(super) fn t05_a_chain_goes_from_its_end(side: &Side<'_>) -> Result<Seen> {
    let root = side.shirt("root", &[])?;
    let child = side.shirt("root-child", &[blocking(&root)])?;
    side.hidden("shirts", "root-leaf", &[blocking(&child)], &[HOLD])?;
    let loose = side.shirt("loose", &[])?;
    side.hidden("shirts", "loose-child", &[reference(&loose)], &[HOLD])?;
    // One that has another owner as well is let go of, and stays.
    let other = side.shirt("other", &[])?;
    side.shirt("shared", &[blocking(&root), blocking(&other)])?;

    side.delete("shirts", "root", Policy::Foreground)?;
    side.delete("shirts", "loose", Policy::Foreground)?;
    for held in ["root-leaf", "loose-child"] {
        side.until_is("shirts", held, "being deleted", |shirt| shirt.filter(|held| is_deleting(held)).map(|_| ()))?;
    }
    side.until_left("shirts", "loose-child other root root-child root-leaf shared")?;
    side.barrier()?;
    let waiting = side.get("shirts", "root-child")?.unwrap_or_default();
    let held = side.left("shirts")?;
    side.finalizers("shirts", "root-leaf", &[])?;
    side.finalizers("shirts", "loose-child", &[])?;
    side.until_left("shirts", "other shared")?;
    let shared = side.get("shirts", "shared")?.unwrap_or_default();
    Ok(Seen::from([
        ("held".into(), held),
        ("finalizers of the child".into(), waiting["metadata"]["finalizers"].to_string()),
        ("owners of the shared".into(), names_and_blocks(&shared)),
    ]))
}

/// The owner is a ConfigMap: the controller manager sees nothing that it would have to wait for.
pub(super) fn t06_owner_is_built_in(side: &Side<'_>) -> Result<Seen> {
    let owner = side.config_map("owner", &[], &[])?;
    side.hidden("shirts", "held", &[blocking(&owner)], &[HOLD])?;
    side.shirt("free", &[blocking(&owner)])?;
    side.config_map("visible", &[blocking(&owner)], &[])?;
    side.delete("configmaps", "owner", Policy::Foreground)?;
    side.until_is("shirts", "held", "being deleted", |shirt| shirt.filter(|held| is_deleting(held)).map(|_| ()))?;
    side.until_left("shirts", "held")?;
    side.until_left("configmaps", "owner")?;
    side.barrier()?;
    let waits = side.left("configmaps")?;
    side.merge("shirts", "held", &json!({"metadata": {"finalizers": null}}))?;
    side.until_left("configmaps", "")?;
    side.until_left("shirts", "")?;
    Ok(Seen::from([("while a dependent is held".into(), waits)]))
}

fn names_and_blocks(object: &Value) -> String {
    let owners = object["metadata"]["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default();
    owners.iter().map(|owner| format!("{} {} ", owner["name"], owner["blockOwnerDeletion"])).collect()
}
