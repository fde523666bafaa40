//! What the writer thread is asked, and what it answers.

use std::time::Duration;

use tokio::sync::oneshot;

use super::collecting::Collected;
use super::store::Lease;
use super::types::*;
use crate::clock::StoreTime;
use crate::gc::Quota;

/// What the writer thread is asked to do.
#[derive(Debug)]
pub(super) enum Request {
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
}
