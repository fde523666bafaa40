//! How many keys a range has, which is not counted key by key where whole directories are asked for.

use bytes::Bytes;
use sluice_shim::engine::{KeyRange, Projection, RangeQuery};

use crate::support::{open, prefix, put};

#[tokio::test]
async fn every_kind_of_range_is_counted_right() {
    let folder = tempfile::tempdir().unwrap();
    let (engine, _) = open(folder.path()).await;
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
