//! Several servers and one database: one has it, and another goes on when that one is gone.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::database::Database;
use crate::process::{self, PATIENCE, Server, is_deletion};
use crate::world::*;

const DEPENDENTS: u64 = 2500;

/// Slow enough to be met at work.
const RATE: &str = "2000";

/// While one server collects, another one on the same database is refused, says why, and disturbs nothing. When the
/// first one is killed the second one goes on; a watch that is resumed there has seen the deletion of each dependent
/// once.
#[tokio::test]
async fn t30_one_server_collects_and_each_dependent_goes_once() {
    let world = World::at(Database::sqlite(), idle()).await;
    let owner = shirt(0);
    let owned: Vec<_> = (1..=DEPENDENTS).map(|number| shirt(number).owned_by(&owner)).collect();
    world.create_all([&owner].into_iter().chain(&owned)).await;
    world.delete(&owner).await;
    let from = world.engine.status().await.unwrap().revision + 1;
    world.engine.shutdown().await;

    let mut deletions: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let mut next = from;
    let mut first = Server::start(&world.database, &["--gc-rate", RATE]);
    let mut watch = first.watch(next).await;
    let (mut refused, mut killed) = (false, false);
    while let Some(events) = watch.next().await {
        for event in events {
            let kv = event.kv.as_ref().unwrap();
            assert!(is_deletion(&event) && kv.mod_revision >= next, "{event:?}");
            next = kv.mod_revision + 1;
            let key = String::from_utf8(kv.key.to_vec()).unwrap();
            deletions.entry(key).or_default().push(kv.mod_revision);
        }
        let gone = deletions.len();
        if !refused && gone > 200 {
            let (code, said) = process::refused(process::command(&world.database, &["--gc-rate", RATE]));
            assert!(said.contains("another process has the database") && said.contains("state.db open"), "{said}");
            assert_eq!(code, Some(1), "{said}");
            assert!(first.runs());
            refused = true;
        }
        if !killed && gone > 1000 {
            assert!(refused && (gone as u64) < DEPENDENTS, "it was killed too late: {gone}");
            first.kill();
            killed = true;
        }
    }
    assert!(killed, "the first server ended the watch");

    let second = Server::start(&world.database, &["--gc-rate", RATE]);
    let mut watch = second.watch(next).await;
    let deadline = Instant::now() + PATIENCE;
    let mut by_second = 0;
    while (deletions.len() as u64) < DEPENDENTS {
        assert!(Instant::now() < deadline, "{} are gone", deletions.len());
        for event in watch.next().await.unwrap() {
            let kv = event.kv.as_ref().unwrap();
            assert!(is_deletion(&event), "{event:?}");
            let key = String::from_utf8(kv.key.to_vec()).unwrap();
            deletions.entry(key).or_default().push(kv.mod_revision);
            by_second += 1;
        }
    }
    assert!(by_second > 100, "the first one had done almost all: the second did {by_second}");
    drop(second);

    // What the database says, also of what no watch was there for.
    let survivor = World::at(world.database, idle()).await;
    assert_eq!(survivor.keys().await, [""; 0]);
    let history = survivor.events(from).await;
    assert_eq!(history.len() as u64, DEPENDENTS, "one revision for each");
    assert!(deletions.values().all(|revisions| revisions.len() == 1));
    assert!(survivor.engine.collector().await.unwrap().tasks.is_empty());
}
