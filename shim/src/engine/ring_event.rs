//! An event in the hub's ring, and who wants it.

use std::sync::Arc;

use super::examined::{Examined, Reading};
use super::types::{Event, EventKind, Revision, WatchSpec};
use crate::object::FieldSet;
use crate::selector::Selection;

/// An event with what selectors know of it.
#[derive(Debug)]
pub(super) struct RingEvent {
    pub(super) event: Arc<Event>,
    examined: Examined,
}

impl RingEvent {
    pub(super) fn new(event: Arc<Event>) -> Self {
        Self { event, examined: Examined::default() }
    }

    /// The revision of the event.
    pub(super) fn revision(&self) -> Revision {
        self.event.kv.mod_revision
    }

    /// About how many bytes of memory the event takes.
    pub(super) fn bytes(&self) -> usize {
        let previous = self.event.prev_kv.as_ref().map_or(0, |kv| kv.value.len());
        self.event.kv.key.len() + self.event.kv.value.len() + previous + 200
    }

    /// Whether a watcher wants the event. With a selection: whether the current *or* the previous value may match, so
    /// that the client learns of objects that leave the selection.
    pub(super) fn wanted_by(&self, spec: &WatchSpec) -> bool {
        spec.range.contains(&self.event.kv.key)
            && self.is_wanted(spec.no_put, spec.no_delete, spec.selection.as_deref())
    }

    /// The same for a watcher whose range holds the key.
    pub(super) fn is_wanted(&self, no_put: bool, no_delete: bool, selection: Option<&Selection>) -> bool {
        let kind_wanted = match self.event.kind {
            EventKind::Put => !no_put,
            EventKind::Delete => !no_delete,
        };
        kind_wanted
            && selection
                .is_none_or(|selection| self.lacks_previous() || self.examined.may_match(&self.event, selection))
    }

    /// Whether the previous value is not known, which may have matched any selection: a change at the revision of the
    /// compaction itself has lost it.
    pub(super) fn lacks_previous(&self) -> bool {
        self.event.kind == EventKind::Put && self.event.kv.version > 1 && self.event.prev_kv.is_none()
    }

    /// What selections with these fields know of the event.
    pub(super) fn reading(&self, fields: &Arc<FieldSet>) -> Arc<Reading> {
        self.examined.reading(&self.event, fields)
    }
}
