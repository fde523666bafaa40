//! Listens, serves and ends.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::time::Duration;

use anyhow::{Context as _, Result};
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::auth::AuthService;
use super::cluster::ClusterService;
use super::connection::Door;
use super::context::{Context, Identity, Limits, Shared, stopped};
use super::election::ElectionService;
use super::http;
use super::kv::KvService;
use super::lease::LeaseService;
use super::listen::Listener;
use super::lock::LockService;
use super::maintenance::MaintenanceService;
use super::refused::Refusals;
use super::tls::{Tls, TlsFiles};
use super::watch::WatchService;
use crate::config::{Config, ListenUrl};
use crate::engine::{Engine, Error};
use crate::metrics::{HealthChecks, Metrics, Traffic};
use crate::pb::etcdserverpb::auth_server::AuthServer;
use crate::pb::etcdserverpb::cluster_server::ClusterServer;
use crate::pb::etcdserverpb::kv_server::KvServer;
use crate::pb::etcdserverpb::lease_server::LeaseServer;
use crate::pb::etcdserverpb::maintenance_server::MaintenanceServer;
use crate::pb::etcdserverpb::watch_server::WatchServer;
use crate::pb::v3electionpb::election_server::ElectionServer;
use crate::pb::v3lockpb::lock_server::LockServer;

/// Connections that still have requests by then are closed when the server ends.
const GRACE: Duration = Duration::from_secs(10);

/// How often the database is measured against the quota.
const QUOTA_EVERY: Duration = Duration::from_secs(5);

/// Connections that wait to be served.
const BACKLOG: usize = 64;

/// Streams that a client may reset before the server saw them. kube-apiserver cancels watches by the hundred when it
/// restarts them; HTTP/2's default of 20 would close the connection.
const PENDING_RESETS: usize = 4096;

/// A running server.
#[derive(Debug)]
pub struct Server {
    context: Shared,
    stop: watch::Sender<bool>,
    health: HealthReporter,
    tasks: Vec<JoinHandle<()>>,
    client_addresses: Vec<SocketAddr>,
    metrics_addresses: Vec<SocketAddr>,
}

/// The open sockets of a server that does not serve yet. Dropped, they leave nothing.
#[derive(Debug)]
pub struct Sockets {
    clients: Vec<Listener>,
    observers: Vec<Listener>,
    metrics: Metrics,
}

impl Sockets {
    /// Reads the certificates and opens the sockets. What is counted is registered.
    ///
    /// # Errors
    /// When a certificate can't be used, or an address can't be listened at.
    pub async fn open(config: &Config, registry: &mut Registry) -> Result<Self> {
        let metrics = Metrics::new(registry);
        let tls = tls(config, &metrics)?;
        for url in config.listen_client_urls.iter().filter(|url| tls.is_some() && matches!(url, ListenUrl::Plain(_))) {
            tracing::warn!(%url, "certificates are given, but this URL is without TLS");
        }
        let clients = bind("--listen-client-urls", &config.listen_client_urls, tls.as_ref()).await?;
        let observers = bind("--listen-metrics-urls", &config.listen_metrics_urls, tls.as_ref()).await?;
        Ok(Self { clients, observers, metrics })
    }
}

impl Server {
    /// Serves the store on the sockets. The registry holds what else is to be exported.
    pub async fn start(
        engine: Engine,
        config: &Config,
        sockets: Sockets,
        snapshot_dir: PathBuf,
        mut registry: Registry,
    ) -> Result<Self> {
        let Sockets { clients, observers, metrics } = sockets;
        metrics.standing.register(&mut registry, config.quota_backend_bytes);
        let (checks, traffic) = (HealthChecks::new(&mut registry), Traffic::new(&mut registry));
        engine.register_as_etcd(&mut registry);
        let registry = Arc::new(registry);
        let (stop, stop_receiver) = watch::channel(false);
        let client_urls = advertised(config, &clients);
        let context = context(engine, config, client_urls, snapshot_dir, metrics, stop_receiver.clone()).await?;
        let health = HealthReporter::new();
        health.set_service_status("", ServingStatus::Serving).await;

        let (client_addresses, metrics_addresses) = (addresses(&clients), addresses(&observers));
        let (client_list, metrics_list) = (urls(&clients).join(","), urls(&observers).join(","));
        let mut tasks = vec![];
        let refusals = Arc::new(Refusals::new(context.metrics.clone()));
        let client_routes =
            http::beside(services(&context, &health), context.clone(), registry.clone(), checks.clone());
        let door = Arc::new(Door { refusals: refusals.clone(), traffic: Some(traffic) });
        tasks.push(tokio::spawn(serve(clients, door, client_routes.into(), config.clone(), stop_receiver.clone())));
        if !observers.is_empty() {
            let paths = http::alone(context.clone(), registry, checks);
            let door = Arc::new(Door { refusals, traffic: None });
            tasks.push(tokio::spawn(serve(observers, door, paths.into(), config.clone(), stop_receiver.clone())));
        }
        if context.limits.quota_bytes > 0 {
            tasks.push(tokio::spawn(watch_quota(context.clone(), stop_receiver)));
        }
        tracing::info!(
            clients = %client_list,
            metrics = %metrics_list,
            member_id = format!("{:x}", context.identity.member_id),
            cluster_id = format!("{:x}", context.identity.cluster_id),
            "serving"
        );
        Ok(Self { context, stop, health, tasks, client_addresses, metrics_addresses })
    }

