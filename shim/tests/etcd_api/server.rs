//! A server of one's own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use prometheus_client::registry::Registry;
use sluice_shim::config::Config;
use sluice_shim::definitions::{self, Following};
use sluice_shim::endpoint::Endpoint;
use sluice_shim::engine::metrics::Metrics;
use sluice_shim::engine::store::Store;
use sluice_shim::engine::{Engine, ReaderThreads};
use sluice_shim::etcd::front::Sockets;
use sluice_shim::etcd::server::Server;
use sluice_shim::pb::etcdserverpb as pb;
use sluice_shim::pb::v3electionpb::election_client::ElectionClient;
use sluice_shim::pb::v3lockpb::lock_client::LockClient;
use sluice_shim::sql;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::database::Database;

/// Nothing in these tests takes longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A server with an empty database.
pub(crate) struct TestServer {
    pub(crate) server: Server,
    pub(crate) database: Database,
    /// The main store, if the flags name one.
    pub(crate) following: Option<Following>,
}

impl TestServer {
    pub(crate) async fn start(args: &[&str]) -> Self {
        Self::start_in(Database::new(), args).await
    }

    pub(crate) async fn start_in(database: Database, args: &[&str]) -> Self {
        Self::start_on(database, args, |store| store).await
    }

    /// On a database that is another one than it seems.
    pub(crate) async fn start_on(
        database: Database,
        args: &[&str],
        wrap: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>,
    ) -> Self {
        let mut all = vec!["sluice-shim", "--endpoint", database.url()];
        if !args.contains(&"--listen-client-urls") {
            all.extend(["--listen-client-urls", "http://127.0.0.1:0"]);
        }
        all.extend(args);
        let config = Config::try_parse_from(all).unwrap();
        let endpoint = config.check().unwrap();
        let metrics = Arc::new(Metrics::default());
        let store = wrap(sql::open(&endpoint, Arc::clone(&metrics)).unwrap());
        let threads = ReaderThreads { small: 1, large: 1 };
        let engine =
            Engine::start_with(store, threads, Arc::clone(&metrics), config.gc.collector().unwrap()).await.unwrap();
        let following = match config.definitions.endpoint().unwrap() {
            Some(main) => Some(definitions::follow(&engine, main).await.unwrap()),
            None => None,
        };
        let mut registry = Registry::default();
        let ours = registry.sub_registry_with_prefix("sluice");
        metrics.register(ours);
        if let Endpoint::Network(_) = endpoint {
            metrics.register_server(ours);
        }
        let sockets = Sockets::open(&config, None, &mut registry).await.unwrap();
        let server = Server::start(engine, &config, sockets, database.folder().to_owned(), registry).await.unwrap();
        Self { server, database, following }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.client_addresses()[0]
    }

    pub(crate) async fn connect(&self) -> Client {
        let channel = Channel::from_shared(format!("http://{}", self.address())).unwrap().connect().await.unwrap();
        Client::new(channel)
    }

    /// The answer to a plain HTTP GET, headers included.
    pub(crate) async fn get(&self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        talk(self.address(), request.as_bytes()).await
    }

    /// Waits until the metrics have the line.
    pub(crate) async fn wait_for_metric(&self, line: &str) {
        let found = async {
            while !self.get("/metrics").await.lines().any(|found| found == line) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(DEADLINE, found).await.unwrap_or_else(|_| panic!("the metrics never had {line:?}"));
    }
}

/// Sends bytes; returns all that comes back until the connection ends.
pub(crate) async fn talk(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await;
    // A connection that is refused may be reset as well as closed.
    drop(read.unwrap());
    String::from_utf8_lossy(&answer).into_owned()
}

/// The clients of all services.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) kv: pb::kv_client::KvClient<Channel>,
    pub(crate) watch: pb::watch_client::WatchClient<Channel>,
    pub(crate) lease: pb::lease_client::LeaseClient<Channel>,
    pub(crate) maintenance: pb::maintenance_client::MaintenanceClient<Channel>,
    pub(crate) cluster: pb::cluster_client::ClusterClient<Channel>,
    pub(crate) auth: pb::auth_client::AuthClient<Channel>,
    pub(crate) lock: LockClient<Channel>,
    pub(crate) election: ElectionClient<Channel>,
}

impl Client {
    pub(crate) fn new(channel: Channel) -> Self {
        Self {
            kv: pb::kv_client::KvClient::new(channel.clone()),
            watch: pb::watch_client::WatchClient::new(channel.clone()),
            lease: pb::lease_client::LeaseClient::new(channel.clone()),
            maintenance: pb::maintenance_client::MaintenanceClient::new(channel.clone()),
            cluster: pb::cluster_client::ClusterClient::new(channel.clone()),
            auth: pb::auth_client::AuthClient::new(channel.clone()),
            lock: LockClient::new(channel.clone()),
            election: ElectionClient::new(channel),
        }
    }

    /// Puts a key and returns the revision.
    pub(crate) async fn put(&mut self, key: &str, value: impl Into<Vec<u8>>) -> i64 {
        let request = put(key, value);
        self.kv.put(request).await.unwrap().into_inner().header.unwrap().revision
    }

    pub(crate) async fn range(&mut self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Status> {
        Ok(self.kv.range(request).await?.into_inner())
    }
}

pub(crate) fn put(key: &str, value: impl Into<Vec<u8>>) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: value.into().into(), ..Default::default() }
}

/// All keys from `key` on.
pub(crate) fn range_from(key: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_owned().into(), range_end: "\0".into(), ..Default::default() }
}

pub(crate) fn range_of(key: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_owned().into(), ..Default::default() }
}

/// A request with a label selector.
pub(crate) fn with_labels<T>(request: T, selector: &str) -> Request<T> {
    use sluice_shim::contract::{CONTRACT_VERSION, CONTRACT_VERSION_HEADER, LABEL_SELECTOR_HEADER};
    let mut request = Request::new(request);
    request.metadata_mut().insert(CONTRACT_VERSION_HEADER, CONTRACT_VERSION.into());
    request.metadata_mut().insert(LABEL_SELECTOR_HEADER, selector.parse().unwrap());
    request
}

/// An object with a colour.
pub(crate) fn shirt(name: &str, color: &str) -> String {
    format!(
        r#"{{"apiVersion":"stable.example.com/v1","kind":"Shirt","metadata":{{"name":"{name}","labels":{{"color":"{color}"}}}},"spec":{{"color":"{color}"}}}}"#
    )
}
