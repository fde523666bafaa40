//! Selectors on the index: what is returned, and how many rows are read for it.

use std::sync::Arc;

use crate::database::Database;
use crate::support::{open, prefix, put};
use sluice_shim::engine::*;
use sluice_shim::selector::Selection;

const SHIRTS: usize = 600;

fn shirt(number: usize, color: &str, more: &str) -> String {
    format!(
        r#"{{"apiVersion":"stable.example.com/v1","kind":"Shirt","metadata":{{"name":"s{number}","labels":{{"color":"{color}","n":"{number}"{more}}}}}}}"#
    )
}

fn key(number: usize) -> String {
    format!("/registry/stable.example.com/shirts/ns{}/s{number:04}", number % 3)
}

/// Every 100th shirt is green; all but the first two have the skip label.
async fn load(engine: &Engine) {
    let mut writes = Vec::new();
    for number in 0..SHIRTS {
        let color = if number % 100 == 0 { "green" } else { "blue" };
        let more = if number < 2 { "" } else { r#","skip-controller-manager-metadata-caching":"true""# };
        let (engine, value) = (engine.clone(), shirt(number, color, more));
        writes.push(tokio::spawn(async move { put(&engine, key(number), value).await }));
    }
    for write in writes {
        write.await.unwrap();
    }
}

fn query(selector: &str) -> RangeQuery {
    let selection = Selection::parse(Some(selector), None, None).unwrap().map(Arc::new);
    RangeQuery { range: prefix("/registry/stable.example.com/shirts/"), selection, ..RangeQuery::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_index_reads_what_matches() {
    let database = Database::new();
    let (engine, metrics) = open(&database).await;
    load(&engine).await;
    // Selector, keys returned, most rows that may be read for it.
    let table = [
        ("color=green", 6, 6),
        ("color=purple", 0, 0),
        ("flavour", 0, 0),
        ("color in (green,purple)", 6, 6),
        ("color=green,n=100", 1, 1),
        ("color=blue,n in (1,2,100)", 2, 3),
        ("n>597", 2, 600),
        ("!skip-controller-manager-metadata-caching", 2, 2),
        ("!skip-controller-manager-metadata-caching,color=green", 1, 2),
        ("color!=blue", 6, 600),
        ("color notin (blue),!flavour", 6, 600),
    ];
    for (selector, returned, most) in table {
        let before = metrics.rows_read.get();
        let result = engine.range(query(selector)).await.unwrap();
        let read = metrics.rows_read.get() - before;
        assert_eq!(result.kvs.len(), returned, "{selector}");
        assert!(read <= most, "{selector} read {read} rows");
        assert!(result.kvs.is_sorted_by_key(|kv| kv.key.clone()), "{selector}");
        assert_eq!((result.more, result.count), (false, returned as i64), "{selector}");
    }
}

/// Whether this is the first object with the skip label that the file ever had, or it was there before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_object_with_the_label_is_hidden_at_once() {
    let database = Database::new();
    let selector = "!skip-controller-manager-metadata-caching";
    let label = r#","skip-controller-manager-metadata-caching":"""#;
    let (mut engine, mut metrics) = open(&database).await;
    for number in 0..10 {
        put(&engine, key(number), shirt(number, "blue", "")).await;
    }
    for (number, more, visible) in
        [(10, "", 11), (3, label, 10), (4, label, 9), (3, "", 10), (4, "", 11), (5, label, 10)]
    {
        put(&engine, key(number), shirt(number, "blue", more)).await;
        for _ in 0..2 {
            let before = metrics.rows_read.get();
            assert_eq!(engine.range(query(selector)).await.unwrap().kvs.len(), visible, "after {number}");
            assert_eq!(metrics.rows_read.get() - before, visible as u64, "after {number}");
            engine.shutdown().await;
            (engine, metrics) = open(&database).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_one_snapshot_whatever_happens_between() {
    let database = Database::new();
    let (engine, _) = open(&database).await;
    load(&engine).await;
    let all = |revision| RangeQuery { revision, ..query("color=green") };
    let before = engine.range(all(0)).await.unwrap();
    let mut page = RangeQuery { limit: 2, ..all(0) };
    let mut found = Vec::new();
    loop {
        let result = engine.range(page.clone()).await.unwrap();
        assert!(!result.kvs.is_empty(), "an empty page");
        found.extend(result.kvs);
        if !result.more {
            break;
        }
        assert!(result.count > 2);
        page.revision = before.revision;
        page.range = page.range.after(&found.last().unwrap().key);
        // One leaves the selection, one enters, one goes, between any two pages.
        put(&engine, key(500), shirt(500, "red", "")).await;
        put(&engine, key(599), shirt(599, "green", "")).await;
        engine.write(Op::Delete(DeleteRange { range: KeyRange::single(key(400)), prev_kv: false })).await.unwrap();
    }
    assert_eq!(found, before.kvs);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_read_is_returned_always() {
    let database = Database::new();
    let (engine, _) = open(&database).await;
    load(&engine).await;
    let sealed = "/registry/stable.example.com/shirts/ns1/sealed";
    put(&engine, sealed, "k8s:enc:kms:v2:x").await;
    for selector in ["color=green", "color=purple", "flavour", "!skip-controller-manager-metadata-caching"] {
        let result = engine.range(query(selector)).await.unwrap();
        assert!(result.kvs.iter().any(|kv| kv.key == sealed), "{selector}");
    }
    // Also for a range that begins inside its directory.
    let mut within = query("color=purple");
    within.range.start = "/registry/stable.example.com/shirts/ns1/s".into();
    assert_eq!(engine.range(within).await.unwrap().kvs.len(), 1);
    // And when it is readable again the index serves again.
    put(&engine, sealed, shirt(7, "white", "")).await;
    assert!(engine.range(query("color=purple")).await.unwrap().kvs.is_empty());
}
