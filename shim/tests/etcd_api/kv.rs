use super::server::{Client, TestServer, put, range_from, range_of, shirt, with_labels};
use pb::compare::TargetUnion;
use pb::request_op::Request;
use pb::response_op::Response;
use sluice_shim::pb::etcdserverpb as pb;
use tonic::transport::Channel;

#[tokio::test]
async fn put_range_delete() {
    let server = TestServer::start(&[]).await;
    let mut client = server.connect().await;
    assert_eq!(client.put("a", "1").await, 2);
    assert_eq!(client.put("a", "2").await, 3);
    assert_eq!(client.put("b", "3").await, 4);

    let all = client.range(range_from("a")).await.unwrap();
    let header = all.header.unwrap();
    assert_eq!((header.revision, all.count, all.more), (4, 2, false));
    assert!(header.cluster_id != 0 && header.member_id != 0 && header.raft_term != 0);
    let a = &all.kvs[0];
    assert_eq!((&a.key[..], &a.value[..]), (&b"a"[..], &b"2"[..]));
    assert_eq!((a.create_revision, a.mod_revision, a.version), (2, 3, 2));

    let old = client.range(pb::RangeRequest { revision: 2, ..range_from("a") }).await.unwrap();
    assert_eq!((old.header.unwrap().revision, old.count, &old.kvs[0].value[..]), (4, 1, &b"1"[..]));
    let first = client.range(pb::RangeRequest { limit: 1, ..range_from("a") }).await.unwrap();
    assert_eq!((first.kvs.len(), first.count, first.more), (1, 2, true));
    let newest_first = pb::RangeRequest { sort_target: 3, sort_order: 2, keys_only: true, ..range_from("a") };
    let newest_first = client.range(newest_first).await.unwrap().kvs;
    assert_eq!((&newest_first[0].key[..], &newest_first[0].value[..]), (&b"b"[..], &b""[..]));

    let delete = pb::DeleteRangeRequest { key: "a".into(), range_end: "".into(), prev_kv: true };
    let deleted = client.kv.delete_range(delete.clone()).await.unwrap().into_inner();
    assert_eq!((deleted.deleted, deleted.header.unwrap().revision, &deleted.prev_kvs[0].value[..]), (1, 5, &b"2"[..]));
    let again = client.kv.delete_range(delete).await.unwrap().into_inner();
    assert_eq!((again.deleted, again.header.unwrap().revision), (0, 5));
}

/// HTTP/2's library takes so many small requests at once for an attack, where it is not told otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_requests_on_one_connection_is_answered() {
    let server = TestServer::start(&[]).await;
    let endpoint = Channel::from_shared(format!("http://{}", server.address())).unwrap();
    // The client as well takes many small answers at once.
    let channel = endpoint.initial_connection_window_size(64 << 20).connect().await.unwrap();
    let get = |nth: usize| {
        let mut client = Client::new(channel.clone());
        tokio::spawn(async move { client.range(range_of(&format!("/a/{nth}"))).await.map(drop) })
    };
    for answer in (0..20_000).map(get).collect::<Vec<_>>() {
        answer.await.unwrap().unwrap();
    }
}

/// Codes and texts that Go clients turn into their errors.
#[tokio::test]
async fn errors_on_the_wire() {
    let server = TestServer::start(&["--max-request-bytes", "1000", "--max-txn-ops", "2"]).await;
    let mut client = server.connect().await;
    for _ in 0..3 {
        client.put("a", "1").await;
    }
    client.kv.compact(pb::CompactionRequest { revision: 3, physical: true }).await.unwrap();

    let mut found = vec![];
    for request in [
        range_of(""),
        pb::RangeRequest { sort_order: 7, ..range_of("a") },
        pb::RangeRequest { revision: 2, ..range_of("a") },
        pb::RangeRequest { revision: 99, ..range_of("a") },
    ] {
        found.push(client.range(request).await.unwrap_err());
    }
    for request in [
        put("", ""),
        pb::PutRequest { ignore_value: true, ..put("a", "x") },
        pb::PutRequest { ignore_value: true, ..put("missing", "") },
        pb::PutRequest { lease: 7, ..put("a", "x") },
        put("a", vec![0; 1000]),
    ] {
        found.push(client.kv.put(request).await.unwrap_err());
    }
    let put_op = |key: &str| pb::RequestOp { request: Some(Request::RequestPut(put(key, ""))) };
    for success in [vec![put_op("a"), put_op("a")], vec![put_op("a"), put_op("b"), put_op("c")]] {
        found.push(client.kv.txn(pb::TxnRequest { success, ..Default::default() }).await.unwrap_err());
    }
    for revision in [3, 99] {
        found.push(client.kv.compact(pb::CompactionRequest { revision, physical: false }).await.unwrap_err());
    }
    let found: Vec<_> = found.iter().map(|status| (status.code() as i32, status.message())).collect();
    let expected = [
        (3, "etcdserver: key is not provided"),
        (3, "etcdserver: invalid sort option"),
        (11, "etcdserver: mvcc: required revision has been compacted"),
        (11, "etcdserver: mvcc: required revision is a future revision"),
        (3, "etcdserver: key is not provided"),
        (3, "etcdserver: value is provided"),
        (3, "etcdserver: key not found"),
        (5, "etcdserver: requested lease not found"),
        (3, "etcdserver: request is too large"),
        (3, "etcdserver: duplicate key given in txn request"),
        (3, "etcdserver: too many operations in txn request"),
        (11, "etcdserver: mvcc: required revision has been compacted"),
        (11, "etcdserver: mvcc: required revision is a future revision"),
    ];
    assert_eq!(found, expected);
}

