//! A key that stands for a lock or a leadership, as long as it has the create revision that it got.

use bytes::Bytes;
use tonic::{Code, Status};

use super::context::Shared;
use super::errors::Fault;
use super::{kv, validate};
use crate::engine::{
    Compare, CompareResult, CompareTarget, DeleteRange, KeyRange, LeaseId, Op, OpResult, Put, RangeQuery, Revision,
    Txn, TxnResult,
};
use crate::pb::etcdserverpb as pb;

/// The time to live of a lease that the server grants itself, in seconds (etcd: client/v3/concurrency/session.go,
/// `defaultSessionTTL`). Nobody renews it.
const SESSION_TTL: i64 = 60;

/// A key with the revision that created it. What is done to it is done only if it is still that one.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) context: Shared,
    pub(super) key: Bytes,
    pub(super) lease: LeaseId,
    pub(super) created: Revision,
}

impl Held {
    /// Whether the key is still there.
    pub(super) fn unchanged(&self) -> Compare {
        created_at(&self.key, self.created)
    }

    /// Puts a value. Returns the revision, or `None` if the key is no longer this one.
    pub(super) async fn put(&self, value: Bytes) -> Result<Option<Revision>, Status> {
        let put = admitted(&self.context, &self.key, value, self.lease).await?;
        let txn = Txn { compares: vec![self.unchanged()], success: vec![put], failure: vec![] };
        let (revision, result) = transact(&self.context, txn).await?;
        Ok(result.succeeded.then_some(revision))
    }

    /// Deletes the key. Returns the revision; it is no error if the key is no longer this one.
    pub(super) async fn delete(&self) -> Result<Revision, Status> {
        if self.key.is_empty() {
            return Err(Fault::EmptyKey.into());
        }
        let range = KeyRange::single(self.key.clone());
        let delete = Op::Delete(DeleteRange { range, prev_kv: false });
        let txn = Txn { compares: vec![self.unchanged()], success: vec![delete], failure: vec![] };
        Ok(transact(&self.context, txn).await?.0)
    }

    /// The newest revision if the key is there, else `None`.
    pub(super) async fn seen(&self) -> Result<Option<Revision>, Status> {
        let query = RangeQuery { range: KeyRange::single(self.key.clone()), ..RangeQuery::default() };
        let found = self.context.engine.range(query).await?;
        Ok(found.kvs.iter().any(|kv| kv.create_revision == self.created).then_some(found.revision))
    }
}

/// Holds if the key was created by that revision; 0 for a key that is not there.
pub(super) fn created_at(key: &Bytes, revision: Revision) -> Compare {
    let range = KeyRange::single(key.clone());
    Compare { range, result: CompareResult::Equal, target: CompareTarget::Create(revision) }
}

/// A put that passed the checks of the KV service.
pub(super) async fn admitted(context: &Shared, key: &Bytes, value: Bytes, lease: LeaseId) -> Result<Op, Status> {
    let put = pb::PutRequest { key: key.clone(), value, lease, ..Default::default() };
    context.check_quota(kv::cost(&put)).await?;
    validate::put(&put)?;
    validate::size(&put, context.limits.max_request_bytes)?;
    Ok(Op::Put(Put { key: put.key, value: put.value, lease, ..Put::default() }))
}

/// Carries out a transaction.
pub(super) async fn transact(context: &Shared, txn: Txn) -> Result<(Revision, TxnResult), Status> {
    match context.engine.write(Op::Txn(txn)).await? {
        (revision, OpResult::Txn(result)) => Ok((revision, result)),
        (_, other) => Err(kv::unexpected(&other)),
    }
}

/// The lease that a client names, or a new one if it names none (etcd: client/v3/concurrency/session.go, `NewSession`).
pub(super) async fn session(context: &Shared, lease: LeaseId) -> Result<LeaseId, Status> {
    if lease != 0 {
        return Ok(lease);
    }
    super::lease::grant(context, 0, SESSION_TTL).await.map(|lease| lease.id)
}

/// etcd serves locks and elections through a client of its own, whose errors have lost their code on the way out. What
/// asks for another try keeps it.
pub(super) fn relayed(status: Status) -> Status {
    match status.code() {
        Code::Unavailable | Code::Internal => status,
        _ => Status::unknown(status.message()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_lost_and_texts_are_not() {
        let table = [
            (Fault::LeaseNotFound, Code::Unknown),
            (Fault::RequestTooLarge, Code::Unknown),
            (Fault::NoSpace, Code::Unknown),
            (Fault::Stopped, Code::Unavailable),
        ];
        for (fault, code) in table {
            let status = relayed(fault.into());
            assert_eq!((status.code(), status.message()), (code, fault.parts().1));
        }
    }
}
