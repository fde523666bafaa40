//! What the collector keeps, written in the transaction of the change that it is about.

use rusqlite::{Connection, params};

use super::gc_load;
use super::gc_task::{kind_number, state_number};
use crate::clock::StoreTime;
use crate::engine::store::Facets;
use crate::gc::{Coordinates, Edge, Progress, Signal, TaskChange, TaskKind, Uid, What};

/// Stores how far tasks are; those that are done go.
pub(super) fn store_tasks(connection: &Connection, tasks: &[TaskChange]) -> rusqlite::Result<()> {
    for TaskChange { id, progress } in tasks {
        let Some(Progress { state, swept, cursor, failures, attempts, not_before, reason }) = progress else {
            connection.prepare_cached("DELETE FROM gc_task WHERE id = ?1")?.execute([id])?;
            continue;
        };
        let sql = "UPDATE gc_task SET state = ?2, swept = ?3, cursor_labelled = ?4, cursor_key = ?5, failures = ?6, attempts = ?7,
            not_before = ?8, reason = ?9 WHERE id = ?1";
        connection.prepare_cached(sql)?.execute(params![
            id,
            state_number(*state),
            swept,
            cursor.as_ref().map(|place| place.labelled),
            cursor.as_ref().map(|place| &place.key[..]),
            failures,
            attempts,
            not_before,
            reason,
        ])?;
    }
    Ok(())
}

/// Stores the net change of a key's place in the graph of owners; returns whether a task can go on because of it. `None`: the key is not there.
///
/// Costs nothing for an object that has and had no owners.
pub(super) fn store_owners(
    connection: &Connection,
    key: &[u8],
    before: Option<&Facets>,
    after: Option<&Facets>,
) -> rusqlite::Result<bool> {
    let (old, new) = (Rows::of(before), Rows::of(after));
    if old == new {
        return Ok(false);
    }
    let mut woken = false;
    for edge in old.edges {
        let kept = new.edges.iter().find(|kept| kept.owner == edge.owner && new.labelled == old.labelled);
        if kept.is_none() {
            let sql = "DELETE FROM owner WHERE owner_uid = ?1 AND labelled = ?2 AND key = ?3";
            connection.prepare_cached(sql)?.execute(params![edge.owner.to_blob(), old.labelled, key])?;
        }
        if edge.block && kept.is_none_or(|kept| !kept.block) {
            // Whoever waited for it may go on.
            let sql = "UPDATE gc_task SET state = 0, not_before = 0 WHERE uid = ?1 AND kind = 3 AND state <> 0";
            woken |= connection.prepare_cached(sql)?.execute([edge.owner.to_blob()])? > 0;
        }
    }
    for edge in new.edges {
        let kept = old.edges.iter().find(|kept| kept.owner == edge.owner && new.labelled == old.labelled);
        if kept == Some(edge) && old.waits == new.waits {
            continue;
        }
        let sql = "INSERT INTO owner (owner_uid, labelled, key, block, waits) VALUES (?1, ?2, ?3, ?4, ?5)
            ON CONFLICT (owner_uid, labelled, key) DO UPDATE SET block = excluded.block, waits = excluded.waits";
        let owner = edge.owner.to_blob();
        connection.prepare_cached(sql)?.execute(params![owner, new.labelled, key, edge.block, new.waits])?;
        if kept.is_none_or(|kept| edge.block && !kept.block) {
            // Whoever looked at its dependents already must look again.
            let sql =
                "UPDATE gc_task SET state = 0, not_before = 0, swept = 0, cursor_labelled = NULL, cursor_key = NULL
                WHERE uid = ?1 AND kind IN (2, 3)";
            woken |= connection.prepare_cached(sql)?.execute([owner])? > 0;
        }
    }
    Ok(woken)
}

/// The rows that an object has in the table `owner`.
#[derive(PartialEq, Eq)]
struct Rows<'a> {
    edges: &'a [Edge],
    labelled: bool,
    waits: bool,
}

impl<'a> Rows<'a> {
    fn of(facets: Option<&'a Facets>) -> Self {
        match facets.and_then(|facets| facets.node.as_ref().map(|node| (facets, node))) {
            Some((facets, node)) if !node.owners.is_empty() => {
                Self { edges: &node.owners, labelled: facets.hidden, waits: node.deletion.waits() }
            }
            _ => Self { edges: &[], labelled: false, waits: false },
        }
    }
}

