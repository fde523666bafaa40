//! Who wants which events. An event costs only the watchers that may want it, however many others there are.
//!
//! Watchers are found by their range of keys. Among the watchers of the same range they are found by the value that one
//! label or field must have, in the current or the previous object. A watcher that is found is a candidate, and the
//! event decides about each candidate.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::inbox::Inbox;
use super::required::{ByValue, Id};
use super::ring_event::RingEvent;
use super::types::{KeyRange, RangeEnd, WatchSpec};
use crate::object::FieldSet;
use crate::selector::Selection;

/// Directories that have more slashes are no directories here, so that a key made of slashes costs nothing special.
const MAX_DEPTH: usize = 16;

/// All watchers of a store.
#[derive(Debug, Default)]
pub(super) struct Interests {
    /// Watchers of one key, by the key.
    single: HashMap<Bytes, Group>,
    /// Watchers of all keys below a directory, by its path, which ends in a slash. Nearly all of kube-apiserver's.
    directories: HashMap<Bytes, Group>,
    /// The rest.
    others: HashMap<KeyRange, Group>,
}

/// The watchers of one range.
#[derive(Debug, Default)]
struct Group {
    ids: HashMap<Wants, Id>,
    entries: HashMap<Id, Entry>,
    /// What no required value tells apart.
    plain: BTreeSet<Id>,
    /// The others, by the fields that their selections look at.
    by_value: HashMap<Arc<FieldSet>, ByValue>,
    last_id: Id,
}

/// What watchers of a range want.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Wants {
    no_put: bool,
    no_delete: bool,
    selection: Option<Arc<Selection>>,
}

/// The watchers that want the same.
#[derive(Debug)]
struct Entry {
    wants: Wants,
    /// Which of the selection's required values it is found by.
    found_by: Option<usize>,
    members: Members,
}

/// By the address of the inbox and the number of the watcher in it.
type Members = HashMap<(usize, i64), Weak<Inbox>>;

impl Interests {
    /// Adds a watcher.
    pub(super) fn insert(&mut self, inbox: &Arc<Inbox>, spec: &WatchSpec) {
        let group = match Place::of(&spec.range) {
            Place::Single(key) => self.single.entry(key.clone()).or_default(),
            Place::Directory(path) => self.directories.entry(path.clone()).or_default(),
            Place::Other(range) => self.others.entry(range.clone()).or_default(),
        };
        group.entry(Wants::of(spec)).members.insert(member(inbox, spec), Arc::downgrade(inbox));
    }

    /// Removes a watcher.
    pub(super) fn remove(&mut self, inbox: &Arc<Inbox>, spec: &WatchSpec) {
        let (wants, member) = (Wants::of(spec), member(inbox, spec));
        match Place::of(&spec.range) {
            Place::Single(key) => remove_from(&mut self.single, key, &wants, member),
            Place::Directory(path) => remove_from(&mut self.directories, path, &wants, member),
            Place::Other(range) => remove_from(&mut self.others, range, &wants, member),
        }
    }

    /// Calls `visit` for each watcher that wants the event, maybe more than once.
    pub(super) fn each_wanting(&self, event: &RingEvent, mut visit: impl FnMut(i64, &Weak<Inbox>)) {
        for group in self.groups_of(&event.event.kv.key) {
            group.each_candidate(event, |entry| {
                if event.is_wanted(entry.wants.no_put, entry.wants.no_delete, entry.wants.selection.as_deref()) {
                    entry.members.iter().for_each(|((_, id), inbox)| visit(*id, inbox));
                }
            });
        }
    }

    /// How many groups of watchers are looked at because of the event.
    #[cfg(test)]
    pub(super) fn candidates(&self, event: &RingEvent) -> usize {
        let mut count = 0;
        self.groups_of(&event.event.kv.key).for_each(|group| group.each_candidate(event, |_| count += 1));
        count
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.single.is_empty() && self.directories.is_empty() && self.others.is_empty()
    }

