//! What an object says of itself, and where it is: the part of the test that is chosen at random.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::kind::Kind;
use super::random::Random;
use sluice_toolkit::cluster::shirts::SKIP_LABEL;

/// Label keys.
pub(super) const KEYS: [&str; 5] = ["color", "size", "team", "example.com/tier", SKIP_LABEL];

/// Label values, some of which are numbers to `>` and `<`.
pub(super) const VALUES: [&str; 11] =
    ["", "green", "blue", "red", "5", "007", "10", "99999999999999999999", "1.5", "true", "Green"];

/// Strings in fields: also those that a field selector must escape.
pub(super) const STRINGS: [&str; 10] =
    ["", "green", "blue", "a,b", "x=y", "back\\slash", "Grün", "7", "!=", "two words"];

/// Numbers in fields.
pub(super) const NUMBERS: [i64; 5] = [0, 7, -5, i64::MAX, 10_000_000_000];

/// How many names there are in each place.
const NAMES: usize = 12;

/// The annotation that tells who wrote an object last; watches end at theirs.
pub(super) const MARK: &str = "equal.example.com/mark";

/// An object's address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) namespace: Option<&'static str>,
    pub(super) name: String,
}

impl Place {
    /// One of few, so that objects are changed, deleted and created again.
    pub(super) fn random(random: &mut Random, kind: Kind) -> Self {
        let namespace = *random.one(kind.namespaces());
        Self { namespace, name: format!("{}-{}", if random.once_in(3) { "x" } else { "item" }, random.below(NAMES)) }
    }

    /// The object's path; objects are written as v1.
    pub(super) fn path(&self, kind: Kind) -> String {
        format!("{}/{}", kind.path("v1", self.namespace), self.name)
    }
}

/// Labels and selectable fields.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Form {
    pub(super) labels: BTreeMap<&'static str, String>,
    pub(super) fields: BTreeMap<&'static str, Value>,
}

impl Form {
    /// Each label and field is there as often as not.
    pub(super) fn random(random: &mut Random, kind: Kind) -> Self {
        let mut form = Self::default();
        for key in KEYS {
            if random.once_in(2) {
                form.labels.insert(key, (*random.one(&VALUES)).to_owned());
            }
        }
        for field in kind.fields().iter().chain((kind == Kind::Hats).then_some(&"brim")) {
            if random.once_in(2) {
                form.fields.insert(field, field_value(random, field));
            }
        }
        form
    }

    /// The text that a field selector compares, of a field without default.
    pub(super) fn field_text(&self, field: &str) -> String {
        match self.fields.get(field) {
            None => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        }
    }

    /// The whole object.
    pub(super) fn object(&self, kind: Kind, name: &str, mark: &str) -> Value {
        let mut object = kind.object(name);
        object["metadata"]["labels"] = json!(self.labels);
        object["metadata"]["annotations"] = json!({MARK: mark});
        object["spec"] = json!(self.fields);
        object
    }

    /// A merge patch that makes any object of the kind look like this one.
    pub(super) fn patch(&self, kind: Kind, mark: &str) -> Value {
        let mut spec = Map::new();
        for field in kind.fields().iter().chain((kind == Kind::Hats).then_some(&"brim")) {
            spec.insert((*field).to_owned(), self.fields.get(field).cloned().unwrap_or(Value::Null));
        }
        json!({"metadata": {"labels": self.label_patch(), "annotations": {MARK: mark}}, "spec": spec})
    }

    /// The part of it that changes the labels.
    pub(super) fn label_patch(&self) -> Value {
        let each = KEYS.iter().map(|key| ((*key).to_owned(), json!(self.labels.get(key))));
        Value::Object(each.collect())
    }
}

/// A value that the schema of the field takes.
pub(super) fn field_value(random: &mut Random, field: &str) -> Value {
    match field {
        "size" | "brim" => json!(random.one(&NUMBERS)),
        "clean" => json!(random.once_in(2)),
        "fit" => json!(random.one(&["regular", "wide", "tight", ""])),
        _ => json!(random.one(&STRINGS)),
    }
}

/// The value that the field selector's text stands for, if the field can hold it.
pub(super) fn parse_field(field: &str, text: &str) -> Option<Value> {
    match field {
        "size" | "brim" => text.parse::<i64>().ok().map(|number| json!(number)),
        "clean" => text.parse::<bool>().ok().map(|truth| json!(truth)),
        _ => Some(json!(text)),
    }
}
