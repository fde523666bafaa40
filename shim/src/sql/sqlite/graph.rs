//! The graph of owners, and the collector's queue.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};

use super::row::{ROW, Range, row};
use super::tables::Tables;
use super::task::{TASK, of_numbers, task};
use crate::clock::StoreTime;
use crate::engine::KeyRange;
use crate::engine::store::Row;
use crate::gc::{Below, Dependent, Place, Status, Task, TaskKind, TaskState, Tombstone, Uid};
use crate::sql::codes::{FOREGROUND, ORPHAN, PARKED, WAITING};
use crate::sql::failure::Result;
use crate::sql::session::{Graph, Heard, Which};

impl<C: Deref<Target = Connection>> Graph for Tables<C> {
    fn tasks(&mut self, which: Which<'_>, limit: usize) -> Result<Vec<Task>> {
        Ok(tasks(&self.connection, which, limit)?)
    }

    fn next_due(&mut self) -> Result<Option<StoreTime>> {
        let sql = format!("SELECT min(not_before) FROM gc_task WHERE state <> {WAITING}");
        Ok(self.connection.prepare_cached(&sql)?.query_row([], |row| row.get(0))?)
    }

    fn with_uids(&mut self, uids: &[&Uid]) -> Result<Vec<(Uid, Row)>> {
        let sql = format!("SELECT {ROW} FROM current WHERE uid = ?1");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut found = Vec::new();
        for uid in uids {
            for row in statement.query_map([uid.to_blob()], row)? {
                found.push(((*uid).clone(), row?));
            }
        }
        Ok(found)
    }

    fn dependents(&mut self, owner: &Uid, after: (bool, &[u8]), limit: usize) -> Result<Vec<Dependent>> {
        Ok(dependents(&self.connection, owner, after, limit)?)
    }

    fn tombstones(&mut self, uids: &[&Uid]) -> Result<BTreeMap<Uid, (bool, Bytes)>> {
        let sql = "SELECT namespaced, key FROM gc_tombstone WHERE uid = ?1 ORDER BY id DESC LIMIT 1";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut found = BTreeMap::new();
        for uid in uids {
            let last = statement.query_row([uid.to_blob()], |row| Ok((row.get(0)?, bytes(row, 1)?))).optional()?;
            found.extend(last.map(|last| ((*uid).clone(), last)));
        }
        Ok(found)
    }

    fn tombstones_after(&mut self, id: i64, limit: usize) -> Result<Vec<Tombstone>> {
        Ok(tombstones_after(&self.connection, id, limit)?)
    }

    fn orphaning(&mut self, uids: &[&Uid]) -> Result<BTreeSet<Uid>> {
        let sql = format!("SELECT EXISTS (SELECT 1 FROM gc_task WHERE uid = ?1 AND kind = {ORPHAN})");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut found = BTreeSet::new();
        for uid in uids {
            if statement.query_row([uid.to_blob()], |row| row.get(0))? {
                found.insert((*uid).clone());
            }
        }
        Ok(found)
    }

    fn below(&mut self, uids: &[&Uid], looked_at: i64) -> Result<BTreeMap<Uid, Below>> {
        let sql = "SELECT EXISTS (SELECT 1 FROM owner WHERE owner_uid = ?1),
            EXISTS (SELECT 1 FROM owner WHERE owner_uid = ?1 AND waits = 1)";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut found = BTreeMap::new();
        for uid in uids {
            let (any, waits) = statement.query_row([uid.to_blob()], |row| Ok((row.get(0)?, row.get(1)?)))?;
            found.insert((*uid).clone(), Below { any, waits, blocks: blocked(&self.connection, uid, looked_at)? });
        }
        Ok(found)
    }

    fn heard(&mut self, uids: &[&Uid], owners: &[&Uid]) -> Result<Heard> {
        let mut heard = Heard::default();
        hear_of(&self.connection, uids, &mut heard)?;
        hear_of_owners(&self.connection, owners, &mut heard)?;
        Ok(heard)
    }

    fn queue(&mut self) -> Result<Status> {
        Ok(status(&self.connection)?)
    }

    fn unknown_owners(&mut self) -> Result<(i64, i64)> {
        // An owner is looked up once, however many name it.
        let sql = "SELECT count(*), coalesce(sum(dependents), 0)
            FROM (SELECT owner_uid, count(*) AS dependents FROM owner WHERE labelled = 1 GROUP BY owner_uid) AS named
            WHERE NOT EXISTS (SELECT 1 FROM current WHERE uid = owner_uid)
            AND NOT EXISTS (SELECT 1 FROM gc_tombstone WHERE uid = owner_uid)";
        Ok(self.connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?)
    }

