//! Checks of requests before the engine sees them, in etcd's order (etcd: server/etcdserver/api/v3rpc/key.go).

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;

use bytes::Bytes;
use prost::Message;

use super::errors::Fault;
use crate::engine::{KeyRange, RangeEnd};
use crate::pb::etcdserverpb as pb;
use pb::range_request::{SortOrder, SortTarget};
use pb::request_op::Request;

/// The size of a request that etcd replicates is that of the envelope around it too (etcd: `InternalRaftRequest` with
/// its header): so many bytes more.
const ENVELOPE: usize = 18;

/// Checks the size of a write against `--max-request-bytes`.
pub(super) fn size(request: &impl Message, max_request_bytes: usize) -> Result<(), Fault> {
    if request.encoded_len() + ENVELOPE > max_request_bytes { Err(Fault::RequestTooLarge) } else { Ok(()) }
}

/// etcd: `checkRangeRequest`.
pub(super) fn range(request: &pb::RangeRequest) -> Result<(), Fault> {
    if request.key.is_empty() {
        return Err(Fault::EmptyKey);
    }
    if SortOrder::try_from(request.sort_order).is_err() || SortTarget::try_from(request.sort_target).is_err() {
        return Err(Fault::InvalidSortOption);
    }
    Ok(())
}

/// What a range stream can't do beyond [`range`]; the text of etcd's Unimplemented error (etcd:
/// `checkRangeStreamRequest`).
pub(super) fn range_stream(request: &pb::RangeRequest) -> Result<(), &'static str> {
    let by_key_upwards = request.sort_order == SortOrder::None as i32
        || (request.sort_target == SortTarget::Key as i32 && request.sort_order == SortOrder::Ascend as i32);
    if !by_key_upwards {
        return Err("RangeStream does not support custom sort orders");
    }
    let bounds =
        [request.min_mod_revision, request.max_mod_revision, request.min_create_revision, request.max_create_revision];
    if bounds != [0; 4] {
        return Err("RangeStream does not support revision filters");
    }
    Ok(())
}

/// etcd: `checkPutRequest`.
pub(super) fn put(request: &pb::PutRequest) -> Result<(), Fault> {
    if request.key.is_empty() {
        return Err(Fault::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Fault::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Fault::LeaseProvided);
    }
    Ok(())
}

/// etcd: `checkDeleteRequest`.
pub(super) fn delete(request: &pb::DeleteRangeRequest) -> Result<(), Fault> {
    if request.key.is_empty() { Err(Fault::EmptyKey) } else { Ok(()) }
}

/// etcd: `checkTxnRequest`, then `checkIntervals` on both branches.
pub(super) fn txn(request: &pb::TxnRequest, max_ops: usize) -> Result<(), Fault> {
    txn_operations(request, max_ops)?;
    changes(&request.success)?;
    changes(&request.failure)?;
    Ok(())
}

fn txn_operations(request: &pb::TxnRequest, max_ops: usize) -> Result<(), Fault> {
    let ops = request.compare.len().max(request.success.len()).max(request.failure.len());
    let Some(left) = max_ops.checked_sub(ops) else { return Err(Fault::TooManyOps) };
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Fault::EmptyKey);
    }
    request.success.iter().chain(&request.failure).try_for_each(|op| match &op.request {
        Some(Request::RequestRange(inner)) => range(inner),
        Some(Request::RequestPut(inner)) => put(inner),
        Some(Request::RequestDeleteRange(inner)) => delete(inner),
        Some(Request::RequestTxn(inner)) => txn_operations(inner, left),
        None => Err(Fault::KeyNotFound),
    })
}

/// What a list of operations changes.
#[derive(Debug, Default)]
struct Changes {
    puts: HashSet<Bytes>,
    deletions: Spans,
}

/// Refuses a list of operations that puts a key twice, or puts and deletes it. The branches of one nested transaction
/// exclude each other, so they may put the same key.
///
/// It is stricter than etcd in one point: a deletion without an upper end (`range_end` of one zero byte) counts as
/// one here; etcd takes it for an interval that ends before it begins.
fn changes(ops: &[pb::RequestOp]) -> Result<Changes, Fault> {
    let mut all = Changes::default();
    for op in ops {
        if let Some(Request::RequestDeleteRange(deletion)) = &op.request {
            all.deletions.insert(&KeyRange::from_wire(deletion.key.clone(), deletion.range_end.clone()));
        }
    }
    for op in ops {
        if let Some(Request::RequestTxn(nested)) = &op.request {
            let success = changes(&nested.success)?;
            let failure = changes(&nested.failure)?;
            for key in success.puts.union(&failure.puts) {
                all.add_put(key)?;
            }
            all.deletions.extend(success.deletions);
            all.deletions.extend(failure.deletions);
        }
    }
    for op in ops {
        if let Some(Request::RequestPut(put)) = &op.request {
            all.add_put(&put.key)?;
        }
    }
    Ok(all)
}

