//! What etcd does to the keys of a range after it found them: revision bounds, order, limit, projection
//! (etcd: server/etcdserver/txn/range.go, `executeRange` and `asembleRangeResponse`).

use bytes::Bytes;

use super::types::{KeyValue, Projection, RangeEnd, RangeQuery, RangeResult, Revision, SortTarget};

impl RangeQuery {
    /// Whether it looks at a few rows only, however many keys there are: at one key, or at the counts that directories
    /// have.
    pub(super) fn is_small(&self) -> bool {
        let counts = self.projection == Projection::CountOnly && self.selection.is_none() && self.revision == 0;
        self.range.end == RangeEnd::Single || (counts && self.range.is_tree())
    }

    /// The key, if the query is about the newest value of one key.
    pub(super) fn newest_of(&self) -> Option<&Bytes> {
        let newest = self.range.end == RangeEnd::Single && self.revision <= 0 && self.selection.is_none();
        newest.then_some(&self.range.start)
    }

    /// Whether the database can apply the limit: the keys come in key order and none is dropped afterwards.
    pub fn limit_commutes(&self) -> bool {
        self.sort == SortTarget::Key
            && !self.descending
            && self.mod_revision.is_open()
            && self.create_revision.is_open()
    }
}

/// Turns all keys of the query's range, in key order, into the query's result.
pub(super) fn assemble(query: &RangeQuery, mut kvs: Vec<KeyValue>, revision: Revision) -> RangeResult {
    let count = i64::try_from(kvs.len()).unwrap_or(i64::MAX);
    if query.projection == Projection::CountOnly {
        return RangeResult { revision, count, ..RangeResult::default() };
    }
    kvs.retain(|kv| query.mod_revision.allow(kv.mod_revision) && query.create_revision.allow(kv.create_revision));
    sort(&mut kvs, query.sort, query.descending);
    let more = query.limit > 0 && kvs.len() > query.limit;
    if more {
        kvs.truncate(query.limit);
    }
    if query.projection == Projection::KeysOnly {
        strip_values(&mut kvs);
    }
    RangeResult { revision, kvs, more, count }
}

/// Empties the values.
pub(super) fn strip_values(kvs: &mut [KeyValue]) {
    for kv in kvs {
        kv.value.clear();
    }
}

/// Sorts keys that come in key order. Equal ones stay in it, in a descending sort too: etcd's sort does that with a few
/// keys, and promises nothing for many.
fn sort(kvs: &mut [KeyValue], target: SortTarget, descending: bool) {
    let order = |a: &KeyValue, b: &KeyValue| match target {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => a.value.cmp(&b.value),
    };
    match (target, descending) {
        (SortTarget::Key, false) => {} // They come in this order.
        (_, false) => kvs.sort_by(order),
        (_, true) => kvs.sort_by(|a, b| order(b, a)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::types::RevisionBounds;

    fn kv(key: &'static str, value: &'static str, create: i64, modified: i64, version: i64) -> KeyValue {
        KeyValue {
            key: key.into(),
            value: value.into(),
            create_revision: create,
            mod_revision: modified,
            version,
            lease: 0,
        }
    }

    fn keys(query: RangeQuery) -> (String, bool, i64) {
        let all = vec![kv("a", "3", 2, 9, 4), kv("b", "1", 3, 3, 1), kv("c", "2", 4, 8, 2)];
        let result = assemble(&query, all, 9);
        let keys = result.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect();
        (keys, result.more, result.count)
    }

    #[test]
    fn orders_bounds_and_limits() {
        let query = RangeQuery::default;
        assert_eq!(keys(query()), ("abc".into(), false, 3));
        assert_eq!(keys(RangeQuery { limit: 2, ..query() }), ("ab".into(), true, 3));
        assert_eq!(keys(RangeQuery { limit: 3, ..query() }), ("abc".into(), false, 3));
        assert_eq!(keys(RangeQuery { descending: true, limit: 1, ..query() }), ("c".into(), true, 3));
        assert_eq!(keys(RangeQuery { sort: SortTarget::Mod, ..query() }).0, "bca");
        assert_eq!(keys(RangeQuery { sort: SortTarget::Version, descending: true, ..query() }).0, "acb");
        assert_eq!(keys(RangeQuery { sort: SortTarget::Value, ..query() }).0, "bca");
        assert_eq!(keys(RangeQuery { sort: SortTarget::Create, descending: true, ..query() }).0, "cba");
        let equal = [kv("a", "x", 2, 2, 1), kv("b", "x", 3, 3, 1), kv("c", "x", 4, 9, 2)];
        let by_version = RangeQuery { sort: SortTarget::Version, descending: true, ..query() };
        let sorted = assemble(&by_version, equal.to_vec(), 9).kvs;
        assert_eq!(sorted.iter().map(|kv| &kv.key[..]).collect::<Vec<_>>(), [b"c", b"a", b"b"]);
        let bounds = RevisionBounds { min: 4, max: 8 };
        assert_eq!(keys(RangeQuery { mod_revision: bounds, limit: 5, ..query() }), ("c".into(), false, 3));
        assert_eq!(keys(RangeQuery { create_revision: bounds, ..query() }), ("c".into(), false, 3));
        assert_eq!(
            keys(RangeQuery { projection: Projection::CountOnly, limit: 1, ..query() }),
            (String::new(), false, 3)
        );
    }
}
