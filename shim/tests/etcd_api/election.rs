use super::server::{Client, DEADLINE, TestServer, range_from, range_of};
use sluice_shim::pb::etcdserverpb as pb;
use sluice_shim::pb::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest, ResignRequest,
};
use tokio::task::JoinHandle;
use tonic::{Code, Status, Streaming};

async fn grant(client: &mut Client, id: i64) {
    client.lease.lease_grant(pb::LeaseGrantRequest { id, ttl: 60 }).await.unwrap();
}

async fn campaign(client: &mut Client, lease: i64, value: &str) -> Result<CampaignResponse, Status> {
    let request = CampaignRequest { name: "e".into(), lease, value: value.to_owned().into() };
    let won = tokio::time::timeout(DEADLINE, client.election.campaign(request)).await.expect("never elected");
    Ok(won?.into_inner())
}

/// A campaign that waits; its key is there when this returns.
async fn campaigner(client: &Client, lease: i64, value: &'static str) -> JoinHandle<Result<CampaignResponse, Status>> {
    let mut own = client.clone();
    let task = tokio::spawn(async move { campaign(&mut own, lease, value).await });
    wait_for_value(client, lease, Some(value)).await;
    task
}

async fn wait_for_value(client: &Client, lease: i64, value: Option<&str>) {
    let (mut client, key) = (client.clone(), format!("e/{lease:x}"));
    let there = async {
        loop {
            let kvs = client.range(range_of(&key)).await.unwrap().kvs;
            if kvs.first().map(|kv| &kv.value[..]) == value.map(str::as_bytes) {
                return;
            }
        }
    };
    tokio::time::timeout(DEADLINE, there).await.unwrap_or_else(|_| panic!("{lease} never had {value:?}"));
}

async fn proclaim(client: &mut Client, leader: Option<&LeaderKey>, value: &str) -> Result<i64, Status> {
    let request = ProclaimRequest { leader: leader.cloned(), value: value.to_owned().into() };
    Ok(client.election.proclaim(request).await?.into_inner().header.unwrap().revision)
}

async fn resign(client: &mut Client, leader: Option<&LeaderKey>) -> Result<i64, Status> {
    let request = ResignRequest { leader: leader.cloned() };
    Ok(client.election.resign(request).await?.into_inner().header.unwrap().revision)
}

async fn leader(client: &mut Client) -> Result<LeaderResponse, Status> {
    Ok(client.election.leader(LeaderRequest { name: "e".into() }).await?.into_inner())
}

async fn observe(client: &mut Client) -> Streaming<LeaderResponse> {
    client.election.observe(LeaderRequest { name: "e".into() }).await.unwrap().into_inner()
}

/// The next leader or proclamation: key, value, and the revision of the header.
async fn next(observed: &mut Streaming<LeaderResponse>) -> (String, String, i64) {
    let next = tokio::time::timeout(DEADLINE, observed.message()).await.expect("nothing to observe").unwrap();
    let LeaderResponse { header, kv } = next.expect("it ended");
    let kv = kv.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&kv.key), text(&kv.value), header.unwrap().revision)
}

