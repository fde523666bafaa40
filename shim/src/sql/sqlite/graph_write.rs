//! Writes the graph of owners and the collector's queue, in the transaction of the change that they follow from.

use rusqlite::{Connection, params};

use crate::clock::StoreTime;
use crate::engine::store::Queue;
use crate::gc::{Progress, Task, TaskChange, Tombstone};
use crate::sql::codes::{self, CASCADE, FOREGROUND, ORPHAN, PARKED, READY, RECHECK};
use crate::sql::session::{Delta, EdgeRow, Started};

/// Stores how far tasks are; those that are done go.
pub(super) fn store_tasks(connection: &Connection, tasks: &[TaskChange]) -> rusqlite::Result<()> {
    for TaskChange { id, progress } in tasks {
        let Some(Progress { state, swept, cursor, failures, attempts, not_before, reason }) = progress else {
            connection.prepare_cached("DELETE FROM gc_task WHERE id = ?1")?.execute([id])?;
            continue;
        };
        let sql = "UPDATE gc_task SET state = ?2, swept = ?3, cursor_labelled = ?4, cursor_key = ?5, failures = ?6,
            attempts = ?7, not_before = ?8, reason = ?9 WHERE id = ?1";
        connection.prepare_cached(sql)?.execute(params![
            id,
            codes::of_state(*state),
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

/// Stores what changed in the graph of owners; returns whether a task can go on because of it.
pub(super) fn store_edges(connection: &Connection, delta: &Delta<'_>) -> rusqlite::Result<bool> {
    for EdgeRow { owner, labelled, key, .. } in &delta.edges_gone {
        let sql = "DELETE FROM owner WHERE owner_uid = ?1 AND labelled = ?2 AND key = ?3";
        connection.prepare_cached(sql)?.execute(params![owner.to_blob(), labelled, key])?;
    }
    for EdgeRow { owner, labelled, key, block, waits } in &delta.edges_new {
        let sql = "INSERT INTO owner (owner_uid, labelled, key, block, waits) VALUES (?1, ?2, ?3, ?4, ?5)
            ON CONFLICT (owner_uid, labelled, key) DO UPDATE SET block = excluded.block, waits = excluded.waits";
        connection.prepare_cached(sql)?.execute(params![owner.to_blob(), labelled, key, block, waits])?;
    }
    let mut woken = 0;
    for owner in &delta.wake_foreground {
        let sql = format!(
            "UPDATE gc_task SET state = {READY}, not_before = 0 WHERE uid = ?1 AND kind = {FOREGROUND} AND state <> {READY}"
        );
        woken += connection.prepare_cached(&sql)?.execute([owner.to_blob()])?;
    }
    for owner in &delta.restart {
        let sql = format!(
            "UPDATE gc_task SET state = {READY}, not_before = 0, swept = 0, cursor_labelled = NULL, cursor_key = NULL
             WHERE uid = ?1 AND kind IN ({ORPHAN}, {FOREGROUND})"
        );
        woken += connection.prepare_cached(&sql)?.execute([owner.to_blob()])?;
    }
    Ok(woken > 0)
}

/// Stores what the collector makes of a commit.
pub(super) fn store_started(connection: &Connection, started: &Started<'_>, now: StoreTime) -> rusqlite::Result<()> {
    for (uid, key, namespaced, revision) in &started.tombstones {
        let sql = "INSERT INTO gc_tombstone (uid, key, namespaced, revision, at) VALUES (?1, ?2, ?3, ?4, ?5)";
        connection.prepare_cached(sql)?.execute(params![uid.to_blob(), &key[..], namespaced, revision, now])?;
    }
    for (uid, kind) in &started.dropped {
        let sql = "DELETE FROM gc_task WHERE uid = ?1 AND kind = ?2";
        connection.prepare_cached(sql)?.execute(params![uid.to_blob(), codes::of_kind(*kind)])?;
    }
    for (uid, kind, key, hidden, revision) in &started.tasks {
        let sql = format!(
            "INSERT INTO gc_task (kind, uid, key, hidden, cause_revision, created_at, state, not_before)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, {READY}, ?6)
             ON CONFLICT (uid, kind) DO UPDATE SET key = excluded.key, hidden = excluded.hidden, state = {READY},
             not_before = excluded.not_before, swept = 0, cursor_labelled = NULL, cursor_key = NULL, failures = 0"
        );
        let values = params![codes::of_kind(*kind), uid.to_blob(), &key[..], hidden, revision, now];
        connection.prepare_cached(&sql)?.execute(values)?;
    }
    for uid in &started.woken {
        let sql = format!("UPDATE gc_task SET state = {READY}, not_before = 0 WHERE uid = ?1 AND state <> {READY}");
        connection.prepare_cached(&sql)?.execute([uid.to_blob()])?;
    }
    Ok(())
}

/// Stores rows as another database has them.
pub(super) fn take_queue(connection: &Connection, queue: &Queue) -> rusqlite::Result<()> {
    for (table, gone, come) in [
        ("gc_task", &queue.tasks_gone, queue.tasks.iter().map(|task| task.id).collect::<Vec<_>>()),
        ("gc_tombstone", &queue.tombstones_gone, queue.tombstones.iter().map(|tombstone| tombstone.id).collect()),
    ] {
        let mut delete = connection.prepare_cached(&format!("DELETE FROM {table} WHERE id = ?1"))?;
        gone.iter().chain(&come).try_for_each(|id| delete.execute([id]).map(drop))?;
    }
    for Tombstone { id, uid, key, namespaced, revision, at } in &queue.tombstones {
        let sql = "INSERT INTO gc_tombstone (id, uid, key, namespaced, revision, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let values = params![id, uid.to_blob(), &key[..], namespaced, revision, at];
        connection.prepare_cached(sql)?.execute(values)?;
    }
    for Task { id, kind, uid, key, hidden, cause_revision, created_at, progress } in &queue.tasks {
        let sql = "INSERT INTO gc_task (id, kind, uid, key, hidden, cause_revision, created_at)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let values = params![id, codes::of_kind(*kind), uid.to_blob(), &key[..], hidden, cause_revision, created_at];
        connection.prepare_cached(sql)?.execute(values)?;
        store_tasks(connection, &[TaskChange { id: *id, progress: Some(progress.clone()) }])?;
    }
    Ok(())
}

/// Forgets tombstones from before a moment, a few at a time, beginning behind `after`; returns where to go on, or
/// `None` at the end.
///
/// One whose dependents are still being looked at stays, or these would take the owner for one that was never there.
pub(super) fn forget(
    connection: &Connection,
    before: StoreTime,
    after: i64,
    limit: i64,
) -> rusqlite::Result<Option<i64>> {
    let sql = "SELECT max(id), count(*)
        FROM (SELECT id, at FROM gc_tombstone WHERE id > ?1 ORDER BY id LIMIT ?2) WHERE at < ?3";
    let (last, found): (Option<i64>, i64) = connection
        .prepare_cached(sql)?
        .query_row(params![after, limit, before], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let Some(last) = last else { return Ok(None) };
    let sql = format!(
        "DELETE FROM gc_tombstone WHERE id > ?1 AND id <= ?2 AND at < ?3
         AND NOT EXISTS (SELECT 1 FROM gc_task WHERE gc_task.uid = gc_tombstone.uid AND gc_task.kind = {CASCADE})
         AND NOT EXISTS (SELECT 1 FROM gc_task
            WHERE gc_task.kind = {RECHECK} AND gc_task.state <> {PARKED} AND gc_task.created_at < ?3)"
    );
    connection.prepare_cached(&sql)?.execute(params![after, last, before])?;
    Ok((found == limit).then_some(last))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::gc::{Edge, Signal, Uid, What};
    use crate::sql::collector;
    use crate::sql::sqlite::gc_schema;
    use crate::sql::sqlite::tables::Tables;

    /// Numbers that look drawn by lot, the same in each run (Vigna's splitmix64).
    struct Lot(u64);

    impl Lot {
        fn below(&mut self, end: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (mixed ^ (mixed >> 31)) % end
        }

        fn uid(&mut self) -> Uid {
            Uid::parse(["a", "b", "c"][self.below(3) as usize]).unwrap()
        }

        fn signal(&mut self, revision: i64) -> Signal {
            let uid = self.uid();
            let what = match self.below(6) {
                0 => What::Removed { namespaced: self.below(2) == 0, begun: self.below(2) == 0 },
                1 => What::Orphaning,
                2 => What::Foreground,
                3 => What::Policy,
                4 => What::Hidden,
                _ => {
                    let edge = Edge { owner: self.uid(), name: "n".into(), block: false };
                    What::Refers { namespace: "ns".into(), owners: vec![edge] }
                }
            };
            Signal { uid, key: format!("/{revision}").into(), revision, hidden: self.below(2) == 0, what }
        }

        /// Tables with dependents, tasks and objects for some of the UIDs.
        fn tables(&mut self) -> Connection {
            let connection = Connection::open_in_memory().unwrap();
            let table = "CREATE TABLE current (id INTEGER PRIMARY KEY, key BLOB NOT NULL, create_revision INTEGER,
                mod_revision INTEGER, version INTEGER, lease INTEGER, value BLOB, sub INTEGER)";
            connection.execute_batch(table).unwrap();
            gc_schema::add(&connection, StoreTime::default()).unwrap();
            for uid in ["a", "b", "c"] {
                for labelled in [0, 1].iter().filter(|_| self.below(3) == 0) {
                    let sql = "INSERT INTO owner VALUES (?1, ?2, x'2f', 0, 0)";
                    connection.execute(sql, params![uid.as_bytes(), labelled]).unwrap();
                }
                for kind in (1..=4).filter(|_| self.below(3) == 0).collect::<Vec<_>>() {
                    let sql = "INSERT INTO gc_task (kind, uid, key, hidden, cause_revision, created_at, state,
                        not_before, swept, failures, attempts, reason) VALUES (?1, ?2, x'2f', 1, 1, 1, ?3, 5, 1, 2, 3, 'x')";
                    connection.execute(sql, params![kind, uid.as_bytes(), self.below(3) as i64]).unwrap();
                }
                if self.below(2) == 0 {
                    let key = ["/ns/n", "/n"][self.below(2) as usize];
                    let sql =
                        "INSERT INTO current (key, uid, create_revision, mod_revision, version, lease, value, sub)
                        VALUES (?1, ?2, 1, 1, 1, 0, x'', 0)";
                    connection.execute(sql, params![key.as_bytes(), uid.as_bytes()]).unwrap();
                }
            }
            connection
        }
    }

    fn hear(connection: &Connection, signals: &[Signal]) {
        let started = collector::hear(&mut Tables::new(connection, Arc::default()), signals).unwrap();
        store_started(connection, &started, StoreTime::from_millis(9)).unwrap();
    }

    fn all(connection: &Connection) -> Vec<String> {
        let mut rows = Vec::new();
        for table in ["gc_tombstone", "gc_task"] {
            let mut statement = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
            let columns = statement.column_count();
            let row = |row: &rusqlite::Row<'_>| {
                // But for the number, of which a task that begins again and again may use up several.
                (1..columns).map(|at| row.get(at)).collect::<rusqlite::Result<Vec<rusqlite::types::Value>>>()
            };
            let found = statement.query_map([], row).unwrap().map(|row| format!("{table}: {:?}", row.unwrap()));
            rows.extend(found);
        }
        rows.sort();
        rows
    }

    #[test]
    fn signals_of_one_commit_do_what_those_of_many_do() {
        for round in 0..2000 {
            let signals: Vec<Signal> = {
                let mut lot = Lot(round);
                (0..1 + lot.below(6)).map(|at| lot.signal(10 + at as i64)).collect()
            };
            let (together, apart) = (Lot(!round).tables(), Lot(!round).tables());
            hear(&together, &signals);
            for signal in &signals {
                hear(&apart, std::slice::from_ref(signal));
            }
            assert_eq!(all(&together), all(&apart), "round {round}: {signals:?}");
        }
    }
}