/// Makes tasks and tombstones of a signal; returns whether there is a task now that can go on.
pub(super) fn hear(connection: &Connection, signal: &Signal, now: StoreTime) -> rusqlite::Result<bool> {
    let uid = signal.uid.to_blob();
    match &signal.what {
        What::Removed { namespaced, begun } => {
            let sql = "INSERT INTO gc_tombstone (uid, key, namespaced, revision, at) VALUES (?1, ?2, ?3, ?4, ?5)";
            let key = &signal.key[..];
            connection.prepare_cached(sql)?.execute(params![uid, key, namespaced, signal.revision, now])?;
            let woken = *begun && wake(connection, &signal.uid)?;
            // Dependents that are being orphaned stay.
            let condition = "EXISTS (SELECT 1 FROM owner WHERE owner_uid = ?2 AND labelled >= ?8)
                AND NOT EXISTS (SELECT 1 FROM gc_task WHERE uid = ?2 AND kind = 2)";
            Ok(start(connection, TaskKind::Cascade, signal, now, condition)? || woken)
        }
        What::Orphaning | What::Foreground => {
            let (kind, other) = if signal.what == What::Orphaning {
                (TaskKind::Orphan, TaskKind::Foreground)
            } else {
                (TaskKind::Foreground, TaskKind::Orphan)
            };
            let sql = "DELETE FROM gc_task WHERE uid = ?1 AND kind = ?2";
            connection.prepare_cached(sql)?.execute(params![uid, kind_number(other)])?;
            let condition = "?8 = 0 OR EXISTS (SELECT 1 FROM owner WHERE owner_uid = ?2 AND labelled = 1)";
            start(connection, kind, signal, now, condition)
        }
        What::Policy => wake(connection, &signal.uid),
        What::Refers { namespace, owners } => {
            for edge in owners {
                if is_doubtful(connection, namespace, edge)? {
                    return start(connection, TaskKind::Recheck, signal, now, "?8 = 0");
                }
            }
            Ok(false)
        }
        What::Hidden => {
            let below = "EXISTS (SELECT 1 FROM owner WHERE owner_uid = ?2 AND labelled >= ?8)";
            start(connection, TaskKind::Recheck, signal, now, "?8 = 0")?;
            start(connection, TaskKind::Cascade, signal, now, below)?;
            Ok(true)
        }
    }
}

/// Whether an owner is gone, or is not where a reference from the namespace says (pkg/controller/garbagecollector/graph_builder.go,
/// `addDependentToOwners`). For an owner in the same namespace one look at an index tells.
fn is_doubtful(connection: &Connection, namespace: &str, edge: &Edge) -> rusqlite::Result<bool> {
    let sql = "SELECT key FROM current WHERE uid = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut keys = statement.query([edge.owner.to_blob()])?;
    let Some(found) = keys.next()? else {
        let sql = "SELECT EXISTS (SELECT 1 FROM gc_tombstone WHERE uid = ?1)";
        return connection.prepare_cached(sql)?.query_row([edge.owner.to_blob()], |row| row.get(0));
    };
    let usual = format!("/{namespace}/{}", edge.name);
    if !namespace.is_empty() && found.get_ref(0)?.as_blob()?.ends_with(usual.as_bytes()) {
        return Ok(false);
    }
    let live = gc_load::living(connection, &edge.owner)?;
    let fits = |at: &Coordinates| at.name == *edge.name && (at.namespace.is_empty() || at.namespace == namespace);
    Ok(!live.iter().any(fits))
}

/// Adds a task if a condition holds, or lets one that is there begin again. ?2 is the object's UID; ?8 is 0 if it is hidden, else 1: that is, the least value of
/// `labelled` among the dependents that are the collector's.
fn start(
    connection: &Connection,
    kind: TaskKind,
    signal: &Signal,
    now: StoreTime,
    condition: &str,
) -> rusqlite::Result<bool> {
    let sql = format!(
        "INSERT INTO gc_task (kind, uid, key, hidden, cause_revision, created_at, not_before)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE {condition}
         ON CONFLICT (uid, kind) DO UPDATE SET key = excluded.key, hidden = excluded.hidden, state = 0, not_before = excluded.not_before,
            swept = 0, cursor_labelled = NULL, cursor_key = NULL, failures = 0"
    );
    let visible = i64::from(!signal.hidden);
    let added = connection.prepare_cached(&sql)?.execute(params![
        kind_number(kind),
        signal.uid.to_blob(),
        &signal.key[..],
        signal.hidden,
        signal.revision,
        now,
        now,
        visible,
    ])?;
    Ok(added > 0)
}

/// Lets the tasks of an object go on.
fn wake(connection: &Connection, uid: &Uid) -> rusqlite::Result<bool> {
    let sql = "UPDATE gc_task SET state = 0, not_before = 0 WHERE uid = ?1 AND state <> 0";
    Ok(connection.prepare_cached(sql)?.execute([uid.to_blob()])? > 0)
}

/// Forgets tombstones from before a moment, a few at a time, beginning behind `after`; returns where to go on, or `None` at the end.
///
/// One whose dependents are still being looked at stays, or these would take the owner for one that was never there.
pub(super) fn forget(
    connection: &Connection,
    before: StoreTime,
    after: i64,
    limit: i64,
) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT max(id), count(*) FROM (SELECT id, at FROM gc_tombstone WHERE id > ?1 ORDER BY id LIMIT ?2) WHERE at < ?3";
    let (last, found): (Option<i64>, i64) = connection
        .prepare_cached(sql)?
        .query_row(params![after, limit, before], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let Some(last) = last else { return Ok(None) };
    let sql = "DELETE FROM gc_tombstone WHERE id > ?1 AND id <= ?2 AND at < ?3
        AND NOT EXISTS (SELECT 1 FROM gc_task WHERE gc_task.uid = gc_tombstone.uid AND gc_task.kind = 1)
        AND NOT EXISTS (SELECT 1 FROM gc_task WHERE gc_task.kind = 4 AND gc_task.state <> 2 AND gc_task.created_at < ?3)";
    connection.prepare_cached(sql)?.execute(params![after, last, before])?;
    Ok((found == limit).then_some(last))
}
