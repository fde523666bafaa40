use std::future::Future;
use std::time::Duration;

use super::server::{Client, DEADLINE, TestServer, put, shirt, with_labels};
use pb::watch_request::RequestUnion;
use sluice_shim::pb::etcdserverpb as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

/// One watch stream.
struct Watch {
    requests: mpsc::Sender<pb::WatchRequest>,
    responses: Streaming<pb::WatchResponse>,
}

impl Watch {
    async fn open(client: &mut Client) -> Self {
        Self::open_with(client, None).await
    }

    async fn open_with(client: &mut Client, labels: Option<&str>) -> Self {
        let (requests, receiver) = mpsc::channel(16);
        let stream = ReceiverStream::new(receiver);
        let request = match labels {
            Some(labels) => with_labels(stream, labels),
            None => tonic::Request::new(stream),
        };
        let responses = client.watch.watch(request).await.unwrap().into_inner();
        Self { requests, responses }
    }

    async fn send(&self, request: RequestUnion) {
        self.requests.send(pb::WatchRequest { request_union: Some(request) }).await.unwrap();
    }

    /// Creates a watcher of all keys and returns the answer.
    async fn create(&mut self, request: pb::WatchCreateRequest) -> pb::WatchResponse {
        self.send(RequestUnion::CreateRequest(request)).await;
        self.next().await
    }

    async fn next(&mut self) -> pb::WatchResponse {
        self.try_next().await.unwrap().expect("the stream ended")
    }

    async fn try_next(&mut self) -> Result<Option<pb::WatchResponse>, Status> {
        within(self.responses.message()).await
    }

    /// The next events, as "put key value" or "delete key".
    async fn events(&mut self, number: usize) -> Vec<String> {
        let mut events = vec![];
        while events.len() < number {
            events.extend(self.next().await.events.iter().map(describe));
        }
        events
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("took too long")
}

fn describe(event: &sluice_shim::pb::mvccpb::Event) -> String {
    let kv = event.kv.as_ref().unwrap();
    let key = String::from_utf8_lossy(&kv.key);
    match event.r#type {
        0 => format!("put {key} {}", String::from_utf8_lossy(&kv.value)),
        _ => format!("delete {key}"),
    }
}

/// A watcher of all keys.
fn all() -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() }
}

async fn delete(client: &mut Client, key: &str) {
    let request = pb::DeleteRangeRequest { key: key.to_owned().into(), ..Default::default() };
    client.kv.delete_range(request).await.unwrap();
}

#[tokio::test]
async fn events_from_now_from_the_past_and_with_filters() {
    let server = TestServer::start(&[]).await;
    let mut client = server.connect().await;
    let mut watch = Watch::open(&mut client).await;
    let created = watch.create(pb::WatchCreateRequest { prev_kv: true, ..all() }).await;
    assert_eq!((created.watch_id, created.created, created.header.unwrap().revision), (0, true, 1));

    client.put("a", "1").await;
    client.put("a", "2").await;
    delete(&mut client, "a").await;
    let mut events = vec![];
    while events.len() < 3 {
        events.extend(watch.next().await.events);
    }
    assert_eq!(events.iter().map(describe).collect::<Vec<_>>(), ["put a 1", "put a 2", "delete a"]);
    let previous = |i: usize| events[i].prev_kv.as_ref().map(|kv| kv.value.clone());
    assert_eq!((previous(0), previous(1), previous(2)), (None, Some("1".into()), Some("2".into())));
    assert_eq!(events[2].kv.as_ref().unwrap().mod_revision, 4);

    let mut past = Watch::open(&mut client).await;
    assert!(past.create(pb::WatchCreateRequest { start_revision: 3, ..all() }).await.created);
    assert_eq!(past.events(2).await, ["put a 2", "delete a"]);
    for (filter, expected) in [(0, vec!["delete a"]), (1, vec!["put a 1", "put a 2"])] {
        let mut filtered = Watch::open(&mut client).await;
        filtered.create(pb::WatchCreateRequest { start_revision: 2, filters: vec![filter], ..all() }).await;
        assert_eq!(filtered.events(expected.len()).await, expected);
    }
    let mut future = Watch::open(&mut client).await;
    assert!(future.create(pb::WatchCreateRequest { start_revision: 6, ..all() }).await.created);
    client.put("b", "5").await;
    client.put("b", "6").await;
    assert_eq!(future.events(1).await, ["put b 6"]);
}

