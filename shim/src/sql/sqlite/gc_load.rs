//! Reads a portion of the collector's work with all that is needed to do it.

use std::collections::BTreeMap;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};

use super::gc_definitions::Definitions;
use super::gc_task::{TASK, kind_number, state_number, task};
use super::row::{ROW, row};
use crate::clock::StoreTime;
use crate::engine::store::Row;
use crate::gc::{
    Below, Coordinates, Dependent, FOREGROUND, Known, Place, Quota, Status, Step, TYPED_GROUPS, Task, TaskKind,
    TaskState, Uid, Work,
};
use crate::object;

/// How many tasks a portion has at most.
const TASKS: i64 = 64;
/// How many dependents are looked at to see whether any blocks.
const LOOKED_AT: i64 = 1000;

/// Reads the work; the rows that it names are added to `rows`.
pub(super) fn load(
    connection: &Connection,
    quota: &Quota,
    now: StoreTime,
    rows: &mut BTreeMap<Bytes, Row>,
) -> rusqlite::Result<Work> {
    let (mut work, mut definitions) = (Work::default(), Definitions::default());
    let tasks = match quota.foreground_after {
        Some(after) => tasks(connection, "kind = 3 AND id > ?1 ORDER BY id LIMIT ?2", after)?,
        None => tasks(connection, "state <> 1 AND not_before <= ?1 ORDER BY not_before, id LIMIT ?2", now.millis())?,
    };
    let (mut objects, mut bytes) = (quota.objects, quota.bytes);
    for task in tasks {
        if objects == 0 || bytes == 0 {
            break;
        }
        let owner = live(connection, &task, rows)?;
        let mut step = Step { task, owner, dependents: Vec::new(), last: true };
        if step.task.kind == TaskKind::Recheck {
            step.dependents.extend(step.owner.take().map(itself));
        } else if quota.foreground_after.is_none() {
            dependents(connection, &mut step, objects)?;
        }
        let awaiting = is_awaiting(&step.task);
        let mut read = 0;
        for dependent in &step.dependents {
            if bytes == 0 {
                break;
            }
            read += 1;
            if awaiting && !dependent.block {
                continue;
            }
            let Some(found) = one(connection, &dependent.place.key)? else { continue };
            bytes = bytes.saturating_sub(found.kv.value.len());
            relatives(connection, &found, &mut work, &mut definitions)?;
            rows.insert(found.kv.key.clone(), found);
        }
        if read < step.dependents.len() {
            step.dependents.truncate(read);
            step.last = false;
        }
        objects = objects.saturating_sub(read.max(1));
        work.steps.push(step);
    }
    if work.steps.is_empty() {
        let sql = "SELECT min(not_before) FROM gc_task WHERE state <> 1";
        work.due = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    }
    Ok(work)
}

/// The tasks that a condition picks.
fn tasks(connection: &Connection, condition: &str, parameter: i64) -> rusqlite::Result<Vec<Task>> {
    let sql = format!("SELECT {TASK} FROM gc_task WHERE {condition}");
    connection.prepare_cached(&sql)?.query_map([parameter, TASKS], task)?.collect()
}

/// The key of the live object that has the task's UID.
fn live(connection: &Connection, task: &Task, rows: &mut BTreeMap<Bytes, Row>) -> rusqlite::Result<Option<Bytes>> {
    // Should there be copies, the one at the task's key is it.
    let sql = format!("SELECT {ROW} FROM current WHERE uid = ?1 ORDER BY key = ?2 DESC LIMIT 1");
    let found =
        connection.prepare_cached(&sql)?.query_row(params![task.uid.to_blob(), &task.key[..]], row).optional()?;
    let key = found.as_ref().map(|found| found.kv.key.clone());
    if let Some(found) = found {
        rows.insert(found.kv.key.clone(), found);
    }
    Ok(key)
}

fn itself(key: Bytes) -> Dependent {
    Dependent { place: Place { labelled: true, key }, block: false }
}

fn one(connection: &Connection, key: &[u8]) -> rusqlite::Result<Option<Row>> {
    connection.prepare_cached(&format!("SELECT {ROW} FROM current WHERE key = ?1"))?.query_row([key], row).optional()
}

