//! What the writer thread is asked, and what it answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;

use super::collecting::Collected;
use super::store::Lease;
use super::types::*;
use crate::clock::StoreTime;
use crate::gc::Quota;

/// What the writer thread is asked to do.
#[derive(Debug)]
pub(crate) enum Request {
    /// A put, a deletion or a transaction.
    Write(Op),
    /// Forget history.
    Compact(Revision),
    /// Grant a lease.
    Grant(LeaseId, i64),
    /// End a lease.
    Revoke(LeaseId),
    /// Prolong a lease.
    KeepAlive(LeaseId),
    /// End those of the leases whose time is over.
    Expire(Vec<LeaseId>),
    /// Give unused space back.
    Defragment,
    /// Say whether commits succeed, by a trial if the last one failed.
    Probe,
    /// Publish a revision that somebody read, if that did not happen yet.
    Publish(Revision),
    /// Return when nothing of the last compaction is left to remove.
    AwaitCompaction,
    /// Do some of the collector's work. Done after all that waits, in a transaction of its own.
    Collect(Quota),
    /// Forget objects that were deleted before a moment.
    Forget(StoreTime),
}

/// The answer to a [`Request`]: the newest revision after it, and what it returns.
pub(super) type Answer = Result<(Revision, Outcome)>;

/// What a request returns.
#[derive(Debug)]
pub(super) enum Outcome {
    /// To a write.
    Op(OpResult),
    /// To a grant.
    Lease(Lease),
    /// To a keep-alive: the time to live in seconds.
    Ttl(i64),
    /// To an expiry: how many leases ended.
    Expired(u64),
    /// To a portion of the collector's work, with the time it took.
    Collected(Collected, Duration),
    /// To forgetting: whether there may be more to forget.
    Forgotten(bool),
    /// To all else.
    Done,
}

/// A request with the place for its answer.
#[derive(Debug)]
pub(super) struct Envelope {
    pub(super) request: Request,
    pub(super) reply: oneshot::Sender<Answer>,
    /// The memory that it takes until it is answered.
    pub(super) room: Room,
}

/// The bytes of all requests that were not answered yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Rooms(Arc<AtomicUsize>);

/// The bytes of one of them.
#[derive(Debug)]
pub(super) struct Room {
    all: Rooms,
    /// How many.
    pub(super) bytes: usize,
}

impl Rooms {
    /// Makes room for a request; `None` if all together would have more bytes than that. One alone may have.
    pub(super) fn make(&self, bytes: usize, most: usize) -> Option<Room> {
        let fits =
            |taken: usize| (taken == 0 || bytes == 0 || taken.saturating_add(bytes) <= most).then(|| taken + bytes);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Room { all: self.clone(), bytes })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Request {
    /// How many bytes of keys and values it carries.
    pub(super) fn bytes(&self) -> usize {
        fn range(range: &KeyRange) -> usize {
            let end = if let RangeEnd::Before(end) = &range.end { end.len() } else { 0 };
            range.start.len() + end
        }
        fn compare(compare: &Compare) -> usize {
            let value = if let CompareTarget::Value(value) = &compare.target { value.len() } else { 0 };
            range(&compare.range) + value
        }
        fn of(op: &Op) -> usize {
            match op {
                Op::Put(put) => put.key.len() + put.value.len(),
                Op::Txn(txn) => {
                    let ops = txn.success.iter().chain(&txn.failure).map(of).sum::<usize>();
                    ops + txn.compares.iter().map(compare).sum::<usize>()
                }
                Op::Range(query) => range(&query.range),
                Op::Delete(delete) => range(&delete.range),
            }
        }
        if let Self::Write(op) = self { of(op) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_so_many_bytes_until_requests_are_answered() {
        let rooms = Rooms::default();
        let large = rooms.make(11, 10).unwrap();
        assert!(rooms.make(1, 10).is_none());
        drop(large);
        let (six, four) = (rooms.make(6, 10).unwrap(), rooms.make(4, 10).unwrap());
        assert!(rooms.make(1, 10).is_none());
        drop((six, four));
        assert_eq!(rooms.make(10, 10).unwrap().bytes, 10);
    }
}
