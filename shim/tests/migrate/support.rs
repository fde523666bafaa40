//! Stores with a history, and the commands.

use std::sync::Arc;

use bytes::Bytes;
use clap::Parser as _;
use sluice_shim::cli::Cli;
use sluice_shim::engine::metrics::Metrics;
use sluice_shim::engine::*;
use sluice_shim::sql;

use crate::database::Database;

pub(crate) async fn open(database: &Database) -> Result<Engine> {
    let metrics = Arc::new(Metrics::default());
    let store = sql::open(database.endpoint(), Arc::clone(&metrics))?;
    Engine::start(store, ReaderThreads { small: 1, large: 1 }, metrics).await
}

/// Leaves nothing in the log of a database that was changed without the shim: it would be taken for the log of another
/// time.
pub(crate) fn all_in_the_file(connection: &rusqlite::Connection) {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
}

/// Runs a command; `Ok` holds whether all is well.
pub(crate) async fn run(args: &[&str]) -> std::result::Result<bool, String> {
    let args: Vec<&str> = [&["sluice-shim"], args].concat();
    let cli = Cli::try_parse_from(args).map_err(|error| error.to_string())?;
    let command = cli.command.unwrap();
    let result = tokio::task::spawn_blocking(move || command.run(&mut Vec::new())).await.unwrap();
    result.map_err(|error| format!("{error:#}"))
}

pub(crate) fn put(key: &str, value: impl Into<Bytes>, lease: LeaseId) -> Op {
    Op::Put(Put { key: Bytes::copy_from_slice(key.as_bytes()), value: value.into(), lease, ..Put::default() })
}

pub(crate) fn delete(key: &str) -> Op {
    Op::Delete(DeleteRange {
        range: KeyRange::single(Bytes::copy_from_slice(key.as_bytes())),
        ..DeleteRange::default()
    })
}

pub(crate) fn all() -> KeyRange {
    KeyRange::from_wire(vec![0].into(), vec![0].into())
}

/// A stored object with a label.
pub(crate) fn object(color: &str) -> String {
    format!(
        r#"{{"kind":"Shirt","apiVersion":"example.com/v1","metadata":{{"name":"a","labels":{{"color":"{color}","skip-controller-manager-metadata-caching":""}}}}}}"#
    )
}

/// Puts, deletions and creations anew in several directories; labelled objects, opaque values, transactions over
/// several keys, leases.
pub(crate) async fn fill(engine: &Engine) {
    engine.lease_grant(7, 3600).await.unwrap();
    engine.lease_grant(8, 60).await.unwrap();
    for (key, value, lease) in [
        ("/registry/shirts/a", object("red"), 0),
        ("/registry/shirts/b", object("green"), 7),
        ("/registry/events/x/1", "opaque".to_owned(), 8),
        ("plain", String::new(), 0),
        ("/registry/shirts/a", object("blue"), 0),
    ] {
        engine.write(put(key, value, lease)).await.unwrap();
    }
    engine.write(delete("/registry/shirts/b")).await.unwrap();
    let several = vec![
        put("/registry/shirts/b", object("white"), 7),
        put("/registry/shirts/c", object("red"), 0),
        delete("plain"),
    ];
    engine.write(Op::Txn(Txn { success: several, ..Txn::default() })).await.unwrap();
    engine.write(put("/registry/shirts/c", "not an object any more", 0)).await.unwrap();
    engine.write(delete("/registry/shirts/a")).await.unwrap();
}

/// All that a store tells of itself.
#[derive(Debug, PartialEq)]
pub(crate) struct Content {
    pub(crate) revision: Revision,
    pub(crate) compact_revision: Revision,
    pub(crate) records: Vec<Record>,
    /// Number and time to live.
    pub(crate) leases: Vec<(LeaseId, i64)>,
}

pub(crate) async fn content(engine: &Engine) -> Content {
    let status = engine.status().await.unwrap();
    let mut chunks = engine.records(0);
    let mut records = Vec::new();
    while let Some(chunk) = chunks.recv().await {
        records.extend(chunk.unwrap());
    }
    let leases = engine.leases().await.unwrap();
    let mut leases: Vec<_> = leases.into_iter().map(|lease| (lease.id, lease.granted_ttl)).collect();
    leases.sort_unstable();
    Content { revision: status.revision, compact_revision: status.compact_revision, records, leases }
}

/// The content of a database that nobody has open.
pub(crate) async fn content_of(database: &Database) -> Content {
    let engine = open(database).await.unwrap();
    let content = content(&engine).await;
    engine.shutdown().await;
    content
}

/// A database with a history, closed.
pub(crate) async fn filled(database: &Database, compact: Option<Revision>) -> Content {
    let engine = open(database).await.unwrap();
    fill(&engine).await;
    if let Some(revision) = compact {
        engine.compact(revision, true).await.unwrap();
    }
    let content = content(&engine).await;
    engine.shutdown().await;
    content
}
