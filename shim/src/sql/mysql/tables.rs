//! The tables.
//!
//! Keys, names and values are bytes everywhere, so that no collation orders them. The key of a row is called `k`, since
//! KEY is a word of the language. No column is generated: numbers of names, tasks, tombstones and indexes come from
//! `meta.next_id`, under the lock that every commit holds.

use super::connection::Connection;
use super::partition;
use super::text::Packet;
use crate::engine::Error;
use crate::sql::failure::{Failure, Result};
use crate::sql::layout::DIVIDED;
use crate::sql::random;

/// The version of these tables.
const VERSION: i64 = 1;

/// What is made, in order. Each step ends its transaction by itself, so all may be done again, and the version comes
/// last.
///
/// Indexes have at most 3,072 bytes: a key of 1,536, a value of 1,024 and the rest fit.
const STEPS: [(&str, &str); 14] = [
    // The one row that every commit writes. revision: 0 while the store is being loaded. batch: the last commit of the
    // process `owner`, which serves the store; address: where that process is; seen_at: when it was last there, in
    // milliseconds of this server's clock; backend: its connection.
    (
        "meta",
        "id SMALLINT PRIMARY KEY, revision BIGINT NOT NULL, compact_revision BIGINT NOT NULL, \
         cluster_id BIGINT NOT NULL, next_id BIGINT NOT NULL, batch BIGINT NOT NULL, owner BIGINT NOT NULL, \
         seen_at BIGINT NOT NULL, backend BIGINT NOT NULL, address VARBINARY(512) NOT NULL",
    ),
    // The newest value of each live key. hidden: whether the object has the skip label; NULL if the value is no
    // readable object.
    (
        "current",
        "k VARBINARY(1536) PRIMARY KEY, create_revision BIGINT NOT NULL, mod_revision BIGINT NOT NULL, \
         sub BIGINT NOT NULL, version BIGINT NOT NULL, lease BIGINT NOT NULL, hidden TINYINT, uid VARBINARY(1024), \
         value MEDIUMBLOB NOT NULL, KEY current_visible (hidden, k), KEY current_uid (uid)",
    ),
    // Values that were superseded at end_revision; deleted: whether that change deleted the key.
    (
        "history",
        "k VARBINARY(1536) NOT NULL, create_revision BIGINT NOT NULL, mod_revision BIGINT NOT NULL, \
         sub BIGINT NOT NULL, version BIGINT NOT NULL, lease BIGINT NOT NULL, end_revision BIGINT NOT NULL, \
         end_sub BIGINT NOT NULL, deleted TINYINT NOT NULL, value MEDIUMBLOB NOT NULL, \
         PRIMARY KEY (k, end_revision, end_sub)",
    ),
    // The order of things: a row for each value in current or history, at its mod_revision and sub, and one for each
    // deletion.
    (
        "`change`",
        "revision BIGINT NOT NULL, sub BIGINT NOT NULL, deleted TINYINT NOT NULL, k VARBINARY(1536) NOT NULL, \
         PRIMARY KEY (revision, sub)",
    ),
    // How far the changes are compacted: up to this place, for the compaction at `compacted`.
    ("sweep", "id SMALLINT PRIMARY KEY, revision BIGINT NOT NULL, sub BIGINT NOT NULL, compacted BIGINT NOT NULL"),
    (
        "directory",
        "path VARBINARY(1536) PRIMARY KEY, live BIGINT NOT NULL, opaque BIGINT NOT NULL, misplaced BIGINT NOT NULL, \
         KEY directory_opaque (opaque, path), KEY directory_misplaced (misplaced, path)",
    ),
    // The labels and fields of the live objects, as an inverted index. Negative names are those of fields.
    ("attribute_name", "id BIGINT PRIMARY KEY, name VARBINARY(1536) NOT NULL UNIQUE"),
    (
        "attribute",
        "name BIGINT NOT NULL, value VARBINARY(1024) NOT NULL, k VARBINARY(1536) NOT NULL, \
         PRIMARY KEY (name, value, k)",
    ),
    (
        "field_index",
        "id BIGINT PRIMARY KEY, prefix VARBINARY(1536) NOT NULL, api_version MEDIUMBLOB NOT NULL, \
         field MEDIUMBLOB NOT NULL, state BIGINT NOT NULL, `cursor` VARBINARY(1536) NOT NULL, objects BIGINT NOT NULL",
    ),
    // expires_at: a moment of this server's clock, as all others.
    ("lease", "id BIGINT PRIMARY KEY, ttl BIGINT NOT NULL, expires_at BIGINT NOT NULL, KEY lease_end (expires_at, id)"),
    ("attached", "lease BIGINT NOT NULL, k VARBINARY(1536) NOT NULL, PRIMARY KEY (lease, k)"),
    // Who is whose dependent, and the collector's queue and memory: as in SQLite.
    (
        "owner",
        "owner_uid VARBINARY(1024) NOT NULL, labelled TINYINT NOT NULL, k VARBINARY(1536) NOT NULL, \
         block TINYINT NOT NULL, waits TINYINT NOT NULL, PRIMARY KEY (owner_uid, labelled, k), \
         KEY owner_waits (owner_uid, waits)",
    ),
    (
        "gc_task",
        "id BIGINT PRIMARY KEY, kind BIGINT NOT NULL, uid VARBINARY(1024) NOT NULL, k VARBINARY(1536) NOT NULL, \
         hidden TINYINT NOT NULL, cause_revision BIGINT NOT NULL, created_at BIGINT NOT NULL, state BIGINT NOT NULL, \
         not_before BIGINT NOT NULL, swept TINYINT NOT NULL, cursor_labelled TINYINT, cursor_key VARBINARY(1536), \
         failures BIGINT NOT NULL, attempts BIGINT NOT NULL, reason MEDIUMBLOB NOT NULL, \
         UNIQUE KEY gc_task_uid (uid, kind), KEY gc_task_due (state, not_before, id), KEY gc_task_age (created_at)",
    ),
    (
        "gc_tombstone",
        "id BIGINT PRIMARY KEY, uid VARBINARY(1024) NOT NULL, k VARBINARY(1536) NOT NULL, namespaced TINYINT NOT NULL, \
         revision BIGINT NOT NULL, at BIGINT NOT NULL, KEY gc_tombstone_uid (uid, id)",
    ),
];

