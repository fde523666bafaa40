//! Changes the store.

use std::time::{Duration, Instant};

use super::defragment::defragment;
use super::graph::{blobs, blocked};
use super::read::read_head;
use super::row::ROW;
use super::script::Script;
use super::serving::{self, NOW};
use super::text::{Bytes, In, List, Packet, Within};
use super::{Tables, Transaction};
use crate::clock::StoreTime;
use crate::engine::store::{Footprint, Queue};
use crate::gc::TaskKind;
use crate::sql::codes::{self, CASCADE, PARKED, READY, RECHECK};
use crate::sql::collector::LOOKED_AT;
use crate::sql::failure::Result;
use crate::sql::index::names;
use crate::sql::numbers;
use crate::sql::remote::{self, BEAT};
use crate::sql::session::{Begun, Commit, Delta, NewHead, Started};

/// How many keys one statement looks for.
const KEYS: usize = 1024;

/// What a statement of [`Commit::begin`] reads.
#[derive(Clone, Copy)]
enum Part {
    Nothing,
    Head,
    Rows,
    Past(usize),
    Leases,
    Blocked,
}

/// The statements that read a footprint, the first of which locks the head.
///
/// Lock and keys are one statement: behind a lock that was waited for, a statement of its own may read an old snapshot
/// on TiDB.
fn footprint(script: &mut Script, footprint: &Footprint) -> Vec<Part> {
    let mut parts = vec![Part::Nothing, Part::Head];
    let keys: Vec<_> = footprint.keys.iter().collect();
    let (first, more) = keys.split_at(keys.len().min(KEYS));
    let columns = super::find::columns("c", true);
    // Joined with no keys, the whole table would be read and locked.
    let (rows, join) = if first.is_empty() {
        (List(ROW.split(", ").map(|_| "NULL")).to_string(), String::new())
    } else {
        (columns.clone(), format!("LEFT JOIN current c FORCE INDEX (PRIMARY) ON {}", In("c.k", first)))
    };
    script.add("begin", "BEGIN");
    script.add(
        "lock",
        format_args!(
            "SELECT m.revision, m.compact_revision, {NOW}, m.batch, m.owner, m.address, m.next_id, {rows} FROM meta m {join}
             WHERE m.id = 1 FOR UPDATE"
        ),
    );
    let mut add = |part: Part, name: &'static str, sql: String| {
        parts.push(part);
        script.add(name, sql);
    };
    let live = format!("SELECT {ROW} FROM current FORCE INDEX (PRIMARY) WHERE");
    for keys in more.chunks(KEYS) {
        add(Part::Rows, "keys", format!("{live} {}", In("k", keys)));
    }
    for range in &footprint.ranges {
        add(Part::Rows, "range", format!("{live} {}", Within("k", range)));
    }
    for (nth, (range, revision)) in footprint.past.iter().enumerate() {
        let within = Within("k", range);
        let sql = format!(
            "{live} {within} AND mod_revision <= {revision} UNION ALL SELECT {ROW} FROM history WHERE {within}
                AND mod_revision <= {revision} AND end_revision > {revision} ORDER BY k"
        );
        add(Part::Past(nth), "past", sql);
    }
    if !footprint.leases.is_empty() {
        let leases = List(footprint.leases.iter());
        add(Part::Leases, "leases", format!("SELECT id, ttl, expires_at FROM lease WHERE id IN ({leases})"));
    }
    if !footprint.lease_keys.is_empty() {
        let leases = List(footprint.lease_keys.iter());
        let sql = format!(
            "SELECT {columns} FROM attached a FORCE INDEX (PRIMARY) STRAIGHT_JOIN current c FORCE INDEX (PRIMARY) ON c.k = a.k
             WHERE a.lease IN ({leases})"
        );
        add(Part::Rows, "keys of leases", sql);
    }
    for uid in &footprint.blocked {
        add(Part::Blocked, "blocked", blocked(uid, LOOKED_AT));
    }
    parts
}