/// Adds the dependents behind the task's cursor. A visible owner's visible dependents are the controller manager's; they come first and are passed over.
fn dependents(connection: &Connection, step: &mut Step, limit: usize) -> rusqlite::Result<()> {
    let task = &step.task;
    let (labelled, key) = match &task.progress.cursor {
        Some(place) => (place.labelled, &place.key[..]),
        None => (!task.hidden, &b""[..]),
    };
    let sql = "SELECT labelled, key, block FROM owner
        WHERE owner_uid = ?1 AND (labelled, key) > (?2, ?3) ORDER BY labelled, key LIMIT ?4";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map(params![task.uid.to_blob(), labelled, key, limit], |row| {
        let place = Place { labelled: row.get(0)?, key: Bytes::copy_from_slice(row.get_ref(1)?.as_blob()?) };
        Ok(Dependent { place, block: row.get(2)? })
    })?;
    let found: Vec<Dependent> = found.collect::<rusqlite::Result<_>>()?;
    step.last = (found.len() as i64) < limit;
    step.dependents = found;
    Ok(())
}

/// Whether a task is left with waiting for the dependents that block.
fn is_awaiting(task: &Task) -> bool {
    task.kind == TaskKind::Foreground && task.progress.swept
}

/// Adds what is known of a dependent's owners, and of its own dependents if these may matter.
fn relatives(
    connection: &Connection,
    dependent: &Row,
    work: &mut Work,
    definitions: &mut Definitions,
) -> rusqlite::Result<()> {
    let Some(meta) = object::decode(&dependent.kv.value) else { return Ok(()) };
    let mut waits = meta.finalizers.iter().any(|finalizer| finalizer == FOREGROUND);
    for reference in &meta.owner_references {
        let Some(uid) = Uid::parse(&reference.uid) else { continue };
        if !work.known.contains_key(&uid) {
            let known = known(connection, &uid, definitions)?;
            work.known.insert(uid.clone(), known);
        }
        waits |= work.known.get(&uid).is_some_and(|known| known.live.iter().any(|at| at.waits));
    }
    if let Some(uid) = Uid::parse(&meta.uid).filter(|uid| waits && !work.below.contains_key(uid)) {
        let below = below(connection, &uid)?;
        work.below.insert(uid, below);
    }
    Ok(())
}

/// Where the live objects are that have a UID.
pub(super) fn living(connection: &Connection, uid: &Uid) -> rusqlite::Result<Vec<Coordinates>> {
    let mut statement = connection.prepare_cached("SELECT value FROM current WHERE uid = ?1")?;
    let mut rows = statement.query([uid.to_blob()])?;
    let mut live = Vec::new();
    while let Some(row) = rows.next()? {
        live.extend(object::decode(row.get_ref(0)?.as_blob()?).as_ref().map(Coordinates::of));
    }
    Ok(live)
}

/// What the store knows of a UID.
pub(super) fn known(connection: &Connection, uid: &Uid, definitions: &mut Definitions) -> rusqlite::Result<Known> {
    let blob = uid.to_blob();
    let mut known = Known::default();
    let mut statement = connection.prepare_cached("SELECT value, key FROM current WHERE uid = ?1")?;
    let mut rows = statement.query([&blob])?;
    while let Some(row) = rows.next()? {
        known.definition = definitions.of(connection, row.get_ref(1)?.as_blob()?)?;
        known.live.extend(object::decode(row.get_ref(0)?.as_blob()?).as_ref().map(Coordinates::of));
    }
    if known.live.is_empty() {
        let sql = "SELECT namespaced, key FROM gc_tombstone WHERE uid = ?1 ORDER BY id DESC LIMIT 1";
        let found = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?));
        if let Some((namespaced, key)) = connection.prepare_cached(sql)?.query_row([&blob], found).optional()? {
            known.tombstone = Some(namespaced);
            known.definition = definitions.of(connection, &key)?;
        }
        let sql = "SELECT EXISTS (SELECT 1 FROM gc_task WHERE uid = ?1 AND kind = 2)";
        known.orphaning = connection.prepare_cached(sql)?.query_row([&blob], |row| row.get(0))?;
    }
    Ok(known)
}

