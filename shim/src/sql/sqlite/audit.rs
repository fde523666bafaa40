//! Everything in a SQLite file, for checks.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use rusqlite::types::FromSql;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::commit::Changing;
use super::error::at;
use super::log::Guarded;
use super::tables::Tables;
use super::{alone, clock, connect_writer, hiding};
use crate::clock::{Steady, StoreClock};
use crate::engine;
use crate::engine::store::Facets;
use crate::sql::Damage;
use crate::sql::failure::Result;
use crate::sql::session::{Audit, EdgeRow, Live, Posting, PostingRow, Rebuild, Span, StoredEdge};

/// A file that no other process has open.
pub(in crate::sql) fn audit(path: &Path) -> engine::Result<Box<dyn Rebuild>> {
    let (guarded, lock) = alone(path, || Guarded::new(connect_writer(path)?, path))?;
    let clock = StoreClock::from(clock::kept(&guarded).map_err(|error| at(path, error))?, Arc::new(Steady::default()));
    // Sorting may need more room than there is memory.
    guarded.pragma_update(None, "temp_store", "file").map_err(|error| at(path, error))?;
    Ok(Box::new(Tables::new(Changing::new(guarded, lock, path, clock)?, Arc::default())))
}

impl<C: Deref<Target = Connection> + Send> Audit for Tables<C> {
    fn integrity(&mut self, report: &mut dyn FnMut(Damage)) -> Result<()> {
        let mut statement = self.connection.prepare("PRAGMA integrity_check")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let text: String = row.get(0)?;
            if text != "ok" {
                report(Damage { what: format!("file: {text}"), derived: false });
            }
        }
        if !hiding::is_indexed(&self.connection)? {
            let sql = "SELECT count(*) FROM current WHERE hidden = 1";
            let hidden: i64 = self.connection.query_row(sql, [], |row| row.get(0))?;
            if hidden > 0 {
                let what = format!("{hidden} objects have the skip label, but the indexes for that are missing");
                report(Damage { what, derived: true });
            }
        }
        Ok(())
    }

    fn live_after(&mut self, key: &[u8], limit: usize) -> Result<Vec<Live>> {
        let sql = "SELECT key, hidden, uid, value FROM current INDEXED BY current_key
            WHERE key > ?1 ORDER BY key LIMIT ?2";
        let live =
            |row: &Row<'_>| Ok(Live { key: row.get(0)?, hidden: row.get(1)?, uid: row.get(2)?, value: row.get(3)? });
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_map(params![key, count(limit)], live)?.collect::<rusqlite::Result<_>>()?)
    }

    fn spans(&mut self, take: &mut dyn FnMut(Span)) -> Result<()> {
        // A live value comes after all that its key had before.
        let sql = "
            SELECT key, create_revision, mod_revision, sub, version, end_revision, end_sub, deleted, 0 AS live
            FROM history
            UNION ALL
            SELECT key, create_revision, mod_revision, sub, version, 0, 0, 0, 1 FROM current
            ORDER BY key, live, end_revision, end_sub";
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            take(span(row)?);
        }
        Ok(())
    }

    fn has_postings(&mut self, postings: &[PostingRow<'_>]) -> Result<Vec<bool>> {
        let sql = "SELECT EXISTS (SELECT 1 FROM attribute WHERE name = ?1 AND value = ?2 AND key = ?3)";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut has = |PostingRow { name, value, key }: &PostingRow<'_>| {
            statement.query_row(params![name, value, key], |row| row.get(0))
        };
        Ok(postings.iter().map(&mut has).collect::<rusqlite::Result<_>>()?)
    }

    fn postings_after(&mut self, after: &Posting, limit: usize) -> Result<Vec<Posting>> {
        let sql = "SELECT name, value, key FROM attribute
            WHERE (name, value, key) > (?1, ?2, ?3) ORDER BY name, value, key LIMIT ?4";
        let posting = |row: &Row<'_>| Ok(Posting { name: row.get(0)?, value: row.get(1)?, key: row.get(2)? });
        let mut statement = self.connection.prepare_cached(sql)?;
        let Posting { name, value, key } = after;
        let rows = statement.query_map(params![name, value, key, count(limit)], posting)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    fn label_of(&mut self, name: i64) -> Result<Option<String>> {
        let mut statement = self.connection.prepare_cached("SELECT name FROM attribute_name WHERE id = ?1")?;
        Ok(statement.query_row([name], first).optional()?)
    }

    fn directories_after(&mut self, path: Option<&[u8]>, limit: usize) -> Result<Vec<(Vec<u8>, [i64; 3])>> {
        let sql = "SELECT path, live, opaque, misplaced FROM directory WHERE path > ?1 ORDER BY path LIMIT ?2";
        let from_the_first = sql.replace("path > ?1", "?1 IS NULL");
        let sql = if path.is_some() { sql } else { &from_the_first };
        let counted = |row: &Row<'_>| Ok((row.get(0)?, [row.get(1)?, row.get(2)?, row.get(3)?]));
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_map(params![path, count(limit)], counted)?.collect::<rusqlite::Result<_>>()?)
    }

    fn has_edges(&mut self, edges: &[EdgeRow<'_>]) -> Result<Vec<bool>> {
        let sql = "SELECT EXISTS (SELECT 1 FROM owner
            WHERE owner_uid = ?1 AND labelled = ?2 AND key = ?3 AND block = ?4 AND waits = ?5)";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut has = |EdgeRow { owner, labelled, key, block, waits }: &EdgeRow<'_>| {
            statement.query_row(params![owner.to_blob(), labelled, key, block, waits], first)
        };
        Ok(edges.iter().map(&mut has).collect::<rusqlite::Result<_>>()?)
    }

    fn edges_after(&mut self, after: &StoredEdge, limit: usize) -> Result<Vec<StoredEdge>> {
        let sql = "SELECT owner_uid, labelled, key, block, waits FROM owner
            WHERE (owner_uid, labelled, key) > (?1, ?2, ?3) ORDER BY owner_uid, labelled, key LIMIT ?4";
        let edge = |row: &Row<'_>| {
            let (owner, labelled, key) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(StoredEdge { owner, labelled, key, block: row.get(3)?, waits: row.get(4)? })
        };
        let mut statement = self.connection.prepare_cached(sql)?;
        let StoredEdge { owner, labelled, key, .. } = after;
        let rows = statement.query_map(params![owner, labelled, key, count(limit)], edge)?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}

