//! The connection that changes the database.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rusqlite::types::Null;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::backfill::Backfill;
use super::beside;
use super::checkpoint::{Checkpoints, Copied};
use super::error::failed;
use super::field_index;
use super::log::Guarded;
use super::row::{ROW, Range, lease, range_at, row};
use super::tables::Tables;
use super::{clock, graph, graph_write, hiding};
use crate::clock::{StoreClock, StoreTime};
use crate::engine::catalog::{Catalog, FieldEntry};
use crate::engine::metrics::Metrics;
use crate::engine::store::{Before, Changes, Committed, Decide, Footprint, Lease, Row, RowChange, Superseded, Writer};
use crate::engine::{KeyRange, LeaseId, Result, Revision};
use crate::sql::select::directories::counts;
use crate::sql::session::Delta;
use crate::sql::{collector, directory};

/// A WAL file larger than this, in bytes, is cut back when nothing else is to do.
const WAL_FILE: u64 = 64 << 20;
/// How long one step of a compaction may take: all writes wait meanwhile, so not much longer than a commit does.
const STEP: Duration = Duration::from_micros(500);
/// How many tombstones are forgotten at a time.
const TOMBSTONES: i64 = 1000;

/// The one writer.
pub(super) struct SqliteWriter {
    tables: Tables<Guarded>,
    wal: PathBuf,
    /// How many pages the WAL had after the last commit, or still has to copy after a checkpoint.
    wal_pages: Arc<AtomicI64>,
    checkpoints: Checkpoints,
    /// The log that the thread copies.
    copying: Option<[u8; 8]>,
    /// Row ids of the names in `attribute_name`.
    names: HashMap<Box<str>, i64>,
    /// The field indexes; `None` after a transaction that may have changed them.
    catalog: Option<Arc<Catalog>>,
    /// Whether the file has the indexes that hidden objects need.
    hides: bool,
    backfill: Backfill,
    metrics: Arc<Metrics>,
    /// How many rows a step of a compaction removes; follows the speed of the machine.
    step_rows: i64,
    /// The last tombstone that was looked at.
    forgotten: i64,
    clock: StoreClock,
    /// How late it is in the file.
    saved: StoreTime,
    /// Keeps other processes out as long as the writer lives.
    _lock: File,
}

impl Drop for SqliteWriter {
    /// After a clean stop everything is in the database file: a copy of that one file is a backup. SQLite does this by itself only when
    /// the last connection closes, and the readers' are not closed in any order. So [`Guarded`] does, after the thread.
    fn drop(&mut self) {
        self.checkpoints.stop();
    }
}

impl SqliteWriter {
    pub(super) fn new(
        mut connection: Guarded,
        lock: File,
        path: &Path,
        clock: StoreClock,
        metrics: Arc<Metrics>,
    ) -> Result<Self> {
        let wal_pages = connection.frames();
        let hides = hiding::is_indexed(&connection).map_err(failed)?;
        let checkpoints = Checkpoints::start(path)?;
        let (wal, names) = (beside(path, "-wal"), HashMap::new());
        if std::fs::metadata(&wal).is_ok_and(|wal| wal.len() > 0)
            && let Err(error) = connection.ready().map_err(failed)
        {
            // Before the first commit this is tried again.
            tracing::warn!(%error, "the database could not be marked as one that needs its log");
        }
        Ok(Self {
            tables: Tables::new(connection, Arc::clone(&metrics)),
            wal,
            wal_pages,
            checkpoints,
            copying: None,
            names,
            catalog: None,
            hides,
            backfill: Backfill::new(),
            metrics,
            step_rows: 256,
            forgotten: 0,
            saved: clock.now(),
            clock,
            _lock: lock,
        })
    }

    fn transact(&mut self, footprint: &Footprint, decide: &mut Decide<'_>) -> Result<Committed> {
        self.tables.connection.ready().map_err(failed)?;
        self.tables.connection.execute_batch("BEGIN IMMEDIATE").map_err(failed)?;
        let done = self.carry_out(footprint, decide);
        if !self.tables.connection.is_autocommit()
            && let Err(error) = self.tables.connection.execute_batch("ROLLBACK")
        {
            tracing::warn!(%error, "a transaction could not be rolled back");
        }
        done
    }