/// What kube-apiserver does: create if not there, else return what is.
#[tokio::test]
async fn transactions() {
    let server = TestServer::start(&[]).await;
    let mut client = server.connect().await;
    let create = pb::TxnRequest {
        compare: vec![pb::Compare {
            key: "a".into(),
            target: pb::compare::CompareTarget::Mod as i32,
            target_union: Some(TargetUnion::ModRevision(0)),
            ..Default::default()
        }],
        success: vec![
            pb::RequestOp { request: Some(Request::RequestPut(put("a", "1"))) },
            pb::RequestOp { request: Some(Request::RequestRange(range_of("a"))) },
        ],
        failure: vec![pb::RequestOp { request: Some(Request::RequestRange(range_of("a"))) }],
    };
    let first = client.kv.txn(create.clone()).await.unwrap().into_inner();
    assert_eq!((first.succeeded, first.header.unwrap().revision, first.responses.len()), (true, 2, 2));
    let Some(Response::ResponseRange(seen)) = &first.responses[1].response else { panic!("{first:?}") };
    assert_eq!((&seen.kvs[0].value[..], seen.header.unwrap().revision), (&b"1"[..], 2));
    let second = client.kv.txn(create).await.unwrap().into_inner();
    assert_eq!((second.succeeded, second.header.unwrap().revision, second.responses.len()), (false, 2, 1));
}

async fn stream(client: &mut Client, request: pb::RangeRequest) -> Vec<pb::RangeResponse> {
    let mut stream = client.kv.range_stream(request).await.unwrap().into_inner();
    let mut chunks = vec![];
    while let Some(chunk) = stream.message().await.unwrap() {
        chunks.push(chunk.range_response.unwrap());
    }
    chunks
}

#[tokio::test]
async fn range_streams() {
    let server = TestServer::start(&[]).await;
    let mut client = server.connect().await;
    for batch in 0..25 {
        let put_op = |i: usize| {
            let key = format!("k{:05}", batch * 100 + i);
            pb::RequestOp { request: Some(Request::RequestPut(put(&key, "v"))) }
        };
        let txn = pb::TxnRequest { success: (0..100).map(put_op).collect(), ..Default::default() };
        client.kv.txn(txn).await.unwrap();
    }
    let chunks = stream(&mut client, range_from("k")).await;
    let (last, others) = chunks.split_last().unwrap();
    assert!(others.len() > 1 && others.iter().all(|chunk| chunk.header.is_none() && !chunk.more && chunk.count == 0));
    assert_eq!((last.header.unwrap().revision, last.more, last.count), (26, false, 2500));
    let keys: Vec<_> = chunks.iter().flat_map(|chunk| chunk.kvs.iter().map(|kv| kv.key.clone())).collect();
    assert!(keys.len() == 2500 && keys.is_sorted());

    let limited = stream(&mut client, pb::RangeRequest { limit: 1500, ..range_from("k") }).await;
    let last = limited.last().unwrap();
    assert_eq!((limited.iter().map(|chunk| chunk.kvs.len()).sum::<usize>(), last.more, last.count), (1500, true, 2500));
    let counted = stream(&mut client, pb::RangeRequest { count_only: true, ..range_from("k") }).await;
    assert_eq!((counted.len(), counted[0].count, counted[0].header.unwrap().revision), (1, 2500, 26));

    let sorted = client.kv.range_stream(pb::RangeRequest { sort_order: 2, ..range_from("k") }).await.unwrap_err();
    assert_eq!(sorted.code(), tonic::Code::Unimplemented);
    let future = client.kv.range_stream(pb::RangeRequest { revision: 99, ..range_from("k") }).await.unwrap();
    assert_eq!(future.into_inner().message().await.unwrap_err().code(), tonic::Code::OutOfRange);
}

