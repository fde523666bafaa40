//! The process that serves, as others reach it.

use std::fmt;
use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::extract::Request;
use axum::response::Response;
use tokio::sync::{Notify, watch};
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tower::{Service as _, ServiceExt as _};

use super::super::pair::{self, Pair};
use super::super::place::{self, Place};
use super::super::tls;
use super::forward::{FORWARDED, forward};
use crate::config::Config;
use crate::remote::{Flags, Remote};

/// What says how the process is reached: its URL is what it says of itself.
const FLAGS: Flags = Flags {
    url: "--advertise-client-urls",
    cacert: "--peer-trusted-ca-file",
    cert: "--peer-cert-file",
    key: "--peer-key-file",
};

/// How many bytes a [`Place`] has at most.
const LONGEST_PLACE: usize = 4096;

/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(2);
/// How often the other process is asked whether it is there, and how long it may take to say so: less than the time
/// after which a silent process is taken for gone.
const ASK: Duration = Duration::from_secs(3);
const ANSWER: Duration = Duration::from_secs(4);

/// How many bytes of one answer wait at most for a client that reads slowly, and how many bytes of all answers
/// together. The second is the most that HTTP/2 knows: the library gives a connection up when too many small frames
/// wait on it for its window, and then slow watchers would end the requests of all.
const STREAM_WINDOW: u32 = 256 << 10;
const WINDOW: u32 = i32::MAX as u32;

/// How other processes are told from strangers. The files are read for each connection.
#[derive(Debug, Clone, Default)]
pub struct Peers {
    authorities: Option<PathBuf>,
    identity: Option<(PathBuf, PathBuf)>,
    /// In the place of files.
    pair: Option<Pair>,
}

impl Peers {
    /// As the flags say: what is not said of peers holds for them as for clients. `pair`: what the processes share.
    ///
    /// # Errors
    /// When a file can't be used.
    pub fn of(config: &Config, pair: Option<Pair>) -> Result<Self> {
        let of = |peers: &Option<PathBuf>, clients: &Option<PathBuf>| peers.clone().or_else(|| clients.clone());
        let cert = of(&config.peer_cert_file, &config.cert_file);
        let peers = Self {
            authorities: of(&config.peer_trusted_ca_file, &config.trusted_ca_file),
            identity: cert.zip(of(&config.peer_key_file, &config.key_file)),
            pair,
        };
        peers.check().context("prepare TLS with --peer-trusted-ca-file, --peer-cert-file and --peer-key-file")?;
        Ok(peers)
    }

    fn check(&self) -> Result<()> {
        if let Some(path) = &self.authorities {
            tls::authorities(path)?;
        }
        if let Some((cert, key)) = &self.identity {
            tls::certificates(cert)?;
            tls::private_key(key)?;
        }
        Ok(())
    }

    fn endpoint(&self, url: &str) -> Result<Endpoint> {
        if let Some(pair) = self.pair.as_ref().filter(|_| url.starts_with("https://")) {
            let pem = pair.pem();
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)).domain_name(pair::NAME);
            return Ok(Endpoint::from_shared(url.to_owned())?.tls_config(tls.identity(Identity::from_pem(pem, pem)))?);
        }
        // Without TLS there is nothing to check.
        let Self { authorities, identity, .. } = if url.starts_with("https://") { self } else { &Self::default() };
        let (cert, key) = identity.as_ref().map(|(cert, key)| (cert, key)).unzip();
        Remote { flags: FLAGS, url, cacert: authorities.as_ref(), cert, key }.endpoint()
    }
}

/// A connection to the process that serves.
#[derive(Clone)]
pub struct Leader {
    url: Arc<str>,
    channel: Channel,
}

impl fmt::Debug for Leader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Leader({})", self.url)
    }
}

impl Leader {
    /// Connects to the process at a URL.
    ///
    /// # Errors
    /// When it does not answer, or its certificate is not trusted.
    pub async fn connect(url: &str, peers: &Peers) -> Result<Self> {
        let endpoint = peers
            .endpoint(url)?
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(ASK)
            .keep_alive_timeout(ANSWER)
            .keep_alive_while_idle(true)
            .initial_connection_window_size(WINDOW)
            .initial_stream_window_size(STREAM_WINDOW)
            // What is under way on streams that were cancelled by the hundred is no attack, for which h2 would end the
            // connection of everybody.
            .http2_max_local_error_reset_streams(None);
        Ok(Self { url: url.into(), channel: endpoint.connect().await? })
    }

    /// Waits until the process serves no more: it says so, or its connection breaks.
    pub async fn ended(&self) {
        let mut request = tonic::Request::new(HealthCheckRequest::default());
        request.metadata_mut().insert(FORWARDED, MetadataValue::from_static("1"));
        // If the process can't be asked, requests find out.
        let Ok(answers) = HealthClient::new(self.channel.clone()).watch(request).await else { return pending().await };
        let mut answers = answers.into_inner();
        while let Ok(Some(answer)) = answers.message().await {
            if answer.status() != ServingStatus::Serving {
                return;
            }
        }
    }

    /// What it says of itself and of the database.
    ///
    /// # Errors
    /// When it does not answer, or serves no more.
    pub(super) async fn place(&self) -> Result<Place> {
        let request = axum::http::Request::get(place::PATH).header(FORWARDED, "1").body(tonic::body::Body::empty())?;
        let answer = self.channel.clone().ready().await?.call(request).await?;
        anyhow::ensure!(answer.status().is_success(), "the sluice-shim that serves says {}", answer.status());
        let body = axum::body::to_bytes(axum::body::Body::new(answer.into_body()), LONGEST_PLACE).await?;
        Ok(serde_json::from_slice(&body)?)
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub(super) async fn forward(&self, request: Request, stop: watch::Receiver<bool>, broken: Arc<Notify>) -> Response {
        forward(self.channel.clone(), request, stop, broken).await
    }
}