    /// Where clients connect to, with the real ports, in the order of the URLs; without Unix sockets.
    pub fn client_addresses(&self) -> &[SocketAddr] {
        &self.client_addresses
    }

    /// Where metrics are, likewise.
    pub fn metrics_addresses(&self) -> &[SocketAddr] {
        &self.metrics_addresses
    }

    /// Waits until the database is another process's; says so.
    pub async fn ended(&self) -> Error {
        self.context.engine.ended().await
    }

    /// Takes no more connections, ends watches, lets requests finish, and closes the store.
    pub async fn shutdown(self) {
        tracing::info!("stopping");
        self.health.set_service_status("", ServingStatus::NotServing).await;
        self.stop.send_replace(true);
        let deadline = tokio::time::Instant::now() + GRACE;
        for mut task in self.tasks {
            if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                tracing::warn!("requests did not end in time, their connections are closed");
                task.abort();
            }
        }
        self.context.engine.shutdown().await;
        tracing::info!("stopped");
    }
}

fn tls(config: &Config, metrics: &Metrics) -> Result<Option<Arc<Tls>>> {
    let (Some(cert), Some(key)) = (&config.cert_file, &config.key_file) else { return Ok(None) };
    let files = TlsFiles { cert: cert.clone(), key: key.clone(), trusted_ca: config.trusted_ca_file.clone() };
    Ok(Some(Arc::new(
        Tls::new(files, metrics.clone()).context("prepare TLS with --cert-file, --key-file and --trusted-ca-file")?,
    )))
}

async fn bind(flag: &str, urls: &[ListenUrl], tls: Option<&Arc<Tls>>) -> Result<Vec<Listener>> {
    let mut listeners = vec![];
    for url in urls {
        listeners.push(Listener::bind(url, tls).await.with_context(|| format!("{flag}: listen at {url}"))?);
    }
    Ok(listeners)
}

async fn context(
    engine: Engine,
    config: &Config,
    client_urls: Vec<String>,
    snapshot_dir: PathBuf,
    metrics: Metrics,
    stop: watch::Receiver<bool>,
) -> Result<Shared> {
    let status = engine.status().await.context("read the state of the database")?;
    let limits = Limits {
        max_txn_ops: config.max_txn_ops,
        max_request_bytes: config.max_request_bytes,
        quota_bytes: config.quota_backend_bytes,
    };
    Ok(Arc::new(Context {
        engine,
        identity: Identity::new(status.cluster_id, &config.name),
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

async fn serve(listeners: Vec<Listener>, door: Arc<Door>, routes: Routes, config: Config, stop: watch::Receiver<bool>) {
    let (sender, connections) = mpsc::channel(BACKLOG);
    let mut acceptors = JoinSet::new();
    for listener in listeners {
        acceptors.spawn(listener.accept(door.clone(), sender.clone(), stop.clone()));
    }
    drop(sender);
    let mut signal = stop.clone();
    // etcd: server/embed/etcd.go, where no answer is waited for if either is 0.
    let asks = !config.grpc_keepalive_interval.is_zero() && !config.grpc_keepalive_timeout.is_zero();
    let keepalive = asks.then_some(config.grpc_keepalive_interval);
    let served = tonic::transport::Server::builder()
        // HTTP/1 for /version, /health and /metrics.
        .accept_http1(true)
        .max_concurrent_streams(streams(config.max_concurrent_streams))
        .http2_keepalive_interval(keepalive)
        .http2_keepalive_timeout(Some(config.grpc_keepalive_timeout))
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS))
        .add_routes(routes)
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), async move { stopped(&mut signal).await })
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "serving ended");
    }
    // They end by themselves when the server does; this waits until their sockets are closed.
    while acceptors.join_next().await.is_some() {}
}

/// 0 is no limit, as for gRPC in Go; HTTP/2 would take no request.
fn streams(limit: u32) -> u32 {
    if limit == 0 { u32::MAX } else { limit }
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

fn addresses(listeners: &[Listener]) -> Vec<SocketAddr> {
    listeners.iter().filter_map(Listener::address).collect()
}

fn urls(listeners: &[Listener]) -> Vec<String> {
    listeners.iter().map(|listener| listener.url().to_string()).collect()
}

/// The URLs that clients are told to use: those given, else those listened at.
fn advertised(config: &Config, clients: &[Listener]) -> Vec<String> {
    let given = &config.advertise_client_urls;
    if given.is_empty() { urls(clients) } else { given.iter().map(ToString::to_string).collect() }
}
