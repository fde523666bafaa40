//! The indexes that tell hidden objects from others and find owners: only a store that has ever had an object with the skip label has them.
//!
//! Without such an object all are visible and the collector has nothing to do, but the two were half of the pages that a create changes. The first one
//! makes both in its own transaction: some 2 s for a million keys, once.

use std::time::Instant;

use rusqlite::Connection;

use crate::engine::store::Changes;

const INDEXES: &str = "
CREATE INDEX IF NOT EXISTS current_visible ON current (key) WHERE hidden = 0;
CREATE INDEX IF NOT EXISTS current_uid ON current (uid) WHERE uid IS NOT NULL;
";

/// Whether the file has both.
pub(super) fn is_indexed(connection: &Connection) -> rusqlite::Result<bool> {
    let sql =
        "SELECT count(*) = 2 FROM sqlite_schema WHERE type = 'index' AND name IN ('current_visible', 'current_uid')";
    connection.prepare_cached(sql)?.query_row([], |row| row.get(0))
}

/// Whether the changes bring an object with the label.
pub(super) fn is_needed(changes: &Changes) -> bool {
    changes.rows.iter().filter_map(|row| row.after.as_ref()).any(|(_, facets)| facets.hidden)
}

/// Makes those that are missing, in the transaction that is under way.
pub(super) fn index(connection: &Connection) -> rusqlite::Result<()> {
    let started = Instant::now();
    connection.execute_batch(INDEXES)?;
    tracing::info!(
        seconds = started.elapsed().as_secs_f64(),
        "the first object with the skip label: its indexes are made"
    );
    Ok(())
}

/// Makes those that are missing if an object has the label, else removes both.
pub(super) fn adjust(connection: &Connection) -> rusqlite::Result<()> {
    let used: bool =
        connection.query_row("SELECT EXISTS (SELECT 1 FROM current WHERE hidden = 1)", [], |row| row.get(0))?;
    let unused = "DROP INDEX IF EXISTS current_visible; DROP INDEX IF EXISTS current_uid;";
    connection.execute_batch(if used { INDEXES } else { unused })
}
