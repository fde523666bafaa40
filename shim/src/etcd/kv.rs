//! The KV service (etcd: server/etcdserver/api/v3rpc/key.go).

use std::time::Instant;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::context::Shared;
use super::{translate, validate};
use crate::engine::{Op, OpResult};
use crate::metrics::{Asked, Method};
use crate::pb::etcdserverpb as pb;
use pb::kv_server::Kv;

const SERVICE: &str = "etcdserverpb.KV";

/// The KV service.
#[derive(Debug, Clone)]
pub struct KvService(pub Shared);

#[tonic::async_trait]
impl Kv for KvService {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        let selection = self.0.range_selection(request.metadata(), request.get_ref());
        let request = request.into_inner();
        let asked = asked_range(&request, selection.is_some());
        let work = async {
            validate::range(&request)?;
            let begin = Instant::now();
            let result = self.0.engine.range(translate::range_query(request, selection)).await;
            self.0.metrics.range_read(begin.elapsed(), result.is_ok());
            let result = result?;
            Ok(translate::range_response(Some(self.0.header_at(result.revision)), result))
        };
        self.0.metrics.observe(Method::unary(SERVICE, "Range"), asked, work).await
    }

    type RangeStreamStream = BoxStream<'static, Result<pb::RangeStreamResponse, Status>>;

    async fn range_stream(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        let selection = self.0.range_selection(request.metadata(), request.get_ref());
        let request = request.into_inner();
        let asked = asked_range(&request, selection.is_some());
        let mut observation = self.0.metrics.begin(Method::stream(SERVICE, "RangeStream"), asked);
        let checked = validate::range(&request)
            .map_err(Status::from)
            .and_then(|()| validate::range_stream(&request).map_err(Status::unimplemented));
        if let Err(status) = checked {
            observation.ends_with(Some(&status));
            return Err(status);
        }
        let identity = self.0.identity;
        let chunks = ReceiverStream::new(self.0.engine.range_stream(translate::range_query(request, selection)));
        let responses = chunks.map(move |chunk| match chunk {
            Ok(chunk) => {
                let (response, is_last) = translate::chunk(identity, chunk);
                if is_last {
                    observation.ends_with(None);
                }
                Ok(response)
            }
            Err(error) => {
                let status = Status::from(error);
                observation.ends_with(Some(&status));
                Err(status)
            }
        });
        Ok(Response::new(responses.boxed()))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        let request = request.into_inner();
        let asked = Asked { key: request.key.clone(), ..Asked::default() };
        let work = async {
            self.0.check_quota(cost(&request)).await?;
            validate::put(&request)?;
            validate::size(&request, self.0.limits.max_request_bytes)?;
            match self.0.engine.write(Op::Put(translate::put(request))).await? {
                (revision, OpResult::Put(prev)) => Ok(translate::put_response(self.0.header_at(revision), prev)),
                (_, other) => Err(unexpected(&other)),
            }
        };
        self.0.metrics.observe(Method::unary(SERVICE, "Put"), asked, work).await
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        let request = request.into_inner();
        let (key, range_end) = (request.key.clone(), request.range_end.clone());
        let asked = Asked { key, range_end, ..Asked::default() };
        let work = async {
            validate::delete(&request)?;
            validate::size(&request, self.0.limits.max_request_bytes)?;
            match self.0.engine.write(Op::Delete(translate::delete(request))).await? {
                (revision, OpResult::Delete { deleted, prev_kvs }) => {
                    Ok(translate::delete_response(self.0.header_at(revision), deleted, prev_kvs))
                }
                (_, other) => Err(unexpected(&other)),
            }
        };
        self.0.metrics.observe(Method::unary(SERVICE, "DeleteRange"), asked, work).await
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        let request = request.into_inner();
        let asked = asked_txn(&request);
        let work = async {
            let writes = writes(&request);
            if writes.cost > 0 {
                self.0.check_quota(writes.cost).await?;
            }
            validate::txn(&request, self.0.limits.max_txn_ops)?;
            if writes.any {
                validate::size(&request, self.0.limits.max_request_bytes)?;
            }
            match self.0.engine.write(Op::Txn(translate::txn(request)?)).await? {
                (revision, OpResult::Txn(result)) => Ok(translate::txn_response(self.0.header_at(revision), result)),
                (_, other) => Err(unexpected(&other)),
            }
        };
        self.0.metrics.observe(Method::unary(SERVICE, "Txn"), asked, work).await
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        let request = request.into_inner();
        let asked = Asked { revision: request.revision, ..Asked::default() };
        let work = async {
            let revision = self.0.engine.compact(request.revision, request.physical).await?;
            Ok(pb::CompactionResponse { header: Some(self.0.header_at(revision)) })
        };
        self.0.metrics.observe(Method::unary(SERVICE, "Compact"), asked, work).await
    }
}

