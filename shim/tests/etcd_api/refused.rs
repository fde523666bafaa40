//! A connection that is refused leaves a line with its address and the cause.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use super::server::{TestServer, range_of, talk};
use super::tls::{Authority, connect, start};
use tracing_subscriber::fmt::MakeWriter;

/// What this thread logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    fn begin() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// The lines about refused connections, taken away.
    fn take(&self) -> Vec<String> {
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap();
        let refused = text.lines().filter(|line| line.contains("rejected connection on client endpoint"));
        refused.map(str::to_owned).collect()
    }

    async fn expect(&self, cause: &str) {
        let found = async {
            loop {
                let lines = self.take();
                if !lines.is_empty() {
                    break lines;
                }
                tokio::task::yield_now().await;
            }
        };
        let lines = tokio::time::timeout(super::server::DEADLINE, found).await.unwrap_or_else(|_| panic!("no {cause}"));
        assert_eq!(lines.len(), 1, "{lines:?}");
        for part in [cause, "WARN", "remote_addr=\"127.0.0.1:", "not_logged=0"] {
            assert!(lines[0].contains(part), "{part} in {}", lines[0]);
        }
    }
}

#[tokio::test]
async fn refused_tls_clients_leave_a_line_with_address_and_cause() {
    let (dir, ca) = (tempfile::tempdir().unwrap(), Authority::new());
    let (stranger, other) = (Authority::new(), Authority::named("other"));
    ca.write_server_pair(dir.path(), &["localhost"]);
    let ca_file = dir.path().join("ca.pem");
    std::fs::write(&ca_file, ca.0.pem()).unwrap();
    let (log, _guard) = Log::begin();
    let server = start(dir.path(), &["--trusted-ca-file", ca_file.to_str().unwrap(), "--client-cert-auth"]).await;

    let mut client = connect(&ca.client(Some(&ca)), server.address()).await.unwrap();
    assert_eq!(client.put("a", "1").await, 2);
    assert!(log.take().is_empty(), "this one is not refused");
    let table = [
        (ca.client(None), "cause=\"the client shows no certificate"),
        (ca.client(Some(&stranger)), "cause=\"the client's certificate is signed by an authority not in"),
        (other.client(Some(&ca)), "cause=\"the client does not accept the certificate of this server"),
    ];
    for (refused, cause) in table {
        // With TLS 1.3 the client learns of the refusal with its first request.
        if let Ok(mut client) = connect(&refused, server.address()).await {
            client.range(range_of("a")).await.unwrap_err();
        }
        log.expect(cause).await;
    }
    let answer = talk(server.address(), b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.0 400 ") && answer.ends_with("This port speaks TLS: use https://\n"),
        "{answer}"
    );
    log.expect("cause=\"the client speaks no TLS").await;
    talk(server.address(), b"\x16\x03\x01\x00\x05nonsense").await;
    log.expect("cause=\"the client and this server agree on no TLS\"").await;
    // A second time within the minute.
    talk(server.address(), b"\x16\x03\x01\x00\x05nonsense").await;
    drop(tokio::net::TcpStream::connect(server.address()).await.unwrap());
    assert!(log.take().is_empty());
}

#[tokio::test]
async fn an_authority_is_unknown_by_its_name_or_by_its_key() {
    for stranger in [Authority::named("other"), Authority::new()] {
        let (dir, ca) = (tempfile::tempdir().unwrap(), Authority::new());
        ca.write_server_pair(dir.path(), &["localhost"]);
        let ca_file = dir.path().join("ca.pem");
        std::fs::write(&ca_file, ca.0.pem()).unwrap();
        let (log, _guard) = Log::begin();
        let server = start(dir.path(), &["--trusted-ca-file", ca_file.to_str().unwrap()]).await;
        if let Ok(mut client) = connect(&ca.client(Some(&stranger)), server.address()).await {
            client.range(range_of("a")).await.unwrap_err();
        }
        log.expect("cause=\"the client's certificate is signed by an authority not in").await;
    }
}

#[tokio::test]
async fn tls_at_a_plain_port_leaves_a_line() {
    let (log, _guard) = Log::begin();
    let server = TestServer::start(&[]).await;
    let ca = Authority::new();
    assert!(connect(&ca.client(None), server.address()).await.is_err());
    log.expect("cause=\"the client speaks TLS, which this port does not: it must use http://\"").await;
    server.wait_for_metric("sluice_refused_connections_total{cause=\"tls_to_plain\"} 1").await;
    server.connect().await.put("a", "1").await;
    assert!(log.take().is_empty());
}
