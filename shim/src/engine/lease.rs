//! Leases: the calls, and what ends them.
//!
//! A lease is a row with the moment of its end on the store's clock. So a lease goes on through a restart, and no
//! process has to know all leases. The clock of a SQLite store stands still while nobody serves the store. A start
//! gives each lease time enough for its client to come back. A lease that has more time left than that gets nothing, so
//! a restart never begins its time anew.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use super::reader::Weight;
use super::request::{Outcome, Request};
use super::store::{Lease, Writer};
use super::types::*;
use super::{Engine, Inner, mismatch};
use crate::clock::{StoreTime, WallTime};

/// How many leases end in one commit at most: each takes its keys with it.
const ENDED_AT_ONCE: usize = 64;
/// The longest sleep between two looks; other instances may grant leases too.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(1);
/// How much time each lease has at least after a start, unless it was granted less: clients must find the server, or
/// its successor, before their sessions, locks and elections end.
const AFTER_START: Duration = Duration::from_secs(60);

/// Wakes what ends leases when one was granted.
#[derive(Debug, Default)]
pub(super) struct Changed(Notify);

impl Engine {
    /// Grants a lease; id 0 lets the engine choose one. `ttl` in seconds.
    pub async fn lease_grant(&self, id: LeaseId, ttl: i64) -> Result<LeaseStatus> {
        let id = if id == 0 { fresh_id() } else { id };
        let (_, outcome) = self.request(Request::Grant(id, ttl)).await?;
        self.inner.leases.0.notify_one();
        match outcome {
            Outcome::Lease(lease) => Ok(lease.status(self.inner.clock.now(), Vec::new())),
            other => Err(mismatch(&other)),
        }
    }

    /// Ends a lease and deletes its keys.
    pub async fn lease_revoke(&self, id: LeaseId) -> Result<Revision> {
        self.request(Request::Revoke(id)).await.map(|(revision, _)| revision)
    }

    /// Makes the lease live its full time from now on; returns that time in seconds.
    pub async fn lease_keep_alive(&self, id: LeaseId) -> Result<i64> {
        match self.request(Request::KeepAlive(id)).await? {
            (_, Outcome::Ttl(ttl)) => Ok(ttl),
            (_, other) => Err(mismatch(&other)),
        }
    }

    /// What a lease has left, and its keys if asked for.
    pub async fn lease_time_to_live(&self, id: LeaseId, keys: bool) -> Result<LeaseStatus> {
        let clock = self.inner.clock.clone();
        let read = move |snapshot: super::snapshot::Snapshot<'_>| {
            let lease = snapshot.reader.lease(id)?.ok_or(Error::LeaseNotFound)?;
            let keys = if keys { snapshot.reader.lease_keys(id)? } else { Vec::new() };
            Ok(lease.status(clock.now(), keys))
        };
        self.inner.readers.run(Weight::Small, read).await
    }

    /// All leases, without keys, in order of their end.
    pub async fn leases(&self) -> Result<Vec<LeaseStatus>> {
        let leases = self.inner.readers.run(Weight::Large, |snapshot| snapshot.reader.leases(0)).await?;
        let now = self.inner.clock.now();
        Ok(leases.into_iter().map(|lease| lease.status(now, Vec::new())).collect())
    }
}

impl Lease {
    fn status(&self, now: StoreTime, keys: Vec<bytes::Bytes>) -> LeaseStatus {
        // Whole seconds, rounded down as etcd does (server/etcdserver/v3_server.go, `leaseTimeToLive`).
        let remaining_ttl = i64::try_from(self.left(now).as_secs()).unwrap_or(i64::MAX);
        LeaseStatus { id: self.id, granted_ttl: self.ttl, remaining_ttl, keys }
    }
}

/// A positive number that no other lease has, as far as chance goes: the time in its upper bits, chance in the lower
/// 20. Each is greater than the one before, as etcd's are, so that leases which end in the same millisecond are listed
/// as they were granted.
fn fresh_id() -> LeaseId {
    use std::hash::{BuildHasher, Hasher, RandomState};
    static LAST: AtomicI64 = AtomicI64::new(0);
    let chance = (RandomState::new().build_hasher().finish() >> 44) as i64;
    let fresh = WallTime::now().millis() << 20 | chance;
    let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(fresh.max(last + 1)));
    fresh.max(last.unwrap_or(0) + 1)
}

/// Gives the leases their time after a start.
pub(super) fn extend(writer: &mut dyn Writer) -> Result<()> {
    let extended = writer.extend_leases(AFTER_START)?;
    if extended > 0 {
        tracing::info!(leases = extended, seconds = AFTER_START.as_secs(), "leases were about to end and got time");
    }
    Ok(())
}

/// Ends leases when their time is over, as long as the engine lives.
pub(super) async fn run(engine: Weak<Inner>) {
    loop {
        let Some(inner) = engine.upgrade() else { return };
        let (changed, clock) = (Arc::clone(&inner.leases), inner.clock.clone());
        let ended = end_due(&Engine { inner }).await;
        // Asleep it does not keep the engine alive.
        match ended {
            Ok(idle_until) => tokio::select! {
                () = clock.sleep_until(idle_until) => {}
                () = changed.0.notified() => {}
            },
            Err(error) => {
                tracing::warn!(%error, "could not look after the leases; trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Ends the leases that are due; returns until when there is nothing to do.
async fn end_due(engine: &Engine) -> Result<StoreTime> {
    let soonest = engine.inner.readers.run(Weight::Small, |snapshot| snapshot.reader.leases(ENDED_AT_ONCE)).await?;
    let now = engine.inner.clock.now();
    let due: Vec<LeaseId> = soonest.iter().filter(|lease| lease.expires_at <= now).map(|lease| lease.id).collect();
    if due.is_empty() {
        let at_most = now.after(LONGEST_SLEEP);
        return Ok(soonest.first().map_or(at_most, |next| next.expires_at.min(at_most)));
    }
    if let (_, Outcome::Expired(ended)) = engine.request(Request::Expire(due)).await? {
        engine.inner.metrics.leases_expired.inc_by(ended);
    }
    Ok(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_ids_are_positive_and_increase() {
        let ids: Vec<LeaseId> = (0..1000).map(|_| fresh_id()).collect();
        assert!(ids[0] > 0 && ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    }
}
