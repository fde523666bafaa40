use super::database::Database;
use super::server::{Client, TestServer, put, range_of};
use sluice_shim::pb::etcdserverpb as pb;
use sluice_shim::snapshot::SnapshotReader;
use tonic::Code;

#[tokio::test]
async fn status_and_members() {
    let server = TestServer::start(&["--name", "one", "--advertise-client-urls", "https://one:2379"]).await;
    let mut client = server.connect().await;
    client.put("a", "1").await;
    let status = client.maintenance.status(pb::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((&status.version[..], &status.storage_version[..]), ("3.7.3", "3.7.0"));
    let header = status.header.unwrap();
    assert_eq!((header.revision, status.leader, status.raft_term), (2, header.member_id, header.raft_term));
    assert!(status.db_size > 0 && status.db_size_in_use > 0 && status.errors.is_empty());

    let members = client.cluster.member_list(pb::MemberListRequest::default()).await.unwrap().into_inner().members;
    assert_eq!((members.len(), members[0].id, &members[0].name[..]), (1, header.member_id, "one"));
    assert_eq!(members[0].client_ur_ls, ["https://one:2379"]);
    let add = client.cluster.member_add(pb::MemberAddRequest::default()).await.unwrap_err();
    assert_eq!(add.code(), Code::Unimplemented);
    let moved = client.maintenance.move_leader(pb::MoveLeaderRequest { target_id: 1 }).await.unwrap_err();
    assert_eq!(moved.message(), "etcdserver: bad leader transferee");
}

/// The apiserver learns from the answer whether labelled objects are collected; of any other store it learns nothing.
#[tokio::test]
async fn status_says_whether_there_is_a_collector() {
    let label = Some("skip-controller-manager-metadata-caching");
    for (args, expected) in [(&[][..], label), (&["--gc=off"], None)] {
        let server = TestServer::start(args).await;
        let status = server.connect().await.maintenance.status(pb::StatusRequest {}).await.unwrap();
        let said = status.metadata().get("sluice-collected-label").map(|value| value.to_str().unwrap());
        assert_eq!(said, expected, "{args:?}");
    }
}

/// A client with a password asks for a token, and goes on without one after exactly this answer.
#[tokio::test]
async fn authentication_is_off() {
    let server = TestServer::start(&[]).await;
    let mut auth = server.connect().await.auth;
    let status = auth.auth_status(pb::AuthStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.enabled, status.auth_revision), (false, 1));
    let refused = auth.authenticate(pb::AuthenticateRequest::default()).await.unwrap_err();
    assert_eq!((refused.code() as i32, refused.message()), (9, "etcdserver: authentication is not enabled"));
    assert!(auth.auth_disable(pb::AuthDisableRequest {}).await.unwrap().into_inner().header.is_some());
    assert_eq!(auth.auth_enable(pb::AuthEnableRequest {}).await.unwrap_err().code(), Code::Unimplemented);
}

async fn hash(client: &mut Client, revision: i64) -> pb::HashKvResponse {
    client.maintenance.hash_kv(pb::HashKvRequest { revision }).await.unwrap().into_inner()
}

/// The numbers are those of etcd 3.7.3 after the same requests.
#[tokio::test]
async fn the_hash_is_etcds() {
    let server = TestServer::start(&[]).await;
    let mut client = server.connect().await;
    for (key, value) in [("a", "1"), ("a", "2"), ("b", "3")] {
        client.put(key, value).await;
    }
    let delete = pb::DeleteRangeRequest { key: "a".into(), ..Default::default() };
    client.kv.delete_range(delete).await.unwrap();
    client.put("c", "4").await;
    let whole = hash(&mut client, 0).await;
    assert_eq!((whole.hash, whole.compact_revision, whole.hash_revision), (HASH_AT_6, -1, 6));
    assert_eq!(hash(&mut client, 4).await.hash, HASH_AT_4);
    client.kv.compact(pb::CompactionRequest { revision: 4, physical: true }).await.unwrap();
    let compacted = hash(&mut client, 0).await;
    assert_eq!((compacted.hash, compacted.compact_revision), (HASH_AT_6_COMPACTED_4, 4));
    let old = client.maintenance.hash_kv(pb::HashKvRequest { revision: 3 }).await.unwrap_err();
    assert_eq!(old.code(), Code::OutOfRange);
}

const HASH_AT_6: u32 = 172_155_353;
const HASH_AT_4: u32 = 2_183_248_841;
const HASH_AT_6_COMPACTED_4: u32 = 2_620_655_943;

