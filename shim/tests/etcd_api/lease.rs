use super::server::{Client, DEADLINE, TestServer, put, range_of};
use sluice_shim::pb::etcdserverpb as pb;

async fn grant(client: &mut Client, id: i64, ttl: i64) -> Result<pb::LeaseGrantResponse, tonic::Status> {
    Ok(client.lease.lease_grant(pb::LeaseGrantRequest { id, ttl }).await?.into_inner())
}

async fn time_to_live(client: &mut Client, id: i64) -> pb::LeaseTimeToLiveResponse {
    client.lease.lease_time_to_live(pb::LeaseTimeToLiveRequest { id, keys: true }).await.unwrap().into_inner()
}

#[tokio::test]
async fn grant_attach_revoke() {
    let server = TestServer::start(&[]).await;
    let mut client = server.connect().await;
    let chosen = grant(&mut client, 0, 60).await.unwrap();
    assert!(chosen.id > 0 && chosen.ttl == 60);
    assert_eq!(grant(&mut client, 7, 1).await.unwrap().ttl, 2, "the shortest time is etcd's");
    let exists = grant(&mut client, chosen.id, 60).await.unwrap_err();
    assert_eq!((exists.code() as i32, exists.message()), (9, "etcdserver: lease already exists"));
    let long = grant(&mut client, 8, 9_000_000_001).await.unwrap_err();
    assert_eq!((long.code() as i32, long.message()), (11, "etcdserver: too large lease TTL"));

    client.kv.put(pb::PutRequest { lease: chosen.id, ..put("a", "1") }).await.unwrap();
    let status = time_to_live(&mut client, chosen.id).await;
    assert_eq!((status.granted_ttl, &status.keys[..]), (60, &["a".into()][..]));
    assert!((1..=60).contains(&status.ttl));
    let leases = client.lease.lease_leases(pb::LeaseLeasesRequest {}).await.unwrap().into_inner().leases;
    assert!(leases.iter().any(|lease| lease.id == chosen.id));

    let revoked = client.lease.lease_revoke(pb::LeaseRevokeRequest { id: chosen.id }).await.unwrap().into_inner();
    assert_eq!(revoked.header.unwrap().revision, 3);
    assert_eq!(client.range(range_of("a")).await.unwrap().count, 0);
    assert_eq!(time_to_live(&mut client, chosen.id).await.ttl, -1);
    let gone = client.lease.lease_revoke(pb::LeaseRevokeRequest { id: chosen.id }).await.unwrap_err();
    assert_eq!((gone.code() as i32, gone.message()), (5, "etcdserver: requested lease not found"));
}

#[tokio::test]
async fn keep_alive_answers_each_request() {
    let server = TestServer::start(&[]).await;
    let mut client = server.connect().await;
    grant(&mut client, 5, 60).await.unwrap();
    let requests = tokio_stream::iter([5, 6, 5].map(|id| pb::LeaseKeepAliveRequest { id }));
    let mut answers = client.lease.lease_keep_alive(requests).await.unwrap().into_inner();
    let mut found = vec![];
    while let Some(answer) = answers.message().await.unwrap() {
        found.push((answer.id, answer.ttl));
    }
    assert_eq!(found, [(5, 60), (6, 0), (5, 60)], "a lease that is not there has no time");
}

#[tokio::test]
async fn an_expired_lease_takes_its_keys_along() {
    let server = TestServer::start(&[]).await;
    let mut client = server.connect().await;
    grant(&mut client, 5, 2).await.unwrap();
    client.kv.put(pb::PutRequest { lease: 5, ..put("a", "1") }).await.unwrap();
    client.kv.put(put("b", "2")).await.unwrap();
    let gone = async { while client.range(range_of("a")).await.unwrap().count > 0 {} };
    tokio::time::timeout(DEADLINE, gone).await.unwrap();
    assert_eq!(client.range(range_of("b")).await.unwrap().count, 1);
    assert_eq!(time_to_live(&mut client, 5).await.ttl, -1);
}
