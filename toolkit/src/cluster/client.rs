//! A blocking HTTP client for the processes of a cluster: the Kubernetes API with the admin's certificate, and their
//! probes.

use std::io::{BufRead, BufReader};
use std::sync::Arc;
use std::time::Duration;

use fs_err as fs;
use serde_json::Value;
use ureq::Agent;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use super::certs::Pair;
use sluice_shell::error::{Explain, Result};

/// A request is given up after this time. The apiserver's own limit is 60 s.
const LIMIT: Duration = Duration::from_secs(70);

/// One server. Cheap to clone; connections are kept and shared between clones.
#[derive(Clone)]
pub struct Client {
    agent: Agent,
    base: String,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No answer: whether the server did the work is unknown.
    #[error("{method} {path}: {cause}")]
    NoAnswer {
        /// The request's method.
        method: &'static str,
        /// The request's path.
        path: String,
        /// What went wrong.
        cause: String,
    },
    /// An answer that is no success.
    #[error("{method} {path}: {status}: {message}")]
    Refused {
        /// The request's method.
        method: &'static str,
        /// The request's path.
        path: String,
        /// HTTP status code.
        status: u16,
        /// The `message` of a Kubernetes `Status`, or the body.
        message: String,
    },
}

impl HttpError {
    /// The HTTP status code, if there was an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::NoAnswer { .. } => None,
            Self::Refused { status, .. } => Some(*status),
        }
    }
}

impl Explain for HttpError {}

impl Client {
    /// Plain HTTP on a loopback port.
    pub fn plain(port: u16) -> Self {
        Self { agent: agent(None), base: format!("http://127.0.0.1:{port}") }
    }

