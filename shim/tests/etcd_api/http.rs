//! What is plain HTTP, path by path as etcd 3.7.3 answers it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::server::{TestServer, range_of, talk};
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::{Service as _, ServiceExt as _};

/// An answer without what is of the moment.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    kind: String,
    /// Whether the client is told to believe that kind.
    nosniff: bool,
    allow: Option<String>,
    /// In order: etcd's checks come in any.
    lines: Vec<String>,
}

impl Answer {
    fn text(status: u16, body: &str) -> Self {
        let allow = (status == 405).then(|| "GET".to_owned());
        Self { status, kind: "text/plain; charset=utf-8".to_owned(), nosniff: true, allow, lines: lines(body) }
    }
}

fn lines(body: &str) -> Vec<String> {
    let mut lines: Vec<_> = body.split('\n').map(str::to_owned).collect();
    lines.sort();
    lines
}

async fn ask(address: SocketAddr, method: &str, path: &str) -> Answer {
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}");
    let answer = talk(address, request.as_bytes()).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{method} {path}: {answer:?}"));
    let mut head = head.split("\r\n");
    let status = head.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: BTreeMap<_, _> =
        head.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value)).collect();
    let header = |name: &str| headers.get(name).map(|value| (*value).to_owned());
    Answer {
        status,
        kind: header("content-type").unwrap_or_default(),
        nosniff: header("x-content-type-options").is_some_and(|value| value == "nosniff"),
        allow: header("allow"),
        lines: lines(body),
    }
}

const NOT_FOUND: &str = "404 page not found\n";
const NOT_ALLOWED: &str = "Method Not Allowed\n";

/// Method, path, status and body, at both ports.
const SAME_AS_ETCD: &[(&str, &str, u16, &str)] = &[
    ("GET", "/livez", 200, "ok\n"),
    ("GET", "/livez?verbose", 200, "[+]serializable_read ok\nok\n"),
    ("GET", "/livez?verbose=false", 200, "[+]serializable_read ok\nok\n"),
    ("GET", "/livez?exclude=serializable_read&verbose", 200, "ok\n"),
    ("GET", "/livez/serializable_read", 200, "ok\n"),
    ("GET", "/livez/linearizable_read", 404, NOT_FOUND),
    ("GET", "/livez/", 404, NOT_FOUND),
    ("GET", "/livezz", 404, NOT_FOUND),
    ("GET", "/healthz", 404, NOT_FOUND),
    ("GET", "/readyz", 200, "ok\n"),
    ("GET", "/readyz?exclude=nosuch", 200, "ok\n"),
    ("GET", "/readyz/data_corruption", 200, "ok\n"),
    ("GET", "/readyz/data_corruption?verbose", 200, "[+]data_corruption ok\nok\n"),
    ("GET", "/readyz/serializable_read", 200, "ok\n"),
    ("GET", "/readyz/linearizable_read", 200, "ok\n"),
    ("GET", "/readyz/non_learner", 200, "ok\n"),
    ("GET", "/readyz/nosuch", 404, NOT_FOUND),
    ("GET", "/version/cluster", 404, NOT_FOUND),
    ("GET", "/", 404, NOT_FOUND),
    ("GET", "/v2/keys", 404, NOT_FOUND),
    ("GET", "/debug/pprof/", 404, NOT_FOUND),
    ("GET", "/proxy/health", 404, NOT_FOUND),
    ("GET", "/metrics/nosuch", 404, NOT_FOUND),
    ("GET", "/nosuch", 404, NOT_FOUND),
    ("GET", "/etcdserverpb.KV/Range", 404, NOT_FOUND),
    ("GET", "/etcdserverpb.KV/Nosuch", 404, NOT_FOUND),
    ("GET", "/nosuch.Service/Method", 404, NOT_FOUND),
    ("POST", "/etcdserverpb.KV/Range", 404, NOT_FOUND),
    ("POST", "/", 404, NOT_FOUND),
    ("POST", "/nosuch", 404, NOT_FOUND),
    ("HEAD", "/nosuch", 404, ""),
    ("HEAD", "/livez", 405, ""),
    ("HEAD", "/readyz/data_corruption", 405, ""),
    ("HEAD", "/health", 405, ""),
    ("POST", "/livez", 405, NOT_ALLOWED),
    ("PUT", "/readyz", 405, NOT_ALLOWED),
    ("DELETE", "/readyz/data_corruption", 405, NOT_ALLOWED),
    ("POST", "/health", 405, NOT_ALLOWED),
];

