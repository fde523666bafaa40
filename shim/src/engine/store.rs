//! The seam between the engine and a database.
//!
//! A database has one [`Writer`], owned by the engine's writer thread, and any number of [`Reader`]s, each owned by a
//! reader thread. Both block: a thread that waits for a database is simpler than a task that does, and there are few.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::catalog::{Catalog, Declaration, FieldEntry, declaration};
use super::forwarding::Forwarding;
use super::instance::Instance;
use super::types::{Event, KeyRange, KeyValue, LeaseId, RangeQuery, Record, Result, Revision, StoreStatus};
use crate::clock::{StoreClock, StoreTime};
use crate::gc::{Node, Quota, Signal, Status, Task, TaskChange, Tombstone, Uid, Work};

/// A live key with the place of its last put among the changes of that revision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Row {
    /// The key-value.
    pub kv: KeyValue,
    /// The place of the last put in its revision, from 0.
    pub sub: i64,
}

/// What a database indexes of a stored object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facets {
    /// Whether the bytes could not be read as an object, or the index can't hold its labels: then the index never
    /// excludes it.
    pub opaque: bool,
    /// Whether its name or namespace is another one than its key says, so that the key can't be used to find it by
    /// them.
    pub misplaced: bool,
    /// Whether it has the label that hides it from the controller manager.
    pub hidden: bool,
    /// Its labels, sorted by name, as far as the index can hold them.
    pub labels: Vec<(Box<str>, Box<str>)>,
    /// Its place in the graph of owners; `None` for what has no UID.
    pub node: Option<Node>,
    /// Its entries in the field indexes of the catalog.
    pub fields: Vec<FieldEntry>,
}

/// A lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Its number.
    pub id: LeaseId,
    /// The time to live, in seconds.
    pub ttl: i64,
    /// When it ends.
    pub expires_at: StoreTime,
}

impl Lease {
    /// A lease that has its full time before it. `ttl` in seconds.
    pub fn full(id: LeaseId, ttl: i64, now: StoreTime) -> Self {
        Self { id, ttl, expires_at: now.after(Self::seconds(ttl)) }
    }

    /// What is left to it: never more than it was granted.
    pub fn left(&self, now: StoreTime) -> Duration {
        self.expires_at.since(now).min(Self::seconds(self.ttl))
    }

    /// A time to live; none if it is negative, which only a damaged database has.
    fn seconds(ttl: i64) -> Duration {
        Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
    }
}

/// What a batch of requests needs to know before it can be carried out.
#[derive(Debug, Default)]
pub struct Footprint {
    /// Single keys.
    pub keys: BTreeSet<Bytes>,
    /// Ranges of keys.
    pub ranges: Vec<KeyRange>,
    /// Ranges at a revision in the past.
    pub past: Vec<(KeyRange, Revision)>,
    /// Leases.
    pub leases: BTreeSet<LeaseId>,
    /// Leases whose attached keys are needed too.
    pub lease_keys: BTreeSet<LeaseId>,
    /// Objects of which it must be known whether labelled dependents block their deletion.
    pub blocked: BTreeSet<Uid>,
    /// How much of the collector's work.
    pub work: Option<Quota>,
}

/// The part of the store that a [`Footprint`] names, inside the transaction that will change it.
#[derive(Debug, Default)]
pub struct Before {
    /// How late it is. All that the batch decides by time, it decides by this.
    pub now: StoreTime,
    /// The newest revision.
    pub revision: Revision,
    /// The revision of the last compaction, or 0.
    pub compact_revision: Revision,
    /// The live keys of the footprint; a key that is not here does not exist.
    pub rows: BTreeMap<Bytes, Row>,
    /// The answers to `Footprint::past`, in its order.
    pub past: Vec<Result<Vec<KeyValue>>>,
    /// The leases of the footprint that exist.
    pub leases: BTreeMap<LeaseId, Lease>,
    /// Those of `Footprint::blocked` that labelled dependents block.
    pub blocked: BTreeSet<Uid>,
    /// The collector's work that is due; the live keys that it names are among `rows`.
    pub work: Work,
    /// The field indexes that objects have entries in.
    pub catalog: Arc<Catalog>,
}