    fn dependents_count(&mut self, owner: &Uid) -> Result<(i64, i64)> {
        let sql =
            "SELECT count(*) - coalesce(sum(labelled), 0), coalesce(sum(labelled), 0) FROM owner WHERE owner_uid = ?1";
        Ok(self.connection.query_row(sql, [owner.to_blob()], |row| Ok((row.get(0)?, row.get(1)?)))?)
    }

    /// Tombstones are found by UID, so this reads all of them.
    fn deleted(&mut self, key: &[u8]) -> Result<Option<(Uid, i64)>> {
        let sql = "SELECT uid, revision FROM gc_tombstone WHERE key = ?1 ORDER BY id DESC LIMIT 1";
        let last = |row: &rusqlite::Row<'_>| Ok((Uid::from_blob(row.get_ref(0)?.as_blob()?), row.get(1)?));
        let found = self.connection.query_row(sql, [key], last).optional()?;
        Ok(found.and_then(|(uid, revision)| Some((uid?, revision))))
    }

    fn opaque_directories(&mut self) -> Result<Vec<Vec<u8>>> {
        let sql = "SELECT path FROM directory INDEXED BY directory_opaque WHERE opaque > 0";
        let mut statement = self.connection.prepare_cached(sql)?;
        let paths = statement.query_map([], |row| row.get(0))?;
        Ok(paths.collect::<rusqlite::Result<_>>()?)
    }

    fn opaque_key(&mut self, range: &KeyRange, begins: &[u8]) -> Result<Option<Bytes>> {
        let bounds = Range::of(range);
        let sql = format!(
            "SELECT key FROM current WHERE {} AND hidden IS NULL AND substr(value, 1, length(?3)) = ?3 LIMIT 1",
            bounds.condition("key")
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let key = statement.query_row(bounds.params(&[&begins]).as_slice(), |row| bytes(row, 0));
        Ok(key.optional()?)
    }
}

fn bytes(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Bytes> {
    Ok(Bytes::copy_from_slice(row.get_ref(column)?.as_blob()?))
}

fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn tasks(connection: &Connection, which: Which<'_>, limit: usize) -> rusqlite::Result<Vec<Task>> {
    let uid;
    let (condition, parameter): (_, &dyn rusqlite::ToSql) = match &which {
        Which::Due(now) => (format!("state <> {WAITING} AND not_before <= ?1 ORDER BY not_before, id"), now),
        Which::ForegroundAfter(id) => (format!("kind = {FOREGROUND} AND id > ?1 ORDER BY id"), id),
        Which::Parked => ("state = ?1 ORDER BY created_at, id".to_owned(), &PARKED),
        Which::Of(of) => {
            uid = of.to_blob();
            ("uid = ?1 ORDER BY kind".to_owned(), &uid)
        }
        Which::After(id) => ("id > ?1 ORDER BY id".to_owned(), id),
    };
    let sql = format!("SELECT {TASK} FROM gc_task WHERE {condition} LIMIT ?2");
    connection.prepare_cached(&sql)?.query_map(params![parameter, count(limit)], task)?.collect()
}

fn tombstones_after(connection: &Connection, id: i64, limit: usize) -> rusqlite::Result<Vec<Tombstone>> {
    let sql = "SELECT id, uid, key, namespaced, revision, at FROM gc_tombstone WHERE id > ?1 ORDER BY id LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map(params![id, count(limit)], |row| {
        let unreadable =
            || rusqlite::Error::InvalidColumnType(1, "gc_tombstone".to_owned(), rusqlite::types::Type::Blob);
        Ok(Tombstone {
            id: row.get(0)?,
            uid: Uid::from_blob(row.get_ref(1)?.as_blob()?).ok_or_else(unreadable)?,
            key: bytes(row, 2)?,
            namespaced: row.get(3)?,
            revision: row.get(4)?,
            at: row.get(5)?,
        })
    })?;
    found.collect()
}

fn dependents(
    connection: &Connection,
    owner: &Uid,
    (labelled, key): (bool, &[u8]),
    limit: usize,
) -> rusqlite::Result<Vec<Dependent>> {
    let sql = "SELECT labelled, key, block FROM owner
        WHERE owner_uid = ?1 AND (labelled, key) > (?2, ?3) ORDER BY labelled, key LIMIT ?4";
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map(params![owner.to_blob(), labelled, key, count(limit)], |row| {
        Ok(Dependent { place: Place { labelled: row.get(0)?, key: bytes(row, 1)? }, block: row.get(2)? })
    })?;
    found.collect()
}

