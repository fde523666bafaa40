//! Where clients and scrapers connect to: the sockets, and who answers there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use prometheus_client::registry::Registry;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;

use super::connection::Door;
use super::context::stopped;
use super::listen::Listener;
use super::pair::Pair;
use super::refused::Refusals;
use super::tls::{Tls, TlsFiles};
use crate::config::{Config, ListenUrl};
use crate::metrics::{Metrics, Traffic};

/// Connections that still have requests by then are closed when the server ends.
const GRACE: Duration = Duration::from_secs(10);

/// Connections that wait to be served.
const BACKLOG: usize = 64;

/// Streams that a client may reset before the server saw them. kube-apiserver cancels watches by the hundred when it
/// restarts them; HTTP/2's default of 20 would close the connection.
const PENDING_RESETS: usize = 4096;

/// How many bytes of requests a connection holds that nobody has taken yet. The library closes a connection on which so
/// many small frames wait that what each falls short of 256 bytes adds up to half of this (h2:
/// src/proto/streams/counts.rs, `record_data_frame`). With its default of 1 MiB a burst of 10,000 gets was that.
const WINDOW: u32 = 16 << 20;

/// The open sockets of a server that does not serve yet. Dropped, they leave nothing.
#[derive(Debug)]
pub struct Sockets {
    clients: Vec<Listener>,
    observers: Vec<Listener>,
    pub(super) metrics: Metrics,
    /// The URLs that clients are told to use.
    pub(super) client_urls: Vec<String>,
    /// Turns true when the server ends.
    pub(super) stop: watch::Sender<bool>,
    traffic: Traffic,
}

impl Sockets {
    /// Reads the certificates and opens the sockets. What is counted is registered. `pair`: what the processes on the
    /// database share, in the place of files.
    ///
    /// # Errors
    /// When a certificate can't be used, or an address can't be listened at.
    pub async fn open(config: &Config, pair: Option<&Pair>, registry: &mut Registry) -> Result<Self> {
        let metrics = Metrics::new(registry);
        let tls = tls(config, pair, &metrics)?;
        let has_files = config.cert_file.is_some();
        for url in config.listen_client_urls.iter().filter(|url| has_files && matches!(url, ListenUrl::Plain(_))) {
            tracing::warn!(%url, "certificates are given, but this URL is without TLS");
        }
        let clients = bind("--listen-client-urls", &config.listen_client_urls, tls.as_ref()).await?;
        let observers = bind("--listen-metrics-urls", &config.listen_metrics_urls, tls.as_ref()).await?;
        let (client_urls, traffic) = (advertised(config, &clients), Traffic::new(registry));
        Ok(Self { clients, observers, metrics, client_urls, stop: watch::Sender::new(false), traffic })
    }

    /// The first URL at which other machines can reach this process, if there is one; with the real port.
    pub fn reachable_url(&self) -> Option<&str> {
        reachable_url(&self.client_urls)
    }
}

pub(super) fn reachable_url(urls: &[String]) -> Option<&str> {
    let is_reachable = |url: &&String| {
        let address = url.split_once("://").filter(|(scheme, _)| scheme.starts_with("http"));
        address.is_some_and(|(_, address)| !address.starts_with("0.0.0.0:") && !address.starts_with("[::]:"))
    };
    urls.iter().find(is_reachable).map(String::as_str)
}

/// Who answers at the sockets.
#[derive(Debug, Clone)]
pub(super) struct Answers {
    /// For clients.
    pub(super) clients: Router,
    /// For those who only look at metrics and health.
    pub(super) observers: Router,
}

/// Sockets at which somebody answers.
#[derive(Debug)]
pub(super) struct Front {
    stop: watch::Sender<bool>,
    pub(super) tasks: Vec<JoinHandle<()>>,
    /// With the real ports, in the order of the URLs; without Unix sockets.
    pub(super) client_addresses: Vec<SocketAddr>,
    pub(super) metrics_addresses: Vec<SocketAddr>,
    /// All URLs, for the log.
    pub(super) clients: String,
    pub(super) metrics: String,
}

impl Front {
    /// Begins to answer.
    pub(super) fn open(sockets: Sockets, config: &Config, answers: Answers) -> Self {
        let Sockets { clients, observers, metrics, stop, traffic, .. } = sockets;
        let (client_addresses, metrics_addresses) = (addresses(&clients), addresses(&observers));
        let (client_list, metrics_list) = (urls(&clients).join(","), urls(&observers).join(","));
        let refusals = Arc::new(Refusals::new(metrics));
        let mut tasks = vec![];
        let door = Arc::new(Door { refusals: refusals.clone(), traffic: Some(traffic) });
        tasks.push(tokio::spawn(serve(clients, door, answers.clients.into(), config.clone(), stop.subscribe())));
        if !observers.is_empty() {
            let door = Arc::new(Door { refusals, traffic: None });
            let routes = answers.observers.into();
            tasks.push(tokio::spawn(serve(observers, door, routes, config.clone(), stop.subscribe())));
        }
        Self { stop, tasks, client_addresses, metrics_addresses, clients: client_list, metrics: metrics_list }
    }

    /// Takes no more connections, and lets requests finish.
    pub(super) async fn shut(self) {
        self.stop.send_replace(true);
        let deadline = tokio::time::Instant::now() + GRACE;
        for mut task in self.tasks {
            if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                tracing::warn!("requests did not end in time, their connections are closed");
                task.abort();
            }
        }
    }
}

fn tls(config: &Config, pair: Option<&Pair>, metrics: &Metrics) -> Result<Option<Arc<Tls>>> {
    if let Some(pair) = pair {
        return Ok(Some(Arc::new(Tls::shared(pair, metrics.clone())?)));
    }
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
        .initial_connection_window_size(WINDOW)
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
