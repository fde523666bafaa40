//! A check of all that is stored takes as long as it takes: no limit of an answer's time ends it.

use std::time::Duration;

use sluice_shim::endpoint::Family;

use crate::database::Database;
use crate::ledger::{Writer, open, sound};

/// Longer than any other statement may take.
const LONG: Duration = Duration::from_secs(33);

#[tokio::test(flavor = "multi_thread")]
async fn a_check_waits_for_a_statement_that_takes_long() {
    let Some(family) = crate::family_or_skip() else { return };
    let database = Database::new();
    let engine = open(database.endpoint()).await;
    Writer::new(&engine, "w").step().await.unwrap();
    engine.shutdown().await;
    drop(engine);
    let (locked, is_locked) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        // Whoever wants the table stands for a table that is large.
        let database = &database;
        scope.spawn(move || {
            let (lock, pause) = match family {
                Family::Postgres => ("BEGIN; LOCK TABLE history", format!("SELECT pg_sleep({})", LONG.as_secs())),
                Family::MySql => ("LOCK TABLES history WRITE", format!("SELECT SLEEP({})", LONG.as_secs())),
            };
            let tell = &mut |statement: &str| {
                if statement == lock {
                    locked.send(()).unwrap();
                }
            };
            let held = database.try_session_with(&[lock, &pause], tell);
            assert!(held.is_ok(), "{held:?}");
        });
        is_locked.recv().unwrap();
        sound(database.endpoint());
    });
}
