//! What an edit means for one object, whatever its encoding.

use super::Edit;
use crate::object::{ObjectMeta, OwnerReference};

/// The fields that change, with their new values.
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct Plan<'e> {
    /// Seconds since 1970.
    pub(super) deletion_timestamp: Option<i64>,
    /// Seconds.
    pub(super) grace_period: Option<i64>,
    pub(super) generation: Option<i64>,
    /// What becomes of each stored reference.
    pub(super) owners: Option<Vec<Owner>>,
    pub(super) finalizers: Option<Finalizers<'e>>,
}

/// What becomes of a reference to an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Keep,
    Drop,
    /// It stays, with `blockOwnerDeletion` false.
    Unblock,
}

/// What becomes of the finalizers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finalizers<'e> {
    /// Which of the stored ones stay.
    pub(super) keep: Vec<bool>,
    /// One more, after them.
    pub(super) add: Option<&'e str>,
}

impl<'e> Plan<'e> {
    /// `None` if the generation can't go up any more.
    pub(super) fn new(meta: &ObjectMeta<'_>, edit: &'e Edit) -> Option<Self> {
        let mut plan = Self { owners: owners(meta, edit), finalizers: finalizers(meta, edit), ..Self::default() };
        let Some(now) = edit.mark_deleting else { return Some(plan) };
        if meta.deletion_timestamp.is_none_or(|at| at > now) {
            plan.deletion_timestamp = Some(now);
        }
        if meta.deletion_timestamp.is_none() && meta.generation > 0 {
            plan.generation = Some(meta.generation.checked_add(1)?);
        }
        if meta.deletion_grace_period_seconds != Some(0) {
            plan.grace_period = Some(0);
        }
        Some(plan)
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn owners(meta: &ObjectMeta<'_>, edit: &Edit) -> Option<Vec<Owner>> {
    let names = |uids: &[String], owner: &OwnerReference<'_>| uids.iter().any(|uid| *uid == owner.uid);
    let decide = |owner: &OwnerReference<'_>| {
        if names(&edit.drop_owners, owner) {
            Owner::Drop
        } else if owner.block_owner_deletion && names(&edit.unblock_owners, owner) {
            Owner::Unblock
        } else {
            Owner::Keep
        }
    };
    let decided: Vec<_> = meta.owner_references.iter().map(decide).collect();
    decided.iter().any(|owner| *owner != Owner::Keep).then_some(decided)
}

fn finalizers<'e>(meta: &ObjectMeta<'_>, edit: &'e Edit) -> Option<Finalizers<'e>> {
    let keep: Vec<_> =
        meta.finalizers.iter().map(|finalizer| Some(finalizer.as_ref()) != edit.remove_finalizer.as_deref()).collect();
    let missing = |new: &&str| !meta.finalizers.iter().any(|finalizer| finalizer == new);
    let add = edit.add_finalizer.as_deref().filter(missing);
    (add.is_some() || keep.contains(&false)).then_some(Finalizers { keep, add })
}
