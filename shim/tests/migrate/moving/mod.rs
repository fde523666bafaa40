//! A store moves to another database: all of it, while it is served, whatever happens on the way.

mod group;
mod killed;
mod refused;
mod served;
mod stale;

use std::time::Duration;

use sluice_shim::endpoint::Endpoint;
use sluice_shim::engine::Error;
use sluice_shim::migrate::moving::{Move, Progress};

use crate::database::Database;
use crate::support::*;

/// How long writes may wait here: no test is about that.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A database to leave and one to go to: of the kind under test, and of that kind and SQLite.
pub(crate) fn pairs() -> Vec<(Database, Database)> {
    let of_kind = (Database::new(), Database::new());
    if matches!(of_kind.0.endpoint(), Endpoint::Sqlite(_)) {
        return vec![of_kind];
    }
    vec![of_kind, (Database::sqlite(), Database::new()), (Database::new(), Database::sqlite())]
}

/// The command.
pub(crate) async fn migrate(from: &Database, to: &Database, more: &[&str]) -> std::result::Result<bool, String> {
    run(&[&["migrate-to", to.url(), "--endpoint", from.url()], more].concat()).await
}

/// Does something that blocks with a move of its own, which is dropped at its end, as by a kill.
pub(crate) async fn moving<T: Send + 'static>(
    from: &Database,
    to: &Database,
    work: impl FnOnce(&mut Move) -> T + Send + 'static,
) -> T {
    let (from, to) = (from.endpoint().clone(), to.endpoint().clone());
    let work = move || work(&mut Move::begin(&from, &to, Progress::default()).unwrap());
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// What opening a database says that can't be served.
pub(crate) async fn refusal(database: &Database) -> String {
    match open(database).await {
        Ok(engine) => {
            engine.shutdown().await;
            "it is served".to_owned()
        }
        Err(error @ (Error::Replaced(_) | Error::Broken(_))) => error.to_string(),
        Err(other) => panic!("{other:?}"),
    }
}

/// Both are sound, and the target holds what the source held.
pub(crate) async fn has_moved(before: &Content, from: &Database, to: &Database) {
    assert_eq!(content_of(to).await, *before);
    let told = refusal(from).await;
    let expected = format!(", at revision {}; start with --endpoint {}", before.revision, to.endpoint());
    assert!(told.starts_with("the store has moved to ") && told.ends_with(&expected), "{told}");
    for database in [from, to] {
        assert_eq!(run(&["fsck", "--endpoint", database.url()]).await, Ok(true), "{}", database.url());
    }
}

#[tokio::test]
async fn all_of_it_goes_along() {
    for compact in [None, Some(5), Some(8), Some(10)] {
        for (from, to) in pairs() {
            let before = filled(&from, compact).await;
            let engine = open(&from).await.unwrap();
            let cluster = engine.status().await.unwrap().cluster_id;
            engine.shutdown().await;
            assert_eq!(migrate(&from, &to, &["--dry-run"]).await, Ok(true));
            assert_eq!(migrate(&from, &to, &[]).await, Ok(true));
            has_moved(&before, &from, &to).await;
            let engine = open(&to).await.unwrap();
            assert_eq!(engine.status().await.unwrap().cluster_id, cluster, "clients see the same cluster");
            let (revision, _) = engine.write(put("/registry/shirts/d", object("red"), 7)).await.unwrap();
            assert_eq!(revision, 11);
            engine.shutdown().await;
        }
    }
}

/// What is left behind can still be looked at, and goes to a file.
#[tokio::test]
async fn what_is_left_can_be_exported() {
    let [from, to, again] = Database::several();
    let before = filled(&from, Some(4)).await;
    migrate(&from, &to, &[]).await.unwrap();
    let file = from.folder().join("snapshot").display().to_string();
    assert_eq!(run(&["export", "--endpoint", from.url(), "--to", &file]).await, Ok(true));
    assert_eq!(run(&["restore", "--endpoint", again.url(), "--from", &file]).await, Ok(true));
    assert_eq!(content_of(&again).await, before);
}

/// Leases have the time that is left to them, on whatever clock.
#[tokio::test]
async fn leases_go_on() {
    for (from, to) in pairs() {
        let engine = open(&from).await.unwrap();
        engine.lease_grant(5, 1000).await.unwrap();
        engine.write(put("/a", "value", 5)).await.unwrap();
        engine.shutdown().await;
        shorten(&from, 300_000);
        migrate(&from, &to, &[]).await.unwrap();
        let engine = open(&to).await.unwrap();
        let lease = engine.lease_time_to_live(5, true).await.unwrap();
        assert_eq!((lease.granted_ttl, lease.keys), (1000, vec!["/a".into()]));
        assert!((650..=700).contains(&lease.remaining_ttl), "{}", lease.remaining_ttl);
        engine.shutdown().await;
    }
}

/// Lets all leases end so many milliseconds sooner.
fn shorten(database: &Database, millis: i64) {
    let sql = format!("UPDATE lease SET expires_at = expires_at - {millis}");
    match database.endpoint() {
        Endpoint::Sqlite(path) => {
            let connection = rusqlite::Connection::open(path).unwrap();
            connection.execute(&sql, []).unwrap();
            all_in_the_file(&connection);
        }
        Endpoint::Network(_) => database.execute(&sql),
    }
}