impl Rebuild for Tables<Changing> {
    fn clear_derived(&mut self) -> Result<()> {
        let sql = "DELETE FROM directory; DELETE FROM attribute; DELETE FROM field_index; DELETE FROM owner;
            UPDATE current SET uid = NULL WHERE uid IS NOT NULL;";
        Ok(self.connection.execute_batch(sql)?)
    }

    fn set_derived(&mut self, rows: &[(&[u8], &Facets)]) -> Result<()> {
        let sql = "UPDATE current SET hidden = ?2, uid = ?3 WHERE key = ?1";
        let mut set = self.connection.prepare_cached(sql)?;
        for (key, facets) in rows {
            let uid = facets.node.as_ref().map(|node| node.uid.to_blob());
            set.execute(params![key, (!facets.opaque).then_some(facets.hidden), uid])?;
        }
        Ok(())
    }
}

fn span(row: &Row<'_>) -> rusqlite::Result<Span> {
    let live: bool = row.get(8)?;
    let end = if live { None } else { Some(((row.get(5)?, row.get(6)?), row.get(7)?)) };
    let begin = (row.get(2)?, row.get(3)?);
    Ok(Span { key: row.get(0)?, create: row.get(1)?, begin, version: row.get(4)?, end })
}

fn first<T: FromSql>(row: &Row<'_>) -> rusqlite::Result<T> {
    row.get(0)
}

fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
