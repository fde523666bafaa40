//! Changes a SQLite file.

use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};

use super::checkpoint::{Checkpoints, Copied};
use super::error::failed;
use super::log::Guarded;
use super::row::{ROW, Range, lease, range_at, row};
use super::tables::Tables;
use super::{beside, clock, graph, graph_write, hiding, store};
use crate::clock::{StoreClock, StoreTime};
use crate::engine;
use crate::engine::store::{Footprint, Queue};
use crate::sql::collector::LOOKED_AT;
use crate::sql::failure::{Failure, Result};
use crate::sql::index::names::{foreign_of, values_of};
use crate::sql::session::{Begun, Commit, Delta, Head, NewHead, Started};

/// How long a stop waits for reads that hold back part of the log, and how often it looks.
const READS: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);
/// A WAL file larger than this, in bytes, is cut back when nothing else is to do.
const WAL_FILE: u64 = 64 << 20;

/// The connection that commits, with all that keeps its log short.
pub(super) struct Changing {
    guarded: Guarded,
    wal: PathBuf,
    /// How many pages the WAL had after the last commit, or still has to copy after a checkpoint.
    wal_pages: Arc<AtomicI64>,
    checkpoints: Checkpoints,
    /// The log that the thread copies.
    copying: Option<[u8; 8]>,
    /// Whether the file has the indexes that hidden objects need.
    hides: bool,
    /// Whether it has them if the transaction under way is committed.
    begins_to_hide: bool,
    clock: StoreClock,
    /// Keeps other processes out as long as the connection lives.
    _lock: File,
}

impl Deref for Changing {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.guarded
    }
}