#[tokio::test]
async fn ids_refusals_and_cancellation() {
    let server = TestServer::start(&[]).await;
    let mut client = server.connect().await;
    let mut watch = Watch::open(&mut client).await;
    assert_eq!(watch.create(all()).await.watch_id, 0);
    assert_eq!(watch.create(pb::WatchCreateRequest { watch_id: 1, ..all() }).await.watch_id, 1);
    assert_eq!(watch.create(all()).await.watch_id, 2);
    let refusals = [
        (pb::WatchCreateRequest { watch_id: 1, ..all() }, "mvcc: duplicate watch ID provided on the WatchStream"),
        (pb::WatchCreateRequest { key: "b".into(), range_end: "a".into(), ..all() }, "mvcc: watcher range is empty"),
        (
            pb::WatchCreateRequest { start_revision: -1, ..all() },
            "etcdserver: mvcc: required revision has been compacted",
        ),
    ];
    for (request, reason) in refusals {
        let refused = watch.create(request).await;
        assert_eq!((refused.watch_id, refused.created, refused.canceled), (-1, true, true));
        assert_eq!(refused.cancel_reason, reason);
    }
    watch.send(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: 9 })).await;
    watch.send(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: 1 })).await;
    let canceled = watch.next().await;
    assert_eq!((canceled.watch_id, canceled.canceled, canceled.created), (1, true, false));
    server.wait_for_metric("etcd_debugging_mvcc_watcher_total 2").await;
    // The id is free again.
    assert!(!watch.create(pb::WatchCreateRequest { watch_id: 1, ..all() }).await.canceled);
}

#[tokio::test]
async fn a_compacted_start_is_canceled_with_the_revision() {
    let server = TestServer::start(&[]).await;
    let mut client = server.connect().await;
    for i in 0..5 {
        client.put("a", i.to_string()).await;
    }
    client.kv.compact(pb::CompactionRequest { revision: 4, physical: true }).await.unwrap();
    let mut watch = Watch::open(&mut client).await;
    assert!(watch.create(pb::WatchCreateRequest { start_revision: 2, ..all() }).await.created);
    let canceled = watch.next().await;
    assert_eq!((canceled.watch_id, canceled.canceled, canceled.compact_revision), (0, true, 4));
    server.wait_for_metric("etcd_debugging_mvcc_watcher_total 0").await;
}

/// etcd: mvcc/watcher_group.go, `chooseAll` (only what begins before it is compacted) and key_index.go,
/// `keepTombstone`.
#[tokio::test]
async fn a_start_at_the_compaction_misses_nothing() {
    let server = TestServer::start(&[]).await;
    let mut client = server.connect().await;
    client.put("a", "1").await;
    client.put("b", "1").await;
    client.kv.delete_range(pb::DeleteRangeRequest { key: "a".into(), ..Default::default() }).await.unwrap();
    client.put("b", "2").await;
    for (revision, expected) in [(4, vec![4, 5]), (5, vec![5])] {
        client.kv.compact(pb::CompactionRequest { revision, physical: true }).await.unwrap();
        let mut watch = Watch::open(&mut client).await;
        let create = pb::WatchCreateRequest { start_revision: revision, prev_kv: true, ..all() };
        assert!(watch.create(create).await.created);
        let mut seen = Vec::new();
        while seen.len() < expected.len() {
            let response = watch.next().await;
            assert!(!response.canceled, "{response:?}");
            for event in response.events {
                let at = event.kv.as_ref().unwrap().mod_revision;
                assert_eq!(event.prev_kv.is_some(), at > revision, "what was before the compaction is gone: {event:?}");
                seen.push(at);
            }
        }
        assert_eq!(seen, expected);
    }
}

