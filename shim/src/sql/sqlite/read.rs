//! Keys, their history, and leases in SQLite.

use std::ops::Deref;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension};

use super::find::give;
use super::row::{ROW, Range, key, key_value, lease, row, row_ref};
use super::tables::Tables;
use crate::engine::store::{Lease, Row};
use crate::engine::{KeyRange, KeyValue, LeaseId, Revision, StoreStatus};
use crate::sql::failure::Result;
use crate::sql::session::{Change, Find, Head, Log, RECENT, Read, Take};

impl<C: Deref<Target = Connection> + Send> Read for Tables<C> {
    fn snapshot(&mut self) -> Result<Head> {
        self.connection.prepare_cached("BEGIN")?.execute([])?;
        let head = self.head()?;
        // After the snapshot has begun: if the store is still here, nothing newer is anywhere.
        self.is_here()?;
        Ok(head)
    }

    fn end(&mut self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.prepare_cached("COMMIT").and_then(|mut end| end.execute([]))
        {
            tracing::warn!(%error, "could not end a read");
        }
    }

    fn rows(&mut self, keys: &[&[u8]]) -> Result<Vec<Row>> {
        let mut one = self.connection.prepare_cached(&format!("SELECT {ROW} FROM current WHERE key = ?1"))?;
        let mut rows = Vec::new();
        for key in keys {
            rows.extend(one.query_row([key], row).optional()?);
        }
        Ok(rows)
    }

    fn find(&mut self, find: &Find<'_>, take: &mut Take<'_>) -> Result<()> {
        Ok(self.find_rows(find, take)?)
    }

    fn superseded(&mut self, range: &KeyRange, at: Revision, behind: Revision, take: &mut Take<'_>) -> Result<()> {
        let bounds = Range::of(range);
        let index = if behind <= RECENT { "history_end" } else { "history_key" };
        let sql = format!(
            "SELECT {ROW} FROM history INDEXED BY {index}
             WHERE {} AND mod_revision <= ?3 AND end_revision > ?3 ORDER BY key",
            bounds.condition("key")
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(bounds.params(&[&at]).as_slice())?;
        Ok(give(&mut rows, take).map(drop)?)
    }

    fn log(&mut self, log: &Log<'_>) -> Result<Vec<Change>> {
        let mut changes = self.changes(log)?;
        if log.previous {
            self.add_previous(&mut changes)?;
        }
        Ok(changes)
    }

    fn count(&mut self, range: &KeyRange) -> Result<i64> {
        let bounds = Range::of(range);
        let sql = if range.is_everything() {
            // Not by the range of the keys: it starts at "\0", after the directory of the keys without a slash, whose
            // path is empty.
            let mut all = self.connection.prepare_cached("SELECT coalesce(sum(live), 0) FROM directory")?;
            return Ok(all.query_row([], |row| row.get(0))?);
        } else if range.is_tree() {
            // Directories as a whole: their counts add up.
            format!("SELECT coalesce(sum(live), 0) FROM directory WHERE {}", bounds.condition("path"))
        } else {
            format!("SELECT count(*) FROM current INDEXED BY current_key WHERE {}", bounds.condition("key"))
        };
        let mut statement = self.connection.prepare_cached(&sql)?;
        Ok(statement.query_row(bounds.params(&[]).as_slice(), |row| row.get(0))?)
    }

    fn count_difference(&mut self, range: &KeyRange, at: Revision) -> Result<i64> {
        let bounds = Range::of(range);
        let condition = bounds.condition("key");
        let sql = format!(
            "SELECT (SELECT count(*) FROM history INDEXED BY history_end
                     WHERE {condition} AND mod_revision <= ?3 AND end_revision > ?3)
                  - (SELECT count(*) FROM current INDEXED BY current_mod WHERE {condition} AND mod_revision > ?3)"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        Ok(statement.query_row(bounds.params(&[&at]).as_slice(), |row| row.get(0))?)
    }

    fn lease(&mut self, id: LeaseId) -> Result<Option<Lease>> {
        let sql = "SELECT id, ttl, expires_at FROM lease WHERE id = ?1";
        Ok(self.connection.prepare_cached(sql)?.query_row([id], lease).optional()?)
    }

    fn lease_keys(&mut self, id: LeaseId) -> Result<Vec<Bytes>> {
        let sql = "SELECT key FROM current INDEXED BY current_lease WHERE lease = ?1 AND lease <> 0 ORDER BY key";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_map([id], key)?.collect::<rusqlite::Result<_>>()?)
    }

    fn leases(&mut self, limit: usize) -> Result<Vec<Lease>> {
        let limit = if limit == 0 { -1 } else { i64::try_from(limit).unwrap_or(i64::MAX) };
        let sql = "SELECT id, ttl, expires_at FROM lease ORDER BY expires_at, id LIMIT ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        Ok(statement.query_map([limit], lease)?.collect::<rusqlite::Result<_>>()?)
    }