impl Changes {
    fn add_put(&mut self, key: &Bytes) -> Result<(), Fault> {
        if self.deletions.contains(key) || !self.puts.insert(key.clone()) { Err(Fault::DuplicateKey) } else { Ok(()) }
    }
}

/// Disjoint spans of keys: where each begins, and where it ends (excluded; `None` for never).
#[derive(Debug, Default)]
struct Spans(BTreeMap<Bytes, Option<Bytes>>);

impl Spans {
    fn insert(&mut self, range: &KeyRange) {
        let end = match &range.end {
            RangeEnd::Single => Some([&range.start[..], &[0]].concat().into()),
            RangeEnd::Before(end) => Some(end.clone()),
            RangeEnd::Unbounded => None,
        };
        self.add(range.start.clone(), end);
    }

    fn extend(&mut self, other: Self) {
        for (start, end) in other.0 {
            self.add(start, end);
        }
    }

    /// Adds a span and melts it with those that it touches, so that the spans stay disjoint.
    fn add(&mut self, mut start: Bytes, mut end: Option<Bytes>) {
        if end.as_ref().is_some_and(|end| *end <= start) {
            return;
        }
        let before = (Bound::Unbounded, Bound::Included(&start));
        if let Some((first, first_end)) = self.0.range::<Bytes, _>(before).next_back()
            && first_end.as_ref().is_none_or(|first_end| *first_end >= start)
        {
            start = first.clone();
        }
        while let Some((next, next_end)) = self.0.range::<Bytes, _>(&start..).next()
            && end.as_ref().is_none_or(|end| next <= end)
        {
            end = match (end, next_end) {
                (Some(end), Some(next_end)) => Some(end.max(next_end.clone())),
                _ => None,
            };
            let next = next.clone();
            self.0.remove(&next);
        }
        self.0.insert(start, end);
    }

