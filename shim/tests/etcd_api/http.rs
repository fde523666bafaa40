use super::server::{TestServer, range_of};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

#[tokio::test]
async fn paths_on_the_client_port() {
    let server = TestServer::start(&["--listen-metrics-urls", "http://127.0.0.1:0"]).await;
    let version = server.get("/version").await;
    assert!(version.starts_with("HTTP/1.1 200"), "{version}");
    assert!(version.ends_with(r#"{"etcdserver":"3.7.3","etcdcluster":"3.7.0","storage":"3.7.0"}"#), "{version}");
    assert!(server.get("/health").await.ends_with(r#"{"health":"true","reason":""}"#));
    for path in ["/healthz", "/livez", "/readyz"] {
        assert!(server.get(path).await.ends_with("ok\n"), "{path}");
    }
    server.connect().await.range(range_of("a")).await.unwrap();
    let metrics = server.get("/metrics").await;
    assert!(metrics.contains("sluice_build_info{"));
    assert!(metrics.contains("etcd_server_range_duration_seconds_count{success=\"true\"} 1\n"), "{metrics}");
    let size = metrics.lines().find_map(|line| line.strip_prefix("etcd_mvcc_db_total_size_in_bytes "));
    assert!(size.is_some_and(|size| size.parse::<i64>().unwrap() > 0), "{metrics}");
    assert_eq!(server.server.metrics_addresses().len(), 1);

    let channel = tonic::transport::Channel::from_shared(format!("http://{}", server.address())).unwrap();
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
