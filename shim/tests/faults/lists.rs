//! Lists that a process answers which stands by: as fresh as those of the process that serves.

use nix::sys::signal::Signal;
use pb::kv_client::KvClient;
use pb::{CompactionRequest, RangeRequest, RangeResponse};
use sluice_shim::pb::etcdserverpb as pb;
use tokio_stream::StreamExt as _;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::database::Database;
use crate::ledger::in_time;
use crate::shim::{Shim, put};
use crate::standby::{FLAGS, ready};

fn list() -> RangeRequest {
    RangeRequest { key: "/a/".into(), range_end: "/a0".into(), ..Default::default() }
}

async fn listed(channel: &Channel, request: impl tonic::IntoRequest<RangeRequest>) -> Result<RangeResponse, Status> {
    KvClient::new(channel.clone()).range(request).await.map(tonic::Response::into_inner)
}

fn keys(answer: &RangeResponse) -> Vec<&str> {
    answer.kvs.iter().map(|kv| std::str::from_utf8(&kv.key).unwrap()).collect()
}

/// How many lists a process answered itself.
async fn answered(shim: &Shim) -> u64 {
    let metrics = shim.get("/metrics").await;
    let line = metrics.lines().find_map(|line| line.strip_prefix("sluice_standby_lists_total "));
    line.unwrap().parse().unwrap()
}