#[tokio::test]
async fn unknown_paths_are_not_found_and_etcds_are_answered_as_by_etcd() {
    let server = TestServer::start(&["--listen-metrics-urls", "http://127.0.0.1:0"]).await;
    for address in [server.address(), server.server.metrics_addresses()[0]] {
        for (method, path, status, body) in SAME_AS_ETCD {
            assert_eq!(ask(address, method, path).await, Answer::text(*status, body), "{method} {path}");
        }
        for path in ["/health", "/health?serializable=true", "/health?exclude=NOSPACE"] {
            let expected = Answer { nosniff: false, ..Answer::text(200, r#"{"health":"true","reason":""}"#) };
            assert_eq!(ask(address, "GET", path).await, expected, "{path}");
        }
        for method in ["GET", "POST", "HEAD"] {
            let metrics = ask(address, method, "/metrics").await;
            assert_eq!((metrics.status, &metrics.kind[..]), (200, "text/plain; version=0.0.4; charset=utf-8"));
        }
    }
    let version = ask(server.address(), "GET", "/version").await;
    let body = r#"{"etcdserver":"3.7.3","etcdcluster":"3.7.0","storage":"3.7.0"}"#;
    let kind = "application/json".to_owned();
    assert_eq!(version, Answer { kind, nosniff: false, ..Answer::text(200, body) });
    assert_eq!(ask(server.address(), "POST", "/version").await, Answer::text(405, NOT_ALLOWED));
    let beside = server.server.metrics_addresses()[0];
    assert_eq!(ask(beside, "GET", "/version").await, Answer::text(404, NOT_FOUND));
}

/// docs/monitoring.md says why.
#[tokio::test]
async fn what_differs_from_etcd_is_known() {
    let server = TestServer::start(&[]).await;
    let gateway = "404 page not found: there is no JSON gateway here; use gRPC, for instance with etcdctl\n";
    let checks = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\n";
    let table = [
        // etcd has no check of that name.
        ("GET", "/readyz/writable", 200, "ok\n".to_owned()),
        ("GET", "/readyz/writable?verbose", 200, "[+]writable ok\nok\n".to_owned()),
        ("GET", "/readyz?verbose", 200, format!("{checks}ok\n")),
        // etcd has a gateway: 200, 404 and a redirection.
        ("POST", "/v3/kv/range", 404, gateway.to_owned()),
        ("GET", "/v3/nosuch", 404, gateway.to_owned()),
        ("GET", "/v3", 404, gateway.to_owned()),
        // etcd shows variables of its Go program.
        ("GET", "/debug/vars", 404, NOT_FOUND.to_owned()),
        // etcd redirects to /livez.
        ("GET", "//livez", 404, NOT_FOUND.to_owned()),
        // etcd answers browsers of other origins: 200.
        ("OPTIONS", "/livez", 405, NOT_ALLOWED.to_owned()),
        ("OPTIONS", "/nosuch", 404, NOT_FOUND.to_owned()),
    ];
    for (method, path, status, body) in table {
        assert_eq!(ask(server.address(), method, path).await, Answer::text(status, &body), "{method} {path}");
    }
}

/// gRPC alone gets gRPC's answers.
#[tokio::test]
async fn unknown_paths_are_not_found_over_http2_either() {
    let server = TestServer::start(&[]).await;
    let mut channel = Channel::from_shared(format!("http://{}", server.address())).unwrap().connect().await.unwrap();
    let table = [
        ("/nosuch", None, 404, None),
        ("/readyz/nosuch", None, 404, None),
        ("/etcdserverpb.KV/Range", None, 404, None),
        ("/livez", None, 200, None),
        ("/nosuch.Service/Method", Some("application/grpc"), 200, Some("12")),
        ("/etcdserverpb.KV/Nosuch", Some("application/grpc+proto"), 200, Some("12")),
    ];
    for (path, kind, status, grpc_status) in table {
        let mut request = Request::get(path).body(tonic::body::Body::empty()).unwrap();
        if let Some(kind) = kind {
            request.headers_mut().insert("content-type", kind.parse().unwrap());
        }
        let answer = channel.ready().await.unwrap().call(request).await.unwrap();
        let found = answer.headers().get("grpc-status").map(|status| status.to_str().unwrap());
        assert_eq!((answer.status().as_u16(), found), (status, grpc_status), "{path}");
    }
}

#[tokio::test]
async fn paths_on_the_client_port() {
    let server = TestServer::start(&["--listen-metrics-urls", "http://127.0.0.1:0"]).await;
    server.connect().await.range(range_of("a")).await.unwrap();
    let metrics = server.get("/metrics").await;
    assert!(metrics.contains("sluice_build_info{"));
    assert!(metrics.contains("etcd_server_range_duration_seconds_count{success=\"true\"} 1\n"), "{metrics}");
    let size = metrics.lines().find_map(|line| line.strip_prefix("etcd_mvcc_db_total_size_in_bytes "));
    assert!(size.is_some_and(|size| size.parse::<i64>().unwrap() > 0), "{metrics}");
    assert_eq!(server.server.metrics_addresses().len(), 1);

    let channel = Channel::from_shared(format!("http://{}", server.address())).unwrap();
    let mut health = HealthClient::new(channel.connect().await.unwrap());
    let answer = health.check(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();
    assert_eq!(answer.status(), tonic_health::pb::health_check_response::ServingStatus::Serving);
}

#[tokio::test]
async fn unix_sockets() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    // What a killed instance leaves behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let url = format!("unix://{}", path.display());
    let server = TestServer::start(&["--listen-client-urls", &url]).await;
    let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    stream.write_all(b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("etcdserver"));
    server.server.shutdown().await;
    assert!(!path.exists());
}
