//! Quotas of objects that the controller manager does not see: each deletion frees one.
//!
//! The clusters count all quotas anew once an hour only, so that nothing but the deletion can free a quota here.

use serde_json::json;

use super::Seen;
use super::side::{HOLD, Policy, Side, reference};
use sluice_shell::error::Result;
use sluice_toolkit::cluster::wait::{LIMIT, ensure, until};

/// What makes the controller managers count by themselves once an hour.
pub(super) const SELDOM: &str = "--resource-quota-sync-period=1h";

const COUNT: &str = "count/shirts.stable.example.com";

/// A full quota takes a new object as soon as one is gone: deleted by a client, collected with its owner, let go by
/// its finalizer; and after the watches were cut.
pub(super) fn each_deletion_frees_one(side: &Side<'_>) -> Result<Seen> {
    let quota = json!({"metadata": {"name": "few"}, "spec": {"hard": {COUNT: "3"}}});
    side.api.create(&side.path("resourcequotas"), &quota)?;
    until_used(side, "0")?;
    let owner = reference(&side.config_map("owner", &[], &[])?);
    side.shirt("plain", &[])?;
    side.shirt("owned", &[owner])?;
    side.hidden("shirts", "held", &[], &[HOLD])?;

    until_full(side)?;
    side.delete("shirts", "plain", Policy::Background)?;
    until_made(side, "after-plain")?;

    until_full(side)?;
    side.delete("configmaps", "owner", Policy::Background)?;
    until_made(side, "after-owned")?;

    until_full(side)?;
    side.delete("shirts", "held", Policy::Background)?;
    until_full(side)?;
    side.finalizers("shirts", "held", &[])?;
    until_made(side, "after-held")?;

    until_full(side)?;
    side.crash()?;
    side.delete("shirts", "after-plain", Policy::Background)?;
    until_made(side, "after-crash")?;
    until_full(side)?;
    Ok(Seen::from([("left".into(), side.left("shirts")?)]))
}

fn until_used(side: &Side<'_>, number: &str) -> Result<()> {
    side.until_is("resourcequotas", "few", &format!("{number} used"), |quota| {
        (quota?["status"]["used"][COUNT] == number).then_some(())
    })
}

/// The quota says that nothing is left, and nothing is taken.
fn until_full(side: &Side<'_>) -> Result<()> {
    until_used(side, "3")?;
    let made = side.shirt("too-much", &[]);
    ensure(is_refused(&made), || format!("more than the quota allows: {made:?}"))
}

/// Creates a shirt as soon as the quota allows that.
fn until_made(side: &Side<'_>, name: &str) -> Result<()> {
    until(&format!("the quota's taking {name}"), LIMIT, || match side.shirt(name, &[]) {
        made if is_refused(&made) => Ok(None),
        made => made.map(|_| Some(())),
    })
}

fn is_refused<T>(made: &Result<T>) -> bool {
    matches!(made, Err(error) if error.to_string().contains("exceeded quota"))
}
