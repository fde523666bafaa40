//! Waiting for one's turn: who wants a lock or a leadership puts a key `<name>/<lease in hex>`, and has it when no key
//! below `<name>/` is older (etcd: client/v3/concurrency, `Mutex.Lock`, `Election.Campaign`, `waitDeletes`).
//!
//! Each waits for the deletion of the key just before its own, so a deletion wakes one of them. The work is done in a
//! task that outlives the request: a client that goes away at any moment leaves no key behind.

use bytes::Bytes;
use tokio::sync::oneshot;
use tonic::Status;

use super::context::{Shared, stopped};
use super::errors::Fault;
use super::held::{Held, admitted, created_at, session, transact};
use crate::engine::{
    KeyRange, KeyValue, LeaseId, Op, OpResult, RangeEnd, RangeQuery, Revision, RevisionBounds, SortTarget, Txn,
    WatchMessage, WatchSpec,
};

/// etcd: client/v3/concurrency, `ErrSessionExpired`.
pub(super) const SESSION_EXPIRED: &str = "mutex: session is expired";

/// etcd: client/v3/concurrency, `ErrElectionNotLeader`.
pub(super) const NOT_LEADER: &str = "election: not leader";

/// What a client waits for.
#[derive(Debug)]
pub(super) enum Goal {
    /// A lock. It is granted only while the key is there.
    Lock,
    /// The leadership, with the value to proclaim. As with etcd it may be gone by the time it is granted: the client
    /// compares the create revision of the key in what it does as a leader.
    Leadership(Bytes),
}

/// A turn that has come.
#[derive(Debug)]
pub(super) struct Turn {
    /// The key that stands for it.
    pub(super) held: Held,
    /// The revision for the header of the answer.
    pub(super) revision: Revision,
}

/// Gets in line and waits for the turn.
///
/// # Errors
/// What the store says, [`SESSION_EXPIRED`] or [`NOT_LEADER`] when the key was deleted meanwhile, and
/// [`Fault::Stopped`]; the key is gone then.
pub(super) async fn take(context: Shared, name: Bytes, lease: LeaseId, goal: Goal) -> Result<Turn, Status> {
    let (client, answer) = oneshot::channel();
    tokio::spawn(serve(context, name, lease, goal, client));
    // The task ends without an answer only if the runtime does.
    answer.await.unwrap_or_else(|_| Err(Fault::Stopped.into()))
}

async fn serve(
    context: Shared,
    name: Bytes,
    lease: LeaseId,
    goal: Goal,
    mut client: oneshot::Sender<Result<Turn, Status>>,
) {
    let place = match Place::enter(context, &name, lease, &goal).await {
        Ok(place) => place,
        Err(status) => return drop(client.send(Err(status))),
    };
    let came = tokio::select! {
        came = place.wait(goal) => came,
        () = client.closed() => Err(Status::cancelled("the client is gone")),
    };
    match came {
        Ok(revision) => {
            let turn = Turn { held: place.held.clone(), revision };
            // A place that was there and first before this request is not this request's to give up.
            if client.send(Ok(turn)).is_err() && !place.was_first {
                place.give_up().await;
            }
        }
        Err(status) => {
            if !(place.was_first && client.is_closed()) {
                place.give_up().await;
            }
            drop(client.send(Err(status)));
        }
    }
}

/// A place in line.
#[derive(Debug)]
struct Place {
    held: Held,
    line: KeyRange,
    /// The revision of the transaction that got it.
    revision: Revision,
    /// The value of the key, if it was there already.
    value: Option<Bytes>,
    /// Whether nobody is before it.
    is_first: bool,
    /// Whether the key was there already and nobody was before it.
    was_first: bool,
}

impl Place {
    /// Puts the key, unless the lease has one in this line.
    async fn enter(context: Shared, name: &Bytes, lease: LeaseId, goal: &Goal) -> Result<Self, Status> {
        let lease = session(&context, lease).await?;
        let line = line(name);
        let key = key(&line, lease);
        let value = match goal {
            Goal::Lock => Bytes::new(),
            Goal::Leadership(value) => value.clone(),
        };
        let get = Op::Range(RangeQuery { range: KeyRange::single(key.clone()), ..RangeQuery::default() });
        let first = Op::Range(first_of(&line));
        let put = admitted(&context, &key, value, lease).await?;
        let compares = vec![created_at(&key, 0)];
        let txn = Txn { compares, success: vec![put, first.clone()], failure: vec![get, first] };
        let (revision, result) = transact(&context, txn).await?;
        let mut found = result.results.into_iter().map(|result| match result {
            OpResult::Range(range) => range.kvs.into_iter().next(),
            _ => None,
        });
        let (own, first) = (found.next().flatten(), found.next().flatten());
        let created = own.as_ref().map_or(revision, |own| own.create_revision);
        let is_first = first.is_none_or(|first| first.create_revision == created);
        let was_first = is_first && own.is_some();
        let held = Held { context, key, lease, created };
        Ok(Self { held, line, revision, value: own.map(|own| own.value), is_first, was_first })
    }