    /// The groups whose range holds the key.
    fn groups_of<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = &'a Group> {
        let slashes = key.iter().enumerate().filter(|(_, byte)| **byte == b'/').take(MAX_DEPTH);
        let directories = slashes.filter_map(|(at, _)| self.directories.get(&key[..=at]));
        let others = self.others.iter().filter(|(range, _)| range.contains(key)).map(|(_, group)| group);
        self.single.get(key).into_iter().chain(directories).chain(others)
    }
}

/// Where the group of a range is.
enum Place<'a> {
    Single(&'a Bytes),
    Directory(&'a Bytes),
    Other(&'a KeyRange),
}

impl<'a> Place<'a> {
    fn of(range: &'a KeyRange) -> Self {
        match &range.end {
            RangeEnd::Single => Self::Single(&range.start),
            RangeEnd::Before(end) if is_directory(&range.start, end) => Self::Directory(&range.start),
            _ => Self::Other(range),
        }
    }
}

/// Whether the keys from `start` up to `end` are those that begin with `start`, a path that ends in a slash.
fn is_directory(start: &[u8], end: &[u8]) -> bool {
    // The byte after "/" is "0".
    let ends = start.strip_suffix(b"/").is_some_and(|path| end.strip_suffix(b"0") == Some(path));
    ends && start.iter().filter(|byte| **byte == b'/').count() <= MAX_DEPTH
}

fn member(inbox: &Arc<Inbox>, spec: &WatchSpec) -> (usize, i64) {
    (Arc::as_ptr(inbox) as usize, spec.id)
}

fn remove_from<K: std::hash::Hash + Eq>(groups: &mut HashMap<K, Group>, key: &K, wants: &Wants, member: (usize, i64)) {
    let Some(group) = groups.get_mut(key) else { return };
    group.remove(wants, member);
    if group.entries.is_empty() {
        groups.remove(key);
    }
}

impl Group {
    fn entry(&mut self, wants: Wants) -> &mut Entry {
        let last_id = &mut self.last_id;
        let id = *self.ids.entry(wants.clone()).or_insert_with(|| {
            *last_id += 1;
            *last_id
        });
        self.entries.entry(id).or_insert_with(|| {
            let found_by = wants.selection.as_deref().and_then(|selection| {
                let by_value = self.by_value.entry(Arc::clone(selection.field_set())).or_default();
                by_value.insert(selection, id)
            });
            if found_by.is_none() {
                self.plain.insert(id);
            }
            Entry { wants, found_by, members: Members::new() }
        })
    }

    fn remove(&mut self, wants: &Wants, member: (usize, i64)) {
        let Some(id) = self.ids.get(wants).copied() else { return };
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.members.remove(&member);
        if !entry.members.is_empty() {
            return;
        }
        if let (Some(selection), Some(at)) = (wants.selection.as_deref(), entry.found_by)
            && let Some(by_value) = self.by_value.get_mut(selection.field_set())
        {
            by_value.remove(selection, at, id);
        }
        self.plain.remove(&id);
        self.entries.remove(&id);
        self.ids.remove(wants);
        self.by_value.retain(|_, by_value| !by_value.is_empty());
    }

    fn each_candidate(&self, event: &RingEvent, mut visit: impl FnMut(&Entry)) {
        if event.lacks_previous() {
            self.entries.values().for_each(visit);
            return;
        }
        let mut found = Vec::new();
        for (fields, by_value) in &self.by_value {
            let reading = event.reading(fields);
            for object in reading.objects(&event.event) {
                by_value.find(object, &mut found);
            }
        }
        // The current and the previous value mostly lead to the same ones.
        found.sort_unstable();
        found.dedup();
        self.plain.iter().chain(&found).filter_map(|id| self.entries.get(id)).for_each(&mut visit);
    }
}

impl Wants {
    fn of(spec: &WatchSpec) -> Self {
        Self { no_put: spec.no_put, no_delete: spec.no_delete, selection: spec.selection.clone() }
    }
}