    fn carry_out(&mut self, footprint: &Footprint, decide: &mut Decide<'_>) -> Result<Committed> {
        let (now, connection) = (self.clock.now(), &self.tables.connection);
        let catalog = self.catalog.take().map_or_else(|| field_index::catalog(connection), Ok).map_err(failed)?;
        let mut before = Before { catalog: Arc::clone(&catalog), ..load(connection, footprint, now).map_err(failed)? };
        if let Some(quota) = &footprint.work {
            before.work = collector::load(&mut self.tables, quota, now, &mut before.rows)?;
        }
        let revision = before.revision;
        let changes = decide(before).inspect_err(|_| self.catalog = Some(Arc::clone(&catalog)))?;
        if changes.declarations.is_empty() {
            self.catalog = Some(catalog);
        }
        if changes.is_empty() {
            return Ok(Committed { before: revision, work: false });
        }
        let begins_to_hide = !self.hides && hiding::is_needed(&changes);
        if begins_to_hide {
            hiding::index(&self.tables.connection).map_err(failed)?;
        }
        let mut names = NewNames { known: &mut self.names, added: Vec::new() };
        let stored = store(&mut self.tables, &changes, now, &mut names)
            .and_then(|has_work| commit(&self.tables).map(|()| Committed { before: revision, work: has_work }).map_err(failed));
        if let Ok(Some(took)) = sluice_wal::take_sync_time(&self.tables.connection) {
            self.metrics.log_sync_seconds.observe(took.as_secs_f64());
        }
        if stored.is_err() {
            // Their rows go with the transaction.
            for name in names.added {
                self.names.remove(&name);
            }
            return stored;
        }
        if let Err(error) = self.tables.connection.ready().map_err(failed) {
            // What was committed stays so, and nothing more is until this works.
            tracing::warn!(%error, "the database could not be marked as one that needs its log");
        }
        self.hides |= begins_to_hide;
        self.saved = now;
        if !changes.declarations.is_empty()
            && let Err(error) = field_index::measure(&self.tables.connection, &self.metrics)
        {
            // What was committed stays so.
            tracing::warn!(%error, "the indexes of fields could not be counted");
        }
        stored
    }

    /// Does something and keeps how late it is, in one transaction.
    fn keep_time<T>(
        &mut self,
        now: StoreTime,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        self.tables.connection.ready()?;
        let transaction = self.tables.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&transaction)?;
        clock::keep(&transaction, now)?;
        transaction.commit()?;
        self.saved = now;
        Ok(done)
    }

    /// A step of a compaction need not outlive a crash: the next start goes on with it.
    fn delete(&mut self, sql: &str) -> rusqlite::Result<usize> {
        self.tables.connection.ready()?;
        let transaction = self.tables.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let removed = transaction.prepare_cached(sql)?.execute([self.step_rows])?;
        sluice_wal::commit_unsynced(transaction).map(|()| removed)
    }
}

impl Writer for SqliteWriter {
    fn commit(&mut self, footprint: &Footprint, decide: &mut Decide<'_>) -> Result<Committed> {
        self.transact(footprint, decide)
    }

    fn try_commit(&mut self) -> Result<()> {
        self.tables.connection.ready().map_err(failed)?;
        // Writes a page all the same.
        self.tables.connection.execute("UPDATE meta SET revision = revision", []).map(|_| ()).map_err(failed)
    }

