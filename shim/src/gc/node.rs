//! An object in the graph of owners.

use std::collections::HashMap;

use super::Uid;
use crate::object::ObjectMeta;

/// The finalizer of a deletion that leaves the dependents alone (apimachinery: `FinalizerOrphanDependents` in
/// pkg/apis/meta/v1/types.go).
pub const ORPHAN: &str = "orphan";
/// The finalizer of a deletion that takes the dependents first (`FinalizerDeleteDependents`, beside it).
pub const FOREGROUND: &str = "foregroundDeletion";
/// Our own: holds an object that the controller manager deletes in the foreground until the dependents that it does not
/// see are gone.
pub const HOLD: &str = "storage-gc.sluice-project.github.io/dependents";

/// What the graph of owners needs of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its UID.
    pub uid: Uid,
    /// Its group; empty for the core group.
    pub group: Box<str>,
    /// Its kind.
    pub kind: Box<str>,
    /// Its namespace; empty if it is in none.
    pub namespace: Box<str>,
    /// How far its deletion is.
    pub deletion: Deletion,
    /// Its owners, by UID, each once.
    pub owners: Vec<Edge>,
}

/// A reference to an owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// The owner.
    pub owner: Uid,
    /// The owner's name; empty if references to the same UID give several.
    pub name: Box<str>,
    /// Whether a foreground deletion of the owner waits for the dependent.
    pub block: bool,
}

/// The deletion of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deletion {
    /// It has begun.
    pub begun: bool,
    /// Begun, and it waits until the dependents have lost their references.
    pub orphan: bool,
    /// Begun, and it waits until the dependents are gone.
    pub foreground: bool,
    /// Begun, and [`HOLD`] holds it.
    pub held: bool,
}

impl Deletion {
    /// Reads it from an object's metadata.
    pub fn of(meta: &ObjectMeta<'_>) -> Self {
        let begun = meta.deletion_timestamp.is_some();
        let with = |name: &str| begun && meta.finalizers.iter().any(|finalizer| finalizer == name);
        Self { begun, orphan: with(ORPHAN), foreground: with(FOREGROUND), held: with(HOLD) }
    }

    /// Whether the object waits for its dependents to go.
    pub fn waits(self) -> bool {
        self.foreground || self.held
    }
}

impl Node {
    /// Reads it from an object's metadata; `None` for an object without a UID that is kept.
    pub fn of(meta: &ObjectMeta<'_>) -> Option<Self> {
        Some(Self {
            uid: Uid::parse(&meta.uid)?,
            group: group(&meta.api_version).into(),
            kind: meta.kind.as_ref().into(),
            namespace: meta.namespace.as_ref().into(),
            deletion: Deletion::of(meta),
            owners: edges(meta),
        })
    }
}

/// The group of an `apiVersion` (apimachinery: `ParseGroupVersion` in pkg/runtime/schema/group_version.go).
pub fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// The version of an `apiVersion`.
pub(super) fn version(api_version: &str) -> &str {
    api_version.split_once('/').map_or(api_version, |(_, version)| version)
}

fn edges(meta: &ObjectMeta<'_>) -> Vec<Edge> {
    let mut edges: Vec<Edge> = Vec::with_capacity(meta.owner_references.len());
    let mut places: HashMap<Uid, usize> = HashMap::new();
    for reference in &meta.owner_references {
        let Some(owner) = Uid::parse(&reference.uid) else { continue };
        let place = *places.entry(owner.clone()).or_insert(edges.len());
        match edges.get_mut(place) {
            Some(edge) => {
                edge.block |= reference.block_owner_deletion;
                if *edge.name != *reference.name {
                    edge.name = "".into();
                }
            }
            None => {
                let (name, block) = (reference.name.as_ref().into(), reference.block_owner_deletion);
                edges.push(Edge { owner, name, block });
            }
        }
    }
    edges
}
