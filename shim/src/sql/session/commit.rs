//! Changes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use super::{Head, IndexState, Reading};
use crate::clock::StoreTime;
use crate::engine::store::{Footprint, Lease, Queue, Row, Superseded};
use crate::engine::{KeyValue, LeaseId, Revision};
use crate::gc::{TaskChange, TaskKind, Uid};
use crate::sql::failure::Result;

/// What a footprint names, in the transaction that will change it; but for the collector's work.
#[derive(Debug, Default)]
pub(in crate::sql) struct Begun {
    pub(in crate::sql) head: Head,
    /// The live rows of its keys, of its ranges, and of the keys that are attached to its leases.
    pub(in crate::sql) rows: BTreeMap<Bytes, Row>,
    /// The keys of its ranges in the past, in its order, whether or not these revisions are still or already there.
    pub(in crate::sql) past: Vec<Vec<KeyValue>>,
    /// Those of its leases that exist.
    pub(in crate::sql) leases: BTreeMap<LeaseId, Lease>,
    /// Those of its UIDs that labelled dependents block, of which at most some thousand are looked at.
    pub(in crate::sql) blocked: BTreeSet<Uid>,
}

/// A live row to store.
#[derive(Debug)]
pub(in crate::sql) struct StoredRow<'a> {
    pub(in crate::sql) row: &'a Row,
    /// Whether it has the skip label; `None` for what is no readable object.
    pub(in crate::sql) hidden: Option<bool>,
    pub(in crate::sql) uid: Option<&'a Uid>,
    /// Whether its UID is another one than that of the row it replaces.
    pub(in crate::sql) new_uid: bool,
    /// The lease of the row it replaces, or 0.
    pub(in crate::sql) old_lease: LeaseId,
}

/// An entry of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sql) struct PostingRow<'a> {
    pub(in crate::sql) name: i64,
    pub(in crate::sql) value: &'a str,
    pub(in crate::sql) key: &'a [u8],
}

/// A row of the table of owners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sql) struct EdgeRow<'a> {
    pub(in crate::sql) owner: &'a Uid,
    /// Whether the dependent has the label.
    pub(in crate::sql) labelled: bool,
    /// The dependent.
    pub(in crate::sql) key: &'a [u8],
    /// Whether a foreground deletion of the owner waits for it.
    pub(in crate::sql) block: bool,
    /// Whether it is itself being deleted and waits for its own dependents.
    pub(in crate::sql) waits: bool,
}

/// A change of the table of field indexes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sql) enum IndexChange {
    /// A new one. The database gives it a number that no index ever had.
    Add { prefix: Bytes, api_version: String, field: String, state: IndexState },
    /// How far one is.
    Set { id: i64, state: IndexState, cursor: Vec<u8>, objects: i64 },
}

/// Rows to write: sets, none of which has a key twice.
#[derive(Debug, Default)]
pub(in crate::sql) struct Delta<'a> {
    /// What became of tasks. Written before all else.
    pub(in crate::sql) tasks: &'a [TaskChange],
    /// Values that are put aside.
    pub(in crate::sql) history: &'a [Superseded],
    /// Keys that did not exist.
    pub(in crate::sql) created: Vec<StoredRow<'a>>,
    /// Keys that existed.
    pub(in crate::sql) updated: Vec<StoredRow<'a>>,
    /// Keys that go, each with the lease it was attached to, or 0.
    pub(in crate::sql) removed: Vec<(&'a [u8], LeaseId)>,
    /// Entries of the index that go, some of which may not be there.
    pub(in crate::sql) postings_gone: Vec<PostingRow<'a>>,
    /// Entries of the index that come, some of which may be there already.
    pub(in crate::sql) postings_new: Vec<PostingRow<'a>>,
    /// By how much the counts of directories change: live keys, opaque ones, misplaced ones. A directory without live
    /// keys goes.
    pub(in crate::sql) directories: BTreeMap<&'a [u8], [i64; 3]>,
    /// Rows of the table of owners that go.
    pub(in crate::sql) edges_gone: Vec<EdgeRow<'a>>,
    /// Rows of the table of owners that come, or get other flags.
    pub(in crate::sql) edges_new: Vec<EdgeRow<'a>>,
    /// Owners whose foreground tasks can go on, if they are not ready anyhow.
    pub(in crate::sql) wake_foreground: Vec<&'a Uid>,
    /// Owners whose orphan and foreground tasks begin again: they have dependents that were not looked at.
    pub(in crate::sql) restart: Vec<&'a Uid>,
    /// Changes of field indexes.
    pub(in crate::sql) indexes: Vec<IndexChange>,
    /// Leases to store, or to remove.
    pub(in crate::sql) leases: Vec<(LeaseId, Option<&'a Lease>)>,
    /// Whether an object with the skip label comes, if only for a moment: see [`super::Probe::tells_visible`].
    pub(in crate::sql) hides: bool,
}

/// What the collector makes of a commit's signals.
#[derive(Debug, Default)]
pub(in crate::sql) struct Started<'a> {
    /// Objects that are gone: UID, key, whether they were in a namespace, and the revision.
    pub(in crate::sql) tombstones: Vec<(&'a Uid, &'a Bytes, bool, Revision)>,
    /// Tasks that go, before those of `tasks` come.
    pub(in crate::sql) dropped: Vec<(&'a Uid, TaskKind)>,
    /// Tasks that are new, or begin again if there is one of that kind about that UID: UID, kind, key, whether the
    /// object is hidden, and the revision. They are in the order in which they are to be numbered, and each is here
    /// once; one that goes may be here too, and is then a new one.
    pub(in crate::sql) tasks: Vec<(&'a Uid, TaskKind, &'a Bytes, bool, Revision)>,
    /// UIDs all of whose tasks can go on, at once if they are not ready anyhow. Written last.
    pub(in crate::sql) woken: Vec<&'a Uid>,
}

impl Started<'_> {
    /// Whether the collector has something to do because of it.
    pub(in crate::sql) fn has_work(&self) -> bool {
        !self.tasks.is_empty() || !self.woken.is_empty()
    }
}