impl Tables {
    fn try_begin(&mut self, wanted: &Footprint) -> Result<Begun> {
        let mut script = Script::new(self.connection.packet_bytes());
        let parts = footprint(&mut script, wanted);
        let first_blocked = parts.iter().position(|part| matches!(part, Part::Blocked)).unwrap_or(parts.len());
        let mut begun = Begun { past: wanted.past.iter().map(|_| Vec::new()).collect(), ..Begun::default() };
        let (mut owner, mut address, mut next_id) = (0, String::new(), 0);
        let newest = self.connection.seen.newest();
        self.open = true;
        script.each(&mut self.connection, &mut |nth, mut cells| {
            match parts.get(nth).copied().unwrap_or(Part::Nothing) {
                Part::Nothing => {}
                Part::Head => {
                    begun.head = read_head(&mut cells)?;
                    (owner, address, next_id) = (cells.int()?, cells.text()?, cells.int()?);
                    begun.rows.extend(cells.maybe_row()?.map(|row| (row.kv.key.clone(), row)));
                }
                Part::Rows => {
                    let row = cells.row()?;
                    begun.rows.insert(row.kv.key.clone(), row);
                }
                Part::Past(range) => begun.past[range].push(cells.row()?.kv),
                Part::Leases => {
                    let lease = cells.lease()?;
                    begun.leases.insert(lease.id, lease);
                }
                Part::Blocked => {
                    let uid = wanted.blocked.iter().nth(nth - first_blocked).cloned();
                    begun.blocked.extend(uid.filter(|_| cells.flag().unwrap_or(true)));
                }
            }
            Ok(())
        })?;
        if owner != self.owner {
            return Err(serving::taken_over(owner, &address));
        }
        let revision = begun.head.revision;
        self.connection.seen.note(revision, newest)?;
        numbers::bound(&mut self.names);
        self.transaction = Transaction { changes: true, revision, next_id, ..Transaction::default() };
        Ok(begun)
    }

    /// Adds what a commit ends with, and carries all out.
    fn carry_out(&mut self, mut script: Script, head: Option<&NewHead>) -> Result<Vec<u64>> {
        let Some(head) = head else { return script.each(&mut self.connection, &mut |_, _| Ok(())) };
        let NewHead { revision, compact_revision, batch, .. } = head;
        script.add(
            "head",
            format_args!(
                "UPDATE meta SET revision = {revision}, compact_revision = GREATEST(compact_revision, {compact_revision}),
                 next_id = {}, batch = {batch}, seen_at = {NOW}, backend = CONNECTION_ID() WHERE id = 1",
                self.transaction.next_id
            ),
        );
        script.commit();
        let started = Instant::now();
        let changed = script.each(&mut self.connection, &mut |_, _| Ok(()))?;
        self.metrics.store_commit_seconds.observe(started.elapsed().as_secs_f64());
        self.open = false;
        self.said = Instant::now();
        self.connection.seen.note(*revision, 0)?;
        let committed = std::mem::take(&mut self.transaction);
        self.names.extend(committed.names);
        Ok(changed)
    }

    /// A number that nothing has.
    pub(super) fn next_id(&mut self) -> i64 {
        self.transaction.next_id += 1;
        self.transaction.next_id - 1
    }
}

impl Commit for Tables {
    fn begin(&mut self, footprint: &Footprint) -> Result<Begun> {
        self.ready()?;
        self.try_begin(footprint)
    }

    fn labels(&mut self, names: &[&str]) -> Result<Vec<i64>> {
        let known = |tables: &Self, name: &str| {
            let new = || tables.transaction.names.iter().find(|(new, _)| **new == *name).map(|(_, id)| *id);
            tables.names.get(name).copied().or_else(new)
        };
        let missing: Vec<&str> = names.iter().copied().filter(|name| known(self, name).is_none()).collect();
        for names in missing.chunks(KEYS) {
            let sql = format!("SELECT name, id FROM attribute_name WHERE {}", In("name", names));
            let found = self.connection.all("labels", sql, |cells| Ok((cells.text()?.into(), cells.int()?)))?;
            self.names.extend(found);
        }
        let mut ids = Vec::with_capacity(names.len());
        for name in names {
            ids.push(match known(self, name) {
                Some(id) => id,
                None => {
                    let id = self.next_id();
                    self.transaction.names.push(((*name).into(), id));
                    id
                }
            });
        }
        Ok(ids)
    }

