//! Carries out a plan on an object in JSON or CBOR.

use std::collections::BTreeMap;

use super::form::{Container, Form, Piece};
use super::plan::{Finalizers, Owner, Plan};
use crate::object::time;

/// What becomes of a member of a map.
enum Change {
    /// It gets this value, and is added if it was not there.
    Set(Vec<u8>),
    Remove,
}

type Changes = BTreeMap<&'static str, Change>;

/// The object with its metadata changed.
pub(super) fn edit<F: Form>(value: &[u8], plan: &Plan<'_>) -> Option<Vec<u8>> {
    let document = F::map(value)?;
    let metadata = F::map(member(&document, "metadata")?)?;
    let changes = changes::<F>(&metadata, plan)?;
    let metadata = with::<F>(&metadata, changes);
    Some(with::<F>(&document, Changes::from([("metadata", Change::Set(metadata))])))
}

fn changes<F: Form>(metadata: &Container<'_>, plan: &Plan<'_>) -> Option<Changes> {
    let mut changes = Changes::new();
    if let Some(seconds) = plan.deletion_timestamp {
        changes.insert("deletionTimestamp", Change::Set(F::text(&time::format_rfc3339(seconds)?)));
    }
    if let Some(seconds) = plan.grace_period {
        changes.insert("deletionGracePeriodSeconds", Change::Set(F::integer(seconds)));
    }
    if let Some(generation) = plan.generation {
        changes.insert("generation", Change::Set(F::integer(generation)));
    }
    if let Some(owners) = &plan.owners {
        changes.insert("ownerReferences", edit_owners::<F>(member(metadata, "ownerReferences")?, owners)?);
    }
    if let Some(finalizers) = &plan.finalizers {
        changes.insert("finalizers", edit_finalizers::<F>(member(metadata, "finalizers"), finalizers)?);
    }
    Some(changes)
}

fn edit_owners<F: Form>(value: &[u8], owners: &[Owner]) -> Option<Change> {
    let array = F::array(value)?;
    let mut pieces = Vec::new();
    for (item, owner) in array.items.iter().zip(owners) {
        match owner {
            Owner::Keep => pieces.push(Piece::kept(item)),
            Owner::Drop => {}
            Owner::Unblock => {
                let unblocked = Changes::from([("blockOwnerDeletion", Change::Set(F::boolean(false)))]);
                pieces.push(Piece::with_value(item, &with::<F>(&F::map(item.value)?, unblocked)));
            }
        }
    }
    (array.items.len() == owners.len()).then(|| list::<F>(&array, &pieces))
}

fn edit_finalizers<F: Form>(value: Option<&[u8]>, finalizers: &Finalizers<'_>) -> Option<Change> {
    let Some(value) = value.filter(|value| !F::is_null(value)) else {
        return Some(Change::Set(F::array_of(&F::text(finalizers.add?))));
    };
    let array = F::array(value)?;
    let kept = array.items.iter().zip(&finalizers.keep).filter(|(_, keep)| **keep).map(|(item, _)| Piece::kept(item));
    let pieces: Vec<_> = kept.chain(finalizers.add.map(|new| Piece::new(F::text(new)))).collect();
    (array.items.len() == finalizers.keep.len()).then(|| list::<F>(&array, &pieces))
}

fn list<F: Form>(array: &Container<'_>, pieces: &[Piece<'_>]) -> Change {
    if pieces.is_empty() { Change::Remove } else { Change::Set(F::write(array, pieces)) }
}

fn member<'a>(map: &Container<'a>, name: &str) -> Option<&'a [u8]> {
    map.items.iter().find(|item| item.name == name).map(|item| item.value)
}

/// The map with some members changed. A new one comes before the first that kube-apiserver would write after it.
fn with<F: Form>(map: &Container<'_>, mut changes: Changes) -> Vec<u8> {
    let mut new: Vec<_> = changes.extract_if(.., |name, _| member(map, name).is_none()).collect();
    new.sort_by(|(a, _), (b, _)| F::precedes(b, a).cmp(&F::precedes(a, b)));
    let mut new = new.into_iter().peekable();
    let write = |(name, change)| match change {
        Change::Set(value) => Some(Piece::new(F::member(name, &value))),
        Change::Remove => None,
    };

    let mut pieces = Vec::new();
    for item in &map.items {
        while let Some(change) = new.next_if(|(name, _)| F::precedes(name, &item.name)) {
            pieces.extend(write(change));
        }
        match changes.get(item.name.as_ref()) {
            None => pieces.push(Piece::kept(item)),
            Some(Change::Set(value)) => pieces.push(Piece::with_value(item, value)),
            Some(Change::Remove) => {}
        }
    }
    pieces.extend(new.filter_map(write));
    F::write(map, &pieces)
}
