//! Clients that write, read and watch while something is done to the server.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sluice_shim::endpoint::{Endpoint, Family};
use sluice_shim::engine::{Engine, Error};

use crate::database::Database;
use crate::ledger::{DEADLINE, Observer, Writer, open, sound};
use crate::server::{Server, Stop};

const WRITERS: usize = 4;
/// How many commits there are between two blows.
const BETWEEN: u64 = 12;

/// Lets clients write until all blows were dealt, and then checks all that they were told.
pub(crate) async fn under_load(database: &Endpoint, blows: usize, blow: impl FnMut(usize) + Send + 'static) {
    engine_under_load(open(database).await, blows, blow).await;
}

/// The same with an engine of one's own.
pub(crate) async fn engine_under_load(engine: Engine, blows: usize, mut blow: impl FnMut(usize) + Send + 'static) {
    let observer = Observer::new(&engine);
    let (done, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let refused = Arc::new(Mutex::new(String::new()));
    let spawn = |number: usize| {
        let mut writer = Writer::new(&engine, format!("w{number}"));
        let (done, written, refused) = (Arc::clone(&done), Arc::clone(&written), Arc::clone(&refused));
        tokio::spawn(async move {
            while !done.load(Ordering::SeqCst) {
                match writer.step().await {
                    Ok(()) => drop(written.fetch_add(1, Ordering::SeqCst)),
                    Err(error) => {
                        assert!(matches!(error, Error::Unavailable(_) | Error::Unknown(_)), "{error}");
                        *refused.lock().unwrap() = error.to_string();
                        writer.find_out(&error).await;
                    }
                }
                if let Err(error) = writer.look().await {
                    assert!(matches!(error, Error::Unavailable(_)), "{error}");
                }
            }
            writer
        })
    };
    let writers: Vec<_> = (0..WRITERS).map(spawn).collect();
    let struck = tokio::task::spawn_blocking(move || {
        let wait_for = |more: u64| {
            let (end, until) = (written.load(Ordering::SeqCst) + more, Instant::now() + DEADLINE);
            while written.load(Ordering::SeqCst) < end {
                assert!(Instant::now() < until, "no write succeeds any more: {}", refused.lock().unwrap());
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        for number in 0..blows {
            wait_for(BETWEEN);
            blow(number);
        }
        wait_for(BETWEEN);
        done.store(true, Ordering::SeqCst);
    });
    let mut ended = Vec::new();
    let struck = struck.await;
    for writer in writers {
        ended.push(writer.await.unwrap());
    }
    struck.unwrap();
    observer.check(ended).await;
}

/// The connections of whoever uses the database, and what ends one of them or what it is doing.
fn sessions(database: &Database, ends: &str) -> Vec<String> {
    let Endpoint::Network(address) = database.endpoint() else { panic!("a file") };
    let name = &address.database;
    let found = match address.family {
        Family::Postgres => {
            format!("SELECT pid FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid()")
        }
        Family::MySql => {
            format!("SELECT id FROM information_schema.processlist WHERE db = '{name}' AND id <> CONNECTION_ID()")
        }
    };
    let found = database.try_session(&[&found]).unwrap();
    let statement = |id: &String| match (address.family, ends) {
        (Family::Postgres, "statement") => format!("SELECT pg_cancel_backend({id})"),
        (Family::Postgres, _) => format!("SELECT pg_terminate_backend({id})"),
        (Family::MySql, "statement") => format!("KILL QUERY {id}"),
        (Family::MySql, _) => format!("KILL CONNECTION {id}"),
    };
    found.iter().map(|row| statement(&row[0])).collect()
}

/// One that an administrator ends has happened or not, and the next one goes on.
async fn killed(what: &'static str) {
    if crate::is_skipped() {
        return;
    }
    let database = Arc::new(Database::new());
    let theirs = Arc::clone(&database);
    let kill = move |_| {
        // Some of so many come where it matters.
        let kills = vec![sessions(&theirs, what); if what == "statement" { 30 } else { 1 }].concat();
        for statement in &kills {
            // The session may have ended meanwhile.
            let _ = theirs.try_session(&[statement]);
        }
    };
    under_load(database.endpoint(), 25, kill).await;
    sound(database.endpoint());
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_that_an_administrator_ends_happen_once_or_not() {
    killed("statement").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_an_administrator_ends_are_made_anew() {
    killed("connection").await;
}

/// Another session has rows or a table locked; where it has them in another order, one of the two is the victim of a
/// deadlock.
#[tokio::test(flavor = "multi_thread")]
async fn locks_and_deadlocks_hold_nothing_up_for_good() {
    if crate::is_skipped() {
        return;
    }
    let database = Arc::new(Database::new());
    let theirs = Arc::clone(&database);
    let family = crate::family().unwrap();
    let lock = move |number: usize| {
        // Leaves the shim behind the rows for a while, and then wants what the shim has.
        let rows = "SELECT * FROM current FOR UPDATE";
        let head = "SELECT * FROM meta FOR UPDATE";
        let (pause, table, unlock) = match family {
            Family::Postgres => ("SELECT pg_sleep(0.2)", "LOCK TABLE current", "ROLLBACK"),
            Family::MySql => ("SELECT SLEEP(0.2)", "LOCK TABLES current WRITE", "UNLOCK TABLES"),
        };
        let statements: &[&str] = match number % 3 {
            0 => &["BEGIN", rows, pause, head, "ROLLBACK"],
            1 => &["BEGIN", head, pause, "ROLLBACK"],
            _ => &["BEGIN", table, pause, unlock],
        };
        // It may be the victim itself.
        let _ = theirs.try_session(statements);
    };
    under_load(database.endpoint(), 12, lock).await;
    sound(database.endpoint());
}

/// The server is ended without any care, and starts again.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_and_starts_again_has_all_that_was_acknowledged() {
    let Some(family) = crate::family_or_skip() else { return };
    let server = Arc::new(Mutex::new(Server::start(family, &[])));
    let database = Database::on(&server.lock().unwrap().url());
    let theirs = Arc::clone(&server);
    let kill = move |number| {
        let mut server = theirs.lock().unwrap();
        server.stop(if number % 2 == 0 { Stop::Kill } else { Stop::AtOnce });
        server.run();
    };
    under_load(database.endpoint(), 4, kill).await;
    sound(database.endpoint());
}
