//! What goes into the engine and what comes out of it.
//!
//! The words are etcd's: a *revision* counts the transactions that changed something; a key has a *create revision*, a
//! *mod revision* and a *version* (how often it was put since its creation).

use std::sync::Arc;

use bytes::Bytes;

use crate::selector::Selection;

/// A point in the history of the whole store. A fresh store is at 1, as etcd is.
pub type Revision = i64;

/// The number of a lease; 0 means none.
pub type LeaseId = i64;

/// A key with its value at some revision.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyValue {
    /// The key; never empty.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The revision that created the key (the first put since it last did not exist).
    pub create_revision: Revision,
    /// The revision of the last put.
    pub mod_revision: Revision,
    /// The number of puts since the creation, that one included.
    pub version: i64,
    /// The lease that the key is attached to, or 0.
    pub lease: LeaseId,
}

/// A set of neighbouring keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyRange {
    /// The first key.
    pub start: Bytes,
    /// Where it ends.
    pub end: RangeEnd,
}

/// The end of a [`KeyRange`]; etcd's `range_end`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RangeEnd {
    /// The start key alone (an empty `range_end`).
    Single,
    /// All keys below this one.
    Before(Bytes),
    /// All keys from the start on (a `range_end` of one zero byte).
    Unbounded,
}

impl KeyRange {
    /// The range of one key.
    pub fn single(key: impl Into<Bytes>) -> Self {
        Self { start: key.into(), end: RangeEnd::Single }
    }

    /// The range that a request's `key` and `range_end` mean.
    pub fn from_wire(key: Bytes, range_end: Bytes) -> Self {
        let end = match range_end.as_ref() {
            [] => RangeEnd::Single,
            [0] => RangeEnd::Unbounded,
            _ => RangeEnd::Before(range_end),
        };
        Self { start: key, end }
    }

    /// All that begins with a path, which ends in a slash.
    pub fn tree(path: &[u8]) -> Self {
        let mut end = path.to_vec();
        // The successor of "…/" is "…0".
        end.pop();
        end.push(b'/' + 1);
        Self { start: Bytes::copy_from_slice(path), end: RangeEnd::Before(end.into()) }
    }

    /// Whether the range holds the key.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            RangeEnd::Single => key == self.start,
            RangeEnd::Before(end) => key >= &self.start[..] && key < &end[..],
            RangeEnd::Unbounded => key >= &self.start[..],
        }
    }

    /// Whether all keys are in the range.
    pub fn is_everything(&self) -> bool {
        self.end == RangeEnd::Unbounded && (self.start.is_empty() || *self.start == [0])
    }

    /// Whether the range is all that begins with a path that ends in a slash.
    pub fn is_tree(&self) -> bool {
        match (self.start.split_last(), &self.end) {
            // The successor of "…/" is "…0".
            (Some((b'/', path)), RangeEnd::Before(end)) => end.split_last() == Some((&(b'/' + 1), path)),
            _ => false,
        }
    }

    /// The first key, and the end if there is one.
    pub fn bounds(&self) -> (Bytes, Option<Bytes>) {
        let end = match &self.end {
            RangeEnd::Single => Some([&self.start[..], &[0]].concat().into()),
            RangeEnd::Before(end) => Some(end.clone()),
            RangeEnd::Unbounded => None,
        };
        (self.start.clone(), end)
    }

    /// The part of the range after a key of it.
    pub fn after(&self, key: &[u8]) -> Self {
        let mut start = Vec::with_capacity(key.len() + 1);
        start.extend_from_slice(key);
        start.push(0);
        let end = match &self.end {
            RangeEnd::Single => RangeEnd::Before(Bytes::copy_from_slice(&start)),
            end => end.clone(),
        };
        Self { start: start.into(), end }
    }

    /// Whether the two ranges share a key.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.starts_before_end_of(other) && other.starts_before_end_of(self)
    }

    fn starts_before_end_of(&self, other: &Self) -> bool {
        match &other.end {
            RangeEnd::Single => self.start <= other.start,
            RangeEnd::Before(end) => self.start < *end,
            RangeEnd::Unbounded => true,
        }
    }
}

/// What part of the found keys a read returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Projection {
    /// Keys with their values.
    #[default]
    Full,
    /// Keys with an empty value.
    KeysOnly,
    /// Only how many there are.
    CountOnly,
}

/// What a range is ordered by; etcd's `sort_target`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SortTarget {
    /// The key, bytewise.
    #[default]
    Key,
    /// The version.
    Version,
    /// The create revision.
    Create,
    /// The mod revision.
    Mod,
    /// The value, bytewise.
    Value,
}