    fn compact_step(&mut self) -> Result<bool> {
        let started = Instant::now();
        let sql = "DELETE FROM history WHERE id IN (
            SELECT id FROM history INDEXED BY history_end
            WHERE end_revision <= (SELECT compact_revision FROM meta)
              AND NOT (deleted AND end_revision = (SELECT compact_revision FROM meta)) ORDER BY end_revision LIMIT ?1)";
        let removed = self.delete(sql).map_err(failed)?;
        let more = removed as i64 == self.step_rows;
        let elapsed = started.elapsed();
        if elapsed > STEP {
            self.step_rows = (self.step_rows / 2).max(16);
        } else if elapsed < STEP / 2 {
            self.step_rows = (self.step_rows * 2).min(16384);
        }
        Ok(more)
    }

    fn index_step(&mut self, time: Duration) -> Result<bool> {
        self.tables.connection.ready().map_err(failed)?;
        self.backfill.step(&mut self.tables.connection, &self.metrics, time).map_err(failed)
    }

    fn tidy(&mut self, idle: bool) -> Result<bool> {
        let copied = self.checkpoints.step(&self.tables.connection, &self.wal_pages, idle)?;
        // A thread that was woken just now copies this log: only a commit here can begin another.
        let log = self.tables.connection.log().map_err(failed)?;
        let copying = self.copying.take();
        if self.checkpoints.is_running() {
            self.copying = copying.filter(|_| copied == Copied::Nothing).or(log);
        }
        match copied {
            Copied::Nothing => {}
            Copied::Here(progress) if progress.is_whole() => self.tables.connection.whole().map_err(failed)?,
            Copied::Here(progress) => self.tables.connection.copied(progress.copied, log).map_err(failed)?,
            Copied::Beside(pages) => self.tables.connection.copied(pages, copying).map_err(failed)?,
        }
        let at_rest = !self.checkpoints.is_running();
        if at_rest && idle && std::fs::metadata(&self.wal).is_ok_and(|wal| wal.len() > WAL_FILE) {
            self.tables.connection.settle()?;
        }
        Ok(!at_rest)
    }

    fn defragment(&mut self) -> Result<()> {
        self.tables.connection.ready().map_err(failed)?;
        self.tables.connection.execute_batch("PRAGMA incremental_vacuum").map_err(failed)?;
        self.checkpoints.wait()?;
        self.tables.connection.settle().map(|_| ())
    }

    fn forget(&mut self, before: StoreTime) -> Result<bool> {
        self.tables.connection.ready().map_err(failed)?;
        let transaction =
            self.tables.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let next = graph_write::forget(&transaction, before, self.forgotten, TOMBSTONES)
            .and_then(|next| transaction.commit().map(|()| next))
            .map_err(failed)?;
        self.forgotten = next.unwrap_or(0);
        Ok(next.is_some())
    }

    fn extend_leases(&mut self, least: Duration) -> Result<usize> {
        let now = self.clock.now();
        self.keep_time(now, |transaction| clock::extend_leases(transaction, now, least)).map_err(failed)
    }

    fn save_clock(&mut self, age: Duration) -> Result<()> {
        let now = self.clock.now();
        if now.since(self.saved) <= age {
            return Ok(());
        }
        self.keep_time(now, |_| Ok(())).map_err(failed)
    }
}

/// Commits, and counts how long that took, and the sync of the log within it.
fn commit(tables: &Tables<Guarded>) -> rusqlite::Result<()> {
    // A sync before this one, which marked the file, is not this commit's.
    let _ = sluice_wal::take_sync_time(&tables.connection);
    let started = Instant::now();
    tables.connection.execute_batch("COMMIT")?;
    tables.metrics.store_commit_seconds.observe(started.elapsed().as_secs_f64());
    Ok(())
}

fn load(transaction: &Connection, footprint: &Footprint, now: StoreTime) -> rusqlite::Result<Before> {
    let (revision, compact_revision) = transaction
        .prepare_cached("SELECT revision, compact_revision FROM meta")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut before = Before { now, revision, compact_revision, ..Before::default() };
    let mut one = transaction.prepare_cached(&format!("SELECT {ROW} FROM current WHERE key = ?1"))?;
    for key in &footprint.keys {
        if let Some(found) = one.query_row([&key[..]], row).optional()? {
            before.rows.insert(found.kv.key.clone(), found);
        }
    }
    for range in &footprint.ranges {
        load_range(transaction, range, &mut before.rows)?;
    }
    for (range, revision) in &footprint.past {
        before.past.push(past(transaction, range, *revision, &before)?);
    }
    let mut one = transaction.prepare_cached("SELECT id, ttl, expires_at FROM lease WHERE id = ?1")?;
    for id in &footprint.leases {
        if let Some(lease) = one.query_row([id], lease).optional()? {
            before.leases.insert(lease.id, lease);
        }
    }
    for id in &footprint.lease_keys {
        load_attached(transaction, *id, &mut before.rows)?;
    }
    for uid in &footprint.blocked {
        if graph::blocked(transaction, uid, collector::LOOKED_AT)? {
            before.blocked.insert(uid.clone());
        }
    }
    Ok(before)
}

fn load_range(transaction: &Connection, range: &KeyRange, rows: &mut BTreeMap<Bytes, Row>) -> rusqlite::Result<()> {
    let bounds = Range::of(range);
    let sql = format!("SELECT {ROW} FROM current WHERE {}", bounds.condition("key"));
    for found in transaction.prepare_cached(&sql)?.query_map(bounds.params(&[]).as_slice(), row)? {
        let found = found?;
        rows.insert(found.kv.key.clone(), found);
    }
    Ok(())
}

fn load_attached(transaction: &Connection, id: LeaseId, rows: &mut BTreeMap<Bytes, Row>) -> rusqlite::Result<()> {
    let sql = format!("SELECT {ROW} FROM current INDEXED BY current_lease WHERE lease = ?1 AND lease <> 0");
    for found in transaction.prepare_cached(&sql)?.query_map([id], row)? {
        let found = found?;
        rows.insert(found.kv.key.clone(), found);
    }
    Ok(())
}

