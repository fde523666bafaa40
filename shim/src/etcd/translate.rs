//! Requests to the engine's words and results to responses; no decisions in here. Nothing copies a value: `Bytes` move.

use std::sync::Arc;

use tonic::Status;

use super::context::Identity;
use crate::engine::{
    Compare, CompareResult, CompareTarget, DeleteRange, Event, EventKind, KeyRange, KeyValue, Op, OpResult, Projection,
    Put, RangeQuery, RangeResult, Revision, RevisionBounds, SortTarget, Txn, TxnResult,
};
use crate::pb::{etcdserverpb as pb, mvccpb};
use crate::selector::Selection;

/// A read. Negative limits and revisions mean none, as in etcd.
pub(super) fn range_query(request: pb::RangeRequest, selection: Option<Arc<Selection>>) -> RangeQuery {
    use pb::range_request::SortOrder;
    let projection = match (request.count_only, request.keys_only) {
        (true, _) => Projection::CountOnly,
        (false, true) => Projection::KeysOnly,
        (false, false) => Projection::Full,
    };
    RangeQuery {
        range: KeyRange::from_wire(request.key, request.range_end),
        limit: usize::try_from(request.limit).unwrap_or(0),
        limit_bytes: 0,
        revision: request.revision.max(0),
        serializable: request.serializable,
        projection,
        sort: sort_target(request.sort_target),
        descending: request.sort_order == SortOrder::Descend as i32,
        mod_revision: RevisionBounds { min: request.min_mod_revision, max: request.max_mod_revision },
        create_revision: RevisionBounds { min: request.min_create_revision, max: request.max_create_revision },
        selection,
    }
}

/// The target of a checked request.
fn sort_target(wire: i32) -> SortTarget {
    use pb::range_request::SortTarget as Wire;
    match Wire::try_from(wire) {
        Ok(Wire::Version) => SortTarget::Version,
        Ok(Wire::Create) => SortTarget::Create,
        Ok(Wire::Mod) => SortTarget::Mod,
        Ok(Wire::Value) => SortTarget::Value,
        Ok(Wire::Key) | Err(_) => SortTarget::Key,
    }
}

/// A put.
pub(super) fn put(request: pb::PutRequest) -> Put {
    Put {
        key: request.key,
        value: request.value,
        lease: request.lease,
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    }
}

/// A deletion.
pub(super) fn delete(request: pb::DeleteRangeRequest) -> DeleteRange {
    DeleteRange { range: KeyRange::from_wire(request.key, request.range_end), prev_kv: request.prev_kv }
}

/// A checked transaction. An error only for a compare that no etcd client can make.
pub(super) fn txn(request: pb::TxnRequest) -> Result<Txn, Status> {
    Ok(Txn {
        compares: request.compare.into_iter().map(compare).collect::<Result<_, _>>()?,
        success: request.success.into_iter().map(op).collect::<Result<_, _>>()?,
        failure: request.failure.into_iter().map(op).collect::<Result<_, _>>()?,
    })
}

fn op(request: pb::RequestOp) -> Result<Op, Status> {
    use pb::request_op::Request;
    match request.request {
        Some(Request::RequestRange(inner)) => {
            // Not as in a read of its own, where a negative one means none (etcd: server/etcdserver/txn/txn.go,
            // `checkRange`).
            let revision = inner.revision;
            Ok(Op::Range(RangeQuery { revision, ..range_query(inner, None) }))
        }
        Some(Request::RequestPut(inner)) => Ok(Op::Put(put(inner))),
        Some(Request::RequestDeleteRange(inner)) => Ok(Op::Delete(delete(inner))),
        Some(Request::RequestTxn(inner)) => Ok(Op::Txn(txn(inner)?)),
        None => Err(super::errors::Fault::KeyNotFound.into()),
    }
}

/// A compare whose value is of another kind than its target compares with zero or nothing (etcd: `compareKV`).
fn compare(wire: pb::Compare) -> Result<Compare, Status> {
    use pb::compare::{CompareResult as WireResult, CompareTarget as WireTarget, TargetUnion};
    let result = match WireResult::try_from(wire.result) {
        Ok(WireResult::Equal) => CompareResult::Equal,
        Ok(WireResult::Greater) => CompareResult::Greater,
        Ok(WireResult::Less) => CompareResult::Less,
        Ok(WireResult::NotEqual) => CompareResult::NotEqual,
        Err(_) => return Err(Status::invalid_argument("etcdserver: invalid compare result")),
    };
    let target = match (WireTarget::try_from(wire.target), wire.target_union) {
        (Ok(WireTarget::Version), Some(TargetUnion::Version(n))) => CompareTarget::Version(n),
        (Ok(WireTarget::Version), _) => CompareTarget::Version(0),
        (Ok(WireTarget::Create), Some(TargetUnion::CreateRevision(n))) => CompareTarget::Create(n),
        (Ok(WireTarget::Create), _) => CompareTarget::Create(0),
        (Ok(WireTarget::Mod), Some(TargetUnion::ModRevision(n))) => CompareTarget::Mod(n),
        (Ok(WireTarget::Mod), _) => CompareTarget::Mod(0),
        (Ok(WireTarget::Value), Some(TargetUnion::Value(value))) => CompareTarget::Value(value),
        (Ok(WireTarget::Value), _) => CompareTarget::Value(bytes::Bytes::new()),
        (Ok(WireTarget::Lease), Some(TargetUnion::Lease(n))) => CompareTarget::Lease(n),
        (Ok(WireTarget::Lease), _) => CompareTarget::Lease(0),
        (Err(_), _) => return Err(Status::invalid_argument("etcdserver: invalid compare target")),
    };
    Ok(Compare { range: KeyRange::from_wire(wire.key, wire.range_end), result, target })
}

