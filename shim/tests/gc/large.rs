//! A large cascade in the real server: what it costs in memory and in the log, and that nobody's watch ends over it.
//!
//! `SLUICE_GC_DEPENDENTS=1000000 cargo test --release -p sluice-shim --test gc t32_a_large` is the million (some
//! gigabytes in the folder for temporary files). How fast it is, and what other clients' writes take meanwhile, is no
//! matter of a test: `cargo xtask bench gc --dependents 100k` measures that.

use std::path::Path;
use std::time::Duration;

use sluice_shim::pb::etcdserverpb as pb;

use crate::process::{Server, Watch, is_deletion};
use crate::world::*;

/// Unless the variable says otherwise.
const DEPENDENTS: u64 = 6_000;

/// A key that is written before.
const WARM: &str = "/warm";

/// What the server may take in addition while it collects.
const MEMORY: u64 = 64 << 20;

/// How large the write-ahead log may get: it is copied at 128 MiB, beside the writing.
const LOG: u64 = 192 << 20;

/// Bytes of all dependents together, at least: more than either.
const TOTAL: u64 = 224 << 20;

fn dependents() -> u64 {
    std::env::var("SLUICE_GC_DEPENDENTS").map_or(DEPENDENTS, |text| text.parse().unwrap())
}

/// What clients saw of a cascade.
#[derive(Debug, Default)]
struct Seen {
    deletions: u64,
    puts: u64,
}

/// Follows until the owner and all dependents are gone.
async fn follow(mut watch: Watch, dependents: u64) -> Seen {
    let (mut seen, mut gone, mut last) = (Seen::default(), vec![false; dependents as usize + 1], 0);
    while seen.deletions < dependents + 1 {
        for event in watch.next().await.expect("the watch ended") {
            let kv = event.kv.as_ref().unwrap();
            assert!(kv.mod_revision > last, "{} after {last}", kv.mod_revision);
            last = kv.mod_revision;
            if is_deletion(&event) {
                let name = kv.key.rsplit(|byte| *byte == b'-').next().unwrap();
                let number: usize = std::str::from_utf8(name).unwrap().parse().unwrap();
                assert!(!std::mem::replace(&mut gone[number], true), "{number} went twice");
                assert!(event.prev_kv.is_some());
                seen.deletions += 1;
            } else {
                seen.puts += 1;
            }
        }
    }
    seen
}

fn log_size(folder: &Path) -> u64 {
    std::fs::metadata(folder.join("state.db-wal")).map_or(0, |file| file.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t32_a_large_cascade_stays_within_bounds_and_ends_no_watch() {
    let many = dependents();
    let world = World::with(idle()).await;
    let owner = shirt(0);
    let padding = "x".repeat((TOTAL / many).max(700) as usize);
    world.create(&owner).await;
    for first in (1..=many).step_by(500) {
        let creations = (first..(first + 500).min(many + 1)).map(|number| {
            let object = shirt(number).owned_by(&owner);
            let mut json = object.json();
            json["spec"]["padding"] = padding.as_str().into();
            let world = &world;
            async move { world.put(&object.key(), &json).await }
        });
        futures::future::join_all(creations).await;
    }
    world.engine.shutdown().await;

    let folder = world.database.folder();
    let server = Server::start(&world.database, &["--gc-rate", "1000000"]);
    let mut kv = server.kv().await;
    let put = |number: u64| {
        let other = configmap(2_000_000 + number % 100);
        pb::PutRequest { key: other.key().into(), value: other.json().to_string().into(), ..Default::default() }
    };
    // Caches and buffers that any writing fills are full before it is measured.
    for number in 0..1000 {
        kv.put(pb::PutRequest { key: WARM.into(), value: vec![b'x'; 64 << 10].into(), ..put(number) }).await.unwrap();
    }
    let memory_before = server.memory();
    let mut watch = server.watch(0).await;
    assert!(watch.next().await.unwrap().is_empty(), "the watch begins");
    let delete = pb::DeleteRangeRequest { key: owner.key().into(), ..Default::default() };
    kv.delete_range(delete).await.unwrap();

    let watching = tokio::spawn(follow(watch, many));
    let (mut puts, mut memory, mut log) = (0, 0, 0);
    while !watching.is_finished() {
        kv.put(put(puts)).await.unwrap();
        puts += 1;
        memory = server.memory().max(memory);
        log = log_size(folder).max(log);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let seen = watching.await.unwrap();
    let said = format!(
        "{many} dependents: memory {} MiB before, {} MiB at most; log {} MiB at most; {seen:?} of {puts} puts",
        memory_before >> 20,
        memory >> 20,
        log >> 20
    );
    println!("{said}");
    assert!(memory <= memory_before + MEMORY, "{said}");
    assert!(log <= LOG, "{said}");
    assert!(seen.deletions == many + 1 && seen.puts > 5, "{said}");
}
