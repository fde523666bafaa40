use std::sync::Arc;

use super::database::Database;
use super::process::Process;
use super::server::{Client, DEADLINE, TestServer, put, range_from, range_of};
use sluice_shim::pb::etcdserverpb as pb;
use sluice_shim::pb::v3lockpb::{LockRequest, LockResponse, UnlockRequest};
use tokio::task::JoinHandle;
use tonic::{Code, Status};

async fn lock(client: &mut Client, lease: i64) -> Result<LockResponse, Status> {
    let locked = client.lock.lock(LockRequest { name: "a".into(), lease });
    Ok(tokio::time::timeout(DEADLINE, locked).await.expect("the lock never came")?.into_inner())
}

async fn unlock(client: &mut Client, key: &str) -> i64 {
    let request = UnlockRequest { key: key.to_owned().into() };
    client.lock.unlock(request).await.unwrap().into_inner().header.unwrap().revision
}

async fn grant(client: &mut Client, id: i64, ttl: i64) {
    client.lease.lease_grant(pb::LeaseGrantRequest { id, ttl }).await.unwrap();
}

/// Waits until the store has these keys and no others.
async fn wait_for_keys(client: &mut Client, expected: &[&str]) {
    let keys = async {
        loop {
            let kvs = client.range(range_from("\0")).await.unwrap().kvs;
            if kvs.iter().map(|kv| &kv.key[..]).eq(expected.iter().map(|key| key.as_bytes())) {
                return;
            }
        }
    };
    tokio::time::timeout(DEADLINE, keys).await.unwrap_or_else(|_| panic!("the keys never were {expected:?}"));
}

/// A client that waits for the lock; its key is there when this returns.
async fn waiter(client: &Client, lease: i64) -> JoinHandle<Result<LockResponse, Status>> {
    let mut own = client.clone();
    let task = tokio::spawn(async move { lock(&mut own, lease).await });
    let key = format!("a/{lease:x}");
    let mut client = client.clone();
    let there = async { while client.range(range_of(&key)).await.unwrap().count == 0 {} };
    tokio::time::timeout(DEADLINE, there).await.expect("the waiter never came");
    task
}

#[tokio::test]
async fn one_after_the_other() {
    let server = TestServer::start(&[]).await;
    let mut client = server.connect().await;
    for lease in [10, 11, 12] {
        grant(&mut client, lease, 60).await;
    }
    let first = lock(&mut client, 10).await.unwrap();
    assert_eq!((&first.key[..], first.header.unwrap().revision), (&b"a/a"[..], 2));
    let second = waiter(&server.connect().await, 11).await;
    let third = waiter(&server.connect().await, 12).await;
    // Other locks are not held up, and the same lease has it already.
    let other = LockRequest { name: "a/a".into(), lease: 12 };
    assert_eq!(client.lock.lock(other).await.unwrap().into_inner().key, "a/a/c");
    let again = lock(&mut client, 10).await.unwrap();
    assert_eq!((&again.key[..], again.header.unwrap().revision), (&b"a/a"[..], 5));

    assert!(!second.is_finished() && !third.is_finished());
    let unlocked = unlock(&mut client, "a/a").await;
    let second = second.await.unwrap().unwrap();
    assert_eq!((&second.key[..], second.header.unwrap().revision), (&b"a/b"[..], unlocked));
    assert!(!third.is_finished());
    unlock(&mut client, "a/b").await;
    assert_eq!(third.await.unwrap().unwrap().key, "a/c");
}

