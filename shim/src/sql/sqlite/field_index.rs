//! The table of field indexes.

use bytes::Bytes;
use rusqlite::{Connection, Row, params};

use crate::engine::catalog::{Declaration, FieldIndex, declaration, is_of_definitions};
use crate::sql::codes;
use crate::sql::index::declare::changes;
use crate::sql::select::directories::end_of;
use crate::sql::session::{IndexChange, StoredIndex};

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

/// The columns of [`stored`].
pub(super) const INDEX: &str = "id, prefix, api_version, field, state, cursor, objects";

/// Reads a row of the columns [`INDEX`].
pub(super) fn stored(row: &Row<'_>) -> rusqlite::Result<StoredIndex> {
    let prefix = Bytes::copy_from_slice(row.get_ref(1)?.as_blob()?);
    let unreadable = || rusqlite::Error::InvalidColumnType(4, "field_index".to_owned(), rusqlite::types::Type::Integer);
    Ok(StoredIndex {
        index: FieldIndex { id: row.get(0)?, prefix, api_version: row.get(2)?, field: row.get(3)? },
        state: codes::index(row.get(4)?).ok_or_else(unreadable)?,
        cursor: row.get(5)?,
        objects: row.get(6)?,
    })
}

/// All of them, in order of number.
pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<StoredIndex>> {
    let sql = format!("SELECT {INDEX} FROM field_index ORDER BY id");
    connection.prepare_cached(&sql)?.query_map([], stored)?.collect()
}

/// Writes changes.
pub(super) fn change(connection: &Connection, changes: &[IndexChange]) -> rusqlite::Result<()> {
    for change in changes {
        match change {
            IndexChange::Add { prefix, api_version, field, state } => {
                let sql = "INSERT INTO field_index (prefix, api_version, field, state, cursor, objects)
                    VALUES (?1, ?2, ?3, ?4, ?1, 0)";
                let values = params![&prefix[..], api_version, field, codes::of_index(*state)];
                connection.prepare_cached(sql)?.execute(values)?
            }
            IndexChange::Set { id, state, cursor, objects } => {
                let sql = "UPDATE field_index SET state = ?2, cursor = ?3, objects = ?4 WHERE id = ?1";
                connection.prepare_cached(sql)?.execute(params![id, codes::of_index(*state), cursor, objects])?
            }
        };
    }
    Ok(())
}

/// Makes the indexes those that all stored definitions declare.
pub(super) fn declare(connection: &Connection) -> rusqlite::Result<()> {
    let declared = declared(connection)?;
    let sql = "SELECT EXISTS (SELECT 1 FROM current INDEXED BY current_key WHERE key >= ?1 AND key < ?2)";
    let mut any = connection.prepare_cached(sql)?;
    let mut is_held =
        |Declaration { prefix, .. }: &Declaration| any.query_row([&prefix[..], &end_of(prefix)], |row| row.get(0));
    let held: Vec<bool> = declared.iter().map(&mut is_held).collect::<rusqlite::Result<_>>()?;
    change(connection, &changes(&all(connection)?, &declared, &held))
}

/// What all stored definitions declare.
fn declared(connection: &Connection) -> rusqlite::Result<Vec<Declaration>> {
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
