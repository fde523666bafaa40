//! The connections that read.

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, ToSql};

use super::error::failed;
use super::gc_load;
use super::row::{ROW, Range, key_value, lease, row};
use super::select::{self, Found};
use crate::engine::metrics::Metrics;
use crate::engine::store::{Lease, Page, Reader, Row};
use crate::engine::{
    Event, EventKind, KeyRange, KeyValue, LeaseId, RangeEnd, RangeQuery, Record, Result, Revision, StoreStatus,
};
use crate::gc;

/// How many revisions a read may lie back for its history to be found by revision instead of by key.
const RECENT: i64 = 4096;

/// A reader.
pub(super) struct SqliteReader {
    connection: Connection,
    metrics: Arc<Metrics>,
    /// Of the snapshot.
    revision: Revision,
    compact_revision: Revision,
}

impl SqliteReader {
    pub(super) fn new(connection: Connection, metrics: Arc<Metrics>) -> Self {
        Self { connection, metrics, revision: 0, compact_revision: 0 }
    }

    fn history_of(&self, query: &RangeQuery, revision: Revision, wanted: usize) -> rusqlite::Result<Found> {
        let bounds = Range::of(&query.range);
        let condition = bounds.condition("key");
        let index = if self.revision - revision <= RECENT { "history_end" } else { "history_key" };
        let sql = format!(
            "SELECT {ROW} FROM history INDEXED BY {index}
             WHERE {condition} AND mod_revision <= ?3 AND end_revision > ?3 ORDER BY key"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(bounds.params(&[&revision]).as_slice())?;
        let mut found = Found::new(query, wanted);
        select::take(&mut rows, query, &mut found, &self.metrics)?;
        Ok(found)
    }

    fn events_of(
        &self,
        range: &KeyRange,
        from: Revision,
        limit: i64,
    ) -> rusqlite::Result<(Vec<(i64, Event)>, Revision)> {
        let bounds = Range::of(range);
        let condition = bounds.condition("key");
        let params = bounds.params(&[&from, &limit]);
        let mut events: Vec<(i64, Event)> = Vec::new();
        let mut until = self.revision;
        let mut cut = |found: usize, last: Option<Revision>| {
            if found as i64 == limit
                && let Some(last) = last
            {
                until = until.min(last - 1);
            }
        };
        for (table, index) in [("current", "current_mod"), ("history", "history_mod")] {
            let sql = format!(
                "SELECT {ROW} FROM {table} INDEXED BY {index} WHERE {condition} AND mod_revision >= ?3
                 ORDER BY mod_revision, sub LIMIT ?4"
            );
            let mut statement = self.connection.prepare_cached(&sql)?;
            let found: Vec<Row> = statement.query_map(params.as_slice(), row)?.collect::<rusqlite::Result<_>>()?;
            cut(found.len(), found.last().map(|row| row.kv.mod_revision));
            let put = |row: Row| (row.sub, Event { kind: EventKind::Put, kv: row.kv, prev_kv: None });
            events.extend(found.into_iter().map(put));
        }
        let sql = format!(
            "SELECT {ROW}, end_revision, end_sub FROM history INDEXED BY history_end
             WHERE {condition} AND end_revision >= ?3 AND deleted ORDER BY end_revision, end_sub LIMIT ?4"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let deleted = |row: &rusqlite::Row<'_>| {
            let prev_kv = key_value(row)?;
            let kv = KeyValue { key: prev_kv.key.clone(), mod_revision: row.get(7)?, ..KeyValue::default() };
            Ok((row.get(8)?, Event { kind: EventKind::Delete, kv, prev_kv: Some(prev_kv) }))
        };
        let found: Vec<(i64, Event)> =
            statement.query_map(params.as_slice(), deleted)?.collect::<rusqlite::Result<_>>()?;
        cut(found.len(), found.last().map(|(_, event)| event.kv.mod_revision));
        events.extend(found);
        events.retain(|(_, event)| event.kv.mod_revision <= until);
        events.sort_by_key(|(sub, event)| (event.kv.mod_revision, *sub));
        Ok((events, until))
    }

    fn add_previous(&self, events: &mut [(i64, Event)]) -> rusqlite::Result<()> {
        let sql = format!("SELECT {ROW} FROM history INDEXED BY history_key WHERE key = ?1 AND end_revision = ?2");
        let mut statement = self.connection.prepare_cached(&sql)?;
        for (_, event) in events {
            if event.kind == EventKind::Put && event.kv.version > 1 {
                let key: &[u8] = &event.kv.key;
                let found = statement.query_row((key, event.kv.mod_revision), key_value).optional()?;
                event.prev_kv = found;
            }
        }
        Ok(())
    }

    fn count_now(&self, range: &KeyRange) -> rusqlite::Result<i64> {
        let bounds = Range::of(range);
        let sql = if is_everything(range) {
            // Not by the range of the keys: it starts at "\0", after the directory of the keys without a slash, which is empty.
            return self
                .connection
                .prepare_cached("SELECT coalesce(sum(live), 0) FROM directory")?
                .query_row([], |row| row.get(0));
        } else if range.is_tree() {
            // Directories as a whole: their counts add up.
            format!("SELECT coalesce(sum(live), 0) FROM directory WHERE {}", bounds.condition("path"))
        } else {
            format!("SELECT count(*) FROM current INDEXED BY current_key WHERE {}", bounds.condition("key"))
        };
        self.connection.prepare_cached(&sql)?.query_row(bounds.params(&[]).as_slice(), |row| row.get(0))
    }

    /// By how much the number of keys differed at a revision in the past: those that were live then and have changed since, less those that have
    /// changed since and are live now.
    fn count_difference(&self, range: &KeyRange, revision: Revision) -> rusqlite::Result<i64> {
        let bounds = Range::of(range);
        let condition = bounds.condition("key");
        let sql = format!(
            "SELECT (SELECT count(*) FROM history INDEXED BY history_end
                     WHERE {condition} AND mod_revision <= ?3 AND end_revision > ?3)
                  - (SELECT count(*) FROM current INDEXED BY current_mod WHERE {condition} AND mod_revision > ?3)"
        );
        self.connection.prepare_cached(&sql)?.query_row(bounds.params(&[&revision]).as_slice(), |row| row.get(0))
    }

