//! A move that would lose something, or mix two stores, is refused, and leaves both as they were.

use sluice_shim::endpoint::Endpoint;
use sluice_shim::engine::load::Loader;
use sluice_shim::sql;

use super::{migrate, moving, pairs, refusal};
use crate::database::Database;
use crate::support::*;

/// Begins to load a database and does not come to the end.
fn half_loaded(database: &Database) {
    let store = sql::open(database.endpoint(), std::sync::Arc::default()).unwrap();
    drop(Loader::begin(store.as_ref(), 0).unwrap());
}

/// The command and its rehearsal say the same.
async fn refused(from: &Database, to: &Database, expected: &str) {
    for more in [&["--dry-run"][..], &[]] {
        let said = migrate(from, to, more).await.unwrap_err();
        assert!(said.contains(expected), "{more:?}: {said}");
    }
}

#[tokio::test]
async fn what_is_no_source_or_no_target() {
    let [from, empty] = Database::several();
    filled(&from, None).await;

    let full = Database::new();
    let before = filled(&full, None).await;
    refused(&from, &full, "the database is not empty").await;
    assert_eq!(content_of(&full).await, before, "and it can be used as before");

    let half = Database::new();
    half_loaded(&half);
    refused(&from, &half, "was not loaded to its end").await;
    refused(&half, &empty, "was not loaded to its end").await;

    let [other, begun] = Database::several();
    filled(&other, None).await;
    moving(&other, &begun, |moving| moving.copy().unwrap()).await;
    refused(&from, &begun, "was not loaded to its end").await;

    refused(&from, &from, "the target is the database that the store is in").await;
    assert_eq!(refusal(&from).await, "it is served", "after all that");
}

/// By another name, too.
#[tokio::test]
async fn a_store_does_not_move_onto_itself() {
    let from = Database::sqlite();
    filled(&from, None).await;
    let link = from.folder().join("link.db");
    std::os::unix::fs::symlink(from.file(), &link).unwrap();
    let link = Endpoint::Sqlite(link).to_string();
    for more in [&["--dry-run"][..], &[]] {
        let said = run(&[&["migrate-to", &link, "--endpoint", from.url()], more].concat()).await.unwrap_err();
        assert!(said.contains("is the one that the store is in"), "{said}");
    }
    assert_eq!(refusal(&from).await, "it is served");
}

#[tokio::test]
async fn a_file_that_is_missing_is_no_source() {
    let [from, to] = [Database::sqlite(), Database::new()];
    refused(&from, &to, "there is no database").await;
    assert!(!from.file().exists());
}

/// A rehearsal makes nothing and changes nothing.
#[tokio::test]
async fn a_rehearsal_leaves_nothing() {
    for (from, to) in pairs() {
        filled(&from, None).await;
        assert_eq!(migrate(&from, &to, &["--dry-run"]).await, Ok(true));
        let (_, found) = sql::probe(to.endpoint()).unwrap();
        assert!(found.is_none(), "there are tables in {}", to.url());
        assert_eq!(std::fs::read_dir(to.folder()).unwrap().count(), 0);
        assert_eq!(refusal(&from).await, "it is served");
    }
}

/// A key that only a file can hold.
#[tokio::test]
async fn what_is_too_long_is_refused() {
    let to = Database::new();
    if matches!(to.endpoint(), Endpoint::Sqlite(_)) {
        return;
    }
    let from = Database::sqlite();
    let engine = open(&from).await.unwrap();
    engine.write(put(&"k".repeat(1537), "value", 0)).await.unwrap();
    let before = content(&engine).await;
    engine.shutdown().await;
    assert_eq!(migrate(&from, &to, &["--dry-run"]).await, Ok(false));
    let said = migrate(&from, &to, &[]).await.unwrap_err();
    assert!(said.contains("1537") && said.contains("1536"), "{said}");
    assert_eq!(content_of(&from).await, before);
    assert!(refusal(&to).await.contains("was not loaded to its end"));
}
