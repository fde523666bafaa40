//! Reads keys, their history, and leases.

use bytes::Bytes as Buffer;

use super::engine::Engine;
use super::find::{columns, paged};
use super::note;
use super::row::{Cells, ROW};
use super::serving::NOW;
use super::text::{In, Packet, Within};
use super::{Heeds, Tables};
use crate::engine::store::{Lease, Row};
use crate::engine::{KeyRange, KeyValue, LeaseId, Revision, StoreStatus};
use crate::sql::failure::{Failure, Result};
use crate::sql::numbers;
use crate::sql::remote::{self, MOVED};
use crate::sql::session::{Change, Find, Head, Log, RECENT, Read, Take};

/// How long a snapshot may be left alone by who reads without serving.
const READER_SECONDS: u32 = 3600;

/// How many keys are looked up at a time.
const KEYS: usize = 512;

impl Tables {
    fn begin_snapshot(&mut self) -> Result<Head> {
        // Where each statement has a snapshot of its own, the second of these would do nothing.
        let mut packet = Packet::of("isolation", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ");
        packet.add("snapshot", "START TRANSACTION WITH CONSISTENT SNAPSHOT");
        if self.owner == 0 && matches!(self.heeds, Heeds::Nothing) {
            self.wait_for_reader(&mut packet)?;
        }
        packet.add(
            "head",
            format_args!("SELECT revision, compact_revision, {NOW}, batch, owner, address FROM meta WHERE id = 1"),
        );
        let (mut head, heeds) = (Head::default(), self.heeds);
        let newest = self.connection.seen.newest();
        self.open = true;
        self.connection.each(&packet, &mut |_, mut cells| {
            head = read_head(&mut cells)?;
            stays(&mut cells, heeds)
        })?;
        self.connection.seen.note(head.revision, newest)?;
        Ok(head)
    }

    /// Who reads without serving compares whole stores, and may look at another database for long. Such a snapshot
    /// holds no lock.
    fn wait_for_reader(&mut self, packet: &mut Packet) -> Result<()> {
        packet.add("patience", format_args!("SET SESSION wait_timeout = {READER_SECONDS}"));
        if self.connection.server()?.engine == Engine::MariaDb {
            packet.add("patience", format_args!("SET SESSION idle_transaction_timeout = {READER_SECONDS}"));
        }
        Ok(())
    }

    fn read_newest(&mut self, keys: &[&[u8]]) -> Result<(Head, Vec<Row>)> {
        let (mut head, mut rows) = (Head::default(), Vec::with_capacity(keys.len()));
        let sql = format!(
            "SELECT m.revision, m.compact_revision, {NOW}, m.batch, m.owner, m.address, {} FROM meta m
             LEFT JOIN current c FORCE INDEX (PRIMARY) ON {} WHERE m.id = 1",
            columns("c", true),
            In("c.k", keys)
        );
        let (heeds, newest) = (self.heeds, self.connection.seen.newest());
        self.connection.each(&Packet::of("newest", sql), &mut |_, mut cells| {
            head = read_head(&mut cells)?;
            stays(&mut cells, heeds)?;
            rows.extend(cells.maybe_row()?);
            Ok(())
        })?;
        self.connection.seen.note(head.revision, newest)?;
        Ok((head, rows))
    }
}

/// Reads the columns owner, address; refuses what the reader heeds.
fn stays(cells: &mut Cells, heeds: Heeds) -> Result<()> {
    let (owner, address) = (cells.int()?, cells.text()?);
    match heeds {
        Heeds::Move if owner == MOVED => Err(note::refusal(&address)),
        Heeds::Owner(served_by) if owner != served_by => Err(remote::no_copy()),
        Heeds::Nothing | Heeds::Move | Heeds::Owner(_) => Ok(()),
    }
}

/// Reads the columns revision, compact_revision, the time, batch.
pub(super) fn read_head(cells: &mut Cells) -> Result<Head> {
    Ok(Head { revision: cells.int()?, compact_revision: cells.int()?, now: cells.time()?, batch: cells.int()? })
}

impl Read for Tables {
    /// On a new connection if the database has ended the one there was.
    fn snapshot(&mut self) -> Result<Head> {
        self.end();
        numbers::bound(&mut self.names);
        match self.begin_snapshot() {
            Err(Failure::Lost(_)) if !self.connection.is_replica() => {
                self.connection.reconnect()?;
                self.begin_snapshot()
            }
            begun => begun,
        }
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.open)
            && self.connection.is_open()
            && let Err(error) = self.connection.run(&Packet::of("end", "COMMIT"))
        {
            tracing::warn!(?error, "could not end a read");
            // The snapshot is there still, and no other one can begin.
            self.connection.close();
        }
    }