#[tokio::test]
async fn leaders_follow_each_other() {
    let server = TestServer::start(&[]).await;
    let mut client = server.connect().await;
    grant(&mut client, 1).await;
    grant(&mut client, 2).await;
    let mut early = observe(&mut client).await;

    let won = campaign(&mut client, 1, "one").await.unwrap();
    let first = won.leader.unwrap();
    assert_eq!((&first.name[..], &first.key[..], first.rev, first.lease), (&b"e"[..], &b"e/1"[..], 2, 1));
    assert_eq!(won.header.unwrap().revision, 2);
    assert_eq!(next(&mut early).await, ("e/1".into(), "one".into(), 2), "it waited for the first leader");

    let second = campaigner(&client, 2, "two").await;
    let now = leader(&mut client).await.unwrap();
    assert_eq!((&now.kv.unwrap().value[..], now.header.unwrap().revision), (&b"one"[..], 3));
    let mut late = observe(&mut server.connect().await).await;
    assert_eq!(next(&mut late).await, ("e/1".into(), "one".into(), 3));
    assert_eq!(proclaim(&mut client, Some(&first), "uno").await.unwrap(), 4);
    assert_eq!(proclaim(&mut client, Some(&first), "un").await.unwrap(), 5);
    assert_eq!(next(&mut late).await.1, "uno");
    assert_eq!(next(&mut late).await.1, "un");

    assert!(!second.is_finished());
    assert_eq!(resign(&mut client, Some(&first)).await.unwrap(), 6);
    let second = second.await.unwrap().unwrap();
    assert_eq!((second.header.unwrap().revision, second.leader.unwrap().rev), (3, 3), "of its key, as with etcd");
    assert_eq!(next(&mut late).await, ("e/2".into(), "two".into(), 6));
    let seen = [next(&mut early).await.1, next(&mut early).await.1, next(&mut early).await.1];
    assert_eq!(seen, ["uno", "un", "two"]);

    let gone = proclaim(&mut client, Some(&first), "again").await.unwrap_err();
    assert_eq!((gone.code(), gone.message()), (Code::Unknown, "election: not leader"));
    assert_eq!(resign(&mut client, Some(&first)).await.unwrap(), 6, "it is no error that somebody else leads");
    assert_eq!(&leader(&mut client).await.unwrap().kv.unwrap().value[..], b"two");
}

#[tokio::test]
async fn a_second_campaign_of_a_lease_proclaims() {
    let server = TestServer::start(&[]).await;
    let mut client = server.connect().await;
    grant(&mut client, 1).await;
    grant(&mut client, 2).await;
    let first = campaign(&mut client, 1, "one").await.unwrap().leader.unwrap();
    let again = campaign(&mut client, 1, "uno").await.unwrap().leader.unwrap();
    assert_eq!(again, first);
    assert_eq!(&leader(&mut client).await.unwrap().kv.unwrap().value[..], b"uno");

    let waiting = campaigner(&client, 2, "two").await;
    let again = campaigner(&client, 2, "dos").await;
    resign(&mut client, Some(&first)).await.unwrap();
    for won in [waiting.await, again.await] {
        assert_eq!(won.unwrap().unwrap().leader.unwrap().key, "e/2");
    }
}

#[tokio::test]
async fn who_stops_campaigning_is_never_elected() {
    let server = TestServer::start(&[]).await;
    let mut client = server.connect().await;
    for lease in [1, 2, 3] {
        grant(&mut client, lease).await;
    }
    let first = campaign(&mut client, 1, "one").await.unwrap().leader.unwrap();
    let canceled = campaigner(&client, 2, "two").await;
    let third = campaigner(&client, 3, "three").await;
    canceled.abort();
    wait_for_value(&client, 2, None).await;
    assert!(!third.is_finished());
    resign(&mut client, Some(&first)).await.unwrap();
    assert_eq!(third.await.unwrap().unwrap().leader.unwrap().key, "e/3");
    assert_eq!(client.range(range_from("e")).await.unwrap().count, 1);
}

/// Codes and texts as etcd 3.7.3 answers.
#[tokio::test]
async fn errors() {
    let server = TestServer::start(&["--max-request-bytes", "1000"]).await;
    let mut client = server.connect().await;
    grant(&mut client, 1).await;
    let key = |key: &str| LeaderKey { key: key.to_owned().into(), rev: 5, lease: 1, ..Default::default() };
    let large = "x".repeat(1000);
    let table = [
        (leader(&mut client).await.map(drop), "election: no leader"),
        (proclaim(&mut client, None, "").await.map(drop), r#""leader" field must be provided"#),
        (resign(&mut client, None).await.map(drop), r#""leader" field must be provided"#),
        (proclaim(&mut client, Some(&key("")), "").await.map(drop), "etcdserver: key is not provided"),
        (resign(&mut client, Some(&key(""))).await.map(drop), "etcdserver: key is not provided"),
        (proclaim(&mut client, Some(&key("e/1")), "").await.map(drop), "election: not leader"),
        (campaign(&mut client, 77, "").await.map(drop), "etcdserver: requested lease not found"),
        (campaign(&mut client, 1, &large).await.map(drop), "etcdserver: request is too large"),
    ];
    for (result, text) in table {
        let status = result.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unknown, text));
    }
    assert_eq!(client.range(range_from("\0")).await.unwrap().count, 0);
}