    fn apply(&mut self, delta: &Delta<'_>, head: Option<&NewHead>) -> Result<bool> {
        let script = self.script(delta);
        let wakes = script.of(super::apply::WAKE);
        let changed = self.carry_out(script, head)?;
        self.transaction.written = self.transaction.names.len();
        Ok(wakes.into_iter().any(|nth| changed.get(nth).is_some_and(|rows| *rows > 0)))
    }

    fn tell(&mut self, started: &Started<'_>, now: StoreTime, head: Option<&NewHead>) -> Result<()> {
        let mut script = Script::new(self.connection.packet_bytes());
        let now = now.millis();
        let mut rows = Vec::new();
        for (uid, key, namespaced, revision) in &started.tombstones {
            let (id, uid) = (self.next_id(), uid.to_blob());
            let (uid, key, namespaced) = (Bytes(&uid), Bytes(key), i64::from(*namespaced));
            rows.push(format!("({id}, {uid}, {key}, {namespaced}, {revision}, {now})"));
        }
        script.rows("tombstones", "INSERT INTO gc_tombstone (id, uid, k, namespaced, revision, at) VALUES ", &rows, "");
        let of = |(uid, kind): &(&crate::gc::Uid, TaskKind)| {
            format!("({}, {})", Bytes(&uid.to_blob()), codes::of_kind(*kind))
        };
        script.rows(
            "drop tasks",
            "DELETE gc_task FROM gc_task WHERE (uid, kind) IN (",
            started.dropped.iter().map(of),
            ")",
        );
        let mut rows = Vec::new();
        for (uid, kind, key, hidden, revision) in &started.tasks {
            let (id, uid, kind) = (self.next_id(), uid.to_blob(), codes::of_kind(*kind));
            let (uid, key, hidden) = (Bytes(&uid), Bytes(key), i64::from(*hidden));
            rows.push(format!(
                "({id}, {kind}, {uid}, {key}, {hidden}, {revision}, {now}, {READY}, {now}, 0, NULL, NULL, 0, 0, '')"
            ));
        }
        let again = format!(
            " ON DUPLICATE KEY UPDATE k = VALUES(k), hidden = VALUES(hidden), state = {READY}, \
             not_before = VALUES(not_before), swept = 0, cursor_labelled = NULL, cursor_key = NULL, failures = 0"
        );
        script.rows("tasks", "INSERT INTO gc_task VALUES ", &rows, &again);
        let woken = blobs(&started.woken);
        let wake = format!("UPDATE gc_task SET state = {READY}, not_before = 0 WHERE state <> {READY} AND uid IN (");
        script.rows("wake", &wake, woken.iter().map(|uid| Bytes(uid)), ")");
        self.carry_out(script, head).map(drop)
    }

    fn rollback(&mut self) {
        if std::mem::take(&mut self.open)
            && self.connection.is_open()
            && let Err(error) = self.connection.run(&Packet::of("rollback", "ROLLBACK"))
        {
            tracing::warn!(?error, "could not roll a transaction back");
            self.connection.close();
        }
        self.transaction = Transaction::default();
    }

    fn reconnect(&mut self) -> Result<()> {
        (self.open, self.transaction) = (false, Transaction::default());
        self.connection.reconnect()?;
        if self.owner <= 0 || !self.connection.server()?.galera {
            return Ok(());
        }
        let arrived = self.tell_that_it_serves(&serving::arrive(self.owner));
        if arrived.is_err() {
            self.connection.close();
        }
        arrived
    }

    fn try_commit(&mut self) -> Result<()> {
        self.ready()?;
        self.tell_that_it_serves(&serving::go_on(self.owner))
    }

    fn compact(&mut self, limit: usize) -> Result<usize> {
        self.sweep(limit)
    }

    fn remove_index(&mut self, id: i64, limit: usize) -> Result<()> {
        let (values, foreign) = (names::values_of(id), names::foreign_of(id));
        let mut left = u64::try_from(limit).unwrap_or(u64::MAX);
        for name in [values, foreign] {
            let removed = self.alone(&format!("DELETE FROM attribute WHERE name = {name} LIMIT {left}"))?;
            left = left.saturating_sub(removed.first().copied().unwrap_or(0));
        }
        let statement = format!(
            "DELETE field_index FROM field_index WHERE id = {id}
                AND NOT EXISTS (SELECT 1 FROM attribute WHERE name IN ({values}, {foreign}))"
        );
        self.alone(&statement).map(drop)
    }