/// The head after a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sql) struct NewHead {
    /// The newest revision.
    pub(in crate::sql) revision: Revision,
    /// The revision of the last compaction; an older one than is stored changes nothing.
    pub(in crate::sql) compact_revision: Revision,
    /// How late it is, for a database without a clock; all moments of this commit are this one.
    pub(in crate::sql) now: StoreTime,
    /// The number of this batch.
    pub(in crate::sql) batch: i64,
}

/// The connection that changes a database. A transaction is [`Commit::begin`], reads, then [`Commit::apply`] and, if
/// the collector has to hear of it, [`Commit::tell`]; or [`Commit::rollback`], also after each failure.
pub(in crate::sql) trait Commit: Reading {
    /// Begins a transaction that holds the head until its end, so that no other commits meanwhile, and reads what the
    /// footprint names.
    fn begin(&mut self, footprint: &Footprint) -> Result<Begun>;

    /// The numbers of labels' names in the index, in the order of the names. A name that has none gets one.
    fn labels(&mut self, names: &[&str]) -> Result<Vec<i64>>;

    /// Writes rows; returns whether a task was woken. With a head it also commits; after `Ok` all is durable.
    fn apply(&mut self, delta: &Delta<'_>, head: Option<&NewHead>) -> Result<bool>;

    /// Writes what the collector makes of the commit, at that moment. With a head it also commits; after `Ok` all is
    /// durable.
    fn tell(&mut self, started: &Started<'_>, now: StoreTime, head: Option<&NewHead>) -> Result<()>;

    /// Ends the transaction, if there is one, without a trace.
    fn rollback(&mut self);

    /// Opens the connection anew, after [`crate::sql::failure::Failure::Lost`] or `Unknown`.
    fn reconnect(&mut self) -> Result<()>;

    /// A transaction of its own: commits nothing, durably.
    fn try_commit(&mut self) -> Result<()>;

    /// A transaction of its own: removes at most `limit` rows of the history that the last compaction freed, and
    /// returns how many. It need not be durable. Deletions at just that revision stay for those who watch from it on
    /// (etcd: mvcc/key_index.go, `keepTombstone`).
    fn compact(&mut self, limit: usize) -> Result<usize>;

    /// A transaction of its own: removes at most `limit` entries of an index of a field, and the index itself when
    /// there are none left.
    fn remove_index(&mut self, id: i64, limit: usize) -> Result<()>;

    /// A transaction of its own: of at most `limit` tombstones behind a number, forgets those from before a moment
    /// that no task needs; returns the number to go on behind, or `None` at the end.
    fn forget(&mut self, before: StoreTime, after: i64, limit: usize) -> Result<Option<i64>>;

    /// A transaction of its own: gives each lease at least so much time, whole seconds, but never more than it was
    /// granted; returns how many got some.
    fn extend_leases(&mut self, now: StoreTime, least: Duration) -> Result<usize>;

    /// A transaction of its own: keeps how late it is, if anything in the store lasts by that. Nothing in a database
    /// with a clock of its own.
    fn save_clock(&mut self, now: StoreTime) -> Result<()>;

    /// A chance to tidy up between commits. `idle`: there were no requests for a while. Returns whether something is
    /// under way that needs another call soon.
    fn tidy(&mut self, idle: bool) -> Result<bool>;

    /// Gives unused space back, as far as the database can.
    fn defragment(&mut self) -> Result<()>;

    /// A transaction of its own: the database is at revision 0 from now on, and its cluster has this number.
    fn adopt(&mut self, cluster_id: i64) -> Result<()>;

    /// A transaction of its own: removes the rows of tasks and tombstones that go or come, stores those that come, and
    /// gives no later row a number of theirs.
    fn take_queue(&mut self, queue: &Queue) -> Result<()>;
}