fn past(
    transaction: &Connection,
    range: &KeyRange,
    revision: Revision,
    before: &Before,
) -> rusqlite::Result<Result<Vec<crate::engine::KeyValue>>> {
    use crate::engine::Error;
    if revision > before.revision {
        return Ok(Err(Error::FutureRevision));
    }
    if revision < before.compact_revision {
        return Ok(Err(Error::Compacted { compact_revision: before.compact_revision }));
    }
    range_at(transaction, range, revision).map(Ok)
}

/// The names that a transaction adds.
struct NewNames<'a> {
    known: &'a mut HashMap<Box<str>, i64>,
    added: Vec<Box<str>>,
}

impl NewNames<'_> {
    fn id(&mut self, transaction: &Connection, name: &str) -> rusqlite::Result<i64> {
        if let Some(id) = self.known.get(name) {
            return Ok(*id);
        }
        let sql =
            "INSERT INTO attribute_name (name) VALUES (?1) ON CONFLICT (name) DO UPDATE SET name = name RETURNING id";
        let id = transaction.prepare_cached(sql)?.query_row([name], |row| row.get(0))?;
        self.known.insert(name.into(), id);
        self.added.push(name.into());
        Ok(id)
    }
}

/// Writes the changes; returns whether the collector has something to do because of them.
fn store(tables: &mut Tables<Guarded>, changes: &Changes, now: StoreTime, names: &mut NewNames<'_>) -> Result<bool> {
    let mut has_work = store_changes(&tables.connection, changes, names).map_err(failed)?;
    if !changes.signals.is_empty() {
        let started = collector::hear(tables, &changes.signals)?;
        graph_write::store_started(&tables.connection, &started, now).map_err(failed)?;
        has_work |= started.has_work();
    }
    let sql = "UPDATE meta SET revision = ?1, compact_revision = max(compact_revision, ?2), clock = ?3";
    let head = params![changes.revision, changes.compact_revision.unwrap_or(0), now];
    tables.connection.prepare_cached(sql).and_then(|mut meta| meta.execute(head)).map_err(failed)?;
    Ok(has_work)
}

fn store_changes(transaction: &Connection, changes: &Changes, names: &mut NewNames<'_>) -> rusqlite::Result<bool> {
    graph_write::store_tasks(transaction, &changes.tasks)?;
    for superseded in &changes.superseded {
        put_aside(transaction, superseded)?;
    }
    let mut directories: BTreeMap<&[u8], [i64; 3]> = BTreeMap::new();
    for change in &changes.rows {
        store_row(transaction, change)?;
        store_attributes(transaction, change, names)?;
        let counts = directories.entry(directory(&change.key)).or_default();
        *counts = std::array::from_fn(|at| counts[at] + change.counts()[at]);
    }
    for (path, counts) in directories {
        if counts != [0; 3] {
            count(transaction, path, counts)?;
        }
    }
    let mut delta = Delta::default();
    collector::edges(&changes.rows, &mut delta);
    let has_work = graph_write::store_edges(transaction, &delta)?;
    for declared in &changes.declarations {
        field_index::declare(transaction, declared)?;
    }
    for (id, lease) in &changes.leases {
        store_lease(transaction, *id, lease.as_ref())?;
    }
    Ok(has_work)
}

impl RowChange {
    /// By how much the change alters the counts of the key's directory.
    fn counts(&self) -> [i64; 3] {
        let (before, after) = (counts(self.before.as_ref()), counts(self.after.as_ref().map(|(_, facets)| facets)));
        std::array::from_fn(|at| after[at] - before[at])
    }
}

fn put_aside(transaction: &Connection, superseded: &Superseded) -> rusqlite::Result<()> {
    let sql = "INSERT INTO history (key, create_revision, mod_revision, sub, version, lease, value, end_revision, end_sub, deleted)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    let (kv, sub) = (&superseded.row.kv, superseded.row.sub);
    transaction.prepare_cached(sql)?.execute(params![
        &kv.key[..],
        kv.create_revision,
        kv.mod_revision,
        sub,
        kv.version,
        kv.lease,
        &kv.value[..],
        superseded.end_revision,
        superseded.end_sub,
        superseded.deleted,
    ])?;
    Ok(())
}

