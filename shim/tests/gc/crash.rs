//! The real server, killed with SIGKILL again and again while it collects.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::database::Database;
use crate::world::*;

/// How many objects the server changes before it is killed.
const LIFE: usize = 60;

/// A forest: of each five trees two are deleted in the background, one in the foreground, one is orphaned and one
/// stays. Many objects are shared with another tree, but not with an orphaned one: what becomes of these depends on who
/// is first. Some have finalizers.
fn forest() -> (Vec<Object>, Vec<(Object, Option<&'static str>)>) {
    let policies = [None, None, Some(FOREGROUND), Some(ORPHAN)];
    let mut objects: Vec<Object> = (0..20).map(shirt).collect();
    let mut roots: Vec<usize> = (0..20).collect();
    for number in 20..1000_u64 {
        let at = (number as usize - 20) / 3;
        let mut object = shirt(number).blocking(&objects[at]);
        let (root, other) = (roots[at], (number as usize * 7) % 20);
        if number % 4 == 0 && root % 5 != 3 && other % 5 != 3 {
            object = object.owned_by(&objects[other]);
        }
        roots.push(root);
        if number % 31 == 0 {
            object = object.finalizer("example.com/x");
        }
        objects.push(object);
    }
    let deleted = (0..20).filter(|root| root % 5 < 4).map(|root| (objects[root].clone(), policies[root % 5])).collect();
    (objects, deleted)
}

/// What is left and not being deleted: what that waits for depends on the order of things.
async fn left(world: &World) -> Vec<(String, Value)> {
    let mut left = Vec::new();
    for key in world.keys().await {
        let value: Value = serde_json::from_slice(&world.get(&key).await.unwrap().value).unwrap();
        if value["metadata"].get("deletionTimestamp").is_none() {
            left.push((key, value));
        }
    }
    left
}

/// How much a store has to do, also one whose server died.
fn tasks(database: &Database) -> i64 {
    let connection = rusqlite::Connection::open(database.file()).unwrap();
    connection.query_row("SELECT count(*) FROM gc_task WHERE state <> 1", [], |row| row.get(0)).unwrap()
}

fn lines(path: &Path) -> usize {
    std::fs::read(path).map_or(0, |text| text.iter().filter(|byte| **byte == b'\n').count())
}

fn serve(database: &Database, audit: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_sluice-shim"))
        .env_clear()
        .args(["--endpoint", database.url()])
        .args(["--listen-client-urls", "http://127.0.0.1:0", "--log-level", "error", "--gc-rate", "4000"])
        .arg("--gc-audit-log")
        .arg(audit)
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn t31_kills_change_nothing_of_what_is_left() {
    let mut world = World::at(Database::sqlite(), idle()).await;
    let (objects, deleted) = forest();
    world.create_all(&objects).await;
    for (object, finalizer) in &deleted {
        match finalizer {
            Some(finalizer) => world.delete_with(object, finalizer).await,
            None => world.delete(object).await,
        }
    }
    world.engine.shutdown().await;
    let twin = Database::sqlite();
    std::fs::copy(world.database.file(), twin.file()).unwrap();

    let audit = twin.folder().join("audit.log");
    let mut kills = 0;
    while tasks(&twin) > 0 {
        let (done, mut server) = (lines(&audit), serve(&twin, &audit));
        let deadline = Instant::now() + Duration::from_secs(30);
        // Each life ends at another point.
        while lines(&audit) < done + LIFE + kills % 7 && tasks(&twin) > 0 {
            assert!(Instant::now() < deadline, "after {kills} kills {done} objects were done, and no more");
            assert!(server.try_wait().unwrap().is_none(), "it ended by itself");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        server.kill().unwrap();
        server.wait().unwrap();
        kills += 1;
    }
    assert!(kills > 5, "{kills}");

    world.restart(Some(eager())).await;
    world.settle().await;
    let survivor = World::at(twin, eager()).await;
    survivor.settle().await;
    let (expected, found) = (left(&world).await, left(&survivor).await);
    assert!(expected.len() > 100 && expected.len() < 900, "{}", expected.len());
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
}