    fn records_of(&self, after: (Revision, i64), until: Revision, limit: usize) -> rusqlite::Result<Vec<Record>> {
        let limit_sql = i64::try_from(limit).unwrap_or(i64::MAX);
        let params: [&dyn ToSql; 4] = [&after.0, &after.1, &until, &limit_sql];
        let mut records: Vec<Record> = Vec::new();
        for (table, index, live) in [
            ("current", "current_mod", ""),
            ("history", "history_mod", "AND end_revision > (SELECT compact_revision FROM meta)"),
        ] {
            let sql = format!(
                "SELECT {ROW} FROM {table} INDEXED BY {index}
                 WHERE mod_revision >= ?1 AND (mod_revision, sub) > (?1, ?2) AND mod_revision <= ?3 {live}
                 ORDER BY mod_revision, sub LIMIT ?4"
            );
            let mut statement = self.connection.prepare_cached(&sql)?;
            for found in statement.query_map(params, row)? {
                let Row { kv, sub } = found?;
                records.push(Record { revision: kv.mod_revision, sub, tombstone: false, kv });
            }
        }
        let sql = "SELECT key, end_revision, end_sub FROM history INDEXED BY history_end
            WHERE end_revision >= max(?1, (SELECT compact_revision + 1 FROM meta)) AND (end_revision, end_sub) > (?1, ?2)
              AND end_revision <= ?3 AND deleted
            ORDER BY end_revision, end_sub LIMIT ?4";
        let mut statement = self.connection.prepare_cached(sql)?;
        let tombstones = statement.query_map(params, |row| {
            let key = Bytes::copy_from_slice(row.get_ref(0)?.as_blob()?);
            let kv = KeyValue { key, ..KeyValue::default() };
            Ok(Record { revision: row.get(1)?, sub: row.get(2)?, tombstone: true, kv })
        })?;
        for tombstone in tombstones {
            records.push(tombstone?);
        }
        records.sort_by_key(|record| (record.revision, record.sub));
        records.truncate(limit);
        Ok(records)
    }

    fn begin_snapshot(&mut self) -> rusqlite::Result<(Revision, Revision)> {
        self.connection.execute_batch("BEGIN")?;
        let mut statement = self.connection.prepare_cached("SELECT revision, compact_revision FROM meta")?;
        statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
    }
}

impl Reader for SqliteReader {
    fn begin(&mut self) -> Result<(Revision, Revision)> {
        let begun = self.begin_snapshot().map_err(failed)?;
        (self.revision, self.compact_revision) = begun;
        Ok(begun)
    }

    fn end(&mut self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("COMMIT")
        {
            tracing::warn!(%error, "could not end a read");
        }
    }

