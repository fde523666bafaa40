//! Keys, their history, and leases.

use bytes::Bytes;

use super::link::{Ask, get};
use super::row::{Bounds, blob, blobs, bytes, columns, int, lease, limit, row, row_ref};
use super::schema::NAMES;
use super::session::{HEAD_COLUMNS, Session};
use crate::engine::store::{Lease, Row};
use crate::engine::{KeyRange, KeyValue, LeaseId, Revision, StoreStatus};
use crate::sql::failure::Result;
use crate::sql::session::{Change, Find, Head, Log, RECENT, Read, Take};

/// How many superseded values are asked for at a time.
const CHUNK: i64 = 1000;

impl Read for Session {
    fn snapshot(&mut self) -> Result<Head> {
        self.begin_read()
    }

    fn end(&mut self) {
        self.rollback();
    }

    fn rows(&mut self, keys: &[&[u8]]) -> Result<Vec<Row>> {
        let sql = format!("SELECT {} FROM {}", columns("c"), self.database.by_keys().from);
        let found = self.ask(Ask::new("rows", &sql, vec![blobs(&keys)]))?;
        found.iter().map(|found| row(found, 0)).collect()
    }

    fn newest(&mut self, keys: &[&[u8]]) -> Result<(Head, Vec<Row>)> {
        let (head, found) = self.read_newest(keys)?;
        let there = found.iter().filter(|found| !matches!(found.try_get(HEAD_COLUMNS), Ok(None::<&[u8]>)));
        Ok((head, there.map(|found| row(found, HEAD_COLUMNS)).collect::<Result<_>>()?))
    }

    fn find(&mut self, find: &Find<'_>, take: &mut Take<'_>) -> Result<()> {
        super::find::find(self, find, take)
    }