#[tokio::test]
async fn progress() {
    let server = TestServer::start(&["--watch-progress-notify-interval", "50ms"]).await;
    let mut client = server.connect().await;
    let mut asked = Watch::open(&mut client).await;
    asked.create(all()).await;
    let revision = client.put("a", "1").await;
    assert_eq!(asked.events(1).await, ["put a 1"]);
    asked.send(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})).await;
    let answer = asked.next().await;
    assert_eq!((answer.watch_id, answer.header.unwrap().revision, answer.events.len()), (-1, revision, 0));

    // One that sees nothing hears how far it is; one that did not ask hears nothing (it would be the next answer).
    let mut notified = Watch::open(&mut client).await;
    notified.create(pb::WatchCreateRequest { key: "other".into(), progress_notify: true, ..Default::default() }).await;
    let note = notified.next().await;
    assert_eq!((note.watch_id, note.header.unwrap().revision, note.events.len()), (0, revision, 0));
    let revision = client.put("a", "2").await;
    while notified.next().await.header.unwrap().revision < revision {}
    assert_eq!(asked.events(1).await, ["put a 2"]);
}

#[tokio::test]
async fn big_responses_come_in_fragments() {
    let server = TestServer::start(&["--max-request-bytes", "100000"]).await;
    let mut client = server.connect().await;
    for i in 0..15 {
        client.put(&format!("k{i}"), vec![b'x'; 90_000]).await;
    }
    let mut watch = Watch::open(&mut client).await;
    // The client's own limit is 4 MB; the server's for one part is 100,000 bytes + 512 KiB.
    watch.create(pb::WatchCreateRequest { start_revision: 2, fragment: true, ..all() }).await;
    let (mut events, mut fragments) = (0, 0);
    while events < 15 {
        let response = watch.next().await;
        assert!(response.events.iter().map(|event| event.kv.as_ref().unwrap().value.len()).sum::<usize>() < 624_288);
        fragments += usize::from(response.fragment);
        events += response.events.len();
    }
    assert!(events == 15 && fragments >= 1, "{events} events, {fragments} fragments");
}

#[tokio::test]
async fn selected_events_show_who_leaves() {
    let server = TestServer::start(&[]).await;
    let mut client = server.connect().await;
    let mut watch = Watch::open_with(&mut client, Some("color=green")).await;
    watch.create(pb::WatchCreateRequest { prev_kv: true, ..all() }).await;
    let key = |name: &str| format!("/registry/stable.example.com/shirts/default/{name}");
    client.put(&key("a"), shirt("a", "blue")).await;
    client.put(&key("b"), shirt("b", "green")).await;
    client.put(&key("b"), shirt("b", "red")).await;
    client.put(&key("b"), shirt("b", "blue")).await;
    delete(&mut client, &key("a")).await;
    client.put(&key("c"), shirt("c", "green")).await;
    let mut revisions = vec![];
    while revisions.len() < 3 {
        revisions.extend(watch.next().await.events.iter().map(|event| event.kv.as_ref().unwrap().mod_revision));
    }
    assert_eq!(revisions, [3, 4, 7]);
}

/// Selectors in the requests themselves, one for each watcher of a stream.
#[tokio::test]
async fn selectors_of_watchers() {
    let server = TestServer::start(&[]).await;
    let mut client = server.connect().await;
    let mut watch = Watch::open(&mut client).await;
    for (watch_id, label_selector, field_selector) in [(1, "color=green", ""), (2, "", "metadata.name=a")] {
        let (label_selector, field_selector) = (label_selector.into(), field_selector.into());
        let created = watch.create(pb::WatchCreateRequest { watch_id, label_selector, field_selector, ..all() }).await;
        assert!(created.created && created.watch_id == watch_id);
    }
    for (name, color) in [("a", "blue"), ("b", "green"), ("c", "red"), ("a", "green")] {
        client.put(&format!("/registry/stable.example.com/shirts/default/{name}"), shirt(name, color)).await;
    }
    let mut seen = vec![];
    while seen.len() < 4 {
        let response = watch.next().await;
        seen.extend(response.events.iter().map(|event| (response.watch_id, event.kv.as_ref().unwrap().mod_revision)));
    }
    seen.sort_unstable();
    assert_eq!(seen, [(1, 3), (1, 5), (2, 2), (2, 5)]);
}

