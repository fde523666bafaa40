//! Serves a store and ends.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::time::Duration;

use anyhow::{Context as _, Result};
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::auth::AuthService;
use super::cluster::ClusterService;
use super::context::{Context, Identity, Limits, Shared, stopped};
use super::election::ElectionService;
use super::front::{Answers, Front, Sockets, reachable_url};
use super::http;
use super::kv::KvService;
use super::lease::LeaseService;
use super::lock::LockService;
use super::maintenance::MaintenanceService;
use super::watch::WatchService;
use crate::config::Config;
use crate::engine::{Engine, Error};
use crate::metrics::{HealthChecks, Metrics};
use crate::pb::etcdserverpb::auth_server::AuthServer;
use crate::pb::etcdserverpb::cluster_server::ClusterServer;
use crate::pb::etcdserverpb::kv_server::KvServer;
use crate::pb::etcdserverpb::lease_server::LeaseServer;
use crate::pb::etcdserverpb::maintenance_server::MaintenanceServer;
use crate::pb::etcdserverpb::watch_server::WatchServer;
use crate::pb::v3electionpb::election_server::ElectionServer;
use crate::pb::v3lockpb::lock_server::LockServer;

/// How often the database is measured against the quota.
const QUOTA_EVERY: Duration = Duration::from_secs(5);

/// A running server.
#[derive(Debug)]
pub struct Server {
    context: Shared,
    health: HealthReporter,
    front: Front,
}

impl Server {
    /// Serves the store on the sockets. The registry holds what else is to be exported.
    pub async fn start(
        engine: Engine,
        config: &Config,
        sockets: Sockets,
        snapshot_dir: PathBuf,
        registry: Registry,
    ) -> Result<Self> {
        let setting = Setting::of(&sockets);
        let (context, health, answers) = prepare(engine, config, setting, snapshot_dir, registry).await?;
        Ok(Self::of(context, health, Front::open(sockets, config, answers)))
    }

    /// A server whose front answers already.
    pub(super) fn of(context: Shared, health: HealthReporter, mut front: Front) -> Self {
        if context.limits.quota_bytes > 0 {
            front.tasks.push(tokio::spawn(watch_quota(context.clone(), context.stop.clone())));
        }
        tracing::info!(
            clients = %front.clients,
            metrics = %front.metrics,
            member_id = format!("{:x}", context.identity.member_id),
            cluster_id = format!("{:x}", context.identity.cluster_id),
            "serving"
        );
        Self { context, health, front }
    }

    /// Where clients connect to, with the real ports, in the order of the URLs; without Unix sockets.
    pub fn client_addresses(&self) -> &[SocketAddr] {
        &self.front.client_addresses
    }

    /// Where metrics are, likewise.
    pub fn metrics_addresses(&self) -> &[SocketAddr] {
        &self.front.metrics_addresses
    }

    /// Waits until the database is another process's; says so.
    pub async fn ended(&self) -> Error {
        self.context.engine.ended().await
    }

    /// Takes no more connections, ends watches, lets requests finish, and closes the store.
    pub async fn shutdown(self) {
        tracing::info!("stopping");
        self.health.set_service_status("", ServingStatus::NotServing).await;
        self.front.shut().await;
        self.context.engine.shutdown().await;
        tracing::info!("stopped");
    }
}

/// What a server has from its sockets.
#[derive(Debug)]
pub(super) struct Setting {
    client_urls: Vec<String>,
    pub(super) metrics: Metrics,
    stop: watch::Receiver<bool>,
}

impl Setting {
    pub(super) fn of(sockets: &Sockets) -> Self {
        let (client_urls, metrics) = (sockets.client_urls.clone(), sockets.metrics.clone());
        Self { client_urls, metrics, stop: sockets.stop.subscribe() }
    }
}

/// Makes all that answers for a store.
pub(super) async fn prepare(
    engine: Engine,
    config: &Config,
    setting: Setting,
    snapshot_dir: PathBuf,
    mut registry: Registry,
) -> Result<(Shared, HealthReporter, Answers)> {
    setting.metrics.standing.register(&mut registry, config.quota_backend_bytes);
    let checks = HealthChecks::new(&mut registry);
    engine.register_as_etcd(&mut registry);
    let registry = Arc::new(registry);
    let context = context(engine, config, setting, snapshot_dir).await?;
    let health = HealthReporter::new();
    health.set_service_status("", ServingStatus::Serving).await;
    let grpc = services(&context, &health);
    let clients = http::beside(grpc, context.clone(), registry.clone(), checks.clone());
    let observers = http::alone(context.clone(), registry, checks);
    Ok((context, health, Answers { clients, observers }))
}

async fn context(engine: Engine, config: &Config, setting: Setting, snapshot_dir: PathBuf) -> Result<Shared> {
    let Setting { client_urls, metrics, stop } = setting;
    let status = engine.status().await.context("read the state of the database")?;
    let limits = Limits {
        max_txn_ops: config.max_txn_ops,
        max_request_bytes: config.max_request_bytes,
        quota_bytes: config.quota_backend_bytes,
    };
    // Processes that stand by for each other may all have one name.
    let member = if config.standby { reachable_url(&client_urls) } else { None };
    Ok(Arc::new(Context {
        engine,
        identity: Identity::new(status.cluster_id, member.unwrap_or(&config.name)),
        name: config.name.clone(),
        client_urls,
        limits,
        progress_interval: config.watch_progress_notify_interval,
        snapshot_dir,
        metrics,
        stop,
        full: AtomicBool::new(false),
        refused: AtomicI64::new(0),
        in_use: AtomicI64::new(0),
    }))
}

fn services(context: &Shared, health: &HealthReporter) -> axum::Router {
    let limit = context.limits.message_bytes();
    let gzip = CompressionEncoding::Gzip;
    let kv = KvServer::new(KvService(context.clone()));
    let watch = WatchServer::new(WatchService(context.clone()));
    let lease = LeaseServer::new(LeaseService(context.clone()));
    let maintenance = MaintenanceServer::new(MaintenanceService(context.clone()));
    let cluster = ClusterServer::new(ClusterService(context.clone()));
    let auth = AuthServer::new(AuthService(context.clone()));
    let lock = LockServer::new(LockService(context.clone()));
    let election = ElectionServer::new(ElectionService(context.clone()));
    let health = tonic_health::server::HealthService::from_health_reporter(health.clone());
    let health = tonic_health::pb::health_server::HealthServer::new(health);
    let routes = Routes::new(kv.max_decoding_message_size(limit).accept_compressed(gzip))
        .add_service(watch.max_decoding_message_size(limit).accept_compressed(gzip))
        .add_service(lease.max_decoding_message_size(limit).accept_compressed(gzip))
        .add_service(maintenance.max_decoding_message_size(limit).accept_compressed(gzip))
        .add_service(cluster.max_decoding_message_size(limit).accept_compressed(gzip))
        .add_service(auth.max_decoding_message_size(limit).accept_compressed(gzip))
        .add_service(lock.max_decoding_message_size(limit).accept_compressed(gzip))
        .add_service(election.max_decoding_message_size(limit).accept_compressed(gzip))
        .add_service(health);
    routes.into_axum_router()
}

async fn watch_quota(context: Shared, mut stop: watch::Receiver<bool>) {
    let mut ticker = tokio::time::interval(QUOTA_EVERY);
    loop {
        tokio::select! {
            () = stopped(&mut stop) => return,
            _ = ticker.tick() => { context.measure_quota().await; }
        }
    }
}