/// Two processes, of which the second answers lists.
async fn pair(database: &Database) -> [Shim; 2] {
    let first = Shim::start_with(database.endpoint(), &FLAGS);
    in_time("the first", async { while !ready(&first).await.0 {} }).await;
    let second = Shim::start_with(database.endpoint(), &FLAGS);
    let channel = second.connect().await;
    let reads = async {
        while answered(&second).await == 0 {
            listed(&channel, list()).await.unwrap();
        }
    };
    in_time("a list at the second", reads).await;
    [first, second]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_shows_all_that_was_acknowledged() {
    if crate::is_skipped() {
        return;
    }
    let database = Database::new();
    let [first, second] = pair(&database).await;
    let (leads, stands_by) = (first.connect().await, second.connect().await);
    let wanted = answered(&second).await + 50;
    let writes = async {
        let mut nth = 0;
        while answered(&second).await < wanted {
            let key = format!("/a/{nth:06}");
            let written = KvClient::new(leads.clone()).put(put(&key, "x")).await.unwrap().into_inner().header.unwrap();
            let answer = listed(&stands_by, list()).await.unwrap();
            let header = answer.header.as_ref().unwrap();
            assert_eq!(keys(&answer).last(), Some(&&key[..]));
            assert_eq!((header.revision, header.cluster_id), (written.revision, written.cluster_id));
            nth += 1;
        }
    };
    in_time("lists that are answered there", writes).await;
}

/// Whatever is asked, both processes say the same.
#[tokio::test(flavor = "multi_thread")]
async fn answers_are_those_of_the_process_that_serves() {
    if crate::is_skipped() {
        return;
    }
    let database = Database::new();
    let [first, second] = pair(&database).await;
    let both = [first.connect().await, second.connect().await];
    let mut kv = KvClient::new(both[0].clone());
    // More than one chunk of a stream holds.
    for nth in 0..1200 {
        let color = ["green", "blue"][nth % 2];
        let value = format!(r#"{{"apiVersion":"v1","kind":"X","metadata":{{"labels":{{"color":"{color}"}}}}}}"#);
        kv.put(put(&format!("/a/{nth:04}"), value)).await.unwrap();
    }
    kv.compact(CompactionRequest { revision: 100, physical: false }).await.unwrap();
    let mut selective = Request::new(list());
    for (name, value) in [("sluice-label-selector", "color=green"), ("sluice-contract-version", "1")] {
        selective.metadata_mut().insert(name, value.parse().unwrap());
    }
    let long = RangeRequest { key: vec![b'/'; 100 << 10].into(), ..list() };
    let table = [
        Request::new(list()),
        selective,
        Request::new(RangeRequest { limit: 10, ..list() }),
        Request::new(RangeRequest { limit: 10, revision: 500, ..list() }),
        Request::new(RangeRequest { revision: 99, ..list() }),
        Request::new(RangeRequest { revision: 100_000, ..list() }),
        Request::new(RangeRequest { sort_order: 2, sort_target: 4, limit: 3, ..list() }),
        Request::new(RangeRequest { keys_only: true, min_mod_revision: 1000, ..list() }),
        Request::new(RangeRequest { count_only: true, revision: 800, ..list() }),
        Request::new(RangeRequest { key: "".into(), ..list() }),
        Request::new(long),
    ];
    for request in table {
        let again = || {
            let mut again = Request::new(request.get_ref().clone());
            *again.metadata_mut() = request.metadata().clone();
            again
        };
        let [ours, theirs] = [listed(&both[0], again()).await, listed(&both[1], again()).await];
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => {
                assert_eq!((ours.kvs, ours.more, ours.count), (theirs.kvs, theirs.more, theirs.count));
                assert_eq!(ours.header.unwrap().revision, theirs.header.unwrap().revision);
            }
            (Err(ours), Err(theirs)) => assert_eq!((ours.code(), ours.message()), (theirs.code(), theirs.message())),
            other => panic!("{request:?}: {other:?}"),
        }
        let mut chunks = Vec::new();
        for channel in &both {
            let stream = KvClient::new(channel.clone()).range_stream(again()).await;
            let chunk = |chunk: Result<pb::RangeStreamResponse, Status>| {
                chunk.map(|chunk| chunk.range_response.unwrap().kvs).map_err(|status| status.message().to_owned())
            };
            chunks.push(match stream {
                Ok(stream) => stream.into_inner().map(chunk).collect::<Vec<_>>().await,
                Err(status) => vec![Err(status.message().to_owned())],
            });
        }
        assert_eq!(chunks[0], chunks[1], "{request:?}");
    }
}

/// Of more lists than there are connections, those that have begun wait for one, at each of their parts.
#[tokio::test(flavor = "multi_thread")]
async fn lists_that_have_begun_wait_for_each_other() {
    if crate::is_skipped() {
        return;
    }
    let database = Database::new();
    let [_first, second] = pair(&database).await;
    let channel = second.connect().await;
    for nth in 0..64 {
        KvClient::new(channel.clone()).put(put(&format!("/a/{nth:02}"), vec![b'x'; 100 << 10])).await.unwrap();
    }
    let before = answered(&second).await;
    let lists = (0..16).map(|_| async {
        for _ in 0..8 {
            let mut chunks = KvClient::new(channel.clone()).range_stream(list()).await.unwrap().into_inner();
            let mut keys = 0;
            while let Some(chunk) = chunks.message().await.unwrap() {
                keys += chunk.range_response.unwrap().kvs.len();
            }
            assert_eq!(keys, 64);
        }
    });
    in_time("lists in parts", futures::future::join_all(lists)).await;
    assert!(answered(&second).await > before + 1, "all were handed on");
}

/// While nobody serves, nobody can say how far the database is: a list waits, as all requests do.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_waits_for_the_next_process_that_serves() {
    if crate::is_skipped() {
        return;
    }
    let database = Database::new();
    let [mut first, second] = pair(&database).await;
    let channel = second.connect().await;
    KvClient::new(channel.clone()).put(put("/a/1", "x")).await.unwrap();
    first.signal(Signal::SIGKILL);
    first.ended().await;
    let again = async {
        loop {
            if let Ok(answer) = listed(&channel, list()).await {
                break answer;
            }
        }
    };
    assert_eq!(keys(&in_time("a list", again).await), ["/a/1"]);
    let answers = answered(&second).await;
    listed(&channel, list()).await.unwrap();
    assert_eq!(answered(&second).await, answers, "the process serves, and still reads as one that stands by");
}
