//! What becomes of a dependent: Kubernetes' own rules, as far as storage alone can tell.
//!
//! The source is `attemptToDeleteItem` with `classifyReferences` and `isDangling` in
//! pkg/controller/garbagecollector/garbagecollector.go of Kubernetes 1.37. Where upstream asks the API server whether
//! an owner exists, this looks for the UID in the store; where only the API server can tell, the owner counts as alive.

use std::sync::Arc;

use super::node::{group, version};
use super::rules::stable_versions;
use super::{Deletion, FOREGROUND, HOLD, ORPHAN};
use crate::object::crd::Served;
use crate::object::{ObjectMeta, OwnerReference};

/// What the store knows of a UID.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    /// The live objects that have it: one, unless somebody copied an object.
    pub live: Vec<Coordinates>,
    /// Whether an object that had it was deleted not long ago; if so, whether it was in a namespace.
    pub tombstone: Option<bool>,
    /// Whether its dependents are being orphaned still, though it may be gone.
    pub orphaning: bool,
    /// What the definition of its kind says, if the store has that definition.
    pub definition: Option<Arc<Served>>,
}

/// Where an object is, and whether it waits for its dependents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coordinates {
    /// Its group.
    pub group: String,
    /// The version that it is stored in.
    pub version: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace; empty if it is in none.
    pub namespace: String,
    /// Whether it is being deleted and waits for its dependents to go.
    pub waits: bool,
}

impl Coordinates {
    /// Those of an object.
    pub fn of(meta: &ObjectMeta<'_>) -> Self {
        Self {
            group: group(&meta.api_version).to_owned(),
            version: version(&meta.api_version).to_owned(),
            kind: meta.kind.to_string(),
            name: meta.name.to_string(),
            namespace: meta.namespace.to_string(),
            waits: Deletion::of(meta).waits(),
        }
    }
}

/// What a reference points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// A living owner.
    Solid,
    /// An owner that waits for its dependents to go.
    Waiting,
    /// Nothing: the owner is gone, or was never where the reference says.
    Dead,
    /// An owner that is gone and leaves its dependents alone.
    Orphaned,
    /// A UID that the store does not know, or whose kind is another: it counts as living, since only the API server
    /// could tell.
    Unknown,
    /// An owner in a namespace, of an object in none: upstream gives up on such an object.
    Unresolvable,
    /// A version that is not served, or not known to be: upstream can't look at such an owner, and does nothing with
    /// the object.
    Unserved,
}

/// What a reference of an object in the namespace (or in none: empty) points to.
pub fn verdict(namespace: &str, reference: &OwnerReference<'_>, known: &Known) -> Verdict {
    let kind = |at: &&Coordinates| at.group == group(&reference.api_version) && at.kind == reference.kind;
    let defined = |of: &Served| of.group == group(&reference.api_version) && of.kind == reference.kind;
    if known.live.is_empty() {
        return match known.tombstone {
            None => Verdict::Unknown,
            Some(_) if known.orphaning => Verdict::Orphaned,
            Some(_) if known.definition.as_deref().is_some_and(|of| !defined(of)) => Verdict::Unknown,
            Some(_) if !is_served(reference, known) => Verdict::Unserved,
            Some(true) if namespace.is_empty() => Verdict::Unresolvable,
            Some(_) => Verdict::Dead,
        };
    }
    let mut of_kind = known.live.iter().filter(kind).peekable();
    if of_kind.peek().is_none() {
        // Whether the kind exists at all only the API server knows: upstream retries for ever if it does not.
        return Verdict::Unknown;
    }
    if !is_served(reference, known) {
        return Verdict::Unserved;
    }
    let mut verdict = Verdict::Dead;
    for at in of_kind {
        if namespace.is_empty() && !at.namespace.is_empty() {
            return Verdict::Unresolvable;
        }
        if at.name == reference.name && (at.namespace.is_empty() || at.namespace == namespace) {
            verdict = if at.waits { Verdict::Waiting } else { Verdict::Solid };
        }
    }
    verdict
}