/// A key-value on the wire.
pub(super) fn kv(kv: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: kv.value,
        lease: kv.lease,
    }
}

fn kvs(found: Vec<KeyValue>) -> Vec<mvccpb::KeyValue> {
    found.into_iter().map(kv).collect()
}

/// An event on the wire. Many watchers share an event, so its bytes are referred to, not moved.
pub(super) fn event(event: &Event, prev_kv: bool) -> mvccpb::Event {
    let kind = match event.kind {
        EventKind::Put => mvccpb::event::EventType::Put,
        EventKind::Delete => mvccpb::event::EventType::Delete,
    };
    let prev_kv = if prev_kv { event.prev_kv.clone().map(kv) } else { None };
    mvccpb::Event { r#type: kind as i32, kv: Some(kv(event.kv.clone())), prev_kv }
}

/// A chunk of a stream, and whether it is the last one: the engine sets the revision on that one alone.
pub(super) fn chunk(identity: Identity, chunk: RangeResult) -> (pb::RangeStreamResponse, bool) {
    let is_last = chunk.revision != 0;
    let header = is_last.then(|| identity.header(chunk.revision));
    (pb::RangeStreamResponse { range_response: Some(range_response(header, chunk)) }, is_last)
}

/// The answer to a read.
pub(super) fn range_response(header: Option<pb::ResponseHeader>, result: RangeResult) -> pb::RangeResponse {
    pb::RangeResponse { header, kvs: kvs(result.kvs), more: result.more, count: result.count }
}

/// The answer to a put.
pub(super) fn put_response(header: pb::ResponseHeader, prev: Option<KeyValue>) -> pb::PutResponse {
    pb::PutResponse { header: Some(header), prev_kv: prev.map(kv) }
}

/// The answer to a deletion.
pub(super) fn delete_response(
    header: pb::ResponseHeader,
    deleted: i64,
    prev_kvs: Vec<KeyValue>,
) -> pb::DeleteRangeResponse {
    pb::DeleteRangeResponse { header: Some(header), deleted, prev_kvs: kvs(prev_kvs) }
}

/// The answer to a transaction that left the store at the header's revision.
///
/// Headers inside it are as etcd fills them (etcd: server/etcdserver/txn): those of operations have the revision alone,
/// which is one less before the first change of the transaction; those of nested transactions are empty.
pub(super) fn txn_response(header: pb::ResponseHeader, result: TxnResult) -> pb::TxnResponse {
    let changes = result.results.iter().any(changed);
    let mut revisions =
        Revisions { after: header.revision, before: header.revision - i64::from(changes), changed: false };
    txn_body(Some(header), result, &mut revisions)
}

/// The store's revision while a transaction is carried out.
struct Revisions {
    before: Revision,
    after: Revision,
    changed: bool,
}

impl Revisions {
    fn header(&self) -> pb::ResponseHeader {
        let revision = if self.changed { self.after } else { self.before };
        pb::ResponseHeader { revision, ..Default::default() }
    }
}

fn changed(result: &OpResult) -> bool {
    match result {
        OpResult::Range(_) => false,
        OpResult::Put(_) => true,
        OpResult::Delete { deleted, .. } => *deleted > 0,
        OpResult::Txn(nested) => nested.results.iter().any(changed),
    }
}

fn txn_body(header: Option<pb::ResponseHeader>, result: TxnResult, revisions: &mut Revisions) -> pb::TxnResponse {
    use pb::response_op::Response;
    let answer = |result| {
        if !matches!(result, OpResult::Txn(_)) {
            revisions.changed |= changed(&result);
        }
        let response = match result {
            OpResult::Range(found) => Response::ResponseRange(range_response(Some(revisions.header()), found)),
            OpResult::Put(prev) => Response::ResponsePut(put_response(revisions.header(), prev)),
            OpResult::Delete { deleted, prev_kvs } => {
                Response::ResponseDeleteRange(delete_response(revisions.header(), deleted, prev_kvs))
            }
            OpResult::Txn(nested) => {
                Response::ResponseTxn(txn_body(Some(pb::ResponseHeader::default()), nested, revisions))
            }
        };
        pb::ResponseOp { response: Some(response) }
    };
    pb::TxnResponse { header, succeeded: result.succeeded, responses: result.results.into_iter().map(answer).collect() }
}