/// What a batch changes. All of it happens in one transaction, or none.
#[derive(Debug, Default)]
pub struct Changes {
    /// The newest revision after the batch; 0 while the store is being loaded, when rows have revisions above it.
    pub revision: Revision,
    /// The values that the batch put aside, in order; those that lived only within the batch included.
    pub superseded: Vec<Superseded>,
    /// The net change of each key.
    pub rows: Vec<RowChange>,
    /// Leases to store, or to remove.
    pub leases: BTreeMap<LeaseId, Option<Lease>>,
    /// The new revision of the last compaction, if there was one.
    pub compact_revision: Option<Revision>,
    /// What the collector must hear of, in order. The database makes tasks of it, after all else.
    pub signals: Vec<Signal>,
    /// What became of the collector's tasks. The database writes it first of all: what else the batch does may wake
    /// them.
    pub tasks: Vec<TaskChange>,
    /// What definitions that changed say of the fields to index.
    pub declarations: Vec<Declaration>,
}

impl Changes {
    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
            && self.superseded.is_empty()
            && self.leases.is_empty()
            && self.compact_revision.is_none()
            && self.tasks.is_empty()
    }
}

/// A value that is no longer the newest of its key.
#[derive(Debug)]
pub struct Superseded {
    /// The value.
    pub row: Row,
    /// The revision that replaced or deleted it.
    pub end_revision: Revision,
    /// The place of that change in its revision.
    pub end_sub: i64,
    /// Whether that change was a deletion.
    pub deleted: bool,
}

/// The net change of one key in a batch.
#[derive(Debug)]
pub struct RowChange {
    /// The key.
    pub key: Bytes,
    /// What was stored, if the key existed.
    pub before: Option<Facets>,
    /// What is to be stored, unless the key is to go.
    pub after: Option<(Row, Facets)>,
}

/// What the definitions among the changed rows declare.
pub(crate) fn declarations(rows: &[RowChange]) -> Vec<Declaration> {
    let declared = |row: &RowChange| declaration(&row.key, row.after.as_ref().map(|(row, _)| &row.kv.value[..]));
    rows.iter().filter_map(declared).collect()
}

/// Decides what a batch changes. If that fails, nothing changes. May be asked several times, each time for another
/// state: a transaction that got into the way of another one is begun anew.
pub type Decide<'a> = dyn FnMut(Before) -> Result<Changes> + 'a;

/// What a commit found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The newest revision before it.
    pub before: Revision,
    /// Whether the collector got work by it, or some that waited can go on.
    pub work: bool,
}

/// Rows of the collector that are stored as another database has them, numbers included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Queue {
    /// Tasks, none of which is there under another number.
    pub tasks: Vec<Task>,
    /// Numbers of tasks that go first.
    pub tasks_gone: Vec<i64>,
    /// Tombstones.
    pub tombstones: Vec<Tombstone>,
    /// Numbers of tombstones that go first.
    pub tombstones_gone: Vec<i64>,
}

