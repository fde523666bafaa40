//! Keys, their history, and leases.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::{Postings, Source};
use crate::clock::StoreTime;
use crate::engine::store::{Lease, Row};
use crate::engine::{KeyRange, KeyValue, LeaseId, Revision, StoreStatus};
use crate::sql::failure::Result;

/// How many revisions a read may lie back for its history to be found by the changes since then instead of by key.
pub(in crate::sql) const RECENT: Revision = 4096;

/// The one row that each commit writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::sql) struct Head {
    /// The newest revision; 0 while the store is being loaded.
    pub(in crate::sql) revision: Revision,
    /// The revision of the last compaction, or 0.
    pub(in crate::sql) compact_revision: Revision,
    /// How late it is on the store's clock: that of the database, if it has one, else what was last kept.
    pub(in crate::sql) now: StoreTime,
    /// The number of the last batch that this process committed, as [`super::NewHead::batch`] gave it. 0 in a database
    /// whose commits never have an unknown outcome.
    pub(in crate::sql) batch: i64,
}

/// A live or superseded value, where it lies in the answer of the database.
#[derive(Debug, Clone, Copy)]
pub(in crate::sql) struct RowRef<'a> {
    pub(in crate::sql) key: &'a [u8],
    pub(in crate::sql) create_revision: Revision,
    pub(in crate::sql) mod_revision: Revision,
    /// The place of the put in its revision.
    pub(in crate::sql) sub: i64,
    pub(in crate::sql) version: i64,
    pub(in crate::sql) lease: LeaseId,
    /// Empty if no values were asked for.
    pub(in crate::sql) value: &'a [u8],
}

impl RowRef<'_> {
    /// A copy.
    pub(in crate::sql) fn to_key_value(self) -> KeyValue {
        KeyValue {
            key: Bytes::copy_from_slice(self.key),
            value: Bytes::copy_from_slice(self.value),
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            lease: self.lease,
        }
    }
}

/// Gets the rows of a read, in order of key, until it breaks off.
pub(in crate::sql) type Take<'a> = dyn FnMut(RowRef<'_>) -> ControlFlow<()> + 'a;

/// Which live keys to read.
#[derive(Debug, Clone, Copy)]
pub(in crate::sql) struct Find<'a> {
    /// Only keys of this range.
    pub(in crate::sql) range: &'a KeyRange,
    /// Where the keys come from.
    pub(in crate::sql) source: &'a Source,
    /// Of the keys of postings or of a list only those that are in one of the postings of each of these.
    pub(in crate::sql) probes: &'a [&'a [Postings]],
    /// Only keys that changed at or before this revision.
    pub(in crate::sql) until: Revision,
    /// Whether their values are needed.
    pub(in crate::sql) values: bool,
    /// About how many keys will be taken before it breaks off: how many to read ahead.
    pub(in crate::sql) wanted: usize,
}

/// Which part of the log to read.
#[derive(Debug, Clone, Copy)]
pub(in crate::sql) struct Log<'a> {
    /// Only changes of keys in this range; `None` for all.
    pub(in crate::sql) range: Option<&'a KeyRange>,
    /// Behind this revision and place.
    pub(in crate::sql) after: (Revision, i64),
    /// Up to this revision.
    pub(in crate::sql) until: Revision,
    /// Puts whose value was superseded, and deletions, only if that was after this revision.
    pub(in crate::sql) above: Revision,
    /// The most changes.
    pub(in crate::sql) limit: usize,
    /// Whether the values before the changes are needed.
    pub(in crate::sql) previous: bool,
}

/// A change as the log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sql) struct Change {
    /// When, and the place of the change in that revision.
    pub(in crate::sql) at: (Revision, i64),
    /// Whether it deleted the key. Then `kv` has no more than the key and its `mod_revision` is that of the change.
    pub(in crate::sql) deleted: bool,
    /// The key with its new value.
    pub(in crate::sql) kv: KeyValue,
    /// What was there before, if that was asked for and is still known.
    pub(in crate::sql) previous: Option<KeyValue>,
}

impl Change {
    /// How long its keys and values are.
    pub(in crate::sql) fn bytes(&self) -> usize {
        [Some(&self.kv), self.previous.as_ref()].into_iter().flatten().map(|kv| kv.key.len() + kv.value.len()).sum()
    }
}

/// Keys, their history, and leases.
pub(in crate::sql) trait Read: Send {
    /// Begins a snapshot: what is read until [`Read::end`] is as it is now.
    fn snapshot(&mut self) -> Result<Head>;

    /// Ends the snapshot, if there is one.
    fn end(&mut self);

    /// The live rows of these keys, in no order; a key without one does not exist.
    fn rows(&mut self, keys: &[&[u8]]) -> Result<Vec<Row>>;

    /// The head, and the live rows of these keys, in no order: a snapshot of its own, which ends with the call.
    fn newest(&mut self, keys: &[&[u8]]) -> Result<(Head, Vec<Row>)> {
        let head = self.snapshot()?;
        let rows = self.rows(keys);
        self.end();
        Ok((head, rows?))
    }

    /// Live keys, in order.
    fn find(&mut self, find: &Find<'_>, take: &mut Take<'_>) -> Result<()>;

    /// The values that were the newest of their keys at a revision and are no longer, in order of key. `behind`: how
    /// many revisions ago that was.
    fn superseded(&mut self, range: &KeyRange, at: Revision, behind: Revision, take: &mut Take<'_>) -> Result<()>;

    /// Changes, in order of revision and place.
    fn log(&mut self, log: &Log<'_>) -> Result<Vec<Change>>;

    /// How many live keys the range has.
    fn count(&mut self, range: &KeyRange) -> Result<i64>;

    /// By how much that number differed at a revision in the past: the keys that were live then and have changed since,
    /// less those that have changed since and are live now.
    fn count_difference(&mut self, range: &KeyRange, at: Revision) -> Result<i64>;

    /// A lease.
    fn lease(&mut self, id: LeaseId) -> Result<Option<Lease>>;

    /// The keys that are attached to a lease, in order.
    fn lease_keys(&mut self, id: LeaseId) -> Result<Vec<Bytes>>;

    /// The leases, in order of their end and number, at most `limit` (0: all).
    fn leases(&mut self, limit: usize) -> Result<Vec<Lease>>;

    /// Sizes, and the number of the cluster. The revisions are those of the snapshot.
    fn status(&mut self, head: Head) -> Result<StoreStatus>;
}