/// Whether the API server can look at an owner in the version that the reference gives (upstream: `apiResource` in
/// operations.go). The definition of a custom resource says so. Of Kubernetes' own groups the stable versions are
/// served always, and one that an object is stored in is taken for served. Of all else, that is aggregated API servers
/// and definitions that are gone, nothing is known, and the version is not looked at: upstream's cache of absent owners
/// would not either.
fn is_served(reference: &OwnerReference<'_>, known: &Known) -> bool {
    let (group, version) = (group(&reference.api_version), version(&reference.api_version));
    if let Some(definition) = known.definition.as_deref().filter(|definition| definition.group == group) {
        return definition.versions.iter().any(|served| served == version);
    }
    let stored = |at: &Coordinates| at.group == group && at.kind == reference.kind && at.version == version;
    stable_versions(group).is_none_or(|stable| stable.contains(&version) || known.live.iter().any(stored))
}

/// What the store knows of the dependents of a dependent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Below {
    /// There are any.
    pub any: bool,
    /// One of them waits for its own dependents.
    pub waits: bool,
    /// One of them has the label and blocks.
    pub blocks: bool,
}

/// What to do with a dependent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Keep(Why),
    /// Take these owners' references away.
    Drop(Vec<String>),
    /// Remove the key.
    Delete,
    /// Begin its deletion: it has finalizers, which say how.
    Mark,
    /// Begin its deletion in the foreground; its references to these owners no longer block them.
    Foreground(Vec<String>),
}

/// Why nothing is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It has no owners.
    NoOwners,
    /// All its owners live.
    Owned,
    /// It is being deleted already.
    Deleting,
    /// One of its owners is in a namespace, and it is not.
    Unresolvable,
    /// One of its owners is named in a version that is not served, or not known to be.
    Unserved,
}

/// What is to become of an object with these owners. `known`: what the store knows of each reference's UID.
pub fn decide<'k>(
    meta: &ObjectMeta<'_>,
    below: Below,
    known: impl Fn(&OwnerReference<'_>) -> Option<&'k Known>,
) -> Action {
    if meta.deletion_timestamp.is_some() {
        return Action::Keep(Why::Deleting);
    }
    let (mut solid, mut waiting, mut dead) = (Vec::new(), Vec::new(), Vec::new());
    let mut orphaned = Vec::new();
    for reference in &meta.owner_references {
        let verdict = known(reference).map_or(Verdict::Unknown, |known| verdict(&meta.namespace, reference, known));
        let uids = match verdict {
            Verdict::Unresolvable => return Action::Keep(Why::Unresolvable),
            Verdict::Unserved => return Action::Keep(Why::Unserved),
            Verdict::Solid | Verdict::Unknown => &mut solid,
            Verdict::Waiting => &mut waiting,
            Verdict::Dead => &mut dead,
            Verdict::Orphaned => &mut orphaned,
        };
        if !uids.contains(&reference.uid) {
            uids.push(reference.uid.clone());
        }
    }
    if meta.owner_references.is_empty() {
        return Action::Keep(Why::NoOwners);
    }
    let orphaned_alone = dead.is_empty() && waiting.is_empty();
    if !solid.is_empty() || orphaned_alone {
        // A reference goes with its UID, so one that a good reference has too must stay.
        let gone = dead.iter().chain(&waiting).chain(&orphaned).filter(|uid| !solid.contains(uid));
        let gone: Vec<_> = gone.map(ToString::to_string).collect();
        return if gone.is_empty() { Action::Keep(Why::Owned) } else { Action::Drop(gone) };
    }
    if !waiting.is_empty() && below.any {
        let blocking = meta.owner_references.iter().filter(|reference| below.waits && reference.block_owner_deletion);
        return Action::Foreground(blocking.map(|reference| reference.uid.to_string()).collect());
    }
    if meta.finalizers.is_empty() { Action::Delete } else { Action::Mark }
}

/// Whether the key of an object goes when it loses these finalizers (apiserver: `ShouldDeleteDuringUpdate` in
/// pkg/registry/generic/registry/store.go).
pub fn ends(meta: &ObjectMeta<'_>, lost: &[&str]) -> bool {
    meta.deletion_timestamp.is_some()
        && meta.deletion_grace_period_seconds.unwrap_or_default() == 0
        && meta.finalizers.iter().all(|finalizer| lost.contains(&finalizer.as_ref()))
}

/// The finalizers of the collector's own kinds that an object has.
pub fn held_by<'a>(meta: &ObjectMeta<'_>, among: &[&'a str]) -> Vec<&'a str> {
    debug_assert!(among.iter().all(|name| [ORPHAN, FOREGROUND, HOLD].contains(name)));
    among.iter().copied().filter(|name| meta.finalizers.iter().any(|finalizer| finalizer == name)).collect()
}