/// A client that does not read holds up nobody, and what it had is gone when it is.
#[tokio::test]
async fn slow_clients() {
    let server = TestServer::start(&[]).await;
    let mut slow = server.connect().await;
    let mut lazy = Watch::open(&mut slow).await;
    lazy.create(all()).await;
    let mut client = server.connect().await;
    let mut watch = Watch::open(&mut client).await;
    watch.create(all()).await;
    let writer = async {
        let mut client = server.connect().await;
        for i in 0..200 {
            client.put(&format!("k{i}"), vec![b'x'; 50_000]).await;
        }
    };
    let reader = async {
        let mut keys = vec![];
        while keys.len() < 200 {
            let events = watch.next().await.events;
            keys.extend(events.into_iter().map(|event| event.kv.unwrap().key));
        }
        keys
    };
    let ((), keys) = within(async { tokio::join!(writer, reader) }).await;
    assert_eq!(keys, (0..200).map(|i| format!("k{i}")).collect::<Vec<_>>());
    server.wait_for_metric("etcd_debugging_mvcc_watch_stream_total 2").await;
    drop((lazy, slow));
    server.wait_for_metric("etcd_debugging_mvcc_watch_stream_total 1").await;
    server.wait_for_metric("etcd_debugging_mvcc_watcher_total 1").await;
}

/// Watches end with an error after which clients try again; the other requests are done; the database is closed.
#[tokio::test]
async fn shutdown() {
    let server = TestServer::start(&[]).await;
    let mut client = server.connect().await;
    let mut watch = Watch::open(&mut client).await;
    watch.create(all()).await;
    client.kv.put(put("a", "1")).await.unwrap();
    assert_eq!(watch.events(1).await, ["put a 1"]);
    let TestServer { server, database, .. } = server;
    // Well before the time after which connections are closed by force.
    let in_time = tokio::time::timeout(Duration::from_secs(5), server.shutdown());
    let (ended, stopped) = tokio::join!(watch.try_next(), in_time);
    stopped.unwrap();
    let status = ended.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "etcdserver: server stopped"));
    assert!(client.kv.put(put("a", "2")).await.is_err());

    let again = TestServer::start_in(database, &[]).await;
    let found = again.connect().await.range(super::server::range_of("a")).await.unwrap();
    assert_eq!((&found.kvs[0].value[..], found.header.unwrap().revision), (&b"1"[..], 2));
}

/// As `grpcurl` does, which sends its requests and then listens.
#[tokio::test]
async fn who_sends_nothing_more_still_hears_of_changes() {
    let server = TestServer::start(&[]).await;
    let mut client = server.connect().await;
    let create = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(all())) };
    let mut answers = client.watch.watch(tokio_stream::once(create)).await.unwrap().into_inner();
    assert!(within(answers.message()).await.unwrap().expect("the stream ended").created);
    client.put("/a", "1").await;
    let answer = within(answers.message()).await.unwrap().expect("the stream ended");
    assert_eq!(answer.events.iter().map(describe).collect::<Vec<_>>(), ["put /a 1"]);
}

#[tokio::test]
async fn a_stream_without_watchers_ends_when_nothing_more_is_sent() {
    let server = TestServer::start(&[]).await;
    let mut client = server.connect().await;
    let mut answers = client.watch.watch(tokio_stream::empty()).await.unwrap().into_inner();
    assert!(within(answers.message()).await.unwrap().is_none());
}