    fn status(&mut self, head: Head) -> Result<StoreStatus> {
        let pragma = |name: &str| self.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let (size, pages, free) = (pragma("page_size")?, pragma("page_count")?, pragma("freelist_count")?);
        let cluster: i64 = self.connection.query_row("SELECT cluster_id FROM meta", [], |row| row.get(0))?;
        Ok(StoreStatus {
            revision: head.revision,
            compact_revision: head.compact_revision,
            db_size: size * pages,
            db_size_in_use: size * (pages - free),
            cluster_id: cluster.unsigned_abs(),
        })
    }
}

impl<C: Deref<Target = Connection>> Tables<C> {
    /// The head, in the snapshot or the transaction that is under way.
    pub(super) fn head(&self) -> Result<Head> {
        let mut statement = self.connection.prepare_cached("SELECT revision, compact_revision, clock FROM meta")?;
        Ok(statement.query_row([], |row| {
            Ok(Head { revision: row.get(0)?, compact_revision: row.get(1)?, now: row.get(2)?, batch: 0 })
        })?)
    }

    /// Changes, in order: puts whose value is live, puts whose value was superseded, and deletions. Each of the three
    /// comes in order, and no further than the next change needs it.
    fn changes(&self, log: &Log<'_>) -> rusqlite::Result<Vec<Change>> {
        let limit = i64::try_from(log.limit).unwrap_or(i64::MAX);
        let bounds = log.range.map_or(Range::All, Range::of);
        let condition = bounds.condition("key");
        let params = bounds.params(&[&log.after.0, &log.after.1, &log.until, &limit, &log.above]);
        let sql = [
            format!(
                "SELECT {ROW} FROM current INDEXED BY current_mod WHERE {condition} AND {}
                 ORDER BY mod_revision, sub LIMIT ?6",
                part("mod_revision", "sub")
            ),
            format!(
                "SELECT {ROW} FROM history INDEXED BY history_mod WHERE {condition} AND {}
                 AND end_revision > ?7 ORDER BY mod_revision, sub LIMIT ?6",
                part("mod_revision", "sub")
            ),
            format!(
                "SELECT {ROW}, end_revision, end_sub FROM history INDEXED BY history_end WHERE {condition} AND {}
                 AND end_revision > ?7 AND deleted ORDER BY end_revision, end_sub LIMIT ?6",
                part("end_revision", "end_sub")
            ),
        ];
        let [live, superseded, deleted] = &sql;
        let mut live = self.connection.prepare_cached(live)?;
        let mut superseded = self.connection.prepare_cached(superseded)?;
        let mut deleted = self.connection.prepare_cached(deleted)?;
        // Without the last parameter: what is live was never superseded.
        let mut live = live.query_map(&params[..params.len() - 1], put)?;
        let mut superseded = superseded.query_map(params.as_slice(), put)?;
        let mut deleted = deleted.query_map(params.as_slice(), |row| deletion(row, log.previous))?;
        let mut lists: [&mut dyn Iterator<Item = rusqlite::Result<Change>>; 3] =
            [&mut live, &mut superseded, &mut deleted];
        let mut heads: [Option<Change>; 3] = Default::default();
        for (head, list) in heads.iter_mut().zip(&mut lists) {
            *head = list.next().transpose()?;
        }
        let mut changes = Vec::new();
        while changes.len() < log.limit {
            let first = (0..heads.len()).filter_map(|at| Some((heads[at].as_ref()?.at, at))).min();
            let Some((_, at)) = first else { break };
            changes.extend(std::mem::replace(&mut heads[at], lists[at].next().transpose()?));
        }
        Ok(changes)
    }

    /// Adds the values before puts; those before deletions are there.
    fn add_previous(&self, changes: &mut [Change]) -> rusqlite::Result<()> {
        let sql = format!("SELECT {ROW} FROM history INDEXED BY history_key WHERE key = ?1 AND end_revision = ?2");
        let mut statement = self.connection.prepare_cached(&sql)?;
        for change in changes.iter_mut().filter(|change| !change.deleted && change.kv.version > 1) {
            let key: &[u8] = &change.kv.key;
            change.previous = statement.query_row((key, change.kv.mod_revision), key_value).optional()?;
        }
        Ok(())
    }
}

/// The condition for the part of the log that these two columns place a change in.
fn part(revision: &str, sub: &str) -> String {
    format!("{revision} >= ?3 AND ({revision}, {sub}) > (?3, ?4) AND {revision} <= ?5")
}

fn put(row: &rusqlite::Row<'_>) -> rusqlite::Result<Change> {
    let found = row_ref(row)?;
    let at = (found.mod_revision, found.sub);
    Ok(Change { at, deleted: false, kv: found.to_key_value(), previous: None })
}

fn deletion(row: &rusqlite::Row<'_>, previous: bool) -> rusqlite::Result<Change> {
    let (found, at) = (row_ref(row)?, (row.get(7)?, row.get(8)?));
    let previous = previous.then(|| found.to_key_value());
    let kv = KeyValue { key: Bytes::copy_from_slice(found.key), mod_revision: at.0, ..KeyValue::default() };
    Ok(Change { at, deleted: true, kv, previous })
}
