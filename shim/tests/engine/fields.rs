//! Field indexes: declared by definitions, built beside writes, used, and removed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sluice_shim::engine::metrics::{IndexState, Metrics, ReadSource};
use sluice_shim::engine::*;
use sluice_shim::selector::Selection;
use sluice_shim::sql;

use crate::database::Database;
use crate::support::{open, prefix, put};

pub(crate) const SHIRTS: &str = "/registry/stable.example.com/shirts/";
pub(crate) const DEFINITION: &str =
    "/registry/apiextensions.k8s.io/customresourcedefinitions/shirts.stable.example.com";

/// A definition whose objects are stored in that version, as kube-apiserver stores it.
pub(crate) fn definition(version: &str, fields: &[&str]) -> String {
    let fields: Vec<_> = fields.iter().map(|field| format!(r#"{{"jsonPath":".{field}"}}"#)).collect();
    format!(
        r#"{{"kind":"CustomResourceDefinition","apiVersion":"apiextensions.k8s.io/v1beta1","metadata":{{"name":"shirts.stable.example.com"}},
            "spec":{{"group":"stable.example.com","version":"{version}","names":{{"plural":"shirts","kind":"Shirt"}},"scope":"Namespaced",
            "versions":[{{"name":"{version}","served":true,"storage":true}}],"selectableFields":[{}]}}}}"#,
        fields.join(",")
    )
}

/// The key of a shirt, in one of three namespaces.
pub(crate) fn key(number: usize) -> String {
    format!("{SHIRTS}ns{}/s{number}", number % 3)
}

/// A shirt with such a spec.
pub(crate) fn shirt(number: usize, version: &str, labels: &str, spec: &str) -> String {
    format!(
        r#"{{"apiVersion":"stable.example.com/{version}","kind":"Shirt",
            "metadata":{{"name":"s{number}","namespace":"ns{}","labels":{{{labels}}}}},"spec":{{{spec}}}}}"#,
        number % 3
    )
}

pub(crate) fn query(label: &str, field: &str, version: &str) -> RangeQuery {
    let selection = Selection::parse(Some(label), Some(field), Some(&format!("stable.example.com/{version}")));
    RangeQuery { range: prefix(SHIRTS), selection: selection.unwrap().map(Arc::new), ..RangeQuery::default() }
}

