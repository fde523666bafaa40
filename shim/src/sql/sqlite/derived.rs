//! Counts the keys of directories anew, to upgrade a file of an older version.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use crate::engine::catalog::Catalog;
use crate::engine::facets;
use crate::sql::directory;
use crate::sql::select::directories::counts;

/// Counts the keys of all directories anew.
pub(super) fn recount(connection: &Connection) -> rusqlite::Result<()> {
    let mut directories: BTreeMap<Box<[u8]>, [i64; 3]> = BTreeMap::new();
    let mut statement = connection.prepare("SELECT key, value FROM current")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (key, value) = (row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?);
        let more = counts(Some(&facets(&Catalog::default(), key, value)));
        let counted = directories.entry(directory(key).into()).or_default();
        *counted = std::array::from_fn(|at| counted[at] + more[at]);
    }
    connection.execute("DELETE FROM directory", [])?;
    let sql = "INSERT INTO directory (path, live, opaque, misplaced) VALUES (?1, ?2, ?3, ?4)";
    let mut statement = connection.prepare_cached(sql)?;
    for (path, [live, opaque, misplaced]) in directories {
        statement.execute(params![path, live, opaque, misplaced])?;
    }
    Ok(())
}