    fn rows(&mut self, keys: &[&[u8]]) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for keys in keys.chunks(KEYS) {
            let sql = format!("SELECT {ROW} FROM current FORCE INDEX (PRIMARY) WHERE {}", In("k", keys));
            rows.append(&mut self.connection.all("keys", sql, Cells::row)?);
        }
        Ok(rows)
    }

    /// One statement, which is a snapshot of its own.
    fn newest(&mut self, keys: &[&[u8]]) -> Result<(Head, Vec<Row>)> {
        self.end();
        match self.read_newest(keys) {
            Err(Failure::Lost(_)) => {
                self.connection.reconnect()?;
                self.read_newest(keys)
            }
            read => read,
        }
    }

    fn find(&mut self, find: &Find<'_>, take: &mut Take<'_>) -> Result<()> {
        self.find_keys(find, take)
    }

    fn superseded(&mut self, range: &KeyRange, at: Revision, behind: Revision, take: &mut Take<'_>) -> Result<()> {
        let columns = columns("h", true);
        paged(range, KEYS, &mut |rest, size| {
            let within = Within("h.k", rest);
            let from = if behind <= RECENT {
                format!("{CHANGED} WHERE ch.revision > {at}")
            } else {
                format!("history h FORCE INDEX (PRIMARY) WHERE h.end_revision > {at}")
            };
            let sql = format!(
                "SELECT h.k, {columns} FROM {from} AND {within} AND h.mod_revision <= {at} ORDER BY h.k LIMIT {size}"
            );
            self.page("history", sql, take)
        })
    }

    fn log(&mut self, log: &Log<'_>) -> Result<Vec<Change>> {
        let Log { range, after: (after, sub), until, above, limit, previous } = *log;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let within = range.map_or(String::new(), |range| format!(" AND {}", Within("y.k", range)));
        let ended = if above > after {
            format!(
                " AND (NOT y.deleted OR y.revision > {above}) AND NOT EXISTS (SELECT 1 FROM history x \
                 WHERE x.k = y.k AND x.end_revision > y.revision AND x.end_revision <= {above})"
            )
        } else {
            String::new()
        };
        let (before, join) = if previous {
            let join = "LEFT JOIN history p FORCE INDEX (PRIMARY) ON p.k = ch.k AND p.end_revision = ch.revision \
                AND p.end_sub = ch.sub";
            (columns("p", true), join)
        } else {
            ("NULL".to_owned(), "")
        };
        let hint = self.connection.server()?.engine.hint();
        let sql = format!(
            "SELECT ch.revision, ch.sub, ch.deleted, ch.k, {}, {}, {before} FROM (
                SELECT y.*, (SELECT {hint} MIN(x.end_revision) FROM history x WHERE x.k = y.k \
                AND x.end_revision > y.revision) e
                FROM `change` y FORCE INDEX (PRIMARY)
                WHERE y.revision >= {after} AND (y.revision > {after} OR y.sub > {sub}) \
                AND y.revision <= {until}{within}{ended}
                ORDER BY y.revision, y.sub LIMIT {limit}) ch
             LEFT JOIN current c FORCE INDEX (PRIMARY) ON c.k = ch.k AND c.mod_revision = ch.revision AND c.sub = ch.sub
             LEFT JOIN history h FORCE INDEX (PRIMARY) ON h.k = ch.k AND h.end_revision = ch.e \
             AND h.mod_revision = ch.revision
             {join} ORDER BY ch.revision, ch.sub",
            columns("c", true),
            columns("h", true)
        );
        self.connection.all("log", sql, |cells| {
            let at = (cells.int()?, cells.int()?);
            let (deleted, key) = (cells.flag()?, cells.bytes()?);
            let (live, superseded) = (cells.maybe_row()?, cells.maybe_row()?);
            let put = live.or(superseded).map(|row| row.kv).filter(|_| !deleted);
            let kv = put.unwrap_or_else(|| KeyValue { key: key.into(), mod_revision: at.0, ..KeyValue::default() });
            let previous = if previous { cells.maybe_row()?.map(|row| row.kv) } else { None };
            Ok(Change { at, deleted, kv, previous })
        })
    }

    fn count(&mut self, range: &KeyRange) -> Result<i64> {
        let sql = if range.is_everything() {
            // Not by the range of the keys: it starts behind the directory of the keys without a slash, which is empty.
            "SELECT COALESCE(SUM(live), 0) FROM directory".to_owned()
        } else if range.is_tree() {
            // Directories as a whole: their counts add up.
            format!(
                "SELECT COALESCE(SUM(live), 0) FROM directory FORCE INDEX (PRIMARY) WHERE {}",
                Within("path", range)
            )
        } else {
            format!("SELECT COUNT(*) FROM current FORCE INDEX (PRIMARY) WHERE {}", Within("k", range))
        };
        self.connection.number("count", sql)
    }

    fn count_difference(&mut self, range: &KeyRange, at: Revision) -> Result<i64> {
        let sql = format!(
            "SELECT (SELECT COUNT(*) FROM {CHANGED} WHERE ch.revision > {at} AND h.mod_revision <= {at} AND {})
                - (SELECT COUNT(*) FROM `change` ch FORCE INDEX (PRIMARY) STRAIGHT_JOIN current c FORCE INDEX (PRIMARY)
                   ON c.k = ch.k AND c.mod_revision = ch.revision AND c.sub = ch.sub WHERE ch.revision > {at} AND {})",
            Within("h.k", range),
            Within("c.k", range)
        );
        self.connection.number("count then", sql)
    }

    fn lease(&mut self, id: LeaseId) -> Result<Option<Lease>> {
        self.connection.first(
            "lease",
            format_args!("SELECT id, ttl, expires_at FROM lease WHERE id = {id}"),
            Cells::lease,
        )
    }

    fn lease_keys(&mut self, id: LeaseId) -> Result<Vec<Buffer>> {
        let sql = format!("SELECT k FROM attached WHERE lease = {id} ORDER BY k");
        self.connection.all("keys of a lease", sql, |cells| cells.bytes().map(Buffer::from))
    }

    fn leases(&mut self, limit: usize) -> Result<Vec<Lease>> {
        let limit = if limit == 0 { i64::MAX } else { i64::try_from(limit).unwrap_or(i64::MAX) };
        let sql = format!(
            "SELECT id, ttl, expires_at FROM lease FORCE INDEX (lease_end) ORDER BY expires_at, id LIMIT {limit}"
        );
        self.connection.all("leases", sql, Cells::lease)
    }

    /// The size is that of the tables' files, if the user may know it, else what the server last counted: some percents
    /// may be missing then. Of what is free the server tells whole megabytes.
    fn status(&mut self, head: Head) -> Result<StoreStatus> {
        let files = if self.connection.server()?.engine == Engine::MariaDb { FILES } else { "0" };
        let sql = format!(
            "SELECT cluster_id, (SELECT CAST(COALESCE(SUM(data_length + index_length + data_free), 0) AS SIGNED)
                FROM information_schema.tables WHERE table_schema = DATABASE()),
             (SELECT CAST(COALESCE(SUM(data_free), 0) AS SIGNED) FROM information_schema.tables
                WHERE table_schema = DATABASE()), {files}
             FROM meta WHERE id = 1"
        );
        let told = self
            .connection
            .first("status", sql, |cells| Ok((cells.int()?, cells.int()?, cells.int()?, cells.int()?)))?;
        let (cluster, counted, free, files) = told.unwrap_or_default();
        let size = if files > 0 { files } else { counted };
        Ok(StoreStatus {
            revision: head.revision,
            compact_revision: head.compact_revision,
            db_size: size,
            db_size_in_use: (size - free).max(0),
            cluster_id: cluster.unsigned_abs(),
        })
    }
}

/// How many bytes the files of the tables have; 0 if the user may not know, or the tables have no files of their own.
/// Without the right the second table can't be read, not even in vain.
const FILES: &str = "IF(EXISTS (SELECT 1 FROM information_schema.user_privileges WHERE privilege_type = 'PROCESS'
        AND grantee = CONCAT('''', REPLACE(CURRENT_USER(), '@', '''@'''), '''')),
    (SELECT CAST(COALESCE(SUM(file_size), 0) AS SIGNED) FROM information_schema.innodb_sys_tablespaces
        WHERE SUBSTRING_INDEX(name, '/', 1) = CAST(CONVERT(DATABASE() USING filename) AS BINARY)), 0)";

/// What was superseded, by when that was.
const CHANGED: &str = "`change` ch FORCE INDEX (PRIMARY) STRAIGHT_JOIN history h FORCE INDEX (PRIMARY)
    ON h.k = ch.k AND h.end_revision = ch.revision AND h.end_sub = ch.sub";