/// Waits until so many indexes are ready and all others are gone.
pub(crate) async fn settled(metrics: &Metrics, ready: i64) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let count = |state| metrics.field_indexes(state).get();
    while count(IndexState::Ready) != ready || count(IndexState::Building) + count(IndexState::Dropping) > 0 {
        assert!(Instant::now() < deadline, "the indexes do not get ready");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Closes the engine and finds nothing wrong with the database.
pub(crate) async fn close_sound(engine: Engine, database: &Database) {
    engine.shutdown().await;
    drop(engine);
    let mut wrong = Vec::new();
    let checked = sql::check(database.endpoint(), false, &mut |damage| wrong.push(damage.what)).unwrap();
    assert!(wrong.is_empty(), "{checked:?} {wrong:#?}");
}

/// Every 100th shirt is green, every 50th is of the label team=a.
async fn load(engine: &Engine, shirts: usize) {
    let mut writes = Vec::new();
    for number in 0..shirts {
        let color = if number % 100 == 0 { "green" } else { "blue" };
        let team = if number % 50 == 0 { "a" } else { "b" };
        let value =
            shirt(number, "v1", &format!(r#""team":"{team}""#), &format!(r#""color":"{color}","size":{number}"#));
        let engine = engine.clone();
        writes.push(tokio::spawn(async move { put(&engine, key(number), value).await }));
    }
    for write in writes {
        write.await.unwrap();
    }
}

/// Returned keys and read rows.
async fn read(engine: &Engine, metrics: &Metrics, query: &RangeQuery) -> (Vec<Bytes>, u64) {
    let before = metrics.rows_read.get();
    let result = engine.range(query.clone()).await.unwrap();
    (result.kvs.into_iter().map(|kv| kv.key).collect(), metrics.rows_read.get() - before)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_selector_reads_what_matches() {
    let database = Database::new();
    let (engine, metrics) = open(&database).await;
    put(&engine, DEFINITION, definition("v1", &["spec.color", "spec.size"])).await;
    settled(&metrics, 2).await;
    load(&engine, 600).await;
    // Label selector, field selector, keys returned, most rows that may be read for it.
    let table = [
        ("", "spec.color=green", 6, 6),
        ("", "spec.color=purple", 0, 0),
        ("", "spec.color!=blue", 6, 6),
        ("", "spec.size=17", 1, 1),
        ("", "spec.size!=17", 599, 600),
        ("", "spec.color=green,spec.size=100", 1, 1),
        ("team=a", "spec.color=green", 6, 6),
        ("team!=a", "spec.color=green", 0, 6),
        ("team=a", "spec.color=blue", 6, 12),
        ("", "metadata.name=s300", 1, 1),
        ("", "metadata.name=s300,metadata.namespace=ns0", 1, 1),
        ("", "metadata.name=s300,metadata.namespace=ns1", 0, 0),
        ("", "metadata.namespace=ns1", 200, 200),
        ("", "metadata.namespace=none", 0, 0),
        ("team=a", "metadata.namespace=ns1", 4, 12),
        ("", "spec.flavour=x", 0, 600),
    ];
    for (label, field, returned, most) in table {
        let (keys, read) = read(&engine, &metrics, &query(label, field, "v1")).await;
        assert_eq!(keys.len(), returned, "{label} {field}");
        assert!(read <= most, "{label} {field} read {read} rows");
        assert!(keys.is_sorted());
    }
    // In another version nothing is known of the values.
    let (keys, _) = read(&engine, &metrics, &query("", "spec.color=green", "v2")).await;
    assert_eq!(keys.len(), 600);
    // What is stored in another version, sealed, or has no clear value, is returned always.
    put(&engine, key(600), shirt(600, "v2", "", r#""color":"red""#)).await;
    put(&engine, key(601), "k8s:enc:kms:v2:x").await;
    put(&engine, key(602), shirt(602, "v1", "", r#""color":1.5"#)).await;
    let (keys, read) = read(&engine, &metrics, &query("", "spec.color=green", "v1")).await;
    assert_eq!((keys.len(), read), (9, 9));
    close_sound(engine, &database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_is_built_of_what_is_there_across_restarts_and_removed_with_its_field() {
    let database = Database::new();
    let (engine, metrics) = open(&database).await;
    load(&engine, 3000).await;
    let green = query("", "spec.color=green", "v1");
    put(&engine, DEFINITION, definition("v1", &["spec.color"])).await;
    // Whatever the index is at, the answer is right.
    assert_eq!(read(&engine, &metrics, &green).await.0.len(), 30);
    engine.shutdown().await;
    let (engine, metrics) = open(&database).await;
    put(&engine, key(1), shirt(1, "v1", "", r#""color":"green""#)).await;
    settled(&metrics, 1).await;
    let (keys, rows) = read(&engine, &metrics, &green).await;
    assert_eq!((keys.len(), rows), (31, 31));
    assert!(metrics.reads(ReadSource::Field).get() > 0);
    // The field goes, and another comes.
    put(&engine, DEFINITION, definition("v1", &["spec.size"])).await;
    settled(&metrics, 1).await;
    assert_eq!(read(&engine, &metrics, &green).await, (keys.clone(), 3000));
    assert_eq!(read(&engine, &metrics, &query("", "spec.size=7", "v1")).await.1, 1);
    // It comes back; the version that is stored changes; the definition goes.
    put(&engine, DEFINITION, definition("v1", &["spec.color", "spec.size"])).await;
    settled(&metrics, 2).await;
    assert_eq!(read(&engine, &metrics, &green).await, (keys.clone(), 31));
    put(&engine, DEFINITION, definition("v2", &["spec.color"])).await;
    settled(&metrics, 1).await;
    assert_eq!(read(&engine, &metrics, &green).await, (keys, 3000));
    engine.write(Op::Delete(DeleteRange { range: KeyRange::single(DEFINITION), prev_kv: false })).await.unwrap();
    settled(&metrics, 0).await;
    close_sound(engine, &database).await;
}

/// kube-apiserver's own bookkeeping (`compact_rev_key`) is no object, and no part of any list.
#[tokio::test]
async fn an_unreadable_key_elsewhere_does_not_matter() {
    let database = Database::new();
    let (engine, metrics) = open(&database).await;
    load(&engine, 200).await;
    for key in
        ["compact_rev_key", "/registry/x", "/registry/stable.example.com/x", "/registry/stable.example.com/shirts"]
    {
        put(&engine, key, "no object").await;
    }
    let (keys, rows) = read(&engine, &metrics, &query("team=a", "", "v1")).await;
    assert_eq!((keys.len(), rows), (4, 4));
    let mut page = query("team=a", "", "v1");
    page.range = page.range.after(&keys[1]);
    assert_eq!(read(&engine, &metrics, &page).await, (keys[2..].to_vec(), 2));
    // One that is of the list, but outside of the directory where the page begins, does.
    put(&engine, format!("{SHIRTS}sealed"), "no object").await;
    assert_eq!(read(&engine, &metrics, &page).await.0.len(), 3);
}

/// An object under another name than its own is found by its own.
#[tokio::test]
async fn a_name_that_is_not_that_of_the_key_is_found() {
    let database = Database::new();
    let (engine, metrics) = open(&database).await;
    load(&engine, 30).await;
    put(&engine, key(40), shirt(7, "v1", "", "")).await;
    let (keys, _) = read(&engine, &metrics, &query("", "metadata.name=s7", "v1")).await;
    assert_eq!(keys, [key(40), key(7)]);
    put(&engine, key(40), shirt(40, "v1", "", "")).await;
    assert_eq!(read(&engine, &metrics, &query("", "metadata.name=s7", "v1")).await, (vec![key(7).into()], 1));
    close_sound(engine, &database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_values_and_missing_labels_do_not_read_everything() {
    let database = Database::new();
    let (engine, metrics) = open(&database).await;
    let mut writes = Vec::new();
    for number in 0..900 {
        // 300 values of n, of which each object of ns1 has one; the label of one in 90 is rare.
        let mut labels = format!(r#""n":"{}""#, number / 3);
        if number % 90 == 0 {
            labels += r#","rare":"yes","skip-controller-manager-metadata-caching":"""#;
        }
        let (engine, value) = (engine.clone(), shirt(number, "v1", &labels, ""));
        writes.push(tokio::spawn(async move { put(&engine, key(number), value).await }));
    }
    for write in writes {
        write.await.unwrap();
    }
    let many: Vec<String> = (0..250).map(|value| value.to_string()).collect();
    let many = format!("n in ({})", many.join(","));
    let table = [
        (many.clone(), 0, 750, 750),
        (many.clone(), 5, 6, 6),
        (format!("{many},rare"), 0, 9, 10),
        ("n!=3,rare".to_owned(), 0, 10, 10),
        ("n notin (0,30),rare=yes".to_owned(), 0, 8, 10),
        ("!other,rare=yes".to_owned(), 0, 10, 10),
        ("!skip-controller-manager-metadata-caching,rare".to_owned(), 0, 0, 10),
        ("n>297".to_owned(), 0, 6, 6),
        ("rare".to_owned(), 3, 4, 4),
    ];
    for (selector, limit, returned, most) in table {
        // A page is asked for with one more, to know whether there is one.
        let returned = if limit > 0 { limit } else { returned };
        let (keys, rows) = read(&engine, &metrics, &RangeQuery { limit, ..query(&selector, "", "v1") }).await;
        assert_eq!(keys.len(), returned, "{selector}");
        assert!(rows <= most, "{selector} read {rows} rows");
        assert!(keys.is_sorted());
    }
}