/// The one connection that changes the database.
pub trait Writer: Send {
    /// Runs one transaction: locks the revision, reads the footprint, asks `decide`, writes what it says and how late
    /// it is, commits. When it returns `Ok` the changes are durable. When it returns [`super::Error::Unknown`] they
    /// may or may not be, and what the next call gives to `decide` tells: no change that is not there then comes later.
    /// Any other error means that nothing happened.
    fn commit(&mut self, footprint: &Footprint, decide: &mut Decide<'_>) -> Result<Committed>;

    /// Commits without changing anything, durably: whether commits succeed.
    fn try_commit(&mut self) -> Result<()>;

    /// Removes some of the history that the last compaction freed, holding the database for a few milliseconds. Returns
    /// whether there may be more. Deletions at just that revision stay for those who watch from it on (etcd:
    /// mvcc/key_index.go, `keepTombstone`).
    fn compact_step(&mut self) -> Result<bool>;

    /// Builds field indexes, or removes the entries of those that are gone, holding the database for about that time.
    /// Returns whether there is more to do.
    fn index_step(&mut self, time: Duration) -> Result<bool>;

    /// A chance to tidy up between batches (a checkpoint). `idle`: there were no requests for a while. Returns whether
    /// something is under way that needs another call soon.
    fn tidy(&mut self, idle: bool) -> Result<bool>;

    /// Gives unused space back to the file system.
    fn defragment(&mut self) -> Result<()>;

    /// Forgets some of the objects that were deleted before a moment, unless a task needs to know of them. Returns
    /// whether there may be more.
    fn forget(&mut self, before: StoreTime) -> Result<bool>;

    /// Gives each lease at least so much time from now on, whole seconds, but never more than it was granted; returns
    /// how many got some. Called when the serving starts. A database that other servers keep serving meanwhile has
    /// nothing to do.
    fn extend_leases(&mut self, least: Duration) -> Result<usize>;

    /// Keeps how late it is, if anything in the store lasts and it was not kept within that age. For times without
    /// commits, which do it themselves. A database that has a clock of its own has nothing to do.
    fn save_clock(&mut self, age: Duration) -> Result<()>;

    /// Begins to fill the database with another one's store, that of a cluster with this number: it is at revision 0.
    fn adopt(&mut self, cluster_id: u64) -> Result<()>;

    /// Stores rows of another one's collector. May be done twice.
    fn take_queue(&mut self, queue: &Queue) -> Result<()>;
}

/// Keys found by a reader.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Page {
    /// In order of key.
    pub kvs: Vec<KeyValue>,
    /// Whether there are more than the limit.
    pub more: bool,
}

/// A connection that reads. All calls between two calls of `begin` see one snapshot.
pub trait Reader: Send {
    /// Starts a new snapshot and returns its revision and that of the last compaction.
    fn begin(&mut self) -> Result<(Revision, Revision)>;

    /// Ends the snapshot.
    fn end(&mut self);

    /// The number of the last commit in the snapshot, counted from when this process began to serve the database; 0 for
    /// a database that has no copies. Commits that make no revision have one too.
    fn batch(&self) -> i64;

    /// The newest revision, and the newest values of these keys, in no order; a key without one does not exist. It is a
    /// snapshot of its own, which ends with the call, and as few round trips as the database can do with.
    fn newest(&mut self, keys: &[&[u8]]) -> Result<(Revision, Vec<KeyValue>)>;

    /// The keys of the query's range at the revision, which is neither compacted nor in the future, in order of key, up
    /// to `limit` (0: all) and the query's `limit_bytes`. A selection may be used to leave keys out; sort order and
    /// revision bounds are the caller's business.
    fn page(&mut self, query: &RangeQuery, revision: Revision, limit: usize) -> Result<Page>;

    /// How many keys the range has at the revision.
    fn count(&mut self, range: &KeyRange, revision: Revision) -> Result<i64>;

    /// The changes in the range from a revision on, whole revisions only, in order; and the revision up to which that
    /// is all. There are at most about `limit` of them, and fewer if they are long.
    fn events(&mut self, range: &KeyRange, from: Revision, limit: usize) -> Result<(Vec<Event>, Revision)>;

    /// The entries of the history after a position (revision, sub) up to a revision, at most `limit` of them, in order:
    /// those that a compaction at `above` left, or the last one of the snapshot.
    fn records(
        &mut self,
        after: (Revision, i64),
        until: Revision,
        above: Option<Revision>,
        limit: usize,
    ) -> Result<Vec<Record>>;

    /// One lease.
    fn lease(&mut self, id: LeaseId) -> Result<Option<Lease>>;

    /// The keys that are attached to a lease, in order.
    fn lease_keys(&mut self, id: LeaseId) -> Result<Vec<Bytes>>;