    fn contains(&self, key: &Bytes) -> bool {
        let before = (Bound::Unbounded, Bound::Included(key));
        self.0.range::<Bytes, _>(before).next_back().is_some_and(|(_, end)| end.as_ref().is_none_or(|end| key < end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(request: Request) -> pb::RequestOp {
        pb::RequestOp { request: Some(request) }
    }

    fn put_op(key: &'static str) -> pb::RequestOp {
        op(Request::RequestPut(pb::PutRequest { key: key.into(), ..Default::default() }))
    }

    fn delete_op(key: &'static str, end: &'static [u8]) -> pb::RequestOp {
        let deletion = pb::DeleteRangeRequest { key: key.into(), range_end: end.into(), prev_kv: false };
        op(Request::RequestDeleteRange(deletion))
    }

    fn nested(success: Vec<pb::RequestOp>, failure: Vec<pb::RequestOp>) -> pb::RequestOp {
        op(Request::RequestTxn(pb::TxnRequest { compare: vec![], success, failure }))
    }

    #[test]
    fn overlapping_changes() {
        let duplicate = Err(Fault::DuplicateKey);
        let table = [
            ("two keys", vec![put_op("a"), put_op("b")], Ok(())),
            ("one key twice", vec![put_op("a"), put_op("a")], duplicate),
            ("put and deleted", vec![put_op("a"), delete_op("a", b"")], duplicate),
            ("put inside a deleted range", vec![delete_op("a", b"c"), put_op("b")], duplicate),
            ("put at its end", vec![delete_op("a", b"c"), put_op("c")], Ok(())),
            ("put after a single deletion", vec![delete_op("a", b""), put_op("aa")], Ok(())),
            ("deletion without end", vec![delete_op("a", b"\0"), put_op("zz")], duplicate),
            ("deletion of nothing", vec![delete_op("c", b"a"), put_op("b")], Ok(())),
            ("overlapping deletions", vec![delete_op("a", b"c"), delete_op("b", b"d")], Ok(())),
            ("nested put, outer put", vec![put_op("a"), nested(vec![put_op("a")], vec![])], duplicate),
            ("nested put, outer deletion", vec![delete_op("a", b""), nested(vec![put_op("a")], vec![])], duplicate),
            ("outer put, nested deletion", vec![put_op("a"), nested(vec![delete_op("a", b"")], vec![])], duplicate),
            ("both branches", vec![nested(vec![put_op("a")], vec![put_op("a")])], Ok(())),
            ("two nested", vec![nested(vec![put_op("a")], vec![]), nested(vec![], vec![put_op("a")])], duplicate),
            (
                "put in one nested, deleted in an earlier",
                { vec![nested(vec![delete_op("a", b"c")], vec![]), nested(vec![put_op("b")], vec![])] },
                duplicate,
            ),
            ("deep", vec![put_op("a"), nested(vec![nested(vec![], vec![put_op("a")])], vec![])], duplicate),
        ];
        for (name, ops, expected) in table {
            let success = pb::TxnRequest { success: ops.clone(), ..Default::default() };
            let failure = pb::TxnRequest { failure: ops, ..Default::default() };
            assert_eq!(txn(&success, 128), expected, "{name}, success");
            assert_eq!(txn(&failure, 128), expected, "{name}, failure");
        }
    }

    #[test]
    fn operations_are_counted_as_etcd_does() {
        let many = |n: usize| (0..n).map(|_| op(Request::RequestRange(range_of("k")))).collect::<Vec<_>>();
        let both = pb::TxnRequest { success: many(128), failure: many(128), ..Default::default() };
        assert_eq!(txn(&both, 128), Ok(()));
        assert_eq!(txn(&pb::TxnRequest { success: many(129), ..Default::default() }, 128), Err(Fault::TooManyOps));
        // A level that holds one operation leaves 127 to those below.
        let one_level_down = |n| pb::TxnRequest { success: vec![nested(many(n), vec![])], ..Default::default() };
        assert_eq!(txn(&one_level_down(127), 128), Ok(()));
        assert_eq!(txn(&one_level_down(128), 128), Err(Fault::TooManyOps));
    }

    fn range_of(key: &'static str) -> pb::RangeRequest {
        pb::RangeRequest { key: key.into(), ..Default::default() }
    }

    #[test]
    fn single_requests() {
        assert_eq!(range(&range_of("")), Err(Fault::EmptyKey));
        assert_eq!(range(&pb::RangeRequest { sort_order: 3, ..range_of("a") }), Err(Fault::InvalidSortOption));
        assert_eq!(range(&pb::RangeRequest { sort_target: 5, ..range_of("a") }), Err(Fault::InvalidSortOption));
        assert_eq!(range(&pb::RangeRequest { sort_order: 2, sort_target: 4, ..range_of("a") }), Ok(()));

        let plain = pb::PutRequest { key: "a".into(), ..Default::default() };
        assert_eq!(put(&plain), Ok(()));
        assert_eq!(put(&pb::PutRequest::default()), Err(Fault::EmptyKey));
        let with_value = pb::PutRequest { ignore_value: true, value: "v".into(), ..plain.clone() };
        assert_eq!(put(&with_value), Err(Fault::ValueProvided));
        let with_lease = pb::PutRequest { ignore_lease: true, lease: 1, ..plain };
        assert_eq!(put(&with_lease), Err(Fault::LeaseProvided));
        assert_eq!(delete(&pb::DeleteRangeRequest::default()), Err(Fault::EmptyKey));

        let compare = pb::TxnRequest { compare: vec![pb::Compare::default()], ..Default::default() };
        assert_eq!(txn(&compare, 128), Err(Fault::EmptyKey));
        let empty = pb::TxnRequest { success: vec![pb::RequestOp { request: None }], ..Default::default() };
        assert_eq!(txn(&empty, 128), Err(Fault::KeyNotFound));
    }

    #[test]
    fn range_streams() {
        assert_eq!(range_stream(&range_of("a")), Ok(()));
        assert_eq!(range_stream(&pb::RangeRequest { sort_order: 1, ..range_of("a") }), Ok(()));
        assert!(range_stream(&pb::RangeRequest { sort_order: 2, ..range_of("a") }).is_err());
        assert!(range_stream(&pb::RangeRequest { sort_order: 1, sort_target: 3, ..range_of("a") }).is_err());
        assert!(range_stream(&pb::RangeRequest { max_mod_revision: 1, ..range_of("a") }).is_err());
    }

    #[test]
    fn sizes() {
        let put = pb::PutRequest { key: "k".into(), value: vec![0; 1000].into(), ..Default::default() };
        assert_eq!(size(&put, 1100), Ok(()));
        assert_eq!(size(&put, 1000), Err(Fault::RequestTooLarge));
    }

    proptest::proptest! {
        /// The spans hold exactly the keys that one of the ranges holds, in whatever order they came.
        #[test]
        fn spans_agree_with_ranges(ranges in proptest::collection::vec(("[a-d]{1,2}", "[a-e]{0,2}"), 0..8)) {
            let ranges: Vec<_> =
                ranges.into_iter().map(|(key, end)| KeyRange::from_wire(key.into(), end.into())).collect();
            let mut spans = Spans::default();
            ranges.iter().for_each(|range| spans.insert(range));
            for first in b'a'..=b'e' {
                for rest in [&b""[..], b"\0", b"a", b"b", b"c", b"d", b"e", b"a\0"] {
                    let key = Bytes::from([&[first][..], rest].concat());
                    let expected = ranges.iter().any(|range| range.contains(&key));
                    proptest::prop_assert_eq!(spans.contains(&key), expected, "{:?}", key);
                }
            }
        }
    }
}
