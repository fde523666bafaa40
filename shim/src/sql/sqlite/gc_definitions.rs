//! The definitions of the kinds that a portion of the collector's work is about.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use crate::engine::catalog::definitions_of;
use crate::object::crd::{self, Served};

/// What definitions say, by their key; each is read once. For one transaction: they may change behind it.
#[derive(Debug, Default)]
pub(super) struct Definitions(HashMap<Vec<u8>, Option<Arc<Served>>>);

impl Definitions {
    /// What the definition of the object at a key says; `None` if it is not in the store, or not readable.
    pub(super) fn of(&mut self, connection: &Connection, key: &[u8]) -> rusqlite::Result<Option<Arc<Served>>> {
        for definition in definitions_of(key) {
            let found = match self.0.get(&definition) {
                Some(known) => known.clone(),
                None => {
                    let read = read(connection, &definition)?;
                    self.0.insert(definition, read.clone());
                    read
                }
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

fn read(connection: &Connection, key: &[u8]) -> rusqlite::Result<Option<Arc<Served>>> {
    let sql = "SELECT value FROM current WHERE key = ?1";
    let served = |row: &rusqlite::Row<'_>| Ok(crd::served(row.get_ref(0)?.as_blob()?).map(Arc::new));
    Ok(connection.prepare_cached(sql)?.query_row([key], served).optional()?.flatten())
}
