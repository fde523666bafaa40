//! The graph of owners, and the collector's queue.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::clock::StoreTime;
use crate::engine::KeyRange;
use crate::engine::store::Row;
use crate::gc::{Below, Dependent, Status, Task, TaskKind, TaskState, Tombstone, Uid};
use crate::sql::failure::Result;

/// Which tasks to read.
#[derive(Debug, Clone, Copy)]
pub(in crate::sql) enum Which<'a> {
    /// Those that do not wait and are due at a moment, the longest due first.
    Due(StoreTime),
    /// Foreground tasks with a greater number, in order of number.
    ForegroundAfter(i64),
    /// Parked ones, in the order in which they came up.
    Parked,
    /// Those about a UID, in order of kind.
    Of(&'a Uid),
    /// Those with a greater number, in order of number.
    After(i64),
}

/// What is known of some UIDs in the middle of a commit, after its rows were written and before the collector heard of
/// them.
#[derive(Debug, Default)]
pub(in crate::sql) struct Heard {
    /// Of each UID that was asked for, if it has any dependents: whether without the label, whether with it.
    pub(in crate::sql) dependents: BTreeMap<Uid, (bool, bool)>,
    /// The tasks about them.
    pub(in crate::sql) tasks: BTreeMap<Uid, BTreeMap<TaskKind, TaskState>>,
    /// The keys of live objects with the UIDs of owners.
    pub(in crate::sql) keys: BTreeMap<Uid, Vec<Bytes>>,
    /// Owners that were deleted not long ago.
    pub(in crate::sql) tombstones: BTreeSet<Uid>,
}

/// The graph of owners, and the collector's queue.
pub(in crate::sql) trait Graph {
    /// At most `limit` tasks.
    fn tasks(&mut self, which: Which<'_>, limit: usize) -> Result<Vec<Task>>;

    /// When the next task is due that does not wait.
    fn next_due(&mut self) -> Result<Option<StoreTime>>;

    /// The live rows with these UIDs, each with its UID, in no order.
    fn with_uids(&mut self, uids: &[&Uid]) -> Result<Vec<(Uid, Row)>>;

    /// The dependents of an owner behind a place, in order, at most `limit`.
    fn dependents(&mut self, owner: &Uid, after: (bool, &[u8]), limit: usize) -> Result<Vec<Dependent>>;

    /// Of each of these UIDs that has one, the last tombstone: whether the object was in a namespace, and its key.
    fn tombstones(&mut self, uids: &[&Uid]) -> Result<BTreeMap<Uid, (bool, Bytes)>>;

    /// The tombstones with a greater number, in order of number, at most `limit`.
    fn tombstones_after(&mut self, id: i64, limit: usize) -> Result<Vec<Tombstone>>;

    /// Those of these UIDs whose dependents are being orphaned.
    fn orphaning(&mut self, uids: &[&Uid]) -> Result<BTreeSet<Uid>>;

    /// What is known of the dependents of each of these UIDs. `blocks` is taken for granted among very many labelled
    /// ones, of which at most `looked_at` are looked at.
    fn below(&mut self, uids: &[&Uid], looked_at: i64) -> Result<BTreeMap<Uid, Below>>;

    /// What the collector needs to know before it is told of a commit: dependents and tasks of some UIDs, keys and
    /// tombstones of others, which are named as owners.
    fn heard(&mut self, uids: &[&Uid], owners: &[&Uid]) -> Result<Heard>;

    /// Numbers of tasks, tombstones and unreadable values.
    fn queue(&mut self) -> Result<Status>;

    /// How many UIDs labelled objects name as their owners that are not and were not lately in the database, and how
    /// many references name them.
    fn unknown_owners(&mut self) -> Result<(i64, i64)>;

    /// How many dependents a UID has without the label, and with it.
    fn dependents_count(&mut self, owner: &Uid) -> Result<(i64, i64)>;

    /// The UID of the object that a key had last, and the revision that deleted it, as far as that is remembered.
    fn deleted(&mut self, key: &[u8]) -> Result<Option<(Uid, i64)>>;

    /// Paths of directories that hold values which are no readable objects.
    fn opaque_directories(&mut self) -> Result<Vec<Vec<u8>>>;

    /// A key of the range whose value is no readable object and begins with these bytes.
    fn opaque_key(&mut self, range: &KeyRange, begins: &[u8]) -> Result<Option<Bytes>>;
}