impl Drop for Changing {
    /// After a clean stop everything is in the database file: a copy of that one file is a backup. SQLite does this by
    /// itself only when the last connection closes, and the readers' are not closed in any order. So the writer does,
    /// after the thread, and waits for reads that are under way.
    fn drop(&mut self) {
        self.checkpoints.stop();
        let deadline = Instant::now() + READS;
        while matches!(self.guarded.settle(), Ok(false)) {
            if Instant::now() > deadline {
                tracing::warn!(
                    "a read goes on and holds back part of the log: a copy of the database needs the log too"
                );
                return;
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl Changing {
    pub(super) fn new(mut guarded: Guarded, lock: File, path: &Path, clock: StoreClock) -> engine::Result<Self> {
        let wal_pages = guarded.frames();
        let hides = hiding::is_indexed(&guarded).map_err(Failure::from)?;
        let checkpoints = Checkpoints::start(path)?;
        let wal = beside(path, "-wal");
        if std::fs::metadata(&wal).is_ok_and(|wal| wal.len() > 0)
            && let Err(error) = guarded.ready().map_err(failed)
        {
            // Before the first commit this is tried again.
            tracing::warn!(%error, "the database could not be marked as one that needs its log");
        }
        Ok(Self {
            guarded,
            wal,
            wal_pages,
            checkpoints,
            copying: None,
            hides,
            begins_to_hide: false,
            clock,
            _lock: lock,
        })
    }
}

impl Tables<Changing> {
    /// Begins a transaction that nothing else can commit beside.
    fn begin_alone(&mut self) -> Result<()> {
        synced(self.connection.guarded.ready())?;
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(self.is_here()?)
    }

    /// Commits, and counts how long that took, and the sync of the log within it.
    fn commit(&mut self) -> Result<()> {
        // A sync before this one, which marked the file, is not this commit's.
        let _ = sluice_wal::take_sync_time(&self.connection);
        let started = Instant::now();
        let committed = self.connection.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([]));
        if let Ok(Some(took)) = sluice_wal::take_sync_time(&self.connection) {
            self.metrics.log_sync_seconds.observe(took.as_secs_f64());
        }
        synced(committed)?;
        self.metrics.store_commit_seconds.observe(started.elapsed().as_secs_f64());
        if let Err(error) = self.connection.guarded.ready().map_err(failed) {
            // What was committed stays so, and nothing more is until this works.
            tracing::warn!(%error, "the database could not be marked as one that needs its log");
        }
        self.connection.hides |= std::mem::take(&mut self.connection.begins_to_hide);
        Ok(())
    }

    /// A transaction of its own.
    fn alone<T>(&mut self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        self.begin_alone()?;
        let connection = &self.connection;
        synced(work(connection).and_then(|done| connection.execute_batch("COMMIT").map(|()| done)))
    }
}

impl Commit for Tables<Changing> {
    fn begin(&mut self, footprint: &Footprint) -> Result<Begun> {
        self.begin_alone()?;
        Ok(load(&self.connection, footprint, self.connection.clock.now())?)
    }

    fn labels(&mut self, names: &[&str]) -> Result<Vec<i64>> {
        let sql =
            "INSERT INTO attribute_name (name) VALUES (?1) ON CONFLICT (name) DO UPDATE SET name = name RETURNING id";
        let mut number = self.connection.prepare_cached(sql)?;
        Ok(names.iter().map(|name| number.query_row([name], |row| row.get(0))).collect::<rusqlite::Result<_>>()?)
    }

    fn apply(&mut self, delta: &Delta<'_>, head: Option<&NewHead>) -> Result<bool> {
        if delta.hides && !self.connection.hides && !self.connection.begins_to_hide {
            synced(hiding::index(&self.connection))?;
            self.connection.begins_to_hide = true;
        }
        let woken = synced(write(&self.connection, delta, head))?;
        if head.is_some() {
            self.commit()?;
        }
        Ok(woken)
    }

    fn tell(&mut self, started: &Started<'_>, now: StoreTime, head: Option<&NewHead>) -> Result<()> {
        let connection = &self.connection;
        let stored = graph_write::store_started(connection, started, now);
        synced(stored.and_then(|()| head.map_or(Ok(()), |head| store::store_head(connection, head))))?;
        head.map_or(Ok(()), |_| self.commit())
    }

    fn rollback(&mut self) {
        self.connection.begins_to_hide = false;
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.prepare_cached("ROLLBACK").and_then(|mut end| end.execute([]))
        {
            tracing::warn!(%error, "a transaction could not be rolled back");
        }
    }

    /// There is nothing between the file and its connection that could be lost.
    fn reconnect(&mut self) -> Result<()> {
        Ok(())
    }

    fn try_commit(&mut self) -> Result<()> {
        // Writes a page all the same.
        self.alone(|connection| connection.execute("UPDATE meta SET revision = revision", []).map(drop))
    }

    /// Need not outlive a crash: the next start goes on with it.
    fn compact(&mut self, limit: usize) -> Result<usize> {
        synced(self.connection.guarded.ready())?;
        let sql = "DELETE FROM history WHERE id IN (
            SELECT id FROM history INDEXED BY history_end
            WHERE end_revision <= (SELECT compact_revision FROM meta)
              AND NOT (deleted AND end_revision = (SELECT compact_revision FROM meta)) ORDER BY end_revision LIMIT ?1)";
        let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
        let removed = transaction.prepare_cached(sql)?.execute([i64::try_from(limit).unwrap_or(i64::MAX)])?;
        synced(sluice_wal::commit_unsynced(transaction))?;
        Ok(removed)
    }

    fn remove_index(&mut self, id: i64, limit: usize) -> Result<()> {
        self.alone(|connection| {
            let sql = "DELETE FROM attribute WHERE (name, value, key) IN
                (SELECT name, value, key FROM attribute WHERE name = ?1 LIMIT ?2)";
            let mut delete = connection.prepare_cached(sql)?;
            let (values, foreign) = (values_of(id), foreign_of(id));
            let mut left = limit;
            for name in [values, foreign] {
                left -= delete.execute((name, i64::try_from(left).unwrap_or(i64::MAX)))?.min(left);
            }
            let sql = "DELETE FROM field_index WHERE id = ?1
                AND NOT EXISTS (SELECT 1 FROM attribute WHERE name IN (?2, ?3))";
            connection.prepare_cached(sql)?.execute([id, values, foreign])?;
            Ok(())
        })
    }

    fn forget(&mut self, before: StoreTime, after: i64, limit: usize) -> Result<Option<i64>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.alone(|connection| graph_write::forget(connection, before, after, limit))
    }

    fn extend_leases(&mut self, now: StoreTime, least: Duration) -> Result<usize> {
        self.alone(|connection| {
            let extended = clock::extend_leases(connection, now, least)?;
            clock::keep(connection, now).map(|()| extended)
        })
    }

    fn save_clock(&mut self, now: StoreTime) -> Result<()> {
        self.alone(|connection| clock::keep(connection, now))
    }

    fn tidy(&mut self, idle: bool) -> Result<bool> {
        if idle {
            self.is_here()?;
        }
        let Changing { guarded, checkpoints, wal_pages, copying: copied_log, wal, .. } = &mut self.connection;
        let copied = checkpoints.step(guarded, wal_pages, idle)?;
        // A thread that was woken just now copies this log: only a commit here can begin another.
        let log = guarded.log()?;
        let copying = copied_log.take();
        if checkpoints.is_running() {
            *copied_log = copying.filter(|_| copied == Copied::Nothing).or(log);
        }
        match copied {
            Copied::Nothing => {}
            Copied::Here(progress) if progress.is_whole() => synced(guarded.whole())?,
            Copied::Here(progress) => synced(guarded.copied(progress.copied, log))?,
            Copied::Beside(pages) => synced(guarded.copied(pages, copying))?,
        }
        let at_rest = !checkpoints.is_running();
        if at_rest && idle && std::fs::metadata(wal).is_ok_and(|wal| wal.len() > WAL_FILE) {
            guarded.settle()?;
        }
        Ok(!at_rest)
    }

    fn defragment(&mut self) -> Result<()> {
        let Changing { guarded, checkpoints, .. } = &mut self.connection;
        synced(guarded.ready())?;
        synced(vacuum(guarded))?;
        checkpoints.wait()?;
        guarded.settle().map(drop).map_err(Failure::from)
    }

    fn adopt(&mut self, cluster_id: i64) -> Result<()> {
        self.alone(|connection| {
            connection.execute("UPDATE meta SET revision = 0, cluster_id = ?1", [cluster_id]).map(drop)
        })
    }

    fn take_queue(&mut self, queue: &Queue) -> Result<()> {
        let hides = !self.connection.hides && queue.tasks.iter().any(|task| task.hidden);
        self.alone(|connection| {
            if hides {
                hiding::index(connection)?;
            }
            graph_write::take_queue(connection, queue)
        })?;
        self.connection.hides |= hides;
        Ok(())
    }
}

/// What came of something that may have been synced.
fn synced<T>(result: rusqlite::Result<T>) -> Result<T> {
    result.map_err(|error| Failure::Final(failed(error)))
}

/// Frees all pages that hold nothing. SQLite frees one for each row of the answer.
fn vacuum(connection: &Connection) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("PRAGMA incremental_vacuum")?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

/// Writes all rows of a commit but what the collector makes of it; returns whether a task was woken.
fn write(connection: &Connection, delta: &Delta<'_>, head: Option<&NewHead>) -> rusqlite::Result<bool> {
    graph_write::store_tasks(connection, delta.tasks)?;
    store::store(connection, delta)?;
    let woken = graph_write::store_edges(connection, delta)?;
    head.map_or(Ok(()), |head| store::store_head(connection, head))?;
    Ok(woken)
}

/// Reads what a footprint names.
fn load(connection: &Connection, footprint: &Footprint, now: StoreTime) -> rusqlite::Result<Begun> {
    let mut head = connection.prepare_cached("SELECT revision, compact_revision FROM meta")?;
    let head =
        head.query_row([], |row| Ok(Head { revision: row.get(0)?, compact_revision: row.get(1)?, now, batch: 0 }))?;
    let mut begun = Begun { head, ..Begun::default() };
    let mut one = connection.prepare_cached(&format!("SELECT {ROW} FROM current WHERE key = ?1"))?;
    for key in &footprint.keys {
        if let Some(found) = one.query_row([&key[..]], row).optional()? {
            begun.rows.insert(found.kv.key.clone(), found);
        }
    }
    for range in &footprint.ranges {
        let bounds = Range::of(range);
        let sql = format!("SELECT {ROW} FROM current WHERE {}", bounds.condition("key"));
        for found in connection.prepare_cached(&sql)?.query_map(bounds.params(&[]).as_slice(), row)? {
            let found = found?;
            begun.rows.insert(found.kv.key.clone(), found);
        }
    }
    for (range, revision) in &footprint.past {
        begun.past.push(range_at(connection, range, *revision)?);
    }
    let sql = "SELECT id, ttl, expires_at FROM lease WHERE id = ?1";
    for id in &footprint.leases {
        let found = connection.prepare_cached(sql)?.query_row([id], lease).optional()?;
        begun.leases.extend(found.map(|lease| (lease.id, lease)));
    }
    let sql = format!("SELECT {ROW} FROM current INDEXED BY current_lease WHERE lease = ?1 AND lease <> 0");
    for id in &footprint.lease_keys {
        for found in connection.prepare_cached(&sql)?.query_map([id], row)? {
            let found = found?;
            begun.rows.insert(found.kv.key.clone(), found);
        }
    }
    for uid in &footprint.blocked {
        if graph::blocked(connection, uid, LOOKED_AT)? {
            begun.blocked.insert(uid.clone());
        }
    }
    Ok(begun)
}
