//! What is plain HTTP: /version, /health, /livez, /readyz, /metrics (etcd: server/etcdserver/api/etcdhttp).
//!
//! Status, body and content type are etcd's, path by path. All other paths are not found: a probe with a misspelt path
//! must not be green.

mod health;
mod scrape;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get};
use prometheus_client::registry::Registry;

pub(super) use self::scrape::scraped;
use super::context::{CLUSTER_VERSION, ETCD_VERSION, Shared};
use super::place::{self, Place};
use super::{oversized, unknown};
use crate::metrics::HealthChecks;

/// What the paths are answered from.
#[derive(Clone)]
struct Served {
    context: Shared,
    registry: Arc<Registry>,
    checks: HealthChecks,
}

/// The paths of a port for metrics.
pub(super) fn alone(context: Shared, registry: Arc<Registry>, checks: HealthChecks) -> Router {
    paths().with_state(Served { context, registry, checks }).fallback(not_found)
}

/// Adds the paths of the client port to those of gRPC; what is neither is not found.
pub(super) fn beside(grpc: Router, context: Shared, registry: Arc<Registry>, checks: HealthChecks) -> Router {
    let paths = paths()
        .route("/version", only_get(get(version)))
        .route(place::PATH, only_get(get(place_now)))
        .with_state(Served { context, registry, checks });
    grpc.layer(axum::middleware::from_fn(grpc_only)).merge(paths)
}

fn paths() -> Router<Served> {
    let mut router =
        Router::new().route("/health", only_get(get(health::health))).route("/metrics", any(scrape::metrics));
    for probe in [health::LIVEZ, health::READYZ] {
        router = router.route(probe.path, only_get(get(move |state, query| probe.all(state, query))));
        for check in probe.named() {
            let path = format!("{}/{}", probe.path, check.name());
            router = router.route(&path, only_get(get(move |state, query| probe.one(check, state, query))));
        }
    }
    router
}

/// Refuses all methods but GET, HEAD as well.
fn only_get(route: MethodRouter<Served>) -> MethodRouter<Served> {
    route.head(method_not_allowed).fallback(method_not_allowed)
}

/// kubeadm asks for it before it uses an external etcd.
async fn version() -> Response {
    let body =
        format!(r#"{{"etcdserver":"{ETCD_VERSION}","etcdcluster":"{CLUSTER_VERSION}","storage":"{CLUSTER_VERSION}"}}"#);
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// How far the database is, for a process that stands by and reads lists.
async fn place_now(State(served): State<Served>) -> Response {
    let (engine, cluster_id) = (&served.context.engine, served.context.identity.cluster_id);
    let place = async {
        let stand = engine.stand().await?;
        anyhow::Ok(serde_json::to_string(&Place { cluster_id, owner: engine.owner(), stand })?)
    };
    match place.await {
        Ok(place) => ([(header::CONTENT_TYPE, "application/json")], place).into_response(),
        Err(error) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}

/// A request that is not gRPC does not reach a gRPC service, where it would be answered 200.
async fn grpc_only(request: Request, next: Next) -> Response {
    let uri = request.uri().clone();
    if !is_grpc(&request) {
        return not_found(uri).await;
    }
    unknown::explain(&uri, oversized::rename(next.run(request).await))
}

/// etcd: server/embed/serve.go, `grpcHandlerFunc`.
pub(super) fn is_grpc(request: &Request) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    request.version() == Version::HTTP_2 && kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

pub(super) async fn not_found(uri: Uri) -> Response {
    let gateway = uri.path() == "/v3" || uri.path().starts_with("/v3/") || uri.path().starts_with("/v3beta/");
    let body = if gateway {
        "404 page not found: there is no JSON gateway here; use gRPC, for instance with etcdctl\n"
    } else {
        "404 page not found\n"
    };
    plain(StatusCode::NOT_FOUND, body.to_owned())
}

async fn method_not_allowed() -> Response {
    let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n".to_owned());
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
    response
}

/// A text with the headers that Go gives one.
pub(super) fn plain(status: StatusCode, body: String) -> Response {
    const HEADERS: [(HeaderName, &str); 2] =
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (status, HEADERS, body).into_response()
}
