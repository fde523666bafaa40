//! Checks with two versions of a resource, converted by nobody and by a webhook.

use serde_json::{Value, json};

use super::probe::{Probe, Row, field, label};
use super::resource::{Version, create, create_labelled, define, path, redefine, wait_accepted};
use super::webhook::Webhook;
use crate::e2e::raw::Raw;
use sluice_shell::error::Result;

/// An object that is stored in another version than the one asked for: it is read with its own version's schema first,
/// which here has lost a field that the other version has.
pub(super) fn editions(probe: &mut Probe<'_>, _: Option<&Raw>) -> Result<()> {
    let api = probe.api();
    let (color, shade) = (json!({"type": "string"}), json!({"type": "string"}));
    let both = json!({"color": color, "shade": shade});
    let first = Version { name: "v1", storage: true, spec: both.clone(), selectable: &["color", "shade"] };
    define(api, "editions", &[first], &json!(null))?;
    create(api, "v1", "editions", "old", &json!({"color": "green", "shade": "dark"}))?;
    let v1 = Version { name: "v1", storage: false, spec: json!({"color": color}), selectable: &["color"] };
    let v2 = Version { name: "v2", storage: true, spec: both, selectable: &["color", "shade"] };
    redefine(api, "editions", &[v1, v2])?;
    wait_accepted(api, &path("v2", "editions"), "shade")?;
    create(api, "v2", "editions", "new", &json!({"color": "green", "shade": "dark"}))?;

    let rows = [
        field("spec.shade=", "old", 1),
        field("spec.shade=dark", "new", 2),
        field("spec.shade!=dark", "old", 1),
        field("spec.color=green", "new old", 2),
        field("spec.color=red", "", 1),
        field("metadata.name=new,spec.color=green", "new", 1),
    ];
    probe.expect("stored in another version, read in the stored one", &path("v2", "editions"), &rows)?;
    let rows = [field("spec.color=green", "new old", 2), field("spec.color!=green", "", 1)];
    probe.expect("stored in another version, read in the old one", &path("v1", "editions"), &rows)
}

/// A webhook renames a field, and changes labels on the way.
pub(super) fn webhook(probe: &mut Probe<'_>, _: Option<&Raw>) -> Result<()> {
    let api = probe.api();
    let webhook = Webhook::start(probe.lab.cluster.certificates(), convert)?;
    let text = json!({"type": "string"});
    let v1 = Version { name: "v1", storage: true, spec: json!({"color": text}), selectable: &["color"] };
    let v2 = Version { name: "v2", storage: false, spec: json!({"colour": text}), selectable: &["colour"] };
    let conversion = json!({
        "strategy": "Webhook",
        "webhook": {
            "conversionReviewVersions": ["v1"],
            "clientConfig": {"url": webhook.url(), "caBundle": webhook.authority()},
        },
    });
    define(api, "hookeds", &[v1, v2], &conversion)?;
    create_labelled(api, "v1", "hookeds", "a", &json!({"stored": "yes"}), &json!({"color": "green"}))?;
    create_labelled(api, "v1", "hookeds", "b", &json!({"stored": "yes"}), &json!({"color": "red"}))?;
    let rows = [
        label("tone=light", "a", 2),
        label("tone=light,!stored", "a", 2),
        label("stored", "", 2),
        field("spec.colour=green", "a", 2),
        field("spec.colour!=green", "b", 2),
        Row { labels: "tone", fields: "spec.colour=red,metadata.name!=a", names: "b", fetched: 2 },
    ];
    probe.expect("under a webhook, converted", &path("v2", "hookeds"), &rows)?;
    let rows = [label("stored", "a b", 2), label("tone", "", 2), field("spec.color=green", "a", 2)];
    probe.expect("under a webhook, as stored", &path("v1", "hookeds"), &rows)?;
    webhook.ensure_called()
}

/// v1 has `color` and the label `stored`; v2 has `colour` and the label `tone`.
fn convert(object: &Value, to: &str) -> Value {
    let mut object = object.clone();
    let color =
        ["color", "colour"].into_iter().find_map(|name| object["spec"][name].as_str()).unwrap_or_default().to_owned();
    let (field, labels) = if to.ends_with("/v2") {
        ("colour", json!({"tone": if color == "green" { "light" } else { "dark" }}))
    } else {
        ("color", json!({"stored": "yes"}))
    };
    object["apiVersion"] = json!(to);
    object["spec"] = json!({field: color});
    object["metadata"]["labels"] = labels;
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::e2e::pushdown::resource::GROUP;

    #[test]
    fn a_conversion_there_and_back_changes_nothing() {
        let stored = json!({
            "apiVersion": format!("{GROUP}/v1"),
            "metadata": {"name": "a", "labels": {"stored": "yes"}},
            "spec": {"color": "green"},
        });
        let other = convert(&stored, &format!("{GROUP}/v2"));
        assert_eq!(other["metadata"]["labels"], json!({"tone": "light"}));
        assert_eq!(convert(&other, &format!("{GROUP}/v1")), stored);
    }
}