/// Many clients that each need the lock for several requests: what they do never overlaps.
#[tokio::test]
async fn mutual_exclusion() {
    let server = TestServer::start(&[]).await;
    let inside = Arc::new(tokio::sync::Mutex::new(()));
    let mut tasks = vec![];
    for lease in 1..=8 {
        let (mut client, inside) = (server.connect().await, Arc::clone(&inside));
        tasks.push(tokio::spawn(async move {
            grant(&mut client, lease, 60).await;
            for _ in 0..5 {
                let key = lock(&mut client, lease).await.unwrap().key;
                let alone = inside.try_lock().expect("two clients have the lock");
                client.put("counter", "x").await;
                drop(alone);
                client.lock.unlock(UnlockRequest { key }).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let counter = server.connect().await.range(range_of("counter")).await.unwrap();
    assert_eq!(counter.kvs[0].version, 40);
}

#[tokio::test]
async fn the_end_of_a_lease_hands_the_lock_on() {
    let server = TestServer::start(&[]).await;
    let mut client = server.connect().await;
    for (lease, ttl) in [(1, 2), (2, 60), (3, 60), (4, 60)] {
        grant(&mut client, lease, ttl).await;
    }
    lock(&mut client, 1).await.unwrap();
    let second = waiter(&client, 2).await;
    assert_eq!(second.await.unwrap().unwrap().key, "a/2", "the holder's lease ends by itself");

    let third = waiter(&client, 3).await;
    let fourth = waiter(&client, 4).await;
    client.lease.lease_revoke(pb::LeaseRevokeRequest { id: 3 }).await.unwrap();
    unlock(&mut client, "a/2").await;
    let lost = third.await.unwrap().unwrap_err();
    assert_eq!((lost.code(), lost.message()), (Code::Unknown, "mutex: session is expired"));
    assert_eq!(fourth.await.unwrap().unwrap().key, "a/4");
}

#[tokio::test]
async fn who_goes_away_leaves_the_line() {
    let server = TestServer::start(&[]).await;
    let mut client = server.connect().await;
    for lease in [1, 2, 3, 4] {
        grant(&mut client, lease, 60).await;
    }
    lock(&mut client, 1).await.unwrap();
    let canceled = waiter(&client, 2).await;
    let disconnected = {
        let own = server.connect().await;
        waiter(&own, 3).await
    };
    let last = waiter(&client, 4).await;
    canceled.abort();
    wait_for_keys(&mut client, &["a/1", "a/3", "a/4"]).await;
    // The only connection of that client closes with its last request.
    disconnected.abort();
    wait_for_keys(&mut client, &["a/1", "a/4"]).await;
    assert!(!last.is_finished(), "those who left were not the holder");
    unlock(&mut client, "a/1").await;
    assert_eq!(last.await.unwrap().unwrap().key, "a/4");
    server.wait_for_metric(r#"grpc_server_handled_total{grpc_service="v3lockpb.Lock",grpc_method="Lock",grpc_type="unary",grpc_code="Canceled"} 2"#).await;
}

/// A second request of the holder that is cancelled, at whatever moment, does not take the lock away.
#[tokio::test]
async fn who_goes_away_from_a_lock_that_it_has_keeps_it() {
    let server = TestServer::start(&[]).await;
    let mut client = server.connect().await;
    grant(&mut client, 1, 60).await;
    lock(&mut client, 1).await.unwrap();
    for moment in 0..400 {
        let mut own = client.clone();
        let again = tokio::spawn(async move { lock(&mut own, 1).await });
        for _ in 0..moment % 40 {
            tokio::task::yield_now().await;
        }
        again.abort();
    }
    let again = lock(&mut client, 1).await.unwrap();
    let kv = client.range(range_of("a/1")).await.unwrap().kvs.remove(0);
    assert_eq!((again.header.unwrap().revision, kv.create_revision), (2, 2));
}

#[tokio::test]
async fn without_a_lease_the_server_grants_one() {
    let server = TestServer::start(&[]).await;
    let mut client = server.connect().await;
    let key = lock(&mut client, 0).await.unwrap().key;
    let lease = client.range(range_of("a/")).await.unwrap();
    assert_eq!(lease.count, 0);
    let kv = client.range(range_from("a/")).await.unwrap().kvs.remove(0);
    assert_eq!((&kv.key, kv.key.to_vec()), (&key, format!("a/{:x}", kv.lease).into_bytes()));
    let request = pb::LeaseTimeToLiveRequest { id: kv.lease, keys: false };
    assert_eq!(client.lease.lease_time_to_live(request).await.unwrap().into_inner().granted_ttl, 60);
}

/// Codes and texts as etcd 3.7.3 answers.
#[tokio::test]
async fn errors() {
    let server = TestServer::start(&["--max-request-bytes", "1000"]).await;
    let mut client = server.connect().await;
    client.put("b", "").await;
    for (name, lease, text) in [
        ("a".to_owned(), 77, "etcdserver: requested lease not found"),
        ("a".to_owned(), -1, "etcdserver: requested lease not found"),
        ("a".repeat(1000), 77, "etcdserver: request is too large"),
    ] {
        let status = client.lock.lock(LockRequest { name: name.into(), lease }).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unknown, text));
    }
    let status = client.lock.unlock(UnlockRequest { key: "".into() }).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unknown, "etcdserver: key is not provided"));
    assert_eq!(unlock(&mut client, "a/1").await, 2, "it is no error that nothing is locked");
    wait_for_keys(&mut client, &["b"]).await;
}

#[tokio::test]
async fn waiters_end_with_the_server() {
    let server = TestServer::start(&[]).await;
    let mut client = server.connect().await;
    grant(&mut client, 1, 60).await;
    grant(&mut client, 2, 60).await;
    lock(&mut client, 1).await.unwrap();
    let second = waiter(&client, 2).await;
    server.server.shutdown().await;
    assert_eq!(second.await.unwrap().unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn a_lock_outlives_the_process() {
    let database = Database::new();
    let process = Process::start(&database);
    let mut client = process.connect().await;
    for lease in [1, 2, 3] {
        grant(&mut client, lease, 600).await;
    }
    lock(&mut client, 1).await.unwrap();
    let second = waiter(&client, 2).await;
    drop(process);
    second.await.unwrap().unwrap_err();

    let process = Process::start(&database);
    let mut client = process.connect().await;
    let third = waiter(&client, 3).await;
    let second = waiter(&client, 2).await;
    assert_eq!(lock(&mut client, 1).await.unwrap().header.unwrap().revision, 4, "it is still held");
    assert!(!second.is_finished() && !third.is_finished());
    unlock(&mut client, "a/1").await;
    assert_eq!(second.await.unwrap().unwrap().key, "a/2", "its place was kept");
    client.kv.put(pb::PutRequest { lease: 1, ..put("b", "") }).await.unwrap();
    unlock(&mut client, "a/2").await;
    assert_eq!(third.await.unwrap().unwrap().key, "a/3");
}
