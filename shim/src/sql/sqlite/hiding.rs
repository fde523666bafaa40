//! The indexes that tell labelled objects from others and find owners. Only a store that has ever had a labelled object
//! has these indexes.
//!
//! Without a labelled object every object is visible and the collector has nothing to do, but the indexes would be a
//! third of the pages that a create changes. The first labelled object makes the indexes in its own transaction. That
//! transaction reads the whole table once: some 2 s for a million small objects.

use std::time::Instant;

use rusqlite::Connection;

/// Their names, and what they are on.
const INDEXES: [(&str, &str); 3] = [
    ("current_visible", "current (key) WHERE hidden = 0"),
    ("current_uid", "current (uid) WHERE uid IS NOT NULL"),
    ("gc_tombstone_uid", "gc_tombstone (uid)"),
];

/// Whether the file has all of them.
pub(super) fn is_indexed(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'index' AND name = ?1)";
    let mut one = connection.prepare_cached(sql)?;
    for (name, _) in INDEXES {
        if !one.query_row([name], |row| row.get(0))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes those that are missing, in the transaction that is under way.
pub(super) fn index(connection: &Connection) -> rusqlite::Result<()> {
    let started = Instant::now();
    for (name, on) in INDEXES {
        connection.execute(&format!("CREATE INDEX IF NOT EXISTS {name} ON {on}"), [])?;
    }
    let seconds = started.elapsed().as_secs_f64();
    tracing::info!(seconds, "the indexes that objects with the skip label need are made");
    Ok(())
}

/// Makes those that are missing if an object has the label or the collector has work, else removes them.
pub(super) fn adjust(connection: &Connection) -> rusqlite::Result<()> {
    let sql = "SELECT EXISTS (SELECT 1 FROM gc_task) OR EXISTS (SELECT 1 FROM current WHERE hidden = 1)";
    if connection.query_row(sql, [], |row| row.get(0))? {
        return index(connection);
    }
    for (name, _) in INDEXES {
        connection.execute(&format!("DROP INDEX IF EXISTS {name}"), [])?;
    }
    Ok(())
}
