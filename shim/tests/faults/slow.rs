//! A database that answers late, or not at all for a while.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use sluice_shim::pb::etcdserverpb as pb;
use tokio::sync::Semaphore;
use tonic::{Code, Status};

use crate::database::Database;
use crate::ledger::in_time;
use crate::proxy::Proxy;
use crate::shim::{Shim, put};

const SLOW: Duration = Duration::from_secs(2);
/// Less than three commits on the slow database take. A keep-alive takes up to two: it may have to wait for another.
const TTL: i64 = 10;

fn range(key: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.to_owned().into(), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_takes_seconds_for_each_answer_is_served_slowly() {
    if crate::is_skipped() {
        return;
    }
    let database = Database::new();
    let proxy = Proxy::start(database.endpoint());
    let mut shim = Shim::start(proxy.endpoint());
    let channel = shim.connect().await;
    let (mut kv, mut leases) = (KvClient::new(channel.clone()), LeaseClient::new(channel));
    let grant = pb::LeaseGrantRequest { ttl: TTL, id: 7 };
    leases.lease_grant(grant).await.unwrap();
    let leased = pb::PutRequest { lease: 7, ..put("leased", "x") };
    kv.put(leased).await.unwrap();
    proxy.delay(SLOW);
    // It is kept alive all the time, as far as the client can tell, beside other requests.
    let keep = async {
        for _ in 0..3 {
            let alive = tokio_stream::iter([pb::LeaseKeepAliveRequest { id: 7 }]);
            let mut answers = leases.lease_keep_alive(alive).await.unwrap().into_inner();
            let answer = in_time("a keep-alive", answers.message()).await.unwrap().unwrap();
            assert_eq!(answer.ttl, TTL, "the lease has ended");
        }
    };
    let mut other = kv.clone();
    let beside = async {
        in_time("a put", other.put(put("a", "1"))).await.unwrap();
        let found = in_time("a get", other.range(range("a"))).await.unwrap().into_inner();
        assert_eq!(found.kvs[0].value, "1");
        // Whichever it is, it says so.
        let ready = shim.get("/readyz?verbose").await;
        assert!(ready.contains("serializable_read"), "{ready}");
    };
    tokio::join!(keep, beside);
    proxy.delay(Duration::ZERO);
    assert_eq!(in_time("a get", kv.range(range("leased"))).await.unwrap().into_inner().kvs.len(), 1);
    // None at all.
    proxy.stall(true);
    let ready = shim.get("/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("the database did not answer within 5 s"), "{ready}");
    let writable = shim.get("/readyz/writable").await;
    assert!(writable.starts_with("HTTP/1.1"), "{writable}");
    proxy.stall(false);
    in_time("a put", kv.put(put("a", "2"))).await.unwrap();
    in_time("readiness", async { while !shim.get("/readyz").await.starts_with("HTTP/1.1 200") {} }).await;
    assert!(shim.lives());
}

/// How large a value is, how many are offered, and how many are under way at once.
const VALUE: usize = 256 << 10;
const OFFERED: usize = 1500;
const AT_ONCE: usize = 320;
/// How many are refused before the memory is looked at.
const REFUSED: usize = 1000;
/// The most that they may take: far less than all that is offered, and more than what may wait.
const MEMORY: u64 = 200 << 20;

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Stored,
    Refused,
    /// On a machine that has much to do the database stands still for so long that requests are given up.
    GivenUp,
}

impl Ended {
    fn of<T>(answer: Result<T, Status>) -> Self {
        match answer {
            Ok(_) => Self::Stored,
            Err(status) if status.code() == Code::ResourceExhausted => {
                assert_eq!(status.message(), "etcdserver: too many requests");
                Self::Refused
            }
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status}");
                Self::GivenUp
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_writes_to_a_database_that_stands_still_is_refused() {
    if crate::is_skipped() {
        return;
    }
    let database = Database::new();
    let proxy = Proxy::start(database.endpoint());
    let mut shim = Shim::start(proxy.endpoint());
    let kv = KvClient::new(shim.connect().await);
    kv.clone().put(put("first", "x")).await.unwrap();
    let before = shim.memory();
    proxy.stall(true);
    let (free, value) = (Arc::new(Semaphore::new(AT_ONCE)), bytes::Bytes::from(vec![b'x'; VALUE]));
    let (refused, mut refusals) = tokio::sync::mpsc::unbounded_channel();
    let writes = (0..OFFERED).map(|number| {
        let (free, value, refused, mut kv) = (Arc::clone(&free), value.clone(), refused.clone(), kv.clone());
        tokio::spawn(async move {
            let _turn = free.acquire().await.unwrap();
            let ended = Ended::of(kv.put(put(&format!("flood/{number}"), value)).await);
            if ended == Ended::Refused {
                refused.send(()).unwrap();
            }
            ended
        })
    });
    let writes: Vec<_> = writes.collect();
    let many_refused = async {
        for _ in 0..REFUSED {
            refusals.recv().await.unwrap();
        }
    };
    in_time("the refusals", many_refused).await;
    let grown = shim.memory().saturating_sub(before);
    assert!(grown < MEMORY, "{} MiB more", grown >> 20);
    proxy.stall(false);
    let ended: Vec<_> = in_time("the writes", join_all(writes)).await.into_iter().map(Result::unwrap).collect();
    let count = |of: Ended| ended.iter().filter(|ended| **ended == of).count();
    let flood = pb::RangeRequest { range_end: "flood0".into(), count_only: true, ..range("flood/") };
    let found = in_time("a count", kv.clone().range(flood)).await.unwrap().into_inner().count as usize;
    let (stored, given_up) = (count(Ended::Stored), count(Ended::GivenUp));
    assert!((stored..=stored + given_up).contains(&found), "{found} of {stored} and {given_up}");
    in_time("a put", kv.clone().put(put("last", "x"))).await.unwrap();
    assert!(shim.lives());
}