/// Whether labelled dependents block an object's deletion, of which at most so many are looked at.
pub(super) fn blocked(connection: &Connection, uid: &Uid, looked_at: i64) -> rusqlite::Result<bool> {
    let sql = "SELECT coalesce(max(block), 0) = 1 OR count(*) = ?2
        FROM (SELECT block FROM owner WHERE owner_uid = ?1 AND labelled = 1 LIMIT ?2)";
    connection.prepare_cached(sql)?.query_row(params![uid.to_blob(), looked_at], |row| row.get(0))
}

/// Dependents and tasks. Nearly always there are none: then it is one look at the queue, and one at the owners for each
/// UID.
fn hear_of(connection: &Connection, uids: &[&Uid], heard: &mut Heard) -> rusqlite::Result<()> {
    if uids.is_empty() {
        return Ok(());
    }
    let sql = "SELECT labelled FROM owner WHERE owner_uid = ?1 AND labelled >= ?2 ORDER BY labelled LIMIT 1";
    let mut first = connection.prepare_cached(sql)?;
    let mut first = |uid: &Uid, labelled: bool| -> rusqlite::Result<Option<bool>> {
        first.query_row(params![uid.to_blob(), labelled], |row| row.get(0)).optional()
    };
    for uid in uids {
        if let Some(labelled) = first(uid, false)? {
            let both = (!labelled, labelled || first(uid, true)?.is_some());
            heard.dependents.insert((*uid).clone(), both);
        }
    }
    let any = connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM gc_task)")?.query_row([], |row| row.get(0))?;
    if any {
        let mut of = connection.prepare_cached("SELECT kind, state FROM gc_task WHERE uid = ?1")?;
        for uid in uids {
            let tasks = of.query_map([uid.to_blob()], |row| Ok(of_numbers(row.get(0)?, row.get(1)?)))?;
            let tasks: BTreeMap<TaskKind, TaskState> =
                tasks.filter_map(rusqlite::Result::transpose).collect::<rusqlite::Result<_>>()?;
            if !tasks.is_empty() {
                heard.tasks.insert((*uid).clone(), tasks);
            }
        }
    }
    Ok(())
}

/// Keys of those that live. The tombstones of the others: nearly always there are no others.
fn hear_of_owners(connection: &Connection, owners: &[&Uid], heard: &mut Heard) -> rusqlite::Result<()> {
    if owners.is_empty() {
        return Ok(());
    }
    let mut live = connection.prepare_cached("SELECT key FROM current WHERE uid = ?1")?;
    for uid in owners {
        let keys = live.query_map([uid.to_blob()], |row| bytes(row, 0))?;
        let keys: Vec<Bytes> = keys.collect::<rusqlite::Result<_>>()?;
        if !keys.is_empty() {
            heard.keys.insert((*uid).clone(), keys);
            continue;
        }
        let sql = "SELECT EXISTS (SELECT 1 FROM gc_tombstone WHERE uid = ?1)";
        if connection.prepare_cached(sql)?.query_row([uid.to_blob()], |row| row.get(0))? {
            heard.tombstones.insert((*uid).clone());
        }
    }
    Ok(())
}

/// The state of the queue.
fn status(connection: &Connection) -> rusqlite::Result<Status> {
    let mut statement = connection.prepare_cached("SELECT kind, state, count(*) FROM gc_task GROUP BY kind, state")?;
    let counted = statement.query_map([], |row| {
        let count = row.get(2)?;
        Ok(of_numbers(row.get(0)?, row.get(1)?).map(|(kind, state)| (kind, state, count)))
    })?;
    let mut tasks: Vec<_> = counted.filter_map(rusqlite::Result::transpose).collect::<rusqlite::Result<_>>()?;
    tasks.sort_unstable();
    // Rows come and go in order of their ids, nearly: the span is the number, without counting.
    let sql = "SELECT (SELECT min(created_at) FROM gc_task),
        coalesce((SELECT max(id) FROM gc_tombstone) - (SELECT min(id) FROM gc_tombstone) + 1, 0),
        coalesce((SELECT sum(opaque) FROM directory WHERE opaque > 0), 0)";
    let (oldest, tombstones, opaque) =
        connection.prepare_cached(sql)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(Status { tasks, oldest, tombstones, opaque })
}