    fn forget(&mut self, before: StoreTime, after: i64, limit: usize) -> Result<Option<i64>> {
        let before = before.millis();
        let sql = format!(
            "SELECT MAX(id), COUNT(*) FROM (SELECT id, at FROM gc_tombstone WHERE id > {after} ORDER BY id LIMIT {limit}) t
             WHERE at < {before}"
        );
        let found = self.connection.first("old tombstones", sql, |cells| Ok((cells.maybe_int()?, cells.int()?)))?;
        let Some((Some(last), found)) = found else { return Ok(None) };
        self.alone(&format!(
            "DELETE FROM gc_tombstone WHERE id > {after} AND id <= {last} AND at < {before}
                AND NOT EXISTS (SELECT 1 FROM gc_task WHERE gc_task.uid = gc_tombstone.uid AND gc_task.kind = {CASCADE})
                AND NOT EXISTS (SELECT 1 FROM gc_task WHERE gc_task.kind = {RECHECK} AND gc_task.state <> {PARKED}
                    AND gc_task.created_at < {before})"
        ))?;
        Ok((usize::try_from(found) == Ok(limit)).then_some(last))
    }

    fn extend_leases(&mut self, now: StoreTime, least: Duration) -> Result<usize> {
        let (now, least) = (now.millis(), i64::try_from(least.as_secs()).unwrap_or(0));
        // The first condition is for the index, the second leaves alone who has all that was granted.
        let changed = self.alone(&format!(
            "UPDATE lease SET expires_at = {now} + LEAST(ttl, {least}) * 1000 WHERE expires_at < {now} + {least} * 1000
                AND expires_at < {now} + LEAST(ttl, {least}) * 1000"
        ))?;
        Ok(changed.first().and_then(|rows| usize::try_from(*rows).ok()).unwrap_or(0))
    }

    fn save_clock(&mut self, _: StoreTime) -> Result<()> {
        Ok(())
    }

    /// Says that this process is still there: the commits say it as well.
    fn tidy(&mut self, _: bool) -> Result<bool> {
        if self.said.elapsed() >= BEAT {
            self.try_commit()?;
        }
        Ok(false)
    }

    fn defragment(&mut self) -> Result<()> {
        self.ready()?;
        if !self.connection.server()?.engine.is_innodb() {
            return Ok(());
        }
        let mut another = self.connection.another()?;
        remote::beside(BEAT, || defragment(&mut another), || self.try_commit())
    }

    fn adopt(&mut self, cluster_id: i64) -> Result<()> {
        let owner = self.owner;
        let sql = format!("UPDATE meta SET revision = 0, cluster_id = {cluster_id} WHERE id = 1 AND owner = {owner}");
        self.alone(&sql).map(drop)
    }

    fn take_queue(&mut self, queue: &Queue) -> Result<()> {
        self.ready()?;
        let mut script = Script::new(self.connection.packet_bytes());
        script.add("begin", "BEGIN");
        super::apply::queue(&mut script, queue);
        script.commit();
        self.open = true;
        let taken = script.each(&mut self.connection, &mut |_, _| Ok(()));
        self.open = taken.is_err();
        taken.map(drop)
    }
}

impl Tables {
    /// Carries a statement out that is a transaction of its own; says how many rows it changed.
    pub(super) fn alone(&mut self, statement: &str) -> Result<Vec<u64>> {
        self.ready()?;
        self.connection.run(&Packet::of("background", statement))
    }

    /// Makes sure that there is a connection, and no transaction.
    pub(super) fn ready(&mut self) -> Result<()> {
        self.rollback();
        if self.connection.is_open() { Ok(()) } else { Commit::reconnect(self) }
    }

    /// Carries out a statement that finds the process in the table, if the process serves the store.
    fn tell_that_it_serves(&mut self, statement: &str) -> Result<()> {
        let changed = self.connection.run(&Packet::of("background", statement))?;
        self.said = Instant::now();
        if changed.first() == Some(&0) {
            let sql = "SELECT owner, address FROM meta WHERE id = 1";
            let who = self.connection.first("who serves", sql, |cells| Ok((cells.int()?, cells.text()?)))?;
            let (owner, address) = who.unwrap_or_default();
            return Err(serving::taken_over(owner, &address));
        }
        Ok(())
    }
}