    fn superseded(&mut self, range: &KeyRange, at: Revision, behind: Revision, take: &mut Take<'_>) -> Result<()> {
        let mut bounds = Bounds::of(range);
        let columns = columns("h");
        let sql = if behind <= RECENT {
            format!(
                "SELECT {columns} FROM (SELECT DISTINCT key FROM change
                    WHERE revision > $3 AND key >= $1 AND key < $2 ORDER BY key) y
                 CROSS JOIN LATERAL (SELECT * FROM history x WHERE x.key = y.key AND x.end_revision > $3
                    ORDER BY x.end_revision, x.end_sub LIMIT 1) h
                 WHERE h.mod_revision <= $3 ORDER BY y.key LIMIT $4"
            )
        } else {
            format!(
                "SELECT {columns} FROM history h WHERE h.key >= $1 AND h.key < $2 AND h.mod_revision <= $3
                 AND h.end_revision > $3 ORDER BY h.key LIMIT $4"
            )
        };
        let mut last = Vec::new();
        loop {
            let params = vec![blob(&bounds.start), blob(&bounds.end), int(&at), int(&CHUNK)];
            let ask = Ask::new("superseded", &sql, params);
            let mut going = true;
            let count = self.on(|link| {
                link.each(&ask, &mut |found| {
                    let found = row_ref(&found, 0)?;
                    found.key.clone_into(&mut last);
                    let flow = take(found);
                    going = flow.is_continue();
                    Ok(flow)
                })
            })?;
            if !going || limit(count) < CHUNK {
                return Ok(());
            }
            bounds.go_on_behind(&last);
        }
    }

    fn log(&mut self, log: &Log<'_>) -> Result<Vec<Change>> {
        let bounds = log.range.map_or_else(Bounds::all, Bounds::of);
        let previous = if log.previous {
            let join = "LEFT JOIN history p ON p.key = y.key AND p.end_revision = y.revision AND p.end_sub = y.sub";
            (format!(", p.key IS NOT NULL, {}", columns("p")), join)
        } else {
            (String::new(), "")
        };
        let value = |column: &str| format!("coalesce(c.{column}, h.{column})");
        let values = ["create_revision", "version", "lease", "value"].map(value).join(", ");
        // A value that is no longer the newest of its key is found by when the next change of the key was.
        let sql = format!(
            "SELECT y.revision, y.sub, y.deleted, y.key, {values}{}
             FROM change y
             LEFT JOIN current c ON c.key = y.key AND NOT y.deleted AND c.mod_revision = y.revision AND c.sub = y.sub
             LEFT JOIN LATERAL (SELECT * FROM history x WHERE NOT y.deleted AND c.key IS NULL AND x.key = y.key
                AND x.end_revision > y.revision ORDER BY x.end_revision, x.end_sub LIMIT 1) h
                ON h.mod_revision = y.revision
             {}
             WHERE (y.revision, y.sub) > ($1, $2) AND y.revision <= $3 AND y.key >= $4 AND y.key < $5
             AND CASE WHEN y.deleted THEN y.revision > $6 ELSE c.key IS NOT NULL OR h.end_revision > $6 END
             ORDER BY y.revision, y.sub LIMIT $7",
            previous.0, previous.1
        );
        let most = limit(log.limit);
        let params = vec![
            int(&log.after.0),
            int(&log.after.1),
            int(&log.until),
            blob(&bounds.start),
            blob(&bounds.end),
            int(&log.above),
            int(&most),
        ];
        let found = self.ask(Ask::new("log", &sql, params))?;
        found.iter().map(|found| change(found, log.previous)).collect()
    }

    fn count(&mut self, range: &KeyRange) -> Result<i64> {
        let everything = range.is_everything();
        let (sql, bounds) = if everything || range.is_tree() {
            // Directories as a whole: their counts add up. That of the keys without a slash is empty.
            let bounds = if everything { Bounds::all() } else { Bounds::of(range) };
            ("SELECT coalesce(sum(live), 0)::bigint FROM directory WHERE path >= $1 AND path < $2", bounds)
        } else {
            ("SELECT count(*) FROM current WHERE key >= $1 AND key < $2", Bounds::of(range))
        };
        self.number(Ask::new("count", sql, vec![blob(&bounds.start), blob(&bounds.end)]))
    }

    fn count_difference(&mut self, range: &KeyRange, at: Revision) -> Result<i64> {
        let bounds = Bounds::of(range);
        let sql = "SELECT count(h.key) FILTER (WHERE h.mod_revision <= $3) - count(c.key)
            FROM (SELECT DISTINCT key FROM change WHERE revision > $3 AND key >= $1 AND key < $2) y
            LEFT JOIN current c ON c.key = y.key AND c.mod_revision > $3
            LEFT JOIN LATERAL (SELECT x.key, x.mod_revision FROM history x WHERE x.key = y.key AND x.end_revision > $3
                ORDER BY x.end_revision, x.end_sub LIMIT 1) h ON true";
        let params = vec![blob(&bounds.start), blob(&bounds.end), int(&at)];
        self.number(Ask::new("count in the past", sql, params))
    }

    fn lease(&mut self, id: LeaseId) -> Result<Option<Lease>> {
        let sql = "SELECT id, ttl, expires_at FROM lease WHERE id = $1";
        self.ask(Ask::new("lease", sql, vec![int(&id)]))?.first().map(lease).transpose()
    }

    fn lease_keys(&mut self, id: LeaseId) -> Result<Vec<Bytes>> {
        let sql = "SELECT key FROM attached WHERE lease = $1 ORDER BY key";
        let found = self.ask(Ask::new("lease keys", sql, vec![int(&id)]))?;
        found.iter().map(|found| bytes(found, 0)).collect()
    }

    fn leases(&mut self, most: usize) -> Result<Vec<Lease>> {
        let most = if most == 0 { i64::MAX } else { limit(most) };
        let sql = "SELECT id, ttl, expires_at FROM lease ORDER BY expires_at, id LIMIT $1";
        self.ask(Ask::new("leases", sql, vec![int(&most)]))?.iter().map(lease).collect()
    }

    fn status(&mut self, head: Head) -> Result<StoreStatus> {
        let names = NAMES.to_vec();
        // The pages of rows and of indexes. What is free within them is not known without reading them.
        let sql = "SELECT (SELECT cluster_id FROM meta WHERE id = 1),
            coalesce(sum(pg_relation_size(oid) + pg_indexes_size(oid) + coalesce(pg_relation_size(long)
                + pg_indexes_size(long), 0)), 0)::bigint
            FROM (SELECT c.oid, nullif(c.reltoastrelid, 0) AS long FROM pg_class t
                LEFT JOIN LATERAL pg_partition_tree(t.oid) p ON true JOIN pg_class c ON c.oid = coalesce(p.relid, t.oid)
                WHERE t.relkind IN ('r', 'p') AND t.relname = ANY($1)
                AND t.relnamespace = current_schema()::regnamespace) t";
        let found = self.ask(Ask::new("status", sql, vec![(&names, tokio_postgres::types::Type::TEXT_ARRAY)]))?;
        let mut status =
            StoreStatus { revision: head.revision, compact_revision: head.compact_revision, ..StoreStatus::default() };
        if let Some(found) = found.first() {
            status.cluster_id = get::<i64>(found, 0)?.unsigned_abs();
            status.db_size = get(found, 1)?;
            status.db_size_in_use = status.db_size;
        }
        Ok(status)
    }
}

impl Session {
    /// The number that a statement gives.
    pub(super) fn number(&mut self, ask: Ask<'_>) -> Result<i64> {
        self.ask(ask)?.first().map_or(Ok(0), |found| get(found, 0))
    }
}

fn change(found: &tokio_postgres::Row, previous: bool) -> Result<Change> {
    let (revision, deleted): (Revision, bool) = (get(found, 0)?, get(found, 2)?);
    let mut kv = KeyValue { key: bytes(found, 3)?, mod_revision: revision, ..KeyValue::default() };
    if !deleted {
        kv.create_revision = get(found, 4)?;
        kv.version = get(found, 5)?;
        kv.lease = get(found, 6)?;
        kv.value = bytes(found, 7)?;
    }
    let previous = if previous && get(found, 8)? { Some(row(found, 9)?.kv) } else { None };
    Ok(Change { at: (revision, get(found, 1)?), deleted, kv, previous })
}
