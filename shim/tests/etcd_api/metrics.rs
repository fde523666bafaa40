use std::collections::BTreeSet;
use std::path::Path;

use super::server::{DEADLINE, TestServer, put, talk};
use sluice_shim::endpoint::{Endpoint, Family};
use sluice_shim::pb::etcdserverpb as pb;

/// A server that has done a little of everything.
async fn used() -> TestServer {
    let server = TestServer::start(&["--quota-backend-bytes", "1000000000"]).await;
    let mut client = server.connect().await;
    client.put("a", "1").await;
    client.range(super::server::range_of("a")).await.unwrap();
    server.get("/readyz").await;
    server
}

/// Names in backquotes that stand in the first column of a table, below a heading or a line with that text.
fn documented(below: &str, until: &str) -> BTreeSet<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/monitoring.md");
    let text = std::fs::read_to_string(file).unwrap();
    let part = text.split_once(below).unwrap().1.split_once(until).unwrap().0;
    let cells = part.lines().filter_map(|line| line.strip_prefix("| `")).map(|row| row.split(" |").next().unwrap());
    let names = cells.flat_map(|cell| cell.split(", ")).map(|name| name.trim_matches('`').to_owned());
    names.collect()
}

/// Also the metrics that `etcdctl check datascale` and etcd's alerts and dashboards ask for.
#[tokio::test]
async fn etcds_metrics_are_there_or_listed_with_a_reason() {
    let server = used().await;
    let metrics = server.get("/metrics").await;
    let kinds: BTreeSet<_> =
        metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned)).collect();
    let there = documented("\n## Metrics of etcd\n", "These do not");
    let absent = documented("\nThese do not", "\nMetrics of etcd that");
    assert!(there.len() > 25 && absent.len() > 3, "{there:?} {absent:?}");
    assert_eq!(there.difference(&kinds).collect::<Vec<_>>(), [""; 0], "documented, but not there");
    assert_eq!(absent.intersection(&kinds).collect::<Vec<_>>(), [""; 0], "there, but documented as absent");
    let etcds = kinds.iter().filter(|name| name.starts_with("etcd_") && !there.contains(&**name));
    assert_eq!(etcds.collect::<Vec<_>>(), [""; 0], "there, but not documented");
}

fn value(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("no {name} in\n{metrics}")).parse().unwrap()
}

#[tokio::test]
async fn metrics_say_what_is() {
    let server = used().await;
    server.get("/readyz/writable").await;
    // The check is answered before it is off the queue.
    let idle = async {
        loop {
            let metrics = server.get("/metrics").await;
            if value(&metrics, "etcd_server_proposals_pending") == 0.0 {
                return metrics;
            }
        }
    };
    let metrics = tokio::time::timeout(DEADLINE, idle).await.unwrap();
    let equal = [
        ("etcd_server_has_leader", 1.0),
        ("etcd_server_is_leader", 1.0),
        ("etcd_server_leader_changes_seen_total", 0.0),
        ("etcd_server_quota_backend_bytes", 1e9),
        ("etcd_server_proposals_failed_total", 0.0),
        ("etcd_server_proposals_committed_total", 1.0),
        ("etcd_debugging_mvcc_current_revision", 2.0),
        ("etcd_server_healthcheck{type=\"readyz\",name=\"writable\"}", 1.0),
    ];
    for (name, expected) in equal {
        assert_eq!(value(&metrics, name), expected, "{name}");
    }
    let positive = [
        "etcd_disk_wal_fsync_duration_seconds_count",
        "etcd_disk_backend_commit_duration_seconds_count",
        "etcd_network_client_grpc_received_bytes_total",
        "etcd_network_client_grpc_sent_bytes_total",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_start_time_seconds",
        "process_open_fds",
        "process_max_fds",
        "process_threads",
    ];
    let is_file = matches!(server.database.endpoint(), Endpoint::Sqlite(_));
    // A database's server syncs its log itself.
    for name in positive.into_iter().filter(|name| is_file || !name.contains("_wal_")) {
        assert!(value(&metrics, name) > 0.0, "{name}");
    }
    assert!(
        value(&metrics, "etcd_disk_wal_fsync_duration_seconds_sum")
            <= value(&metrics, "etcd_disk_backend_commit_duration_seconds_sum")
    );
    let without = TestServer::start(&[]).await;
    assert!(!without.get("/metrics").await.contains("etcd_server_quota_backend_bytes"), "no quota, no number");
}

