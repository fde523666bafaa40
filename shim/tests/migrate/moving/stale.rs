//! Compactions take away what the target has not heard of.

use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use sluice_shim::engine::{Engine, Op, Txn};
use sluice_shim::migrate::moving::{Move, Progress};

use super::{LONG, has_moved, migrate, moving, pairs};
use crate::database::Database;
use crate::support::*;

#[tokio::test]
async fn keys_whose_deletion_was_compacted_go() {
    for (from, to) in pairs() {
        let engine = open(&from).await.unwrap();
        for key in ["/a/1", "/a/2", "/a/3", "/b/1", "/b/2"] {
            engine.write(put(key, object("red"), 0)).await.unwrap();
        }
        engine.shutdown().await;
        moving(&from, &to, |moving| moving.copy().unwrap()).await;
        let engine = open(&from).await.unwrap();
        engine.lease_grant(9, 600).await.unwrap();
        // Gone for good; gone and there again, once before the compaction and once behind it; changed several times.
        engine.write(delete("/a/1")).await.unwrap();
        engine.write(delete("/a/2")).await.unwrap();
        engine.write(put("/a/2", object("blue"), 9)).await.unwrap();
        engine.write(delete("/b/1")).await.unwrap();
        for color in ["white", "black", "grey"] {
            engine.write(put("/a/3", object(color), 0)).await.unwrap();
        }
        engine.compact(engine.revision(), true).await.unwrap();
        engine.write(put("/b/1", "opaque", 0)).await.unwrap();
        engine.write(delete("/b/2")).await.unwrap();
        let before = content(&engine).await;
        engine.shutdown().await;
        assert_eq!(migrate(&from, &to, &[]).await, Ok(true));
        has_moved(&before, &from, &to).await;
    }
}

/// Of more changes than one commit carries, old values that a compaction freed leave nothing behind.
#[tokio::test]
async fn nothing_is_left_of_what_was_compacted_between_two_commits() {
    for (from, to) in pairs() {
        let engine = open(&from).await.unwrap();
        let of = |number: usize| put(&format!("/a/{number:04}"), "x".repeat(64 << 10), 0);
        for first in (0..100).step_by(10) {
            let success = (first..first + 10).map(of).collect();
            engine.write(Op::Txn(Txn { success, ..Txn::default() })).await.unwrap();
        }
        engine.shutdown().await;
        moving(&from, &to, |moving| moving.copy().unwrap()).await;
        let engine = open(&from).await.unwrap();
        for number in (0..100).step_by(3) {
            engine.write(put(&format!("/a/{number:04}"), "new", 0)).await.unwrap();
            engine.write(put(&format!("/a/{number:04}"), "newer", 0)).await.unwrap();
        }
        engine.compact(engine.revision() - 5, true).await.unwrap();
        let before = content(&engine).await;
        engine.shutdown().await;
        assert_eq!(migrate(&from, &to, &[]).await, Ok(true));
        has_moved(&before, &from, &to).await;
    }
}

async fn act(engine: &Engine, (key, what): (u8, u8)) {
    let [one, other] = [key, (key + 1) % 5].map(|key| format!("/registry/{}/{key}", key % 2));
    let op = match what {
        0 | 1 => delete(&one),
        2 => put(&one, "text", 0),
        3 => put(&one, object("red"), 7),
        4 => Op::Txn(Txn { success: vec![put(&one, object("white"), 0), delete(&other)], ..Txn::default() }),
        _ => {
            // What is in the future or compacted already is refused.
            let _ = engine.compact(engine.revision() - i64::from(what - 5), true).await;
            return;
        }
    };
    engine.write(op).await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Whatever happens to the store between the parts of the move, also compactions and a new start of the move: the
    /// target holds the same in the end.
    #[test]
    fn any_history_goes_along(steps in prop::collection::vec((0u8..5, 0u8..9, 0u8..6), 1..50)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let [from, to] = Database::several();
            let engine = open(&from).await.unwrap();
            engine.lease_grant(7, 3600).await.unwrap();
            let (source, target) = (from.endpoint().clone(), to.endpoint().clone());
            let going: Arc<Mutex<Option<Move>>> = Arc::default();
            for (key, what, part) in &steps {
                act(&engine, (*key, *what)).await;
                let (going, part, source, target) = (Arc::clone(&going), *part, source.clone(), target.clone());
                let work = move || {
                    let mut going = going.lock().unwrap();
                    if part == 3 {
                        // Before it is opened anew: one process has the target.
                        *going = None;
                    }
                    if part <= 3 {
                        let begin = || Move::begin(&source, &target, Progress::default()).unwrap();
                        let moving = going.get_or_insert_with(begin);
                        moving.copy().unwrap();
                        if part == 0 && !moving.advance().unwrap() {
                            moving.prove().unwrap();
                            moving.prepare().unwrap();
                        }
                    }
                };
                tokio::task::spawn_blocking(work).await.unwrap();
            }
            tokio::task::spawn_blocking(move || drop(going)).await.unwrap();
            let before = content(&engine).await;
            engine.shutdown().await;
            moving(&from, &to, |moving| {
                moving.copy().unwrap();
                moving.prove().unwrap();
                moving.prepare().unwrap();
                moving.hold(LONG).unwrap().unwrap().leave().unwrap().finish().map(drop).unwrap();
            })
            .await;
            has_moved(&before, &from, &to).await;
        });
    }
}
