//! What selectors know of an event, read at most once for all watchers that ask for the same fields.

use std::sync::{Arc, Mutex, PoisonError};

use super::types::{Event, EventKind};
use crate::object::{FieldSet, FieldValue, Label, decode_with_fields};
use crate::selector::Selection;

/// For how many sets of fields the reading of one event is kept. Watchers of a resource rarely ask for more; those that
/// do cost time instead of memory.
const MAX_KEPT: usize = 8;

/// What was read of an event, by the set of fields.
#[derive(Debug, Default)]
pub(super) struct Examined {
    kept: Mutex<Vec<Arc<Reading>>>,
}

/// An event's current and previous value, as far as selections with this set of fields look at them; `None` for a value
/// that is opaque.
#[derive(Debug)]
pub(super) struct Reading {
    fields: Arc<FieldSet>,
    current: Option<Object>,
    previous: Option<Object>,
}

/// What was read of a value.
#[derive(Debug)]
pub(super) struct Object {
    /// `None` if they are not known.
    pub(super) labels: Option<Vec<Label<'static>>>,
    /// In the order of the fields that were asked for.
    pub(super) fields: Vec<FieldValue<'static>>,
}

impl Examined {
    /// Whether the current *or* the previous value of the event may match. It must be the same event each time.
    pub(super) fn may_match(&self, event: &Event, selection: &Selection) -> bool {
        let reading = self.reading(event, selection.field_set());
        reading.objects(event).any(|object| {
            object.is_none_or(|object| selection.may_match_read(object.labels.as_deref(), &object.fields))
        })
    }

    /// What selections with these fields look at. It must be the same event each time.
    pub(super) fn reading(&self, event: &Event, fields: &Arc<FieldSet>) -> Arc<Reading> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |reading: &&Arc<Reading>| Arc::ptr_eq(&reading.fields, fields) || reading.fields == *fields;
        if let Some(reading) = kept.iter().find(same) {
            return Arc::clone(reading);
        }
        let reading = Arc::new(Reading::of(event, fields));
        if kept.len() < MAX_KEPT {
            kept.push(Arc::clone(&reading));
        }
        reading
    }
}

impl Reading {
    /// The current and the previous object, as far as there are such; `None` stands for one that is opaque. The event
    /// is the one that was read.
    pub(super) fn objects(&self, event: &Event) -> impl Iterator<Item = Option<&Object>> {
        let current = (event.kind == EventKind::Put).then_some(self.current.as_ref());
        let previous = event.prev_kv.is_some().then_some(self.previous.as_ref());
        current.into_iter().chain(previous)
    }

    fn of(event: &Event, fields: &Arc<FieldSet>) -> Self {
        let current = if event.kind == EventKind::Put { Object::read(&event.kv.value, fields) } else { None };
        let previous = event.prev_kv.as_ref().and_then(|kv| Object::read(&kv.value, fields));
        Self { fields: Arc::clone(fields), current, previous }
    }
}

impl Object {
    fn read(value: &[u8], fields: &FieldSet) -> Option<Self> {
        let (meta, values) = decode_with_fields(value, fields)?;
        let owned = |(name, value): &Label<'_>| (name.to_string().into(), value.to_string().into());
        Some(Self {
            labels: meta.selectable_labels().map(|labels| labels.iter().map(owned).collect()),
            fields: values.into_iter().map(FieldValue::into_owned).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::KeyValue;

    fn shirt(color: &str) -> KeyValue {
        let value = format!(
            r#"{{"apiVersion":"example.com/v1","kind":"Shirt","metadata":{{"labels":{{"c":"{color}"}}}},"spec":{{"color":"{color}"}}}}"#
        );
        KeyValue { value: value.into(), ..KeyValue::default() }
    }

    fn event(kind: EventKind, current: Option<&str>, previous: Option<&str>) -> Event {
        Event { kind, kv: current.map(shirt).unwrap_or_default(), prev_kv: previous.map(shirt) }
    }

    fn selections(color: &str) -> [Selection; 3] {
        let (label, field) = (format!("c={color}"), format!("spec.color={color}"));
        [(Some(&*label), None), (None, Some(&*field)), (Some(&*label), Some(&*field))]
            .map(|(label, field)| Selection::parse(label, field, Some("example.com/v1")).unwrap().unwrap())
    }

    #[test]
    fn events_that_enter_stay_or_leave_are_wanted() {
        use EventKind::{Delete, Put};
        let table = [
            ("created", event(Put, Some("red"), None), true),
            ("created elsewhere", event(Put, Some("blue"), None), false),
            ("enters", event(Put, Some("red"), Some("blue")), true),
            ("stays", event(Put, Some("red"), Some("red")), true),
            ("leaves", event(Put, Some("blue"), Some("red")), true),
            ("stays away", event(Put, Some("blue"), Some("green")), false),
            ("deleted", event(Delete, None, Some("red")), true),
            ("deleted elsewhere", event(Delete, None, Some("blue")), false),
        ];
        for (name, event, expected) in table {
            let examined = Examined::default();
            for selection in selections("red") {
                assert_eq!(examined.may_match(&event, &selection), expected, "{name} with {selection:?}");
            }
        }
    }

    #[test]
    fn what_can_not_be_read_is_wanted() {
        let opaque = KeyValue { value: "k8s:enc:x".into(), ..KeyValue::default() };
        let table = [
            Event { prev_kv: Some(opaque.clone()), ..event(EventKind::Put, Some("blue"), None) },
            Event { prev_kv: Some(opaque.clone()), ..event(EventKind::Delete, None, None) },
            Event { kv: opaque, ..event(EventKind::Put, None, Some("blue")) },
        ];
        for event in table {
            for selection in selections("red") {
                assert!(Examined::default().may_match(&event, &selection), "{event:?}");
            }
        }
    }

    #[test]
    fn one_reading_serves_all_that_ask_for_the_same_fields() {
        let (examined, event) = (Examined::default(), event(EventKind::Put, Some("red"), None));
        for color in ["red", "blue", "green"] {
            for selection in selections(color) {
                assert_eq!(examined.may_match(&event, &selection), color == "red");
            }
        }
        assert_eq!(examined.kept.lock().unwrap().len(), 2, "one for labels alone, one for the field");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (examined, event) = (Examined::default(), event(EventKind::Put, Some("red"), None));
        for at in 0..3 * MAX_KEPT {
            let field = format!("spec.f{at}=x,spec.color=red");
            let selection = Selection::parse(None, Some(&field), Some("example.com/v1")).unwrap().unwrap();
            assert!(!examined.may_match(&event, &selection));
        }
        assert_eq!(examined.kept.lock().unwrap().len(), MAX_KEPT);
    }
}
