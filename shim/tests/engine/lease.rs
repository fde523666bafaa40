//! Leases end by themselves, with their keys, and live on through a restart.

use std::time::Duration;

use crate::database::Database;
use crate::support::{open, prefix};
use sluice_shim::engine::*;
use tokio::time::timeout;

async fn attach(engine: &Engine, key: &'static str, lease: LeaseId) -> Result<Revision> {
    let put = Put { key: key.into(), value: "v".into(), lease, ..Put::default() };
    engine.write(Op::Put(put)).await.map(|(revision, _)| revision)
}

#[tokio::test]
async fn an_expired_lease_takes_its_keys_at_one_revision() {
    let database = Database::new();
    let (engine, _) = open(&database).await;
    let lease = engine.lease_grant(0, 1).await.unwrap();
    assert!(lease.id > 0);
    attach(&engine, "/a", lease.id).await.unwrap();
    attach(&engine, "/b", lease.id).await.unwrap();
    engine.lease_grant(77, 600).await.unwrap();
    attach(&engine, "/kept", 77).await.unwrap();
    let status = engine.lease_time_to_live(lease.id, true).await.unwrap();
    assert_eq!(status.keys, ["/a", "/b"]);
    engine.shutdown().await;
    let (engine, metrics) = open(&database).await;
    let mut session = engine.watch();
    session.create(WatchSpec {
        id: 1,
        range: prefix("/"),
        start_revision: 2,
        no_put: true,
        no_delete: false,
        selection: None,
    });
    let WatchMessage::Events { events, .. } = timeout(Duration::from_secs(20), session.next()).await.unwrap() else {
        panic!("no events")
    };
    let gone: Vec<_> = events.iter().map(|event| (&event.kv.key[..], event.kv.mod_revision)).collect();
    assert_eq!(gone, [(&b"/a"[..], 5), (b"/b", 5)]);
    assert!(matches!(engine.lease_keep_alive(lease.id).await, Err(Error::LeaseNotFound)));
    assert_eq!(engine.leases().await.unwrap().iter().map(|lease| lease.id).collect::<Vec<_>>(), [77]);
    assert!(metrics.leases_expired.get() <= 1);
}

#[tokio::test]
async fn leases_refuse_what_etcd_refuses() {
    let database = Database::new();
    let (engine, _) = open(&database).await;
    engine.lease_grant(5, 600).await.unwrap();
    assert!(matches!(engine.lease_grant(5, 60).await, Err(Error::LeaseExists)));
    assert!(matches!(attach(&engine, "/a", 6).await, Err(Error::LeaseNotFound)));
    assert_eq!(engine.lease_keep_alive(5).await.unwrap(), 600);
    let attached = attach(&engine, "/a", 5).await.unwrap();
    // A put without a lease detaches the key: it outlives the lease.
    assert_eq!(attach(&engine, "/b", 5).await.unwrap(), attached + 1);
    attach(&engine, "/b", 0).await.unwrap();
    let revoked = engine.lease_revoke(5).await.unwrap();
    assert_eq!(revoked, attached + 3);
    let left = engine.range(RangeQuery { range: prefix("/"), ..RangeQuery::default() }).await.unwrap();
    assert_eq!(left.kvs.iter().map(|kv| &kv.key[..]).collect::<Vec<_>>(), [b"/b"]);
    assert!(matches!(engine.lease_revoke(5).await, Err(Error::LeaseNotFound)));
}