fn asked_range(request: &pb::RangeRequest, selector: bool) -> Asked {
    let (key, range_end) = (request.key.clone(), request.range_end.clone());
    Asked { key, range_end, revision: request.revision, limit: request.limit, selector, waits: false }
}

fn asked_txn(request: &pb::TxnRequest) -> Asked {
    let ops = request.success.len() + request.failure.len();
    let compared = request.compare.first().map(|compare| compare.key.clone());
    let key = compared.or_else(|| request.success.first().map(first_key)).unwrap_or_default();
    Asked { key, limit: i64::try_from(ops).unwrap_or(i64::MAX), ..Asked::default() }
}

fn first_key(op: &pb::RequestOp) -> Bytes {
    use pb::request_op::Request;
    match &op.request {
        Some(Request::RequestRange(inner)) => inner.key.clone(),
        Some(Request::RequestPut(inner)) => inner.key.clone(),
        Some(Request::RequestDeleteRange(inner)) => inner.key.clone(),
        Some(Request::RequestTxn(_)) | None => Bytes::new(),
    }
}

/// What a transaction may do to the store.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Writes {
    /// It is more than reads (etcd: `IsTxnReadonly`, for which a nested transaction is a write).
    any: bool,
    /// The bytes that count against the quota, of the costlier branch; 0 if nothing is put.
    cost: usize,
}

fn writes(request: &pb::TxnRequest) -> Writes {
    let branch = |ops: &[pb::RequestOp]| ops.iter().fold(Writes::default(), |all, op| all.and(op));
    let (success, failure) = (branch(&request.success), branch(&request.failure));
    Writes { any: success.any || failure.any, cost: success.cost.max(failure.cost) }
}

impl Writes {
    fn and(self, op: &pb::RequestOp) -> Self {
        use pb::request_op::Request;
        let (any, cost) = match &op.request {
            Some(Request::RequestRange(_)) => return self,
            Some(Request::RequestPut(put)) => (true, cost(put)),
            Some(Request::RequestTxn(nested)) => (true, writes(nested).cost),
            Some(Request::RequestDeleteRange(_)) | None => (true, 0),
        };
        Self { any: self.any || any, cost: self.cost + cost }
    }
}

/// The bytes that a put counts against the quota (etcd: server/storage/quota.go, `costPut`).
pub(super) fn cost(put: &pb::PutRequest) -> usize {
    256 + put.key.len() + put.value.len()
}

/// An answer of another kind than the question: a bug in the engine, told rather than hidden.
pub(super) fn unexpected(result: &OpResult) -> Status {
    tracing::error!(?result, "the engine answered another question");
    Status::internal("etcdserver: internal error")
}

#[cfg(test)]
mod tests {
    use super::*;
    use pb::request_op::Request;

    #[test]
    fn kinds_of_transactions() {
        let op = |request| pb::RequestOp { request: Some(request) };
        let read = op(Request::RequestRange(pb::RangeRequest::default()));
        let put = op(Request::RequestPut(pb::PutRequest::default()));
        let delete = op(Request::RequestDeleteRange(pb::DeleteRangeRequest::default()));
        let nested = |inner: &pb::RequestOp| {
            op(Request::RequestTxn(pb::TxnRequest { success: vec![inner.clone()], ..Default::default() }))
        };
        let table = [
            (vec![], false, 0),
            (vec![read.clone()], false, 0),
            (vec![read.clone(), delete.clone()], true, 0),
            (vec![delete, put.clone()], true, 256),
            (vec![nested(&read)], true, 0),
            (vec![nested(&put), put.clone()], true, 512),
        ];
        for (success, any, cost) in table {
            let request = pb::TxnRequest { success, ..Default::default() };
            assert_eq!(writes(&request), Writes { any, cost }, "{request:?}");
        }
    }
}