/// A selector narrows ranges, streams and pages; what can't be read as one narrows nothing.
#[tokio::test]
async fn selectors() {
    let server = TestServer::start(&[]).await;
    let mut client = server.connect().await;
    for (name, color) in [("a", "blue"), ("b", "green"), ("c", "red"), ("d", "green")] {
        client.put(&format!("/registry/stable.example.com/shirts/default/{name}"), shirt(name, color)).await;
    }
    let all = range_from("/registry/stable.example.com/shirts/");
    let found = client.kv.range(with_labels(all.clone(), "color=green")).await.unwrap().into_inner();
    let names = |kvs: &[sluice_shim::pb::mvccpb::KeyValue]| {
        kvs.iter().map(|kv| char::from(*kv.key.last().unwrap())).collect::<String>()
    };
    assert_eq!((&names(&found.kvs)[..], found.count, found.more), ("bd", 2, false));
    let page = pb::RangeRequest { limit: 1, ..all.clone() };
    let page = client.kv.range(with_labels(page, "color=green")).await.unwrap().into_inner();
    assert_eq!((&names(&page.kvs)[..], page.more), ("b", true));
    let mut stream = client.kv.range_stream(with_labels(all.clone(), "color=green")).await.unwrap().into_inner();
    let chunk = stream.message().await.unwrap().unwrap().range_response.unwrap();
    assert_eq!(&names(&chunk.kvs)[..], "bd");

    let with_fields = |group_version: &'static str, fields: &str| {
        let mut request = with_labels(all.clone(), "");
        let fields = tonic::metadata::BinaryMetadataValue::from_bytes(fields.as_bytes());
        request.metadata_mut().insert_bin(sluice_shim::contract::FIELD_SELECTOR_HEADER, fields);
        request.metadata_mut().insert(sluice_shim::contract::GROUP_VERSION_HEADER, group_version.parse().unwrap());
        request
    };
    // Field selector, names in the version that is stored, and in another.
    for (fields, stored, other) in [
        ("spec.color=green", "bd", "abcd"),
        ("spec.color!=green", "ac", "abcd"),
        ("spec.size=", "abcd", "abcd"),
        ("spec.size=M", "", "abcd"),
        ("spec.color=green,metadata.name!=b", "d", "acd"),
    ] {
        for (version, expected) in [("stable.example.com/v1", stored), ("stable.example.com/v2", other)] {
            let found = client.kv.range(with_fields(version, fields)).await.unwrap().into_inner();
            assert_eq!((&names(&found.kvs)[..], found.more), (expected, false), "{fields} in {version}");
        }
    }
    server.wait_for_metric("sluice_selectors_used_total{by=\"fields\"} 10").await;

    let in_message = |label: &'static str, field: &'static str| pb::RangeRequest {
        label_selector: label.into(),
        field_selector: field.into(),
        ..all.clone()
    };
    for (label, field, expected) in
        [("color=green", "", "bd"), ("color=green", "spec.color=red", "bd"), ("", "metadata.name=a", "a")]
    {
        let found = client.range(in_message(label, field)).await.unwrap();
        assert_eq!(&names(&found.kvs)[..], expected, "{label} {field}");
    }

    let unparsable = client.kv.range(with_labels(all, "color in (")).await.unwrap().into_inner();
    assert_eq!(unparsable.kvs.len(), 4);
    server.wait_for_metric("sluice_selectors_refused_total{reason=\"unparsable\"} 1").await;
    server.wait_for_metric("sluice_selectors_used_total{by=\"labels\"} 5").await;
}

/// In a read of its own a negative revision means the newest; in a transaction etcd takes it for one that is compacted.
#[tokio::test]
async fn a_negative_revision_is_only_refused_in_a_transaction() {
    let server = TestServer::start(&[]).await;
    let mut client = server.connect().await;
    client.put("a", "1").await;
    let past = pb::RangeRequest { revision: -7, ..range_of("a") };
    assert_eq!(client.range(past.clone()).await.unwrap().count, 1);
    let read = pb::RequestOp { request: Some(pb::request_op::Request::RequestRange(past)) };
    let put = pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put("b", "1"))) };
    let txn = pb::TxnRequest { success: vec![put, read], ..Default::default() };
    let refused = client.kv.txn(txn).await.unwrap_err();
    assert_eq!(refused.message(), "etcdserver: mvcc: required revision has been compacted");
    assert_eq!(client.range(range_of("b")).await.unwrap().count, 0, "nothing of it was done");
}

/// Of two things that are missing etcd tells the lease.
#[tokio::test]
async fn a_missing_lease_is_told_before_a_missing_key() {
    let server = TestServer::start(&[]).await;
    let mut client = server.connect().await;
    let request = pb::PutRequest { key: "a".into(), lease: 5, ignore_value: true, ..Default::default() };
    assert_eq!(client.kv.put(request).await.unwrap_err().message(), "etcdserver: requested lease not found");
}