/// The names of all tables.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    STEPS.iter().map(|(name, _)| *name).chain(["store"])
}

/// Makes sure that the database has the tables in our version. Two that start at once may both make them. A fresh store
/// is at revision 1, as etcd's is, so that the first write is revision 2.
pub(super) fn prepare(connection: &mut Connection) -> Result<()> {
    match version(connection)? {
        Some(version) => fits(version),
        None => create(connection),
    }
}

/// Whether the database has our tables.
pub(super) fn is_there(connection: &mut Connection) -> Result<bool> {
    let Some(version) = version(connection)? else { return Ok(false) };
    fits(version).map(|()| true)
}

/// Refuses a database that has not our tables.
pub(super) fn check(connection: &mut Connection) -> Result<()> {
    match version(connection)? {
        Some(version) => fits(version),
        None => refuse("the database has no tables of sluice-shim; check --endpoint; nothing was created".to_owned()),
    }
}

/// The version of the tables, if they are there.
fn version(connection: &mut Connection) -> Result<Option<i64>> {
    let names = STEPS.map(|(name, _)| format!("'{}'", name.trim_matches('`'))).join(",");
    let sql = format!(
        "SELECT COALESCE(SUM(table_name = 'store'), 0), COUNT(*), (SELECT COUNT(*) FROM information_schema.columns
            WHERE table_schema = DATABASE() AND table_name = 'store' AND column_name = 'version')
         FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name IN ('store',{names})"
    );
    let counts = connection.first("tables", sql, |cells| Ok((cells.int()?, cells.int()?, cells.int()?)))?;
    match counts.unwrap_or_default() {
        (0, ..) => Ok(None),
        (_, _, 0) => refuse("the database has tables of another program; name another database".to_owned()),
        _ => connection.first("version", "SELECT version FROM store WHERE id = 1", super::row::Cells::int),
    }
}

fn fits(version: i64) -> Result<()> {
    if version == VERSION {
        return Ok(());
    }
    refuse(format!(
        "the database has schema version {version}, this sluice-shim knows version {VERSION}; start the release \
         that wrote it, or restore a backup that fits"
    ))
}

fn refuse<T>(text: String) -> Result<T> {
    Err(Failure::Final(Error::Broken(text)))
}

fn create(connection: &mut Connection) -> Result<()> {
    let engine = "ENGINE=InnoDB ROW_FORMAT=DYNAMIC";
    let divided = connection.layout().map(partition::clause).unwrap_or_default();
    let mut packet = Packet::default();
    for (name, columns) in STEPS {
        let parts = if DIVIDED.contains(&name) { &divided[..] } else { "" };
        packet.add(name, format_args!("CREATE TABLE IF NOT EXISTS {name} ({columns}) {engine} {parts}"));
    }
    packet.add(
        "store",
        format_args!("CREATE TABLE IF NOT EXISTS store (id SMALLINT PRIMARY KEY, version INT NOT NULL) {engine}"),
    );
    let row =
        format!("INSERT INTO meta VALUES (1, 1, 0, {}, 1, 0, 0, 0, 0, '') ON DUPLICATE KEY UPDATE id = id", random());
    packet.add("first row", row);
    packet.add("first sweep", "INSERT INTO sweep VALUES (1, 0, -1, 0) ON DUPLICATE KEY UPDATE id = id");
    packet.add("version", format_args!("INSERT INTO store VALUES (1, {VERSION}) ON DUPLICATE KEY UPDATE id = id"));
    connection.run(&packet).map(drop)
}
