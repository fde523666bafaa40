//! What a range says of its keys: how many there are, which is not counted key by key where whole directories are asked
//! for, and their order.

use bytes::Bytes;
use sluice_shim::engine::{KeyRange, Projection, RangeQuery, SortTarget};

use crate::database::Database;
use crate::support::{open, prefix, put};

#[tokio::test]
async fn every_kind_of_range_is_counted_right() {
    let database = Database::new();
    let (engine, _) = open(&database).await;
    for key in ["a", "b", "foo", "foo/abc", "foo/x/y", "fop", "/registry/pods/x"] {
        put(&engine, key, "v").await;
    }
    let from =
        |start: &'static str, end: &'static str| KeyRange::from_wire(start.into(), Bytes::from_static(end.as_bytes()));
    let table = [
        (from("\0", "\0"), 7),
        (from("a", "\0"), 6),
        (from("foo", "fop"), 3),
        (prefix("foo/"), 2),
        (prefix("/"), 1),
        (from("\0", "b"), 2),
    ];
    for (range, expected) in table {
        for (projection, limit) in [(Projection::CountOnly, 0), (Projection::Full, 1)] {
            let query = RangeQuery { range: range.clone(), projection, limit, ..RangeQuery::default() };
            assert_eq!(engine.range(query).await.unwrap().count, expected, "{range:?} {projection:?}");
        }
    }
}

#[tokio::test]
async fn keys_without_values_are_sorted_by_value_all_the_same() {
    let database = Database::new();
    let (engine, _) = open(&database).await;
    for (key, value) in [("a", "2"), ("b", "1"), ("c", "2"), ("d", "3")] {
        put(&engine, key, value).await;
    }
    for (descending, expected) in [(false, ["b", "a", "c", "d"]), (true, ["d", "a", "c", "b"])] {
        let range = KeyRange::from_wire("\0".into(), Bytes::from_static(b"\0"));
        let query = RangeQuery {
            range,
            projection: Projection::KeysOnly,
            sort: SortTarget::Value,
            descending,
            ..RangeQuery::default()
        };
        let kvs = engine.range(query).await.unwrap().kvs;
        assert_eq!(kvs.iter().map(|kv| &kv.key[..]).collect::<Vec<_>>(), expected.map(str::as_bytes));
        assert!(kvs.iter().all(|kv| kv.value.is_empty()));
    }
}