/// A read of a range of keys at one revision.
#[derive(Debug, Clone, Default)]
pub struct RangeQuery {
    /// Which keys.
    pub range: KeyRange,
    /// At most so many keys; 0 for all.
    pub limit: usize,
    /// No more keys when the values found have so many bytes; 0 for no such limit. Not for a query whose limit does not
    /// [commute](Self::limit_commutes).
    pub limit_bytes: usize,
    /// At which revision; 0 for the newest.
    pub revision: Revision,
    /// Whether an answer from a replica that lags is good enough.
    pub serializable: bool,
    /// What to return of each key.
    pub projection: Projection,
    /// The order: what by, and whether downwards. The default is by key, upwards.
    pub sort: SortTarget,
    /// Whether the order is downwards.
    pub descending: bool,
    /// Only keys whose mod revision is in these bounds; 0 for none. Applied after the count, as etcd does.
    pub mod_revision: RevisionBounds,
    /// Only keys whose create revision is in these bounds.
    pub create_revision: RevisionBounds,
    /// A selector that was pushed down. The result may hold keys that it does not match, never miss one that it does.
    pub selection: Option<Arc<Selection>>,
}

/// Inclusive bounds on a revision; 0 means no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RevisionBounds {
    /// The least revision.
    pub min: Revision,
    /// The greatest revision.
    pub max: Revision,
}

impl RevisionBounds {
    /// Whether the bounds allow the revision.
    pub fn allow(self, revision: Revision) -> bool {
        (self.min == 0 || revision >= self.min) && (self.max == 0 || revision <= self.max)
    }

    /// Whether the bounds allow any revision.
    pub fn is_open(self) -> bool {
        self == Self::default()
    }
}

impl Default for KeyRange {
    fn default() -> Self {
        Self::single(Bytes::new())
    }
}

/// The answer to a [`RangeQuery`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RangeResult {
    /// The newest revision when the read happened, whichever revision was asked for.
    pub revision: Revision,
    /// The keys found, up to the limit.
    pub kvs: Vec<KeyValue>,
    /// Whether the limit cut the result.
    pub more: bool,
    /// How many keys there are without the limit. With a selection: an upper bound of the matching keys; never less
    /// than the keys returned, and equal to them when `more` is false.
    pub count: i64,
}

/// A put of one key.
#[derive(Debug, Clone, Default)]
pub struct Put {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The lease to attach the key to, or 0 to detach it.
    pub lease: LeaseId,
    /// Whether to return the previous key-value.
    pub prev_kv: bool,
    /// Keep the current value. The key must exist.
    pub ignore_value: bool,
    /// Keep the current lease. The key must exist.
    pub ignore_lease: bool,
}

/// A deletion of a range of keys.
#[derive(Debug, Clone, Default)]
pub struct DeleteRange {
    /// Which keys.
    pub range: KeyRange,
    /// Whether to return the deleted key-values.
    pub prev_kv: bool,
}

/// What a compare looks at, with the value that it compares with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompareTarget {
    /// The version; 0 for a key that does not exist.
    Version(i64),
    /// The create revision; 0 for a key that does not exist.
    Create(Revision),
    /// The mod revision; 0 for a key that does not exist.
    Mod(Revision),
    /// The value. A key that does not exist fails any compare of its value.
    Value(Bytes),
    /// The lease; 0 for a key that does not exist.
    Lease(LeaseId),
}

/// How a compare compares: stored *result* given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompareResult {
    /// Equal.
    Equal,
    /// The stored one is greater.
    Greater,
    /// The stored one is less.
    Less,
    /// Not equal.
    NotEqual,
}

/// One condition of a transaction. It must hold for every key of the range.
#[derive(Debug, Clone)]
pub struct Compare {
    /// Which keys.
    pub range: KeyRange,
    /// How.
    pub result: CompareResult,
    /// With what.
    pub target: CompareTarget,
}

/// If all compares hold then `success`, else `failure`; atomically.
#[derive(Debug, Clone, Default)]
pub struct Txn {
    /// The conditions.
    pub compares: Vec<Compare>,
    /// What to do when they hold.
    pub success: Vec<Op>,
    /// What to do when they do not.
    pub failure: Vec<Op>,
}

/// One operation of a transaction, or a write on its own.
#[derive(Debug, Clone)]
pub enum Op {
    /// Read.
    Range(RangeQuery),
    /// Put.
    Put(Put),
    /// Delete.
    Delete(DeleteRange),
    /// A nested transaction.
    Txn(Txn),
}

/// The answer to an [`Op`], of the same kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpResult {
    /// To a read.
    Range(RangeResult),
    /// To a put: the previous key-value if asked for and there was one.
    Put(Option<KeyValue>),
    /// To a deletion: how many, and which if asked for.
    Delete {
        /// The number of deleted keys.
        deleted: i64,
        /// The deleted key-values, if asked for.
        prev_kvs: Vec<KeyValue>,
    },
    /// To a transaction.
    Txn(TxnResult),
}

