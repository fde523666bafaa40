//! A move that is stopped somewhere goes on, and nothing is ever current in two places.

use std::time::Duration;

use super::{LONG, has_moved, migrate, moving, pairs, refusal};
use crate::support::*;

/// What serves the store: the source, the target, both or none.
async fn served(from: &crate::database::Database, to: &crate::database::Database) -> (bool, bool) {
    (refusal(from).await == "it is served", refusal(to).await == "it is served")
}

#[tokio::test]
async fn it_goes_on_wherever_it_was_stopped() {
    for stop in 0..6 {
        for (from, to) in pairs() {
            let before = filled(&from, Some(4)).await;
            moving(&from, &to, move |moving| {
                if stop >= 1 {
                    moving.copy().unwrap();
                }
                if stop >= 2 {
                    moving.prove().unwrap();
                    moving.prepare().unwrap();
                }
                if stop >= 3 {
                    let held = moving.hold(LONG).unwrap().unwrap();
                    if stop >= 4 {
                        let left = held.leave().unwrap();
                        if stop >= 5 {
                            left.finish().unwrap();
                        }
                    }
                }
            })
            .await;
            let expected = match stop {
                0..=3 => (true, false),
                4 => (false, false),
                _ => (false, true),
            };
            assert_eq!(served(&from, &to).await, expected, "stopped at {stop}");
            let again = migrate(&from, &to, &[]).await;
            if stop < 5 {
                assert_eq!(again, Ok(true), "stopped at {stop}");
            } else {
                assert!(again.unwrap_err().contains("the store has moved to"));
            }
            has_moved(&before, &from, &to).await;
        }
    }
}

/// Between two tries the source goes on, and what the first one copied is not copied again.
#[tokio::test]
async fn the_second_try_copies_the_rest() {
    for (from, to) in pairs() {
        filled(&from, None).await;
        moving(&from, &to, |moving| moving.copy().unwrap()).await;
        let engine = open(&from).await.unwrap();
        engine.write(delete("/registry/shirts/b")).await.unwrap();
        engine.write(put("/registry/shirts/e", object("red"), 7)).await.unwrap();
        let before = content(&engine).await;
        engine.shutdown().await;
        let copied = moving(&from, &to, |moving| {
            moving.copy().unwrap();
            moving.prove().unwrap();
            moving.prepare().unwrap();
            moving.hold(LONG).unwrap().unwrap().leave().unwrap().finish().unwrap().figures.copied
        });
        assert_eq!(copied.await, 2);
        has_moved(&before, &from, &to).await;
    }
}

/// A store that went to one database does not go on to another that an earlier move had begun to fill.
#[tokio::test]
async fn it_does_not_go_to_two_places() {
    for (from, to) in pairs() {
        let other = crate::database::Database::new();
        filled(&from, None).await;
        moving(&from, &other, |moving| moving.copy().unwrap()).await;
        moving(&from, &to, |moving| {
            moving.copy().unwrap();
            moving.prove().unwrap();
            moving.hold(LONG).unwrap().unwrap().leave().map(drop).unwrap();
        })
        .await;
        let refused = migrate(&from, &other, &[]).await.unwrap_err();
        assert!(refused.contains(&format!("the store has moved to {}", to.endpoint())), "{refused}");
        assert_eq!(served(&from, &other).await, (false, false));
        assert_eq!(migrate(&from, &to, &[]).await, Ok(true));
        assert_eq!(served(&from, &to).await, (false, true));
    }
}

/// If there is no time for the rest, the source goes on.
#[tokio::test]
async fn writes_do_not_wait_too_long() {
    for (from, to) in pairs() {
        filled(&from, None).await;
        let engine = open(&from).await.unwrap();
        let held = moving(&from, &to, |moving| {
            moving.copy().unwrap();
            moving.prove().unwrap();
            moving.hold(Duration::ZERO).unwrap().is_some()
        });
        assert!(!held.await);
        assert_eq!(engine.write(put("/a", "value", 0)).await.unwrap().0, 11);
        engine.shutdown().await;
        assert_eq!(served(&from, &to).await, (true, false));
    }
}

/// A target whose making was stopped is as good as none, whatever is left of it.
#[tokio::test]
async fn a_target_that_was_half_made_is_made_anew() {
    for statements in ["PRAGMA auto_vacuum = incremental", "PRAGMA cache_size = 1; BEGIN; CREATE TABLE meta (id)"] {
        let [from, to] = [crate::database::Database::sqlite(), crate::database::Database::sqlite()];
        let before = filled(&from, Some(4)).await;
        let half = to.folder().join("half");
        let maker = rusqlite::Connection::open(&half).unwrap();
        maker.execute_batch(statements).unwrap();
        if !maker.is_autocommit() {
            maker.execute_batch("INSERT INTO meta VALUES (zeroblob(100000))").unwrap();
        }
        let journal = to.folder().join("half-journal");
        if journal.exists() {
            std::fs::copy(journal, to.folder().join("state.db-journal")).unwrap();
        }
        std::fs::copy(&half, to.file()).unwrap();
        assert_eq!(migrate(&from, &to, &[]).await, Ok(true), "{statements}");
        has_moved(&before, &from, &to).await;
    }
}
