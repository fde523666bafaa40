//! What is plain HTTP: /version, /health, /livez, /readyz, /metrics (etcd: server/etcdserver/api/etcdhttp).

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;

use super::context::{CLUSTER_VERSION, ETCD_VERSION, Shared};
use crate::engine::{KeyRange, Projection, RangeQuery};

/// A database that has not answered by then is not ready.
const READY_WITHIN: Duration = Duration::from_secs(5);

const JSON: [(header::HeaderName, &str); 1] = [(header::CONTENT_TYPE, "application/json")];

#[derive(Clone)]
struct Served {
    context: Shared,
    registry: Arc<Registry>,
}

/// Adds the paths to a router.
pub(super) fn add_to(router: Router, context: Shared, registry: Arc<Registry>) -> Router {
    let paths = Router::new()
        .route("/version", get(version))
        .route("/health", get(health))
        .route("/healthz", get(live))
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Served { context, registry });
    router.merge(paths)
}

/// kubeadm asks for it before it uses an external etcd.
async fn version() -> impl IntoResponse {
    let body =
        format!(r#"{{"etcdserver":"{ETCD_VERSION}","etcdcluster":"{CLUSTER_VERSION}","storage":"{CLUSTER_VERSION}"}}"#);
    (JSON, body)
}

async fn health(State(served): State<Served>) -> Response {
    match unhealthy(&served.context).await {
        None => (JSON, r#"{"health":"true","reason":""}"#).into_response(),
        Some(reason) => {
            let body = serde_json::json!({"health": "false", "reason": reason}).to_string();
            (StatusCode::SERVICE_UNAVAILABLE, JSON, body).into_response()
        }
    }
}

/// The process answers: that is all.
async fn live() -> &'static str {
    "ok\n"
}

async fn ready(State(served): State<Served>) -> Response {
    match not_ready(&served.context).await {
        None => "ok\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")).into_response(),
    }
}

async fn unhealthy(context: &Shared) -> Option<String> {
    if context.is_full() {
        return Some("ALARM NOSPACE".to_owned());
    }
    not_ready(context).await
}

/// Why requests can't be served; `None` if they can: a linearizable read works.
async fn not_ready(context: &Shared) -> Option<String> {
    if *context.stop.borrow() {
        return Some("the server stops".to_owned());
    }
    let query =
        RangeQuery { range: KeyRange::single("health"), projection: Projection::CountOnly, ..RangeQuery::default() };
    match tokio::time::timeout(READY_WITHIN, context.engine.range(query)).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("the database did not answer within {} s", READY_WITHIN.as_secs())),
    }
}

async fn metrics(State(served): State<Served>) -> Response {
    // A database that does not answer is what the other metrics tell of.
    if let Ok(Ok(store)) = tokio::time::timeout(READY_WITHIN, served.context.engine.status()).await {
        served.context.metrics.db_size.set(store.db_size);
        served.context.metrics.db_size_in_use.set(store.db_size_in_use);
    }
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &served.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