    /// HTTPS on a loopback port, as the holder of a certificate (or as nobody).
    ///
    /// # Errors
    /// When a certificate file can't be read.
    pub(crate) fn tls(port: u16, authority: &Pair, identity: Option<&Pair>) -> Result<Self> {
        let pem = |path| -> Result<_> { Ok(fs::read(path)?) };
        let roots = Certificate::from_pem(&pem(&authority.cert)?).map_err(anyhow::Error::from)?;
        let mut tls = TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(vec![roots])));
        if let Some(pair) = identity {
            let cert = Certificate::from_pem(&pem(&pair.cert)?).map_err(anyhow::Error::from)?;
            let key = PrivateKey::from_pem(&pem(&pair.key)?).map_err(anyhow::Error::from)?;
            tls = tls.client_cert(Some(ClientCert::new_with_certs(&[cert], key)));
        }
        Ok(Self { agent: agent(Some(tls.build())), base: format!("https://127.0.0.1:{port}") })
    }

    /// The body of a GET.
    ///
    /// # Errors
    /// No answer, or a status that is no success.
    pub fn text(&self, path: &str) -> Result<String, HttpError> {
        self.send("GET", path, None, LIMIT)
    }

    /// The body of a GET that must be quick, such as a probe.
    ///
    /// # Errors
    /// As [`Client::text`].
    pub fn probe(&self, path: &str) -> Result<String, HttpError> {
        self.send("GET", path, None, Duration::from_secs(3))
    }

    /// The JSON of a GET.
    ///
    /// # Errors
    /// As [`Client::text`]; an answer that is no JSON.
    pub fn get(&self, path: &str) -> Result<Value, HttpError> {
        parse("GET", path, &self.text(path)?)
    }

    /// Creates an object.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn create(&self, path: &str, object: &Value) -> Result<Value, HttpError> {
        let body = self.send("POST", path, Some(("application/json", object.to_string())), LIMIT)?;
        parse("POST", path, &body)
    }

    /// Replaces an object, if it is still of the version that the new one names.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn replace(&self, path: &str, object: &Value) -> Result<Value, HttpError> {
        let body = self.send("PUT", path, Some(("application/json", object.to_string())), LIMIT)?;
        parse("PUT", path, &body)
    }

    /// Changes an object with a JSON merge patch.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn merge(&self, path: &str, patch: &Value) -> Result<Value, HttpError> {
        let body = self.send("PATCH", path, Some(("application/merge-patch+json", patch.to_string())), LIMIT)?;
        parse("PATCH", path, &body)
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn delete(&self, path: &str) -> Result<Value, HttpError> {
        parse("DELETE", path, &self.send("DELETE", path, None, LIMIT)?)
    }

    /// Deletes an object (or all of a path) with DeleteOptions, such as preconditions.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub fn delete_with(&self, path: &str, options: &Value) -> Result<Value, HttpError> {
        let no_answer = |error: ureq::Error| no_answer("DELETE", path, &error);
        let request = self.agent.delete(format!("{}{path}", self.base)).header("content-type", "application/json");
        let request = request.config().timeout_global(Some(LIMIT)).build().force_send_body();
        let mut response = request.send(options.to_string()).map_err(no_answer)?;
        let status = response.status();
        let text = response.body_mut().read_to_string().map_err(no_answer)?;
        if !status.is_success() {
            return Err(refused("DELETE", path, status.as_u16(), &text));
        }
        parse("DELETE", path, &text)
    }

    /// Opens a watch; each line is one event. The server ends it (`timeoutSeconds`).
    ///
    /// # Errors
    /// No answer, or a status that is no success.
    pub fn watch(&self, path: &str) -> Result<impl BufRead + use<>, HttpError> {
        let no_answer = |error: ureq::Error| no_answer("GET", path, &error);
        let url = format!("{}{path}", self.base);
        let response = self.agent.get(url).config().timeout_global(None).build().call().map_err(no_answer)?;
        let status = response.status().as_u16();
        let mut body = response.into_body();
        if status != 200 {
            let text = body.read_to_string().map_err(no_answer)?;
            return Err(refused("GET", path, status, &text));
        }
        Ok(BufReader::new(body.into_reader()))
    }

    fn send(
        &self,
        method: &'static str,
        path: &str,
        body: Option<(&str, String)>,
        limit: Duration,
    ) -> Result<String, HttpError> {
        let no_answer = |error: ureq::Error| no_answer(method, path, &error);
        let (kind, body) = body.unwrap_or_default();
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("content-type", if kind.is_empty() { "application/json" } else { kind })
            .body(body)
            .map_err(|error| no_answer(error.into()))?;
        let request = self.agent.configure_request(request).timeout_global(Some(limit)).build();
        let mut response = self.agent.run(request).map_err(no_answer)?;
        let status = response.status();
        let text = response.body_mut().with_config().limit(u64::MAX).read_to_string().map_err(no_answer)?;
        if status.is_success() { Ok(text) } else { Err(refused(method, path, status.as_u16(), &text)) }
    }
}

fn agent(tls: Option<TlsConfig>) -> Agent {
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .timeout_connect(Some(Duration::from_secs(10)))
        .max_idle_connections(64)
        .max_idle_connections_per_host(64)
        .user_agent("sluice-xtask");
    if let Some(tls) = tls {
        config = config.tls_config(tls);
    }
    config.build().new_agent()
}

fn no_answer(method: &'static str, path: &str, error: &ureq::Error) -> HttpError {
    HttpError::NoAnswer { method, path: path.to_owned(), cause: error.to_string() }
}

fn refused(method: &'static str, path: &str, status: u16, body: &str) -> HttpError {
    let message = serde_json::from_str::<Value>(body)
        .ok()
        .and_then(|answer| answer["message"].as_str().map(str::to_owned))
        .unwrap_or_else(|| body.trim().to_owned());
    HttpError::Refused { method, path: path.to_owned(), status, message }
}

fn parse(method: &'static str, path: &str, body: &str) -> Result<Value, HttpError> {
    serde_json::from_str(body).map_err(|error| HttpError::NoAnswer {
        method,
        path: path.to_owned(),
        cause: format!("the answer is no JSON: {error}"),
    })
}
