//! How long selective lists take as the number of objects grows, in the engine itself: `cargo bench -p sluice-shim
//! --bench select -- 1000 1000000`.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that cannot go on ends")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sluice_shim::endpoint::Endpoint;
use sluice_shim::engine::load::Loader;
use sluice_shim::engine::metrics::Metrics;
use sluice_shim::engine::*;
use sluice_shim::selector::Selection;
use sluice_shim::sql;

const SHIRTS: &str = "/registry/stable.example.com/shirts/";
const NAMESPACES: usize = 100;
/// How many objects have the same color, whatever their number.
const SAME: usize = 20;
const LISTS: usize = 2000;
const WRITES: usize = 20_000;
const CLIENTS: usize = 32;

fn main() {
    let counts: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for count in if counts.is_empty() { vec![1000, 100_000] } else { counts } {
        let folder = tempfile::tempdir().unwrap();
        runtime.block_on(measure(folder.path(), count));
    }
}

fn key(number: usize) -> Bytes {
    format!("{SHIRTS}ns{}/s{number}", number % NAMESPACES).into()
}

fn shirt(number: usize) -> Bytes {
    let (group, namespace) = (number / SAME, number % NAMESPACES);
    let padding = "x".repeat(300);
    format!(
        r#"{{"apiVersion":"stable.example.com/v1","kind":"Shirt","metadata":{{"name":"s{number}","namespace":"ns{namespace}","uid":"{number:036}","labels":{{"color":"c{group}","kind":"shirt","team":"t{}"}}}},"spec":{{"color":"c{group}","size":{number},"text":"{padding}"}}}}"#,
        number % 7
    )
    .into()
}

fn record(revision: Revision, key: Bytes, value: Bytes) -> Record {
    let kv = KeyValue { key, value, create_revision: revision, mod_revision: revision, version: 1, lease: 0 };
    Record { revision, sub: 0, tombstone: false, kv }
}

async fn measure(folder: &Path, count: usize) {
    let endpoint = Endpoint::Sqlite(folder.join("state.db"));
    let metrics = Arc::new(Metrics::default());
    let store = sql::open(&endpoint, Arc::clone(&metrics)).unwrap();
    let mut loader = Loader::begin(store.as_ref(), 0).unwrap();
    let started = Instant::now();
    for number in 0..count {
        loader.push(record(2 + number as Revision, key(number), shirt(number))).unwrap();
    }
    let definition =
        r#"{"spec":{"versions":[{"name":"v1","storage":true,"selectableFields":[{"jsonPath":".spec.color"}]}]}}"#;
    let name = "/registry/apiextensions.k8s.io/customresourcedefinitions/shirts.stable.example.com";
    let last = 2 + count as Revision;
    loader.push(record(last, name.into(), definition.into())).unwrap();
    loader.flush().unwrap();
    let loaded = started.elapsed();
    let started = Instant::now();
    loader.finish(last, 0).unwrap();
    println!("{count} objects: loaded in {loaded:.1?}, field index and the end in {:.1?}", started.elapsed());
    drop(store);
    let store = sql::open(&endpoint, Arc::clone(&metrics)).unwrap();
    let engine = Engine::start(store, ReaderThreads::default(), Arc::clone(&metrics)).await.unwrap();
    for (what, limit) in [
        ("label", 0),
        ("field", 0),
        ("label and field", 0),
        ("name", 0),
        ("in", 0),
        ("label, page of 500", 500),
        ("exists, page of 500", 500),
    ] {
        list(&engine, &metrics, what, limit, count).await;
    }
    write(&engine, "indexed", &key, count).await;
    write(&engine, "of another kind", &|number| format!("/registry/example.com/pants/ns/s{number}").into(), count)
        .await;
    engine.shutdown().await;
}

async fn list(engine: &Engine, metrics: &Metrics, what: &str, limit: usize, count: usize) {
    let (mut times, mut found) = (Vec::with_capacity(LISTS), 0);
    let before = metrics.rows_read.get();
    let lists = if limit > 0 { LISTS / 10 } else { LISTS };
    for round in 0..lists {
        let number = round * 7919 % count;
        let color = number / SAME;
        let (label, field) = match what {
            "label" => (format!("color=c{color}"), String::new()),
            "field" => (String::new(), format!("spec.color=c{color}")),
            "label and field" => ("kind=shirt".to_owned(), format!("spec.color=c{color}")),
            "name" => (String::new(), format!("metadata.name=s{number}")),
            "in" => (format!("color in (c{color},c{},c0),kind=shirt", color + 1), String::new()),
            "exists, page of 500" => ("team".to_owned(), String::new()),
            _ => ("team=t3".to_owned(), String::new()),
        };
        let selection = Selection::parse(Some(&label), Some(&field), Some("stable.example.com/v1")).unwrap();
        let end = SHIRTS.replace("shirts/", "shirts0");
        let range = KeyRange::from_wire(SHIRTS.into(), end.into());
        let query = RangeQuery { range, limit, selection: selection.map(Arc::new), ..RangeQuery::default() };
        let started = Instant::now();
        found += engine.range(query).await.unwrap().kvs.len();
        times.push(started.elapsed());
    }
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!(
        "  {what:<22} p50 {:>8} p99 {:>8}  {:.1} found, {:.1} read",
        shown(at(0.5)),
        shown(at(0.99)),
        found as f64 / lists as f64,
        (metrics.rows_read.get() - before) as f64 / lists as f64
    );
}

fn shown(time: Duration) -> String {
    format!("{} µs", time.as_micros())
}

async fn write(engine: &Engine, what: &str, key: &dyn Fn(usize) -> Bytes, count: usize) {
    let started = Instant::now();
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        let keys: Vec<_> = (client..WRITES).step_by(CLIENTS).map(|at| (key(count + at), shirt(count + at))).collect();
        let engine = engine.clone();
        clients.push(tokio::spawn(async move {
            for (key, value) in keys {
                engine.write(Op::Put(Put { key, value, ..Put::default() })).await.unwrap();
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    println!("  creates, {what:<15} {:.0} a second", WRITES as f64 / started.elapsed().as_secs_f64());
}
