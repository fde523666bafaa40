//! Import from a server that gives no snapshots and has no leases of its own, as kine: its keys come page by page.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::database::Database;
use crate::support::*;
use sluice_shim::engine::{Engine, KeyRange, KeyValue, Op, RangeQuery, Txn};
use sluice_shim::pb::etcdserverpb as pb;
use sluice_shim::pb::mvccpb;
use tokio::net::TcpListener;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status};

/// Serves ranges of a store. Each range is followed by a write, so that pages of different revisions would differ.
struct RangesOnly {
    engine: Engine,
    asked: Arc<AtomicUsize>,
    /// From this range on, values are wrong.
    wrong_from: usize,
}

#[tonic::async_trait]
impl pb::kv_server::Kv for RangesOnly {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        let pb::RangeRequest { key, range_end, limit, revision, .. } = request.into_inner();
        let query = RangeQuery {
            range: KeyRange::from_wire(key, range_end),
            limit: usize::try_from(limit).unwrap(),
            revision,
            ..RangeQuery::default()
        };
        let found = self.engine.range(query).await.map_err(|error| Status::internal(error.to_string()))?;
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        self.engine.write(put("/registry/a/0600", "changed meanwhile", 0)).await.unwrap();
        let kv = |kv: KeyValue| mvccpb::KeyValue {
            key: kv.key,
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: 0,
            value: if asked >= self.wrong_from { "wrong".into() } else { kv.value },
            lease: kv.lease,
        };
        let header = Some(pb::ResponseHeader { revision: found.revision, ..Default::default() });
        let kvs = found.kvs.into_iter().map(kv).collect();
        Ok(Response::new(pb::RangeResponse { header, kvs, more: found.more, count: found.count }))
    }

    type RangeStreamStream = ReceiverStream<Result<pb::RangeStreamResponse, Status>>;

    async fn range_stream(&self, _: Request<pb::RangeRequest>) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn put(&self, _: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn delete_range(
        &self,
        _: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn txn(&self, _: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn compact(&self, _: Request<pb::CompactionRequest>) -> Result<Response<pb::CompactionResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// Serves 1,200 keys, ten of a transaction each, until the test ends; returns the URL.
async fn serve(database: &Database, wrong_from: usize) -> String {
    let engine = open(database).await.unwrap();
    engine.lease_grant(3600, 3600).await.unwrap();
    for transaction in 0..120 {
        let success =
            (0..10).map(|number| put(&format!("/registry/a/{:04}", transaction * 10 + number), "v", 0)).collect();
        engine.write(Op::Txn(Txn { success, ..Txn::default() })).await.unwrap();
    }
    engine.write(put("/registry/a/0007", "again", 3600)).await.unwrap();
    engine.write(put("compact_rev_key", "not a path", 0)).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let kv = RangesOnly { engine, asked: Arc::default(), wrong_from };
    let server = tonic::transport::Server::builder().add_service(pb::kv_server::KvServer::new(kv));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_of_one_revision() {
    let [from, to] = Database::several();
    let url = serve(&from, usize::MAX).await;
    assert_eq!(run(&["import", "--from-etcd", &url, "--endpoint", to.url()]).await, Ok(true));
    assert_eq!(run(&["fsck", "--endpoint", to.url()]).await, Ok(true));
    let content = content_of(&to).await;
    assert_eq!((content.revision, content.compact_revision, content.records.len()), (123, 123, 1200));
    assert_eq!(content.leases, [(3600, 3600)]);
    let engine = open(&to).await.unwrap();
    let get = async |key: &'static str| {
        let query = RangeQuery { range: KeyRange::single(key), ..RangeQuery::default() };
        engine.range(query).await.unwrap().kvs.remove(0)
    };
    let [changed, untouched] = [get("/registry/a/0007").await, get("/registry/a/0600").await];
    assert_eq!((changed.create_revision, changed.mod_revision, changed.version, changed.lease), (2, 122, 2, 3600));
    assert_eq!((&untouched.value[..], untouched.mod_revision, untouched.version), (&b"v"[..], 62, 1));
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_same_is_not_released() {
    let [from, to] = Database::several();
    // Three pages are read, then three are compared.
    let url = serve(&from, 4).await;
    let refused = run(&["import", "--from-etcd", &url, "--endpoint", to.url()]).await.unwrap_err();
    assert!(refused.contains("1200 keys with SHA-256"), "{refused}");
    let refused = open(&to).await.unwrap_err().to_string();
    assert!(refused.contains("was not loaded to its end"), "{refused}");
}
