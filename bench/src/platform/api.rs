//! The Kubernetes API over HTTP/1.1: a connection a user, kept alive, with a token.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// An apiserver on this machine.
#[derive(Clone)]
pub(super) struct Server {
    port: u16,
    tls: TlsConnector,
    authorization: Arc<str>,
}

/// One connection to it, made when it is needed, and again when it broke.
pub(super) struct Connection {
    server: Server,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// What a request came to.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

impl Server {
    /// With the authority's certificate, and the token that a file begins with (as `--token-auth-file` has it).
    pub(super) fn new(port: u16, authority: &Path, token: &Path) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        let certificate =
            CertificateDer::from_pem_file(authority).with_context(|| format!("read {}", authority.display()))?;
        roots.add(certificate).with_context(|| format!("use {}", authority.display()))?;
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let text = std::fs::read_to_string(token).with_context(|| format!("read {}", token.display()))?;
        let token = text.split(',').next().unwrap_or_default().trim();
        let authorization = format!("Bearer {token}").into();
        Ok(Self { port, tls: TlsConnector::from(Arc::new(config)), authorization })
    }

    /// A connection for one user.
    pub(super) fn connection(&self) -> Connection {
        Connection { server: self.clone(), sender: None }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.context("connect to the apiserver")?;
        stream.set_nodelay(true)?;
        let stream = self.tls.connect(ServerName::try_from("localhost")?, stream).await.context("TLS")?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // Its error is what the request that waits for an answer gets.
            let _ = connection.await;
        });
        Ok(sender)
    }
}

impl Connection {
    /// A GET that must succeed.
    pub(super) async fn get(&mut self, path: &str) -> Result<Bytes> {
        let answer = self.send(Method::GET, path, "application/json", Bytes::new()).await?;
        answer.success().with_context(|| format!("GET {path}"))
    }

    /// A GET of JSON.
    pub(super) async fn json(&mut self, path: &str) -> Result<Value> {
        Ok(serde_json::from_slice(&self.get(path).await?)?)
    }

    /// Creates an object.
    pub(super) async fn create(&mut self, path: &str, object: Bytes) -> Result<Answer> {
        self.send(Method::POST, path, "application/json", object).await
    }

    /// Changes an object with a merge patch, which must succeed.
    pub(super) async fn merge(&mut self, path: &str, patch: Bytes) -> Result<Bytes> {
        let answer = self.send(Method::PATCH, path, "application/merge-patch+json", patch).await?;
        answer.success().with_context(|| format!("PATCH {path}"))
    }

    /// Opens a watch, which takes the connection.
    pub(super) async fn watch(mut self, path: &str) -> Result<Events> {
        let response = self.response(Method::GET, path, "application/json", Bytes::new()).await?;
        if response.status() != StatusCode::OK {
            bail!("GET {path}: {}", response.status());
        }
        Ok(Events { _connection: self, body: response.into_body(), pending: BytesMut::new() })
    }

    async fn send(&mut self, method: Method, path: &str, kind: &str, body: Bytes) -> Result<Answer> {
        let response = self.response(method, path, kind, body).await?;
        let status = response.status();
        match response.into_body().collect().await {
            Ok(body) => Ok(Answer { status, body: body.to_bytes() }),
            Err(error) => {
                self.sender = None;
                Err(error.into())
            }
        }
    }

    async fn response(&mut self, method: Method, path: &str, kind: &str, body: Bytes) -> Result<Response<Incoming>> {
        let mut sender = match self.sender.take() {
            Some(sender) if !sender.is_closed() => sender,
            _ => self.server.connect().await?,
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("authorization", &*self.server.authorization)
            .header("content-type", kind)
            .header("accept", "application/json")
            .body(Full::new(body))?;
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        self.sender = Some(sender);
        Ok(response)
    }
}

impl Answer {
    /// The body, if the status says that all went well.
    pub(super) fn success(self) -> Result<Bytes> {
        if self.status.is_success() { Ok(self.body) } else { Err(anyhow!("{}", self.describe())) }
    }

    /// Status and message.
    pub(super) fn describe(&self) -> String {
        let message = serde_json::from_slice::<Value>(&self.body).ok();
        let message = message.and_then(|status| status["message"].as_str().map(str::to_owned));
        format!("{}: {}", self.status, message.unwrap_or_else(|| String::from_utf8_lossy(&self.body).trim().to_owned()))
    }
}

/// The events of a watch, as lines.
pub(super) struct Events {
    _connection: Connection,
    body: Incoming,
    pending: BytesMut,
}

impl Events {
    /// The next one.
    ///
    /// # Errors
    /// When the watch has ended.
    pub(super) async fn next(&mut self) -> Result<Bytes> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                return Ok(self.pending.split_to(end + 1).freeze());
            }
            let frame = self.body.frame().await.context("the watch ended")??;
            if let Ok(data) = frame.into_data() {
                self.pending.extend_from_slice(&data);
            }
        }
    }
}
