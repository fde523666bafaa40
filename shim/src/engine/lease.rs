//! Leases: the calls, and the clock that ends them.
//!
//! A lease is a row with the moment of its end, so it goes on through a restart, and no process has to know them all.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use super::reader::Weight;
use super::store::Lease;
use super::types::*;
use super::writer::{Outcome, Request, now_millis};
use super::{Engine, Inner, mismatch};

/// How many leases end in one commit at most: each takes its keys with it.
const ENDED_AT_ONCE: usize = 64;
/// The longest sleep of the clock; other instances may grant leases too.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// Wakes the clock when a lease was granted or prolonged.
#[derive(Debug, Default)]
pub(super) struct Clock {
    changed: Notify,
}

impl Engine {
    /// Grants a lease; id 0 lets the engine choose one. `ttl` in seconds.
    pub async fn lease_grant(&self, id: LeaseId, ttl: i64) -> Result<LeaseStatus> {
        let id = if id == 0 { fresh_id() } else { id };
        let (_, outcome) = self.request(Request::Grant(id, ttl)).await?;
        self.inner.leases.changed.notify_one();
        match outcome {
            Outcome::Lease(lease) => Ok(lease.status(now_millis(), Vec::new())),
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
        let read = move |snapshot: super::reader::Snapshot<'_>| {
            let lease = snapshot.reader.lease(id)?.ok_or(Error::LeaseNotFound)?;
            let keys = if keys { snapshot.reader.lease_keys(id)? } else { Vec::new() };
            Ok(lease.status(now_millis(), keys))
        };
        self.inner.readers.run(Weight::Small, read).await
    }

    /// All leases, without keys, in order of their end.
    pub async fn leases(&self) -> Result<Vec<LeaseStatus>> {
        let leases = self.inner.readers.run(Weight::Large, |snapshot| snapshot.reader.leases(0)).await?;
        let now = now_millis();
        Ok(leases.into_iter().map(|lease| lease.status(now, Vec::new())).collect())
    }
}

impl Lease {
    fn status(&self, now: i64, keys: Vec<bytes::Bytes>) -> LeaseStatus {
        let left = (self.expires_at - now).max(0);
        // Whole seconds, rounded down as etcd does (server/etcdserver/v3_server.go, `leaseTimeToLive`).
        LeaseStatus { id: self.id, granted_ttl: self.ttl, remaining_ttl: left / 1000, keys }
    }
}

/// A positive number that no other lease has, as far as chance goes: the time in its upper bits, chance in the lower 20. Each is greater than the one before,
/// as etcd's are, so that leases which end in the same millisecond are listed as they were granted.
fn fresh_id() -> LeaseId {
    use std::hash::{BuildHasher, Hasher, RandomState};
    static LAST: AtomicI64 = AtomicI64::new(0);
    let chance = (RandomState::new().build_hasher().finish() >> 44) as i64;
    let fresh = now_millis() << 20 | chance;
    let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(fresh.max(last + 1)));
    fresh.max(last.unwrap_or(0) + 1)
}

/// Ends leases when their time is over, as long as the engine lives.
pub(super) async fn run(engine: Weak<Inner>) {
    loop {
        let Some(inner) = engine.upgrade() else { return };
        let clock = Arc::clone(&inner.leases);
        let sleep = match end_due(&Engine { inner }).await {
            Ok(sleep) => sleep,
            Err(error) => {
                tracing::warn!(%error, "could not look after the leases; trying again");
                Duration::from_secs(1)
            }
        };
        // Asleep it does not keep the engine alive.
        tokio::select! {
            () = tokio::time::sleep(sleep) => {}
            () = clock.changed.notified() => {}
        }
    }
}

/// Ends the leases that are due; returns how long there is nothing to do.
async fn end_due(engine: &Engine) -> Result<Duration> {
    let soonest = engine.inner.readers.run(Weight::Small, |snapshot| snapshot.reader.leases(ENDED_AT_ONCE)).await?;
    let now = now_millis();
    let due: Vec<LeaseId> = soonest.iter().filter(|lease| lease.expires_at <= now).map(|lease| lease.id).collect();
    if due.is_empty() {
        let next = soonest.first().map(|lease| lease.expires_at - now).and_then(|left| u64::try_from(left).ok());
        return Ok(next.map_or(LONGEST_SLEEP, Duration::from_millis).min(LONGEST_SLEEP));
    }
    if let (_, Outcome::Expired(ended)) = engine.request(Request::Expire(due)).await? {
        engine.inner.metrics.leases_expired.inc_by(ended);
    }
    Ok(Duration::ZERO)
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