/// The answer to a [`Txn`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TxnResult {
    /// Whether the compares held.
    pub succeeded: bool,
    /// One answer for each operation done, in order.
    pub results: Vec<OpResult>,
}

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Put or delete.
    pub kind: EventKind,
    /// The key-value after the change. After a deletion: the key and the revision of the deletion as mod revision, all
    /// else empty.
    pub kv: KeyValue,
    /// The key-value before the change, if there was one.
    pub prev_kv: Option<KeyValue>,
}

/// The kind of an [`Event`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// The key was put.
    Put,
    /// The key was deleted.
    Delete,
}

/// What a watcher wants to see.
#[derive(Debug, Clone)]
pub struct WatchSpec {
    /// The number of the watcher in its session.
    pub id: i64,
    /// Which keys.
    pub range: KeyRange,
    /// The first revision to show; 0 for whatever happens from now on.
    pub start_revision: Revision,
    /// Leave out puts.
    pub no_put: bool,
    /// Leave out deletions.
    pub no_delete: bool,
    /// Only events whose current or previous value may match.
    pub selection: Option<Arc<Selection>>,
}

/// What a watch session tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchMessage {
    /// Events for one watcher, in order, whole revisions only.
    Events {
        /// The watcher.
        id: i64,
        /// The newest revision of which this watcher has now seen all.
        revision: Revision,
        /// The events; never empty.
        events: Vec<Arc<Event>>,
    },
    /// The watcher asked for revisions that were compacted; it has ended.
    Compacted {
        /// The watcher.
        id: i64,
        /// The revision of the compaction: the oldest that can be watched from is the next one.
        compact_revision: Revision,
    },
    /// The store failed while the watcher was catching up; it has ended.
    Failed {
        /// The watcher.
        id: i64,
        /// Why, for the client.
        reason: String,
    },
}

/// A lease as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseStatus {
    /// Its number.
    pub id: LeaseId,
    /// The time to live that was granted, in seconds.
    pub granted_ttl: i64,
    /// The time left, in seconds; at least 0.
    pub remaining_ttl: i64,
    /// The attached keys, if asked for, in order.
    pub keys: Vec<Bytes>,
}

/// The size and the age of the store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreStatus {
    /// The newest revision.
    pub revision: Revision,
    /// The revision of the last compaction, or 0.
    pub compact_revision: Revision,
    /// Bytes on disk.
    pub db_size: i64,
    /// Bytes of them that hold data.
    pub db_size_in_use: i64,
    /// A random number that the database got at birth; the same for all instances on it.
    pub cluster_id: u64,
}

/// Why the engine did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The revision asked for was compacted away.
    #[error("required revision has been compacted")]
    Compacted {
        /// The revision of the compaction.
        compact_revision: Revision,
    },
    /// The revision asked for lies in the future.
    #[error("required revision is a future revision")]
    FutureRevision,
    /// A put with `ignore_value` or `ignore_lease` of a key that does not exist.
    #[error("key not found")]
    KeyNotFound,
    /// There is no such lease.
    #[error("requested lease not found")]
    LeaseNotFound,
    /// There is such a lease already.
    #[error("lease already exists")]
    LeaseExists,
    /// The database can't hold so long a key.
    #[error("a key has {length} bytes, and this database holds keys of at most {limit} bytes")]
    KeyTooLong {
        /// The length of the key.
        length: usize,
        /// That of the longest one that the database can hold.
        limit: usize,
    },
    /// The database can't take so much at once.
    #[error("a request has {length} bytes of values, and this database takes at most {limit} bytes")]
    RequestTooLarge {
        /// How many bytes the values of the request have.
        length: usize,
        /// How many they may have.
        limit: usize,
    },
    /// More requests wait than the database can carry out soon.
    #[error("too many requests")]
    TooManyRequests,
    /// The database has no space left.
    #[error("database space exceeded: {0}")]
    NoSpace(String),
    /// The database can't be used now; the request was not carried out. A later try may succeed.
    #[error("{0}")]
    Unavailable(String),
    /// The database was reached but whether the write happened is unknown.
    #[error("{0}")]
    Unknown(String),
    /// Another process serves the database now, or has written to it: this one can't go on.
    #[error("{0}")]
    Replaced(String),
    /// Another process serves the database; this one has changed nothing there. Holds the place of that process.
    #[error(
        "another sluice-shim serves this database: {0}; stop that one, name another database, or start all with \
         --standby"
    )]
    Served(String),
    /// What the database holds is damaged.
    #[error("{0}")]
    Damaged(String),
    /// The database refuses for good (read-only, other schema).
    #[error("{0}")]
    Broken(String),
}

/// The engine's results.
pub type Result<T> = std::result::Result<T, Error>;

/// One entry of the store's history, as etcd keeps them in its key bucket (etcd: server/storage/mvcc/revision.go).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The revision.
    pub revision: Revision,
    /// The place among the changes of that revision, from 0.
    pub sub: i64,
    /// Whether it is a deletion; then `kv` has only the key.
    pub tombstone: bool,
    /// The key-value.
    pub kv: KeyValue,
}
