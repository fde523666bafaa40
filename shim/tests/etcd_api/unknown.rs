use super::server::TestServer;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_prost::ProstCodec;

/// The error of a call with an empty message.
async fn refusal(channel: &Channel, path: &'static str) -> (Code, String) {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let codec = ProstCodec::<(), ()>::default();
    let status = client.unary(Request::new(()), http::uri::PathAndQuery::from_static(path), codec).await.unwrap_err();
    (status.code(), status.message().to_owned())
}

/// Each call of etcd's Auth service but those that have a meaning without users, and methods that no etcd has.
#[tokio::test]
async fn user_list_and_role_list_say_why_there_are_none() {
    let server = TestServer::start(&[]).await;
    let channel = Channel::from_shared(format!("http://{}", server.address())).unwrap().connect().await.unwrap();
    let paths = [
        "/etcdserverpb.Auth/AuthEnable",
        "/etcdserverpb.Auth/UserAdd",
        "/etcdserverpb.Auth/UserGet",
        "/etcdserverpb.Auth/UserList",
        "/etcdserverpb.Auth/UserDelete",
        "/etcdserverpb.Auth/UserChangePassword",
        "/etcdserverpb.Auth/UserGrantRole",
        "/etcdserverpb.Auth/UserRevokeRole",
        "/etcdserverpb.Auth/RoleAdd",
        "/etcdserverpb.Auth/RoleGet",
        "/etcdserverpb.Auth/RoleList",
        "/etcdserverpb.Auth/RoleDelete",
        "/etcdserverpb.Auth/RoleGrantPermission",
        "/etcdserverpb.Auth/RoleRevokePermission",
    ];
    let expected = "etcdserver: there are no users and roles here; use client certificates (--trusted-ca-file)";
    for path in paths {
        assert_eq!(refusal(&channel, path).await, (Code::Unimplemented, expected.to_owned()), "{path}");
    }
    // As Go's gRPC library says it, and so etcd.
    for (path, expected) in [
        ("/etcdserverpb.KV/Nosuch", "unknown method Nosuch for service etcdserverpb.KV"),
        ("/nosuch.Service/Method", "unknown service nosuch.Service"),
    ] {
        assert_eq!(refusal(&channel, path).await, (Code::Unimplemented, expected.to_owned()), "{path}");
    }
}