fn store_row(transaction: &Connection, change: &RowChange) -> rusqlite::Result<()> {
    let Some((Row { kv, sub }, facets)) = &change.after else {
        transaction.prepare_cached("DELETE FROM current WHERE key = ?1")?.execute([&change.key[..]])?;
        return Ok(());
    };
    let hidden = if facets.opaque { None } else { Some(facets.hidden) };
    let hidden: &dyn rusqlite::ToSql = hidden.as_ref().map_or(&Null, |hidden| hidden);
    let uid = facets.node.as_ref().map(|node| node.uid.to_blob());
    // Nearly always an update changes no UID, and then it does not touch that index.
    let sql = match &change.before {
        None => {
            "INSERT INTO current (key, create_revision, mod_revision, sub, version, lease, hidden, value, uid)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
        }
        Some(before) if before.node.as_ref().map(|node| node.uid.to_blob()) == uid => {
            "UPDATE current SET create_revision = ?2, mod_revision = ?3, sub = ?4, version = ?5, lease = ?6, hidden = ?7, value = ?8
             WHERE key = ?1 AND (?9 IS NULL OR TRUE)"
        }
        Some(_) => {
            "UPDATE current SET create_revision = ?2, mod_revision = ?3, sub = ?4, version = ?5, lease = ?6, hidden = ?7, value = ?8, uid = ?9
             WHERE key = ?1"
        }
    };
    transaction.prepare_cached(sql)?.execute(params![
        &kv.key[..],
        kv.create_revision,
        kv.mod_revision,
        sub,
        kv.version,
        kv.lease,
        hidden,
        &kv.value[..],
        uid,
    ])?;
    Ok(())
}

fn store_attributes(transaction: &Connection, change: &RowChange, names: &mut NewNames<'_>) -> rusqlite::Result<()> {
    let before = change.before.as_ref().map_or(&[][..], |facets| &facets.labels);
    let after = change.after.as_ref().map_or(&[][..], |(_, facets)| &facets.labels);
    store_fields(transaction, change)?;
    if before == after {
        return Ok(());
    }
    for (name, value) in before.iter().filter(|label| !after.contains(label)) {
        let sql = "DELETE FROM attribute WHERE name = ?1 AND value = ?2 AND key = ?3";
        let id = names.id(transaction, name)?;
        transaction.prepare_cached(sql)?.execute(params![id, value, &change.key[..]])?;
    }
    for (name, value) in after.iter().filter(|label| !before.contains(label)) {
        let sql = "INSERT INTO attribute (name, value, key) VALUES (?1, ?2, ?3)";
        let id = names.id(transaction, name)?;
        transaction.prepare_cached(sql)?.execute(params![id, value, &change.key[..]])?;
    }
    Ok(())
}

/// Entries in field indexes. One that is being built may lack those of before, and have those of after.
fn store_fields(transaction: &Connection, change: &RowChange) -> rusqlite::Result<()> {
    let before = change.before.as_ref().map_or(&[][..], |facets| &facets.fields);
    let after = change.after.as_ref().map_or(&[][..], |(_, facets)| &facets.fields);
    let gone = |entry: &&FieldEntry| !after.contains(entry);
    for (name, value) in before.iter().filter(gone).map(field_index::attribute) {
        let sql = "DELETE FROM attribute WHERE name = ?1 AND value = ?2 AND key = ?3";
        transaction.prepare_cached(sql)?.execute(params![name, value, &change.key[..]])?;
    }
    let new = |entry: &&FieldEntry| !before.contains(entry);
    for (name, value) in after.iter().filter(new).map(field_index::attribute) {
        let sql = "INSERT OR IGNORE INTO attribute (name, value, key) VALUES (?1, ?2, ?3)";
        transaction.prepare_cached(sql)?.execute(params![name, value, &change.key[..]])?;
    }
    Ok(())
}

fn count(transaction: &Connection, path: &[u8], [live, opaque, misplaced]: [i64; 3]) -> rusqlite::Result<()> {
    let sql = "INSERT INTO directory (path, live, opaque, misplaced) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT (path) DO UPDATE
        SET live = live + excluded.live, opaque = opaque + excluded.opaque, misplaced = misplaced + excluded.misplaced";
    transaction.prepare_cached(sql)?.execute(params![path, live, opaque, misplaced])?;
    if live < 0 {
        transaction.prepare_cached("DELETE FROM directory WHERE path = ?1 AND live = 0")?.execute([path])?;
    }
    Ok(())
}

fn store_lease(transaction: &Connection, id: LeaseId, lease: Option<&Lease>) -> rusqlite::Result<()> {
    match lease {
        Some(lease) => {
            let sql = "INSERT INTO lease (id, ttl, expires_at) VALUES (?1, ?2, ?3)
                ON CONFLICT (id) DO UPDATE SET ttl = excluded.ttl, expires_at = excluded.expires_at";
            transaction.prepare_cached(sql)?.execute(params![id, lease.ttl, lease.expires_at])?
        }
        None => transaction.prepare_cached("DELETE FROM lease WHERE id = ?1")?.execute([id])?,
    };
    Ok(())
}
