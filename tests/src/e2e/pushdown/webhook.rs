//! A conversion webhook: the smallest HTTPS server that kube-apiserver talks to.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use sluice_shell::error::Result;
use sluice_toolkit::cluster::certs::Certificates;
use sluice_toolkit::cluster::wait::ensure;

/// A connection that says nothing for so long is closed.
const IDLE: Duration = Duration::from_secs(60);

/// Turns an object into another version.
pub(super) type Convert = fn(&Value, &str) -> Value;

/// A running webhook. Its threads end with the process: nothing of it outlives a test run.
pub(super) struct Webhook {
    port: u16,
    authority: String,
    calls: Arc<AtomicUsize>,
}

impl Webhook {
    /// Listens on a free port, with the apiserver's own certificate.
    ///
    /// # Errors
    /// When a certificate can't be read, or no port is free.
    pub(super) fn start(certificates: &Certificates, convert: Convert) -> Result<Self> {
        let serving = certificates.serving();
        let certificate = CertificateDer::from_pem_slice(&fs_err::read(serving.cert)?).map_err(anyhow::Error::from)?;
        let key = PrivateKeyDer::from_pem_slice(&fs_err::read(serving.key)?).map_err(anyhow::Error::from)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(vec![certificate], key))
            .map_err(anyhow::Error::from)?;
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let (config, calls) = (Arc::new(config), Arc::new(AtomicUsize::new(0)));
        let counter = Arc::clone(&calls);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, calls) = (Arc::clone(&config), Arc::clone(&counter));
                // A connection that breaks is the client's to open again.
                thread::spawn(move || serve(stream, config, convert, &calls));
            }
        });
        let authority = base64::engine::general_purpose::STANDARD.encode(fs_err::read(certificates.authority().cert)?);
        Ok(Self { port, authority, calls })
    }

    /// Where it converts.
    pub(super) fn url(&self) -> String {
        format!("https://127.0.0.1:{}/convert", self.port)
    }

    /// The authority of its certificate, as a definition holds it.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// A check of conversion that converted nothing has checked nothing.
    ///
    /// # Errors
    /// When nobody asked for a conversion.
    pub(super) fn ensure_called(&self) -> Result<()> {
        ensure(self.calls.load(Ordering::Relaxed) > 0, || "nobody asked the conversion webhook".to_owned())
    }
}

/// Answers one request after the other (HTTP/1.1 with a content length, which is what Go's client sends).
fn serve(stream: TcpStream, config: Arc<ServerConfig>, convert: Convert, calls: &AtomicUsize) -> Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    let connection = ServerConnection::new(config).map_err(anyhow::Error::from)?;
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    loop {
        let Some(length) = body_length(&mut stream)? else { return Ok(()) };
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        let answer = review(&serde_json::from_slice(&body)?, convert).to_string();
        calls.fetch_add(1, Ordering::Relaxed);
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", answer.len());
        let stream = stream.get_mut();
        stream.write_all(head.as_bytes())?;
        stream.write_all(answer.as_bytes())?;
        stream.flush()?;
    }
}

/// Reads a request's head; none at the end of the connection.
fn body_length(stream: &mut impl BufRead) -> Result<Option<usize>> {
    let mut length = 0;
    let mut line = String::new();
    while stream.read_line(&mut line)? > 0 {
        let text = line.trim_end();
        if text.is_empty() {
            return Ok(Some(length));
        }
        if let Some((name, value)) = text.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().map_err(anyhow::Error::from)?;
        }
        line.clear();
    }
    Ok(None)
}

/// Answers a `ConversionReview` (apiextensions.k8s.io/v1).
fn review(review: &Value, convert: Convert) -> Value {
    let request = &review["request"];
    let to = request["desiredAPIVersion"].as_str().unwrap_or_default();
    let objects = request["objects"].as_array().map(Vec::as_slice).unwrap_or_default();
    let converted: Vec<Value> = objects.iter().map(|object| convert(object, to)).collect();
    json!({
        "apiVersion": review["apiVersion"],
        "kind": "ConversionReview",
        "response": {"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": converted},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_ends_where_its_length_says() {
        let mut stream = "POST / HTTP/1.1\r\ncontent-LENGTH: 2\r\nHost: x\r\n\r\n{}".as_bytes();
        assert_eq!(body_length(&mut stream).unwrap(), Some(2));
        assert_eq!(stream, b"{}");
        assert_eq!(body_length(&mut "".as_bytes()).unwrap(), None);
    }

    #[test]
    fn all_objects_of_a_review_are_converted() {
        let asked =
            json!({"apiVersion": "v1", "request": {"uid": "7", "desiredAPIVersion": "g/v2", "objects": [{}, {}]}});
        let answer = review(&asked, |_, to| json!(to));
        assert_eq!(answer["response"]["convertedObjects"], json!(["g/v2", "g/v2"]));
        assert_eq!(answer["response"]["uid"], "7");
    }
}
