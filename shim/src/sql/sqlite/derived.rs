//! Builds anew what is derived from the live values: to repair a file, and to upgrade one of an older version.

use std::collections::BTreeMap;

use rusqlite::{Connection, TransactionBehavior, params};

use super::field_index::{self, number_of};
use super::{clock, gc_schema, hiding};
use crate::engine::catalog::Catalog;
use crate::engine::facets;
use crate::engine::store::Facets;
use crate::sql::directory;
use crate::sql::index::declare::catalog;
use crate::sql::index::names::attribute;
use crate::sql::select::directories::counts;
use crate::sql::session::IndexState;

/// How many rows are read at a time, so that others may be changed between.
const PAGE: i64 = 1000;

/// A live value.
struct Live {
    id: i64,
    key: Vec<u8>,
    hidden: Option<bool>,
    facets: Facets,
}

/// Builds all of it anew, in one transaction.
pub(super) fn rebuild(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    recount(&transaction)?;
    transaction.execute_batch("DELETE FROM attribute; DELETE FROM field_index;")?;
    field_index::declare(&transaction)?;
    let catalog = catalog(&field_index::all(&transaction)?);
    each(&transaction, &catalog, |live| store(&transaction, &live))?;
    hiding::adjust(&transaction)?;
    transaction.execute("UPDATE field_index SET state = ?1", [number_of(IndexState::Ready)])?;
    transaction.execute_batch("DELETE FROM owner; UPDATE current SET uid = NULL WHERE uid IS NOT NULL;")?;
    gc_schema::fill(&transaction, clock::kept(&transaction)?)?;
    transaction.commit()
}

/// Counts the keys of all directories anew.
pub(super) fn recount(connection: &Connection) -> rusqlite::Result<()> {
    let mut directories: BTreeMap<Box<[u8]>, [i64; 3]> = BTreeMap::new();
    each(connection, &Catalog::default(), |live| {
        let more = counts(Some(&live.facets));
        let counted = directories.entry(directory(&live.key).into()).or_default();
        *counted = std::array::from_fn(|at| counted[at] + more[at]);
        Ok(())
    })?;
    connection.execute("DELETE FROM directory", [])?;
    let sql = "INSERT INTO directory (path, live, opaque, misplaced) VALUES (?1, ?2, ?3, ?4)";
    let mut statement = connection.prepare_cached(sql)?;
    for (path, [live, opaque, misplaced]) in directories {
        statement.execute(params![path, live, opaque, misplaced])?;
    }
    Ok(())
}

fn store(connection: &Connection, live: &Live) -> rusqlite::Result<()> {
    let hidden = (!live.facets.opaque).then_some(live.facets.hidden);
    if live.hidden != hidden {
        let sql = "UPDATE current SET hidden = ?2 WHERE id = ?1";
        connection.prepare_cached(sql)?.execute(params![live.id, hidden])?;
    }
    for (name, value) in &live.facets.labels {
        let sql = "INSERT INTO attribute_name (name) VALUES (?1) ON CONFLICT (name) DO NOTHING";
        connection.prepare_cached(sql)?.execute([name])?;
        let sql = "INSERT INTO attribute (name, value, key) SELECT id, ?2, ?3 FROM attribute_name WHERE name = ?1";
        connection.prepare_cached(sql)?.execute(params![name, value, live.key])?;
    }
    for (name, value) in live.facets.fields.iter().map(attribute) {
        let sql = "INSERT INTO attribute (name, value, key) VALUES (?1, ?2, ?3)";
        connection.prepare_cached(sql)?.execute(params![name, value, live.key])?;
    }
    Ok(())
}

/// Calls `look` for every live value, in no order.
fn each(
    connection: &Connection,
    catalog: &Catalog,
    mut look: impl FnMut(Live) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let sql = "SELECT id, key, hidden, value FROM current WHERE id > ?1 ORDER BY id LIMIT ?2";
    let mut last = i64::MIN;
    loop {
        let mut statement = connection.prepare_cached(sql)?;
        let page: Vec<Live> =
            statement.query_map([last, PAGE], |row| live(row, catalog))?.collect::<rusqlite::Result<_>>()?;
        let Some(end) = page.last() else { return Ok(()) };
        last = end.id;
        for live in page {
            look(live)?;
        }
    }
}

fn live(row: &rusqlite::Row<'_>, catalog: &Catalog) -> rusqlite::Result<Live> {
    let facets = facets(catalog, row.get_ref(1)?.as_blob()?, row.get_ref(3)?.as_blob()?);
    Ok(Live { id: row.get(0)?, key: row.get(1)?, hidden: row.get(2)?, facets })
}