    /// Waits for the turn; returns the revision for the answer. Nothing is lost when this is dropped.
    async fn wait(&self, goal: Goal) -> Result<Revision, Status> {
        if let (Goal::Leadership(value), Some(old)) = (&goal, &self.value)
            && value != old
        {
            let proclaimed = self.held.put(value.clone()).await?;
            proclaimed.ok_or_else(|| Status::unknown(NOT_LEADER))?;
        }
        if self.is_first {
            return Ok(self.revision);
        }
        let mut stop = self.held.context.stop.clone();
        tokio::select! {
            () = stopped(&mut stop) => return Err(Fault::Stopped.into()),
            over = self.wait_for_those_before() => over?,
        }
        match goal {
            Goal::Lock => self.held.seen().await?.ok_or_else(|| Status::unknown(SESSION_EXPIRED)),
            Goal::Leadership(_) => Ok(self.revision),
        }
    }

    async fn wait_for_those_before(&self) -> Result<(), Status> {
        let before = RangeQuery {
            descending: true,
            create_revision: RevisionBounds { min: 0, max: self.held.created - 1 },
            ..first_of(&self.line)
        };
        loop {
            let found = self.held.context.engine.range(before.clone()).await?;
            match found.kvs.into_iter().next() {
                Some(last) => self.wait_for_deletion(last, found.revision).await?,
                None => return Ok(()),
            }
        }
    }

    /// Waits until a key that was there at that revision is deleted, or may have been.
    async fn wait_for_deletion(&self, kv: KeyValue, revision: Revision) -> Result<(), Status> {
        let mut session = self.held.context.engine.watch();
        session.create(WatchSpec {
            id: 0,
            range: KeyRange::single(kv.key),
            start_revision: revision + 1,
            no_put: true,
            no_delete: false,
            selection: None,
        });
        match session.next().await {
            WatchMessage::Events { .. } | WatchMessage::Compacted { .. } => Ok(()),
            WatchMessage::Failed { reason, .. } => {
                Err(Status::unavailable(format!("etcdserver: watch failed: {reason}")))
            }
        }
    }

    /// Leaves the line. If the store can't do it now, the end of the lease does.
    async fn give_up(&self) {
        if let Err(status) = self.held.delete().await {
            tracing::warn!(key = %self.held.key.escape_ascii(), %status, "the key of one who stopped waiting stays until its lease ends");
        }
    }
}

/// All keys that wait for what has that name.
pub(super) fn line(name: &[u8]) -> KeyRange {
    let with = |last: &[u8]| Bytes::from([name, last].concat());
    KeyRange { start: with(b"/"), end: RangeEnd::Before(with(b"0")) }
}

/// Reads the oldest key of a line.
pub(super) fn first_of(line: &KeyRange) -> RangeQuery {
    RangeQuery { range: line.clone(), limit: 1, sort: SortTarget::Create, ..RangeQuery::default() }
}

/// The key of a lease in a line. A number as Go's `%x` writes it: with its sign.
fn key(line: &KeyRange, lease: LeaseId) -> Bytes {
    let sign = if lease < 0 { "-" } else { "" };
    let number = format!("{sign}{:x}", lease.unsigned_abs());
    [&line.start, number.as_bytes()].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_line() {
        let table =
            [("a", 0x7a_i64, "a/7a"), ("", 1, "/1"), ("a/b", i64::MAX, "a/b/7fffffffffffffff"), ("a", -31, "a/-1f")];
        for (name, lease, expected) in table {
            let line = line(name.as_bytes());
            let key = key(&line, lease);
            assert_eq!(key, expected);
            assert!(line.contains(&key));
        }
        let a = line(b"a");
        assert!(!a.contains(b"a") && !a.contains(b"a0") && !a.contains(b"ab/1") && a.contains(b"a/"));
    }
}