#[tokio::test]
async fn snapshots_can_be_read_back() {
    let server = TestServer::start(&[]).await;
    let mut client = server.connect().await;
    client.lease.lease_grant(pb::LeaseGrantRequest { id: 7, ttl: 60 }).await.unwrap();
    client.kv.put(pb::PutRequest { lease: 7, ..put("a", "1") }).await.unwrap();
    client.put("b", vec![b'x'; 100_000]).await;
    client.kv.delete_range(pb::DeleteRangeRequest { key: "a".into(), ..Default::default() }).await.unwrap();

    let mut stream = client.maintenance.snapshot(pb::SnapshotRequest {}).await.unwrap().into_inner();
    let (mut bytes, mut remaining) = (vec![], u64::MAX);
    while let Some(part) = stream.message().await.unwrap() {
        assert!(part.remaining_bytes < remaining || part.remaining_bytes == 0);
        remaining = part.remaining_bytes;
        bytes.extend_from_slice(&part.blob);
    }
    let path = server.database.folder().join("copy.db");
    std::fs::write(&path, &bytes).unwrap();
    let reader = SnapshotReader::open(&path).unwrap();
    assert!(reader.has_digest());
    let records: Vec<_> = reader.records().unwrap().map(Result::unwrap).collect();
    let seen: Vec<_> = records.iter().map(|record| (record.revision, &record.kv.key[..], record.tombstone)).collect();
    assert_eq!(seen, [(2, &b"a"[..], false), (3, b"b", false), (4, b"a", true)]);
    assert_eq!(reader.leases().unwrap().map(Result::unwrap).collect::<Vec<_>>(), [(7, 60)]);
    let left = std::fs::read_dir(server.database.folder()).unwrap();
    assert!(!left.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with(".sluice-snapshot")));
}

/// A full database takes no puts, but deletions, and says why.
#[tokio::test]
async fn quota() {
    let server = TestServer::start(&["--quota-backend-bytes", "1"]).await;
    let mut client = server.connect().await;
    let status = client.maintenance.status(pb::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.db_size_quota, status.errors.len()), (1, 1));
    let full = client.kv.put(put("a", "1")).await.unwrap_err();
    assert_eq!((full.code() as i32, full.message()), (8, "etcdserver: mvcc: database space exceeded"));
    assert!(client.kv.delete_range(pb::DeleteRangeRequest { key: "a".into(), ..Default::default() }).await.is_ok());
    assert!(client.range(range_of("a")).await.is_ok());
    assert_eq!(alarms(&mut client).await, [pb::AlarmType::Nospace as i32]);
    assert!(server.get("/health").await.contains("ALARM NOSPACE"));
}

async fn alarms(client: &mut Client) -> Vec<i32> {
    let alarms = client.maintenance.alarm(pb::AlarmRequest::default()).await.unwrap().into_inner().alarms;
    alarms.iter().map(|alarm| alarm.alarm).collect()
}

/// It does not wait for the next measurement; the alarm stays until there is room for what was refused. A server's
/// tables are not as small as that when they are empty.
#[tokio::test]
async fn the_quota_counts_what_was_just_written() {
    let server = TestServer::start_in(Database::sqlite(), &["--quota-backend-bytes", "600000"]).await;
    let mut client = server.connect().await;
    client.put("a", "v".repeat(300_000)).await;
    let full = client.kv.put(put("a", "v".repeat(300_000))).await.unwrap_err();
    assert_eq!((full.code() as i32, full.message()), (8, "etcdserver: mvcc: database space exceeded"));
    assert_eq!(alarms(&mut client).await, [pb::AlarmType::Nospace as i32]);
    let revision = client.put("a", "small").await;
    client.kv.compact(pb::CompactionRequest { revision, physical: true }).await.unwrap();
    assert!(alarms(&mut client).await.is_empty());
    client.put("a", "v".repeat(300_000)).await;
}

/// As an administrator of etcd goes about it: room is made, and the alarm taken back. The last key keeps its place in
/// the tables.
#[tokio::test]
async fn a_compaction_and_a_defragmentation_end_the_alarm_of_the_quota() {
    let server = TestServer::start(&["--quota-backend-bytes", "16777216"]).await;
    let mut client = server.connect().await;
    let mut random = 1_u64;
    let mut value = || -> Vec<u8> {
        // No compression makes it smaller.
        let next = |_| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 56) as u8
        };
        (0..256 << 10).map(next).collect()
    };
    let mut number = 0;
    let full = loop {
        match client.kv.put(put(&format!("key/{number:04}"), value())).await {
            Ok(_) => number += 1,
            Err(full) => break full,
        }
        assert!(number < 1000, "the quota is not full");
    };
    assert_eq!((full.code() as i32, full.message()), (8, "etcdserver: mvcc: database space exceeded"));
    assert_eq!(alarms(&mut client).await, [pb::AlarmType::Nospace as i32]);
    // What the newest revision deletes is kept for those who watch from there on.
    let mut revision = 0;
    for (from, until) in [(0, number - 2), (number - 2, number - 1)] {
        let [key, range_end] = [from, until].map(|number| format!("key/{number:04}").into());
        let deleted = client.kv.delete_range(pb::DeleteRangeRequest { key, range_end, ..Default::default() });
        revision = deleted.await.unwrap().into_inner().header.unwrap().revision;
    }
    client.kv.compact(pb::CompactionRequest { revision, physical: true }).await.unwrap();
    client.maintenance.defragment(pb::DefragmentRequest {}).await.unwrap();
    let disarm = pb::AlarmRequest { action: 2, member_id: 0, alarm: pb::AlarmType::Nospace as i32 };
    client.maintenance.alarm(disarm).await.unwrap();
    assert!(alarms(&mut client).await.is_empty());
    client.put("another", value()).await;
    let kept = client.range(range_of(&format!("key/{:04}", number - 1))).await.unwrap();
    assert_eq!(kept.count, 1);
}
