//! Selections by a value that each of them requires of a label or a field.

use std::collections::{BTreeSet, HashMap};

use super::examined::Object;
use crate::object::FieldValue;
use crate::selector::{Operator, Selection};

/// A set of more values than these is not looked up: it would be stored once for each of them.
const MAX_VALUES: usize = 16;

/// The number of a selection among those of a range.
pub(super) type Id = u64;

/// Selections that look at the same fields, each found by the value that one of its requirements needs.
#[derive(Debug, Default)]
pub(super) struct ByValue {
    labels: HashMap<String, Values>,
    /// By the field's place among the fields.
    fields: HashMap<usize, Values>,
}

type Values = HashMap<String, BTreeSet<Id>>;

/// A requirement that a label or a field has one of a few values.
enum Required<'a> {
    Label { key: &'a str, values: &'a [String] },
    Field { slot: usize, value: &'a String },
}

impl ByValue {
    /// Adds a selection; returns which of its required values it is found by from now on, or `None` if it has none and
    /// was not added.
    pub(super) fn insert(&mut self, selection: &Selection, id: Id) -> Option<usize> {
        // The one that fewest others are found by: what all watchers of a controller have in common tells nothing
        // apart.
        let (at, chosen) = all_of(selection).enumerate().min_by_key(|(_, required)| self.cost(required))?;
        let values = match chosen {
            Required::Label { key, .. } => self.labels.entry(key.to_owned()).or_default(),
            Required::Field { slot, .. } => self.fields.entry(slot).or_default(),
        };
        for value in chosen.values() {
            values.entry(value.clone()).or_default().insert(id);
        }
        Some(at)
    }

    /// Removes what [`insert`](Self::insert) added.
    pub(super) fn remove(&mut self, selection: &Selection, at: usize, id: Id) {
        match all_of(selection).nth(at) {
            Some(required @ Required::Label { key, .. }) => remove_from(&mut self.labels, key, required.values(), id),
            Some(required @ Required::Field { slot, .. }) => {
                remove_from(&mut self.fields, &slot, required.values(), id);
            }
            None => {}
        }
    }

    /// Whether there are no selections.
    pub(super) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Adds to `found` all selections that may match the object (`None`: it can't be read), and perhaps others.
    pub(super) fn find(&self, object: Option<&Object>, found: &mut Vec<Id>) {
        match object.and_then(|object| object.labels.as_ref()) {
            Some(labels) => {
                for (key, value) in labels {
                    found.extend(self.labels.get(&**key).and_then(|values| values.get(&**value)).into_iter().flatten());
                }
            }
            None => found.extend(self.labels.values().flat_map(HashMap::values).flatten()),
        }
        for (slot, values) in &self.fields {
            match object.and_then(|object| object.fields.get(*slot)).and_then(FieldValue::known) {
                Some(value) => found.extend(values.get(value).into_iter().flatten()),
                None => found.extend(values.values().flatten()),
            }
        }
    }

    /// How many are looked at for nothing, about, when one is found by this.
    fn cost(&self, required: &Required<'_>) -> usize {
        let values = match required {
            Required::Label { key, .. } => self.labels.get(*key),
            Required::Field { slot, .. } => self.fields.get(slot),
        };
        let found_by = |value| values.and_then(|values| values.get(value)).map_or(0, BTreeSet::len);
        required.values().iter().map(|value| 1 + found_by(value)).sum()
    }
}

impl<'a> Required<'a> {
    fn values(&self) -> &'a [String] {
        match self {
            Self::Label { values, .. } => values,
            Self::Field { value, .. } => std::slice::from_ref(value),
        }
    }
}

/// The values that a selection requires, always in the same order. A field whose value is never known requires nothing.
fn all_of(selection: &Selection) -> impl Iterator<Item = Required<'_>> {
    let labels = selection.label_requirements().iter().filter_map(|requirement| match &requirement.operator {
        Operator::In(values) if values.len() <= MAX_VALUES => Some(Required::Label { key: &requirement.key, values }),
        _ => None,
    });
    let equal = selection.field_requirements().iter().filter(|requirement| !requirement.negated);
    let fields = equal.filter_map(|requirement| {
        let slot = selection.field_set().names().position(|name| name == requirement.field)?;
        selection.field_set().is_readable(slot).then_some(Required::Field { slot, value: &requirement.value })
    });
    labels.chain(fields)
}

fn remove_from<K, Q>(all: &mut HashMap<K, Values>, key: &Q, required: &[String], id: Id)
where
    K: std::hash::Hash + Eq + std::borrow::Borrow<Q>,
    Q: std::hash::Hash + Eq + ?Sized,
{
    let Some(values) = all.get_mut(key) else { return };
    for value in required {
        if let Some(ids) = values.get_mut(value) {
            ids.remove(&id);
            if ids.is_empty() {
                values.remove(value);
            }
        }
    }
    if values.is_empty() {
        all.remove(key);
    }
}