/// The way to the database is counted: all of it for a server, and for a file what has a meaning there.
#[tokio::test]
async fn the_way_to_the_database_is_counted() {
    let server = used().await;
    let metrics = server.get("/metrics").await;
    let is_file = matches!(server.database.endpoint(), Endpoint::Sqlite(_));
    let of_all = documented("\n## Metrics of the database\n", "What only a");
    let of_servers = documented("What only a database", "\nA commit takes two");
    assert!(of_all.len() == 3 && of_servers.len() == 3, "{of_all:?} {of_servers:?}");
    let expected = if is_file { of_all } else { of_all.union(&of_servers).cloned().collect() };
    let kinds = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE sluice_database_")?.split_once(' '));
    let types: Vec<_> = kinds.map(|(name, kind)| (format!("sluice_database_{name}"), kind)).collect();
    assert_eq!(types.iter().map(|(name, _)| name.clone()).collect::<BTreeSet<_>>(), expected);
    // As Prometheus' rules for names have it.
    for (name, kind) in &types {
        assert_eq!(name.ends_with("_total"), *kind == "counter", "{name}");
    }
    let infos: Vec<_> = metrics.lines().filter(|line| line.starts_with("sluice_database_info{")).collect();
    let [info] = infos[..] else { panic!("{infos:?}") };
    let kind = match server.database.endpoint() {
        Endpoint::Sqlite(_) => "SQLite",
        Endpoint::Network(address) if address.family == Family::Postgres => "PostgreSQL",
        Endpoint::Network(_) => "Maria",
    };
    assert!(info.contains(&format!("kind=\"{kind}")) && info.ends_with("} 1"), "{info}");
    assert!(!info.contains("version=\"\""), "{info}");
    assert_eq!(value(&metrics, "sluice_database_unknown_outcomes_total"), 0.0);
    if !is_file {
        assert!(value(&metrics, "sluice_database_connections") >= 1.0);
        let before = value(&metrics, "sluice_database_round_trips_total");
        server.connect().await.put("b", "1").await;
        let after = value(&server.get("/metrics").await, "sluice_database_round_trips_total");
        assert!(after >= before + 2.0, "{before} to {after}");
    }
}

/// What is open is what began less what ended.
#[tokio::test]
async fn open_watches_are_counted() {
    let server = TestServer::start(&[]).await;
    let mut client = server.connect().await;
    let create = pb::WatchCreateRequest { key: "a".into(), ..Default::default() };
    let request = pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) };
    let (sender, requests) = tokio::sync::mpsc::channel(1);
    sender.send(request).await.unwrap();
    let stream = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut answers = client.watch.watch(stream).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().unwrap().created);
    let labels = "grpc_service=\"etcdserverpb.Watch\",grpc_method=\"Watch\",grpc_type=\"bidi_stream\"";
    let ended = |code, count| format!("grpc_server_handled_total{{{labels},grpc_code=\"{code}\"}} {count}");
    server.wait_for_metric(&format!("grpc_server_started_total{{{labels}}} 1")).await;
    server.wait_for_metric(&ended("OK", 0)).await;
    drop((sender, answers));
    server.wait_for_metric(&ended("Canceled", 1)).await;
}

#[tokio::test]
async fn metrics_come_in_the_form_that_is_asked_for() {
    let server = TestServer::start(&[]).await;
    server.connect().await.kv.put(put("a", "1")).await.unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5\r\n\r\n";
    let open = talk(server.address(), format!("{request}{accept}").as_bytes()).await;
    assert!(open.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"), "{open}");
    assert!(open.contains("# TYPE grpc_server_handled counter\n") && open.ends_with("# EOF\n"), "{open}");
    let classic = talk(server.address(), format!("{request}\r\n").as_bytes()).await;
    assert!(classic.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{classic}");
    assert!(classic.contains("# TYPE grpc_server_handled_total counter\n") && !classic.contains("# EOF"), "{classic}");
    assert!(classic.contains("# TYPE sluice_build_info gauge\n"), "a type that the older form does not know");
}