    fn page(&mut self, query: &RangeQuery, revision: Revision, limit: usize) -> Result<Page> {
        // One more tells whether there are more.
        let wanted = if limit == 0 { usize::MAX } else { limit + 1 };
        let read = || -> rusqlite::Result<(Vec<KeyValue>, Option<Bytes>)> {
            let past = (revision < self.revision).then_some(revision);
            let mut live = select::current(&self.connection, query, past, wanted, &self.metrics)?;
            let mut cut = live.cut();
            if past.is_some() {
                let mut superseded = self.history_of(query, revision, wanted)?;
                // Behind the key where one of the two stopped, the other is not to go on.
                cut = cut.into_iter().chain(superseded.cut()).min();
                live.kvs.append(&mut superseded.kvs);
                live.kvs.sort_by(|a, b| a.key.cmp(&b.key));
                live.kvs.retain(|kv| cut.as_ref().is_none_or(|cut| kv.key <= *cut));
            }
            Ok((live.kvs, cut))
        };
        let (mut kvs, cut) = read().map_err(failed)?;
        // In the past the bytes may have ended one of the two reads, and what both found is a full page all the same.
        if kvs.len() == limit
            && let (Some(last), Some(_)) = (kvs.last(), cut.as_ref())
        {
            let behind = RangeQuery { range: query.range.after(&last.key), ..query.clone() };
            let more = !self.page(&behind, revision, 1)?.kvs.is_empty();
            return Ok(Page { kvs, more });
        }
        let more = cut.is_some() || (limit > 0 && kvs.len() > limit);
        if limit > 0 {
            kvs.truncate(limit);
        }
        Ok(Page { kvs, more })
    }

    fn count(&mut self, range: &KeyRange, revision: Revision) -> Result<i64> {
        let now = self.count_now(range).map_err(failed)?;
        if revision == self.revision {
            return Ok(now);
        }
        self.count_difference(range, revision).map(|difference| now + difference).map_err(failed)
    }

    fn events(&mut self, range: &KeyRange, from: Revision, limit: usize) -> Result<(Vec<Event>, Revision)> {
        let mut limit = i64::try_from(limit).unwrap_or(i64::MAX).max(1);
        loop {
            let (mut events, until) = self.events_of(range, from, limit).map_err(failed)?;
            if until >= from || until == self.revision {
                self.add_previous(&mut events).map_err(failed)?;
                return Ok((events.into_iter().map(|(_, event)| event).collect(), until));
            }
            // The first revision alone has more changes than that.
            limit = limit.saturating_mul(4);
        }
    }

    fn records(&mut self, after: (Revision, i64), until: Revision, limit: usize) -> Result<Vec<Record>> {
        self.records_of(after, until, limit).map_err(failed)
    }

    fn lease(&mut self, id: LeaseId) -> Result<Option<Lease>> {
        let sql = "SELECT id, ttl, expires_at FROM lease WHERE id = ?1";
        let found = self.connection.prepare_cached(sql).and_then(|mut one| one.query_row([id], lease).optional());
        found.map_err(failed)
    }

    fn lease_keys(&mut self, id: LeaseId) -> Result<Vec<Bytes>> {
        let sql = "SELECT key FROM current INDEXED BY current_lease WHERE lease = ?1 AND lease <> 0 ORDER BY key";
        let read = || -> rusqlite::Result<Vec<Bytes>> {
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.query_map([id], |row| Ok(Bytes::copy_from_slice(row.get_ref(0)?.as_blob()?)))?.collect()
        };
        read().map_err(failed)
    }

    fn leases(&mut self, limit: usize) -> Result<Vec<Lease>> {
        let limit = if limit == 0 { -1 } else { i64::try_from(limit).unwrap_or(i64::MAX) };
        let sql = "SELECT id, ttl, expires_at FROM lease ORDER BY expires_at, id LIMIT ?1";
        let read = || -> rusqlite::Result<Vec<Lease>> {
            self.connection.prepare_cached(sql)?.query_map([limit], lease)?.collect()
        };
        read().map_err(failed)
    }

    fn status(&mut self) -> Result<StoreStatus> {
        let read = || -> rusqlite::Result<StoreStatus> {
            let pragma = |name: &str| self.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
            let (size, pages, free) = (pragma("page_size")?, pragma("page_count")?, pragma("freelist_count")?);
            let cluster: i64 = self.connection.query_row("SELECT cluster_id FROM meta", [], |row| row.get(0))?;
            Ok(StoreStatus {
                revision: self.revision,
                compact_revision: self.compact_revision,
                db_size: size * pages,
                db_size_in_use: size * (pages - free),
                cluster_id: cluster.unsigned_abs(),
            })
        };
        read().map_err(failed)
    }

    fn collector(&mut self) -> Result<gc::Status> {
        gc_load::status(&self.connection).map_err(failed)
    }

    fn encrypted_custom_resource(&mut self) -> Result<Option<Bytes>> {
        gc_load::encrypted(&self.connection).map_err(failed)
    }
}

/// Whether all keys are in the range.
fn is_everything(range: &KeyRange) -> bool {
    range.end == RangeEnd::Unbounded && (range.start.is_empty() || *range.start == [0])
}