/// What the store knows of the dependents of an object.
pub(super) fn below(connection: &Connection, uid: &Uid) -> rusqlite::Result<Below> {
    let sql = "SELECT EXISTS (SELECT 1 FROM owner WHERE owner_uid = ?1),
        EXISTS (SELECT 1 FROM owner WHERE owner_uid = ?1 AND waits = 1)";
    let (any, waits) =
        connection.prepare_cached(sql)?.query_row([uid.to_blob()], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(Below { any, waits, blocks: blocked(connection, uid)? })
}

/// Whether labelled dependents may block an object's deletion. Among very many it is taken for granted: to hold an object for a moment without need is harmless, to
/// look at all of them in the middle of a commit is not.
pub(super) fn blocked(connection: &Connection, uid: &Uid) -> rusqlite::Result<bool> {
    let sql = "SELECT coalesce(max(block), 0) = 1 OR count(*) = ?2
        FROM (SELECT block FROM owner WHERE owner_uid = ?1 AND labelled = 1 LIMIT ?2)";
    connection.prepare_cached(sql)?.query_row(params![uid.to_blob(), LOOKED_AT], |row| row.get(0))
}

/// The state of the queue.
pub(super) fn status(connection: &Connection) -> rusqlite::Result<Status> {
    let mut statement = connection.prepare_cached("SELECT kind, state, count(*) FROM gc_task GROUP BY kind, state")?;
    let counted: Vec<(i64, i64, i64)> =
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect::<rusqlite::Result<_>>()?;
    let mut tasks = Vec::new();
    for kind in TaskKind::ALL {
        for state in TaskState::ALL {
            let numbers = (kind_number(kind), state_number(state));
            tasks.extend(counted.iter().find(|(k, s, _)| (*k, *s) == numbers).map(|(.., count)| (kind, state, *count)));
        }
    }
    // Rows come and go in order of their ids, nearly: the span is the number, without counting.
    let sql = "SELECT (SELECT min(created_at) FROM gc_task),
        coalesce((SELECT max(id) FROM gc_tombstone) - (SELECT min(id) FROM gc_tombstone) + 1, 0),
        coalesce((SELECT sum(opaque) FROM directory WHERE opaque > 0), 0)";
    let (oldest, tombstones, opaque) =
        connection.prepare_cached(sql)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(Status { tasks, oldest, tombstones, opaque })
}

/// What kube-apiserver puts before an encrypted value (apiserver: `kmsTransformerPrefixV2` and its neighbours in
/// pkg/server/options/encryptionconfig/config.go).
const ENCRYPTED: &[u8] = b"k8s:enc:";

/// The key of an encrypted value below a folder that is named like the group of a custom resource.
pub(super) fn encrypted(connection: &Connection) -> rusqlite::Result<Option<Bytes>> {
    let mut statement =
        connection.prepare("SELECT path FROM directory INDEXED BY directory_opaque WHERE opaque > 0")?;
    let mut paths = statement.query([])?;
    while let Some(found) = paths.next()? {
        let path = found.get_ref(0)?.as_blob()?;
        if !is_custom(path) {
            continue;
        }
        let mut end = path.to_vec();
        // A path ends in a slash, so its successor differs in that byte alone.
        end.pop();
        end.push(b'/' + 1);
        let sql = "SELECT key FROM current WHERE key >= ?1 AND key < ?2 AND hidden IS NULL AND substr(value, 1, 8) = ?3 LIMIT 1";
        let key = connection
            .prepare_cached(sql)?
            .query_row(params![path, end, ENCRYPTED], |row| Ok(Bytes::copy_from_slice(row.get_ref(0)?.as_blob()?)));
        if let Some(key) = key.optional()? {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

/// Whether keys of custom resources are below the path: a part after the first has a dot and is no group of Kubernetes' own.
fn is_custom(path: &[u8]) -> bool {
    let Ok(path) = std::str::from_utf8(path) else { return false };
    let mut parts = path.split('/').filter(|part| !part.is_empty()).skip(1);
    parts.next().is_some_and(|part| part.contains('.') && !TYPED_GROUPS.contains(&part))
}
