//! The error of a gRPC method that the server does not have: why, and what to do.
//!
//! The gRPC library answers it, with a code and no text. Go's gRPC library names the service or the method
//! (google.golang.org/grpc: server.go, `handleStream`), and so does etcd.

use axum::http::{HeaderValue, Uri};
use axum::response::Response;
use tonic::Code;
use tonic::server::NamedService;

use super::auth::{AuthService, NO_USERS};
use super::cluster::ClusterService;
use super::election::ElectionService;
use super::kv::KvService;
use super::lease::LeaseService;
use super::lock::LockService;
use super::maintenance::MaintenanceService;
use super::watch::WatchService;
use crate::pb::etcdserverpb::auth_server::AuthServer;
use crate::pb::etcdserverpb::cluster_server::ClusterServer;
use crate::pb::etcdserverpb::kv_server::KvServer;
use crate::pb::etcdserverpb::lease_server::LeaseServer;
use crate::pb::etcdserverpb::maintenance_server::MaintenanceServer;
use crate::pb::etcdserverpb::watch_server::WatchServer;
use crate::pb::v3electionpb::election_server::ElectionServer;
use crate::pb::v3lockpb::lock_server::LockServer;

const AUTH: &str = <AuthServer<AuthService> as NamedService>::NAME;

/// The services whose other methods exist.
const SERVICES: [&str; 8] = [
    AUTH,
    <ClusterServer<ClusterService> as NamedService>::NAME,
    <ElectionServer<ElectionService> as NamedService>::NAME,
    <KvServer<KvService> as NamedService>::NAME,
    <LeaseServer<LeaseService> as NamedService>::NAME,
    <LockServer<LockService> as NamedService>::NAME,
    <MaintenanceServer<MaintenanceService> as NamedService>::NAME,
    <WatchServer<WatchService> as NamedService>::NAME,
];

/// Gives an answer "unimplemented" without a text one; leaves every other answer as it is.
pub(super) fn explain(uri: &Uri, mut response: Response) -> Response {
    const MESSAGE: &str = "grpc-message";
    let headers = response.headers_mut();
    let status = headers.get("grpc-status").map(|status| Code::from_bytes(status.as_bytes()));
    if status == Some(Code::Unimplemented)
        && !headers.contains_key(MESSAGE)
        && let Ok(message) = HeaderValue::try_from(text(uri.path()))
    {
        headers.insert(MESSAGE, message);
    }
    response
}

fn text(path: &str) -> String {
    match path.trim_start_matches('/').rsplit_once('/') {
        Some((AUTH, _)) => NO_USERS.to_owned(),
        Some((service, method)) if SERVICES.contains(&service) => {
            format!("unknown method {method} for service {service}")
        }
        Some((service, _)) => format!("unknown service {service}"),
        None => format!("malformed method name: {path:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let table = [
            ("/etcdserverpb.Auth/UserList", NO_USERS),
            ("/etcdserverpb.KV/Nosuch", "unknown method Nosuch for service etcdserverpb.KV"),
            ("/a.B/C", "unknown service a.B"),
            ("/nosuch", "malformed method name: \"/nosuch\""),
        ];
        for (path, expected) in table {
            assert_eq!(text(path), expected);
        }
    }
}
