use super::translate;
use crate::engine::{
    CompareResult, CompareTarget, Event, EventKind, KeyValue, Op, OpResult, Projection, RangeEnd, RangeResult,
    RevisionBounds, SortTarget, TxnResult,
};
use crate::pb::etcdserverpb as pb;
use pb::compare::TargetUnion;
use pb::request_op::Request;
use pb::response_op::Response;

fn kv(key: &'static str, value: &'static str) -> KeyValue {
    let (key, value) = (key.into(), value.into());
    KeyValue { key, value, create_revision: 2, mod_revision: 3, version: 2, lease: 9 }
}

#[test]
fn every_field_of_a_range() {
    let query = translate::range_query(
        pb::RangeRequest {
            key: "a".into(),
            range_end: "b".into(),
            limit: 5,
            revision: 7,
            sort_order: 2,
            sort_target: 3,
            serializable: true,
            keys_only: true,
            count_only: false,
            min_mod_revision: 1,
            max_mod_revision: 2,
            min_create_revision: 3,
            max_create_revision: 4,
            ..Default::default()
        },
        None,
    );
    assert_eq!((&query.range.start[..], query.range.end), (&b"a"[..], RangeEnd::Before("b".into())));
    assert_eq!((query.limit, query.revision, query.serializable), (5, 7, true));
    assert_eq!((query.projection, query.sort, query.descending), (Projection::KeysOnly, SortTarget::Mod, true));
    assert_eq!(query.mod_revision, RevisionBounds { min: 1, max: 2 });
    assert_eq!(query.create_revision, RevisionBounds { min: 3, max: 4 });
}

#[test]
fn odd_numbers_of_a_range() {
    let request = pb::RangeRequest { limit: -1, revision: -4, count_only: true, keys_only: true, ..Default::default() };
    let query = translate::range_query(request, None);
    assert_eq!((query.limit, query.revision, query.projection), (0, 0, Projection::CountOnly));
}

#[test]
fn compares() {
    let table = [
        (0, Some(TargetUnion::Version(4)), CompareTarget::Version(4)),
        (1, Some(TargetUnion::CreateRevision(4)), CompareTarget::Create(4)),
        (2, Some(TargetUnion::ModRevision(4)), CompareTarget::Mod(4)),
        (3, Some(TargetUnion::Value("v".into())), CompareTarget::Value("v".into())),
        (4, Some(TargetUnion::Lease(4)), CompareTarget::Lease(4)),
        (2, None, CompareTarget::Mod(0)),
        (2, Some(TargetUnion::Version(4)), CompareTarget::Mod(0)),
        (3, Some(TargetUnion::Lease(4)), CompareTarget::Value("".into())),
    ];
    for (target, target_union, expected) in table {
        let wire = pb::Compare { key: "a".into(), target, target_union, result: 3, range_end: "".into() };
        let txn = translate::txn(pb::TxnRequest { compare: vec![wire], ..Default::default() }).unwrap();
        assert_eq!((&txn.compares[0].target, txn.compares[0].result), (&expected, CompareResult::NotEqual));
    }
    let unknown = pb::Compare { key: "a".into(), result: 9, ..Default::default() };
    assert!(translate::txn(pb::TxnRequest { compare: vec![unknown], ..Default::default() }).is_err());
}

#[test]
fn operations_keep_order_and_branch() {
    let put = |key: &'static str| pb::RequestOp {
        request: Some(Request::RequestPut(pb::PutRequest { key: key.into(), lease: 5, ..Default::default() })),
    };
    let delete = pb::RequestOp {
        request: Some(Request::RequestDeleteRange(pb::DeleteRangeRequest {
            key: "d".into(),
            range_end: "\0".into(),
            prev_kv: true,
        })),
    };
    let txn =
        translate::txn(pb::TxnRequest { compare: vec![], success: vec![put("a"), delete], failure: vec![put("b")] });
    let txn = txn.unwrap();
    assert!(matches!(&txn.success[0], Op::Put(put) if put.key == "a" && put.lease == 5));
    assert!(
        matches!(&txn.success[1], Op::Delete(deletion) if deletion.range.end == RangeEnd::Unbounded && deletion.prev_kv)
    );
    assert!(matches!(&txn.failure[..], [Op::Put(put)] if put.key == "b"));
}

/// Revisions in the headers of a transaction's answers: none changed, before the change, after it.
#[test]
fn headers_inside_a_transaction() {
    let range = || OpResult::Range(RangeResult { revision: 99, ..Default::default() });
    let delete = |deleted| OpResult::Delete { deleted, prev_kvs: vec![] };
    let nested = |results| OpResult::Txn(TxnResult { succeeded: true, results });
    let table = [
        ("only reads", vec![range(), delete(0)], vec![10, 10]),
        ("read, put, read", vec![range(), OpResult::Put(None), range()], vec![9, 10, 10]),
        ("a deletion of nothing, one of something", vec![delete(0), delete(2), delete(0)], vec![9, 10, 10]),
        ("a nested change", vec![range(), nested(vec![range(), OpResult::Put(None)]), range()], vec![9, 0, 9, 10, 10]),
    ];
    for (name, results, expected) in table {
        let header = pb::ResponseHeader { cluster_id: 1, member_id: 2, revision: 10, raft_term: 3 };
        let response = translate::txn_response(header, TxnResult { succeeded: true, results });
        assert_eq!(response.header, Some(header), "{name}");
        assert_eq!(revisions(&response.responses), expected, "{name}");
    }
}

fn revisions(responses: &[pb::ResponseOp]) -> Vec<i64> {
    let mut all = vec![];
    for response in responses {
        let (header, inner) = match response.response.as_ref().unwrap() {
            Response::ResponseRange(answer) => (answer.header, vec![]),
            Response::ResponsePut(answer) => (answer.header, vec![]),
            Response::ResponseDeleteRange(answer) => (answer.header, vec![]),
            Response::ResponseTxn(answer) => (answer.header, revisions(&answer.responses)),
        };
        let header = header.unwrap();
        assert_eq!((header.cluster_id, header.member_id, header.raft_term), (0, 0, 0));
        all.push(header.revision);
        all.extend(inner);
    }
    all
}

#[test]
fn answers_carry_everything() {
    let result = RangeResult { revision: 4, kvs: vec![kv("a", "1")], more: true, count: 8 };
    let response = translate::range_response(None, result);
    assert_eq!((response.more, response.count), (true, 8));
    let found = &response.kvs[0];
    assert_eq!((&found.key[..], &found.value[..]), (&b"a"[..], &b"1"[..]));
    assert_eq!((found.create_revision, found.mod_revision, found.version, found.lease), (2, 3, 2, 9));
}

#[test]
fn events_carry_the_previous_value_only_if_asked_for() {
    let event = Event { kind: EventKind::Delete, kv: kv("a", ""), prev_kv: Some(kv("a", "old")) };
    assert_eq!(translate::event(&event, false).prev_kv, None);
    let with = translate::event(&event, true);
    assert_eq!((with.r#type, &with.prev_kv.unwrap().value[..]), (1, &b"old"[..]));
}