    /// The leases, in order of their end, at most `limit` of them (0: all).
    fn leases(&mut self, limit: usize) -> Result<Vec<Lease>>;

    /// Sizes and revisions.
    fn status(&mut self) -> Result<StoreStatus>;

    /// What the collector has to do.
    fn collector(&mut self) -> Result<Status>;

    /// The directories that hold values which are no readable objects.
    fn opaque_directories(&mut self) -> Result<Vec<Vec<u8>>>;

    /// A key of the range whose value is no readable object and begins with these bytes.
    fn opaque_key(&mut self, range: &KeyRange, begins: &[u8]) -> Result<Option<Bytes>>;

    /// The collector's tasks behind a number, in order of number, at most `limit`.
    fn tasks(&mut self, after: i64, limit: usize) -> Result<Vec<Task>>;

    /// The tombstones behind a number, in order of number, at most `limit`.
    fn tombstones(&mut self, after: i64, limit: usize) -> Result<Vec<Tombstone>>;
}

/// A connection to a database that a store is to leave. Another process may serve it meanwhile.
pub trait Source: Reader {
    /// How late it was when the snapshot began, or the hold.
    fn now(&self) -> StoreTime;

    /// Where the store has moved to already.
    fn forwarding(&mut self) -> Result<Option<Forwarding>>;

    /// As [`Reader::begin`], but nothing is committed to the store until [`Reader::end`] or [`Source::leave`]: writes
    /// wait, reads do not. If this process ends, so does the hold. Fails if the store can't be got hold of for some
    /// seconds.
    fn hold(&mut self) -> Result<(Revision, Revision)>;

    /// Leaves the note, durably, and ends the hold: nobody commits to this database, or begins to serve it, from now
    /// on. After [`super::Error::Unknown`] the note may be there or not.
    fn leave(&mut self, note: &Forwarding) -> Result<()>;
}

/// How large a step of background work is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Portion {
    /// How many objects it has at least: many where a step takes long whatever it does.
    pub least: usize,
    /// How long it may hold the database: all writes wait meanwhile.
    pub hold: Duration,
}

/// What a database is like, as far as the engine has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nature {
    /// How many connections tasks may read on themselves: none where a read waits for a network.
    pub free_readers: usize,
    /// How long a commit may wait for more requests: not at all where a commit takes hardly longer than its requests.
    pub gather: Duration,
    /// A step of the collector.
    pub portion: Portion,
    /// The longest key that can be stored, in bytes.
    pub key_limit: Option<usize>,
    /// How many bytes the values of one request may have together.
    pub values_limit: Option<usize>,
}

/// A database.
pub trait Store: Send + Sync + 'static {
    /// What it is like.
    fn nature(&self) -> Nature;

    /// Opens the writer. Called once.
    fn writer(&self) -> Result<Box<dyn Writer>>;

    /// The clock that the moments in this database are of. Where several servers share a database it follows that
    /// database's clock.
    fn clock(&self) -> StoreClock;

    /// Opens a reader.
    fn reader(&self) -> Result<Box<dyn Reader>>;

    /// The number by which the database knows this process; 0 where it knows one process alone.
    fn owner(&self) -> i64 {
        0
    }

    /// The processes that share the database; none where it knows one process alone. Asks the database.
    fn instances(&self) -> Result<Vec<Instance>> {
        Ok(Vec::new())
    }

    /// The servers that hold copies of it and may answer reads.
    fn replicas(&self) -> Vec<Replica> {
        Vec::new()
    }
}

impl std::fmt::Debug for dyn Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

/// A server that holds a copy of the database. What is read there is a state that the database had, maybe a while ago.
pub struct Replica {
    /// Where it is, for people.
    pub name: String,
    /// Opens a reader. Its `begin` fails if the server does not hold a copy of this database that is newer than the
    /// moment when this process began to serve it.
    pub open: Box<dyn Fn() -> Result<Box<dyn Reader>> + Send>,
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}
