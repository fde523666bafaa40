//! Builds field indexes of objects that were there before, and removes the entries of those that are gone: in steps between commits.
//!
//! Each step is a transaction that moves the cursor as well, so a kill loses nothing. Writes maintain the entries of an index from its
//! declaration on, so a step may find some of its own there already.

use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::field_index::{self, BUILDING, DROPPING, READY, Stored, attribute, end_of, foreign_of, values_of};
use crate::engine::catalog::{Catalog, FieldIndex};
use crate::engine::facets;
use crate::engine::metrics::Metrics;

/// How long a step may take: all writes wait meanwhile.
const STEP: Duration = Duration::from_millis(3);
/// The least and the most objects or entries of a step.
const ROWS: (i64, i64) = (16, 4096);

/// The work on field indexes; its pace follows the speed of the machine.
#[derive(Debug)]
pub(super) struct Backfill {
    rows: i64,
}

impl Backfill {
    pub(super) fn new() -> Self {
        Self { rows: 128 }
    }

    /// Does a step; returns whether there is more to do.
    pub(super) fn step(&mut self, connection: &mut Connection, metrics: &Metrics) -> rusqlite::Result<bool> {
        let started = Instant::now();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let indexes = field_index::all(&transaction)?;
        let more = if let Some(gone) = indexes.iter().find(|stored| stored.state == DROPPING) {
            remove(&transaction, &gone.index, self.rows)?;
            true
        } else if let Some(first) = indexes.iter().find(|stored| stored.state == BUILDING) {
            let together: Vec<&Stored> = indexes.iter().filter(|stored| goes_with(first, stored)).collect();
            build(&transaction, &together, self.rows)?;
            true
        } else {
            false
        };
        field_index::measure(&transaction, metrics)?;
        transaction.commit()?;
        if more {
            let elapsed = started.elapsed();
            if elapsed > STEP {
                self.rows = (self.rows / 2).max(ROWS.0);
            } else if elapsed < STEP / 2 {
                self.rows = (self.rows * 2).min(ROWS.1);
            }
        }
        Ok(more)
    }
}

/// Whether two indexes can be built in one pass over the objects.
fn goes_with(first: &Stored, other: &Stored) -> bool {
    let of = |stored: &Stored| (stored.state, stored.index.prefix.clone(), stored.index.api_version.clone());
    of(first) == of(other) && first.cursor == other.cursor
}

/// Adds the entries of the next objects.
fn build(transaction: &Transaction<'_>, together: &[&Stored], limit: i64) -> rusqlite::Result<()> {
    let Some(first) = together.first() else { return Ok(()) };
    let catalog = Catalog::new(together.iter().map(|stored| stored.index.clone()).collect());
    let (mut entries, mut done, mut last) = (Vec::new(), 0, first.cursor.clone());
    let sql = "SELECT key, value FROM current INDEXED BY current_key WHERE key > ?1 AND key < ?2 ORDER BY key LIMIT ?3";
    let mut statement = transaction.prepare_cached(sql)?;
    let mut rows = statement.query(params![first.cursor, end_of(&first.index.prefix), limit])?;
    while let Some(row) = rows.next()? {
        let (key, value) = (row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?);
        for entry in facets(&catalog, key, value).fields {
            let (name, value) = attribute(&entry);
            entries.push((name, value.to_owned(), key.to_vec()));
        }
        done += 1;
        last = key.to_vec();
    }
    // In the order of the index, so that neighbours are written together.
    entries.sort_unstable();
    let mut insert =
        transaction.prepare_cached("INSERT OR IGNORE INTO attribute (name, value, key) VALUES (?1, ?2, ?3)")?;
    for (name, value, key) in &entries {
        insert.execute(params![name, value, key])?;
    }
    let state = if done < limit { READY } else { BUILDING };
    for Stored { index, objects, .. } in together {
        let sql = "UPDATE field_index SET state = ?2, cursor = ?3, objects = ?4 WHERE id = ?1";
        transaction.prepare_cached(sql)?.execute(params![index.id, state, last, objects + done])?;
        if state == READY {
            let FieldIndex { prefix, api_version, field, .. } = index;
            let objects = objects + done;
            tracing::info!(prefix = %prefix.escape_ascii(), api_version, field, objects, "an index of a field is ready");
        }
    }
    Ok(())
}

/// Removes entries of an index, and the index itself when there are none left.
fn remove(transaction: &Transaction<'_>, index: &FieldIndex, limit: i64) -> rusqlite::Result<()> {
    let sql = "DELETE FROM attribute WHERE (name, value, key) IN (SELECT name, value, key FROM attribute WHERE name = ?1 LIMIT ?2)";
    let mut delete = transaction.prepare_cached(sql)?;
    let mut left = limit;
    for name in [values_of(index.id), foreign_of(index.id)] {
        left -= i64::try_from(delete.execute([name, left])?).unwrap_or(left);
    }
    if left > 0 {
        transaction.prepare_cached("DELETE FROM field_index WHERE id = ?1")?.execute([index.id])?;
    }
    Ok(())
}
