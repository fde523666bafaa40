//! The table of field indexes.

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, params};

use crate::engine::catalog::{Catalog, Declaration, FieldIndex, declaration, is_of_definitions};
use crate::engine::metrics::{IndexState, Metrics};
pub(super) use crate::sql::index::names::{attribute, foreign_of, values_of};
pub(super) use crate::sql::select::directories::end_of;

/// What version 2 adds to the tables.
pub(super) const TABLES: &str = "
-- Indexes of fields: of the objects whose keys begin with the prefix, as they read in one version.
CREATE TABLE field_index (
    id INTEGER PRIMARY KEY,
    prefix BLOB NOT NULL,
    api_version TEXT NOT NULL,
    field TEXT NOT NULL,
    -- 0: being built, 1: ready, 2: being removed.
    state INTEGER NOT NULL,
    -- While it is being built: objects up to this key have their entries, and how many these are.
    cursor BLOB NOT NULL,
    objects INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX field_index_field ON field_index (prefix, api_version, field) WHERE state < 2;

-- How many keys hold an object whose name is not that of the key.
ALTER TABLE directory ADD COLUMN misplaced INTEGER NOT NULL DEFAULT 0;
CREATE INDEX directory_misplaced ON directory (path) WHERE misplaced > 0;
";

/// Being built: objects that were not written since the index was declared may lack entries.
pub(super) const BUILDING: i64 = 0;
/// Every object has its entries.
pub(super) const READY: i64 = 1;
/// Its entries are being removed; there are no new ones.
pub(super) const DROPPING: i64 = 2;

/// An index with its state, as it is stored.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) index: FieldIndex,
    pub(super) state: i64,
    pub(super) cursor: Vec<u8>,
    pub(super) objects: i64,
}

/// All of them, in order of number.
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<Stored>> {
    let sql = "SELECT id, prefix, api_version, field, state, cursor, objects FROM field_index ORDER BY id";
    connection.prepare_cached(sql)?.query_map([], stored)?.collect()
}

fn stored(row: &rusqlite::Row<'_>) -> rusqlite::Result<Stored> {
    let prefix = Bytes::copy_from_slice(row.get_ref(1)?.as_blob()?);
    let index = FieldIndex { id: row.get(0)?, prefix, api_version: row.get(2)?, field: row.get(3)? };
    Ok(Stored { index, state: row.get(4)?, cursor: row.get(5)?, objects: row.get(6)? })
}

/// Those that writes have to maintain.
pub(super) fn catalog(connection: &Connection) -> rusqlite::Result<Arc<Catalog>> {
    let live = all(connection)?.into_iter().filter(|stored| stored.state != DROPPING);
    Ok(Arc::new(Catalog::new(live.map(|stored| stored.index).collect())))
}

/// Makes the indexes of a prefix those that are declared. The rows of the same transaction must have been stored before.
pub(super) fn declare(connection: &Connection, declared: &Declaration) -> rusqlite::Result<()> {
    let Declaration { prefix, api_version, fields } = declared;
    let known: Vec<Stored> =
        all(connection)?.into_iter().filter(|known| known.index.prefix == prefix && known.state != DROPPING).collect();
    for Stored { index, .. } in &known {
        if index.api_version != *api_version || !fields.contains(&index.field) {
            tracing::info!(prefix = %prefix.escape_ascii(), api_version = index.api_version, field = index.field, "an index of a field is removed");
            let sql = "UPDATE field_index SET state = ?2 WHERE id = ?1";
            connection.prepare_cached(sql)?.execute([index.id, DROPPING])?;
        }
    }
    let is_known =
        |field: &str| known.iter().any(|known| known.index.api_version == *api_version && known.index.field == field);
    for field in fields.iter().filter(|field| !is_known(field)) {
        // Nothing to build for a new kind of object.
        let sql = "SELECT EXISTS (SELECT 1 FROM current INDEXED BY current_key WHERE key >= ?1 AND key < ?2)";
        let any: bool = connection.prepare_cached(sql)?.query_row([&prefix[..], &end_of(prefix)], |row| row.get(0))?;
        let state = if any { BUILDING } else { READY };
        tracing::info!(prefix = %prefix.escape_ascii(), api_version, field, ready = !any, "an index of a field is added");
        let sql = "INSERT INTO field_index (prefix, api_version, field, state, cursor, objects) VALUES (?1, ?2, ?3, ?4, ?1, 0)";
        connection.prepare_cached(sql)?.execute(params![&prefix[..], api_version, field, state])?;
    }
    Ok(())
}

/// What all definitions that are stored declare.
pub(super) fn declared(connection: &Connection) -> rusqlite::Result<Vec<Declaration>> {
    let mut statement = connection.prepare("SELECT path FROM directory")?;
    let paths: Vec<Vec<u8>> = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let mut declared = Vec::new();
    let mut statement =
        connection.prepare("SELECT key, value FROM current INDEXED BY current_key WHERE key >= ?1 AND key < ?2")?;
    for path in paths.iter().filter(|path| is_of_definitions(path)) {
        let mut rows = statement.query([path, &end_of(path)])?;
        while let Some(row) = rows.next()? {
            declared.extend(declaration(row.get_ref(0)?.as_blob()?, Some(row.get_ref(1)?.as_blob()?)));
        }
    }
    Ok(declared)
}

/// Tells the metrics of all indexes.
pub(super) fn measure(connection: &Connection, metrics: &Metrics) -> rusqlite::Result<()> {
    let indexes = all(connection)?;
    let count = |state| indexes.iter().filter(|index| index.state == state).count() as i64;
    metrics.field_indexes(IndexState::Building).set(count(BUILDING));
    metrics.field_indexes(IndexState::Ready).set(count(READY));
    metrics.field_indexes(IndexState::Dropping).set(count(DROPPING));
    let building = indexes.iter().filter(|index| index.state == BUILDING);
    metrics.field_index_objects.set(building.map(|index| index.objects).sum());
    Ok(())
}
