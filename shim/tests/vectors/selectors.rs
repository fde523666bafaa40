//! `selectors.json`: selectors with what upstream parses them to and which labels they match.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use sluice_shim::selector::{FieldRequirement, FieldSelector, LabelSelector};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vectors {
    label_sets: Vec<BTreeMap<String, String>>,
    label: Vec<LabelCase>,
    field: Vec<FieldCase>,
}

#[derive(Deserialize)]
struct LabelCase {
    selector: String,
    accepted: bool,
    string: String,
    requirements: BTreeSet<String>,
    matches: Vec<usize>,
}

#[derive(Deserialize)]
struct FieldCase {
    selector: String,
    accepted: bool,
    string: String,
    requirements: Vec<FieldRequirementCase>,
}

#[derive(Deserialize)]
struct FieldRequirementCase {
    field: String,
    negated: bool,
    value: String,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("selectors.json")).expect("the file has the form of Vectors")
}

#[test]
fn label_selectors_parse_print_and_match_as_upstream() {
    let vectors = vectors();
    for case in &vectors.label {
        let name = &case.selector;
        let parsed = LabelSelector::parse(name);
        assert_eq!(parsed.is_ok(), case.accepted, "{name:?}: {parsed:?}");
        let Ok(selector) = parsed else { continue };

        let requirements: BTreeSet<String> = selector.requirements().iter().map(ToString::to_string).collect();
        assert_eq!(requirements, case.requirements, "{name:?}");
        assert_eq!(LabelSelector::parse(&case.string).as_ref(), Ok(&selector), "{name:?} as upstream prints it");
        assert_eq!(LabelSelector::parse(&selector.to_string()).as_ref(), Ok(&selector), "{name:?} as we print it");

        let matching = |set: &BTreeMap<String, String>| {
            let labels: Vec<_> = set.iter().map(|(key, value)| (Cow::from(key), Cow::from(value))).collect();
            selector.matches(&labels)
        };
        let matches: Vec<usize> =
            (0..vectors.label_sets.len()).filter(|&at| matching(&vectors.label_sets[at])).collect();
        assert_eq!(matches, case.matches, "{name:?}");
    }
}

#[test]
fn field_selectors_parse_and_print_as_upstream() {
    for case in vectors().field {
        let name = &case.selector;
        let parsed = FieldSelector::parse(name);
        assert_eq!(parsed.is_ok(), case.accepted, "{name:?}: {parsed:?}");
        let Ok(selector) = parsed else { continue };

        let requirements: BTreeSet<FieldRequirement> = case
            .requirements
            .into_iter()
            .map(|FieldRequirementCase { field, negated, value }| FieldRequirement { field, negated, value })
            .collect();
        assert_eq!(selector.requirements().iter().cloned().collect::<BTreeSet<_>>(), requirements, "{name:?}");
        assert_eq!(FieldSelector::parse(&case.string).as_ref(), Ok(&selector), "{name:?} as upstream prints it");
    }
}
