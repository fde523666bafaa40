//! Messages that are larger than the server takes: codes and texts are those that etcd 3.7.3 answers with.

use super::server::{Client, TestServer, put};
use http::uri::PathAndQuery;
use sluice_shim::pb::etcdserverpb as pb;
use tokio_stream::{StreamExt, iter};
use tonic::{Code, Request, Status};

/// A request whose size fits, and whose message in all does not.
const LIMIT: [&str; 2] = ["--max-request-bytes", "1000"];

/// The limit of a message is that of a request, and half a MiB.
fn too_large() -> pb::PutRequest {
    put("a", "v".repeat(600_000))
}

fn shown(refused: &Status) -> (Code, &str) {
    (refused.code(), refused.message())
}

/// Each service has a limit of its own in the gRPC library. The length comes before the message, so it need not be the
/// method's.
#[tokio::test]
async fn every_service_has_the_limit() {
    let server = TestServer::start(&LIMIT).await;
    let channel = tonic::transport::Endpoint::new(format!("http://{}", server.address())).unwrap().connect_lazy();
    let mut client = tonic::client::Grpc::new(channel);
    for path in [
        "/etcdserverpb.KV/Put",
        "/etcdserverpb.KV/RangeStream",
        "/etcdserverpb.Watch/Watch",
        "/etcdserverpb.Lease/LeaseGrant",
        "/etcdserverpb.Lease/LeaseKeepAlive",
        "/etcdserverpb.Maintenance/Snapshot",
        "/etcdserverpb.Cluster/MemberList",
        "/etcdserverpb.Auth/Authenticate",
    ] {
        client.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<pb::PutRequest, pb::PutResponse>::default();
        let answer = client.unary(Request::new(too_large()), PathAndQuery::from_static(path), codec).await;
        let expected = "grpc: received message larger than max (600007 vs. 525288)";
        assert_eq!(shown(&answer.unwrap_err()), (Code::ResourceExhausted, expected), "{path}");
    }
}

#[tokio::test]
async fn a_request_that_fits_into_a_message() {
    let server = TestServer::start(&LIMIT).await;
    let refused = server.connect().await.kv.put(put("a", "v".repeat(2000))).await.unwrap_err();
    assert_eq!(shown(&refused), (Code::InvalidArgument, "etcdserver: request is too large"));
}

/// What came before is answered, then the stream ends with the error.
#[tokio::test]
async fn a_watch_stream_ends() {
    let server = TestServer::start(&LIMIT).await;
    let mut client: Client = server.connect().await;
    let create = |key: String| {
        let request = pb::WatchCreateRequest { key: key.into(), ..Default::default() };
        pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(request)) }
    };
    // It does not end by itself.
    let requests = iter([create("a".to_owned()), create("k".repeat(600_000))]).chain(tokio_stream::pending());
    let mut answers = client.watch.watch(requests).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().unwrap().created);
    let refused = answers.message().await.unwrap_err();
    let expected = "grpc: received message larger than max (600008 vs. 525288)";
    assert_eq!(shown(&refused), (Code::ResourceExhausted, expected));
}
