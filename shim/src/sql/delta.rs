//! What a commit writes: sets of rows, made of what a batch changes. Pure.

use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;

use bytes::Bytes;

use super::index::names::attribute;
use super::select::directories::counts;
use super::session::{Delta, PostingRow, StoredRow};
use super::{collector, directory};
use crate::engine::LeaseId;
use crate::engine::store::{Changes, Facets, RowChange};

/// A label that an object gets or loses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LabelChange<'a> {
    pub(super) name: &'a str,
    value: &'a str,
    key: &'a [u8],
    comes: bool,
}

impl<'a> LabelChange<'a> {
    fn of((name, value): &'a (Box<str>, Box<str>), key: &'a [u8], comes: bool) -> Self {
        Self { name, value, key, comes }
    }
}

/// The labels that objects get or lose. Nearly no update changes any.
pub(super) fn label_changes(rows: &[RowChange]) -> Vec<LabelChange<'_>> {
    let mut changes = Vec::new();
    for row in rows {
        let (old, new) = (before(row), after(row));
        let (old, new) = (old.map_or(&[][..], |old| &old.labels), new.map_or(&[][..], |new| &new.labels));
        if old != new {
            changes.extend(only(old, new).map(|label| LabelChange::of(label, &row.key, false)));
            changes.extend(only(new, old).map(|label| LabelChange::of(label, &row.key, true)));
        }
    }
    changes
}

/// What changes write, but for field indexes. `labels` are those that changed, `numbers` those of their names in the
/// index, in the same order. `attached`: the leases of the stored rows among those that change, as far as they have
/// one.
pub(super) fn delta<'a>(
    changes: &'a Changes,
    labels: &[LabelChange<'a>],
    numbers: &[i64],
    attached: &BTreeMap<Bytes, LeaseId>,
) -> Delta<'a> {
    let mut delta = Delta {
        tasks: &changes.tasks,
        history: &changes.superseded,
        leases: changes.leases.iter().map(|(id, lease)| (*id, lease.as_ref())).collect(),
        hides: changes.signals.iter().any(|signal| signal.hidden),
        ..Delta::default()
    };
    for row in &changes.rows {
        add_row(row, attached, &mut delta);
        add_fields(row, &mut delta);
        let (old, new) = (counts(before(row)), counts(after(row)));
        if old != new {
            let counted = delta.directories.entry(directory(&row.key)).or_default();
            *counted = std::array::from_fn(|at| counted[at] + new[at] - old[at]);
        }
    }
    delta.directories.retain(|_, counts| *counts != [0; 3]);
    for (LabelChange { value, key, comes, .. }, name) in labels.iter().zip(numbers) {
        let postings = if *comes { &mut delta.postings_new } else { &mut delta.postings_gone };
        postings.push(PostingRow { name: *name, value, key });
    }
    collector::edges(&changes.rows, &mut delta);
    delta
}

fn add_row<'a>(change: &'a RowChange, attached: &BTreeMap<Bytes, LeaseId>, delta: &mut Delta<'a>) {
    let old_lease = if attached.is_empty() { 0 } else { attached.get(&change.key).copied().unwrap_or(0) };
    match (&change.before, &change.after) {
        (None, None) => {}
        (Some(_), None) => delta.removed.push((&change.key, old_lease)),
        (old, Some((row, facets))) => {
            let uid = facets.node.as_ref().map(|node| &node.uid);
            let old_uid = old.as_ref().and_then(|old| old.node.as_ref()).map(|node| &node.uid);
            let hidden = if facets.opaque { None } else { Some(facets.hidden) };
            delta.hides |= facets.hidden;
            let rows = if old.is_some() { &mut delta.updated } else { &mut delta.created };
            rows.push(StoredRow { row, hidden, uid, new_uid: uid != old_uid, old_lease });
        }
    }
}

/// Entries in field indexes. One that is being built may lack those of before, and have those of after.
fn add_fields<'a>(row: &'a RowChange, delta: &mut Delta<'a>) {
    let (old, new) = (before(row), after(row));
    let (old, new) = (old.map_or(&[][..], |old| &old.fields), new.map_or(&[][..], |new| &new.fields));
    let posting = |entry| {
        let (name, value) = attribute(entry);
        PostingRow { name, value, key: &row.key[..] }
    };
    if old != new {
        delta.postings_gone.extend(only(old, new).map(posting));
        delta.postings_new.extend(only(new, old).map(posting));
    }
}

fn before(row: &RowChange) -> Option<&Facets> {
    row.before.as_ref()
}

fn after(row: &RowChange) -> Option<&Facets> {
    row.after.as_ref().map(|(_, facets)| facets)
}

/// What is in one list and not in another.
fn only<'a, T: Eq + Hash>(these: &'a [T], others: &'a [T]) -> impl Iterator<Item = &'a T> {
    let others: HashSet<&T> = others.iter().collect();
    these.iter().filter(move |one| !others.contains(one))
}

#[cfg(test)]
mod tests;
