//! Changes: two flushes for a commit, the second of which ends it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::batch::{self, Statements, TOMBSTONE, WAKE};
use super::defragment::defragment;
use super::link::{Answer, Ask, get};
use super::partition::ByKeys;
use super::row::{Bounds, blob, blobs, columns, flag, int, ints, limit, row};
use super::session::Session;
use super::set::Kind::{Blob, Flag, Int};
use super::set::{Kind, Set};
use super::task::uid;
use crate::clock::StoreTime;
use crate::engine::store::{Footprint, Queue};
use crate::engine::{Error, Revision};
use crate::gc::Uid;
use crate::sql::codes::{self, CASCADE, PARKED, READY, RECHECK};
use crate::sql::collector::LOOKED_AT;
use crate::sql::failure::{Failure, Result};
use crate::sql::index::names::{foreign_of, values_of};
use crate::sql::remote::{self, BEAT};
use crate::sql::session::{Begun, Commit, Delta, IndexChange, NewHead, Started};

const DROPPED: &[(&str, Kind)] = &[("uid", Blob), ("kind", Int)];
const TASK: &[(&str, Kind)] =
    &[("id", Int), ("uid", Blob), ("kind", Int), ("key", Blob), ("hidden", Flag), ("cause_revision", Int), ("at", Int)];

/// The head of a commit.
const META: &str =
    "UPDATE meta SET revision = $1, compact_revision = greatest(compact_revision, $2), batch = $3, next_id = $4,
    seen_at = (extract(epoch FROM clock_timestamp()) * 1000)::bigint,
    backend = CASE WHEN $5 THEN 0 ELSE pg_backend_pid() END WHERE id = 1";

/// Tells that this process serves the store. Nothing if another one does: whose connection that is, is its to say.
const ALIVE: &str = "UPDATE meta SET seen_at = (extract(epoch FROM clock_timestamp()) * 1000)::bigint,
    backend = CASE WHEN $1 THEN 0 ELSE pg_backend_pid() END WHERE id = 1 AND owner = $2";

/// Live rows with the keys of a list. The head is read again, with the snapshot of this statement: see
/// [`Session::begin`].
fn by_keys(by: &ByKeys) -> String {
    format!("SELECT m.revision, {} FROM meta m LEFT JOIN {} WHERE m.id = 1", columns("c"), by.join)
}

fn in_range() -> String {
    format!("SELECT 0::bigint, {} FROM current c WHERE c.key >= $1 AND c.key < $2 ORDER BY c.key", columns("c"))
}

fn in_the_past() -> String {
    format!(
        "SELECT {} FROM current c WHERE c.key >= $1 AND c.key < $2 AND c.mod_revision <= $3
         UNION ALL
         SELECT {} FROM history h WHERE h.key >= $1 AND h.key < $2 AND h.mod_revision <= $3 AND h.end_revision > $3
         ORDER BY key",
        columns("c"),
        columns("h")
    )
}

fn attached() -> String {
    format!(
        "SELECT 0::bigint, {} FROM attached a JOIN current c ON c.key = a.key WHERE a.lease = ANY($1)",
        columns("c")
    )
}

impl Commit for Session {
    fn begin(&mut self, footprint: &Footprint) -> Result<Begun> {
        let keys: Vec<&[u8]> = footprint.keys.iter().map(|key| &key[..]).collect();
        let ranges: Vec<Bounds> = footprint.ranges.iter().map(Bounds::of).collect();
        let past: Vec<(Bounds, Revision)> =
            footprint.past.iter().map(|(range, revision)| (Bounds::of(range), *revision)).collect();
        let leases: Vec<i64> = footprint.leases.iter().copied().collect();
        let lease_keys: Vec<i64> = footprint.lease_keys.iter().copied().collect();
        let blocked: Vec<Cow<'_, [u8]>> = footprint.blocked.iter().map(Uid::to_blob).collect();
        let (by_keys, in_range, in_the_past, attached) =
            (by_keys(self.database.by_keys()), in_range(), in_the_past(), attached());
        let mut asks = vec![Ask::new("rows", &by_keys, vec![blobs(&keys)])];
        asks.extend(
            ranges.iter().map(|Bounds { start, end }| Ask::new("range", &in_range, vec![blob(start), blob(end)])),
        );
        asks.extend(past.iter().map(|(Bounds { start, end }, revision)| {
            Ask::new("past", &in_the_past, vec![blob(start), blob(end), int(revision)])
        }));
        if !leases.is_empty() {
            asks.push(Ask::new(
                "leases",
                "SELECT id, ttl, expires_at FROM lease WHERE id = ANY($1)",
                vec![ints(&leases)],
            ));
        }
        if !lease_keys.is_empty() {
            asks.push(Ask::new("attached", &attached, vec![ints(&lease_keys)]));
        }
        if !blocked.is_empty() {
            let sql = "SELECT u.uid FROM unnest($1::bytea[]) u(uid) WHERE (SELECT coalesce(bool_or(block), false)
                OR count(*) = $2
                FROM (SELECT block FROM owner WHERE owner_uid = u.uid AND labelled LIMIT $2) b)";
            asks.push(Ask::new("blocked", sql, vec![blobs(&blocked), int(&LOOKED_AT)]));
        }
        let (head, answers) = self.begin_write(asks)?;
        let mut begun = Begun { head, ..Begun::default() };
        let mut answers = answers.into_iter();
        let mut next = |wanted: bool| wanted.then(|| answers.next()).flatten().unwrap_or_default().rows;
        let rows = next(true);
        // A database that keeps its word shows what the last commit wrote to whoever waited for its lock.
        if rows.first().map_or(Ok(0), |found| get::<Revision>(found, 0))? != head.revision {
            let text = "the database shows another revision than the one it has locked";
            return Err(Failure::Again(Error::Unavailable(text.into())));
        }
        let mut all = rows;
        all.retain(|found| found.try_get::<_, Option<&[u8]>>(1).is_ok_and(|key| key.is_some()));
        footprint.ranges.iter().for_each(|_| all.extend(next(true)));
        for _ in &footprint.past {
            let found = next(true);
            begun.past.push(found.iter().map(|found| Ok(row(found, 0)?.kv)).collect::<Result<_>>()?);
        }
        for found in next(!leases.is_empty()) {
            let lease = super::row::lease(&found)?;
            begun.leases.insert(lease.id, lease);
        }
        all.extend(next(!lease_keys.is_empty()));
        for found in next(!blocked.is_empty()) {
            begun.blocked.insert(uid(&found, 0)?);
        }
        for found in all {
            let found = row(&found, 1)?;
            begun.rows.insert(found.kv.key.clone(), found);
        }
        Ok(begun)
    }

    fn labels(&mut self, names: &[&str]) -> Result<Vec<i64>> {
        let unknown: Vec<&[u8]> =
            names.iter().filter(|name| !self.names.contains_key(**name)).map(|name| name.as_bytes()).collect();
        if !unknown.is_empty() {
            let sql = "SELECT id, name FROM attribute_name WHERE name = ANY($1)";
            for found in self.ask(Ask::new("names", sql, vec![blobs(&unknown)]))? {
                self.names.insert(super::row::text(&found, 1)?.into(), get(&found, 0)?);
            }
        }
        let mut ids = Vec::with_capacity(names.len());
        for name in names {
            if let Some(id) = self.names.get(*name) {
                ids.push(*id);
                continue;
            }
            let id = self.next_id();
            self.names.insert((*name).into(), id);
            self.new_names.push((id, (*name).into()));
            ids.push(id);
        }
        Ok(ids)
    }

    fn apply(&mut self, delta: &Delta<'_>, head: Option<&NewHead>) -> Result<bool> {
        let names = std::mem::take(&mut self.new_names);
        let added = delta.indexes.iter().filter(|change| matches!(change, IndexChange::Add { .. })).count();
        let ids: Vec<i64> = (0..added).map(|_| self.next_id()).collect();
        let statements = batch::statements(delta, &names, &ids);
        let written = self.write(statements.asks(), head);
        // They are written once, and forgotten if the transaction fails after all.
        if written.is_err() || head.is_none() {
            self.added_names.extend(names);
        }
        written
    }

    fn tell(&mut self, started: &Started<'_>, now: StoreTime, head: Option<&NewHead>) -> Result<()> {
        let mut statements = Statements::new();
        let mut tombstones = Set::new(TOMBSTONE);
        for (uid, key, namespaced, revision) in &started.tombstones {
            let (id, at) = (self.next_id(), now.millis());
            tombstones.push([
                id.into(),
                uid.to_blob().into(),
                key[..].into(),
                (*namespaced).into(),
                (*revision).into(),
                at.into(),
            ]);
        }
        statements.rows("tombstones", tombstones, |rows| rows.insert("gc_tombstone"));
        let mut dropped = Set::new(DROPPED);
        for (uid, kind) in &started.dropped {
            dropped.push([uid.to_blob().into(), codes::of_kind(*kind).into()]);
        }
        statements.rows("drop tasks", dropped, |rows| {
            format!("DELETE FROM gc_task g USING {} WHERE g.uid = t.uid AND g.kind = t.kind", rows.table())
        });
        let mut tasks = Set::new(TASK);
        for (uid, kind, key, hidden, revision) in &started.tasks {
            let (id, at) = (self.next_id(), now.millis());
            tasks.push([
                id.into(),
                uid.to_blob().into(),
                codes::of_kind(*kind).into(),
                key[..].into(),
                (*hidden).into(),
                (*revision).into(),
                at.into(),
            ]);
        }
        statements.rows("start tasks", tasks, |rows| {
            format!(
                "INSERT INTO gc_task (id, kind, uid, key, hidden, cause_revision, created_at, state, not_before,
                    swept, failures,
                    attempts, reason)
                 SELECT t.id, t.kind, t.uid, t.key, t.hidden, t.cause_revision, t.at, {READY}, t.at, false, 0, 0, '' FROM {}
                 ON CONFLICT (uid, kind) DO UPDATE SET key = excluded.key, hidden = excluded.hidden, state = {READY},
                    not_before = excluded.not_before, swept = false, cursor_labelled = NULL, cursor_key = NULL, \
                        failures = 0",
                rows.table()
            )
        });
        let woken = started.woken.iter().map(|uid| uid.to_blob()).collect();
        let sql =
            format!("UPDATE gc_task SET state = {READY}, not_before = 0 WHERE uid = ANY($1) AND state <> {READY}");
        statements.keys(WAKE, woken, &sql);
        self.write(statements.asks(), head).map(drop)
    }

    fn rollback(&mut self) {
        Self::rollback(self);
    }

    fn reconnect(&mut self) -> Result<()> {
        self.connect_anew()
    }

    fn try_commit(&mut self) -> Result<()> {
        self.tell_alive()
    }

    fn compact(&mut self, most: usize) -> Result<usize> {
        let sql = "SELECT m.compact_revision, s.compacted, s.revision, s.sub FROM meta m, sweep s WHERE m.id = 1
            AND s.id = 1";
        let (_, answers) = self.begin_write(vec![Ask::new("sweep", sql, vec![])])?;
        let Some(found) = answers.iter().flat_map(|answer| &answer.rows).next() else { return Ok(0) };
        let (until, compacted): (Revision, Revision) = (get(found, 0)?, get(found, 1)?);
        let mut after: (Revision, i64) = (get(found, 2)?, get(found, 3)?);
        if until > compacted {
            // The deletions that were kept for those who watch from that revision on.
            after = after.min((compacted, -1));
        }
        let sql = "WITH d AS (SELECT revision, sub, key, deleted FROM change
                WHERE (revision, sub) > ($1, $2) AND revision <= $3 ORDER BY revision, sub LIMIT $4),
            h AS (DELETE FROM history x USING d WHERE x.key = d.key AND x.end_revision = d.revision AND x.end_sub =
                d.sub
                AND NOT (x.deleted AND x.end_revision = $3) RETURNING x.mod_revision, x.sub),
            g AS (DELETE FROM change x
                USING (SELECT * FROM h UNION ALL SELECT revision, sub FROM d WHERE deleted AND revision < $3)
                    y(revision, sub)
                WHERE x.revision = y.revision AND x.sub = y.sub),
            s AS (UPDATE sweep SET compacted = $3, revision = l.revision, sub = l.sub
                FROM (SELECT revision, sub FROM (SELECT $1 AS revision, $2 AS sub UNION ALL SELECT revision, sub
                    FROM d) o
                    ORDER BY revision DESC, sub DESC LIMIT 1) l WHERE id = 1)
            SELECT count(*) FROM d";
        let most = limit(most);
        let asks = [
            // A crash may undo it: the next start does it again.
            Ask::plain("not durable", "SET LOCAL synchronous_commit = off"),
            Ask::new("compact", sql, vec![int(&after.0), int(&after.1), int(&until), int(&most)]),
            Ask::commit(),
        ];
        let answers = self.all(&asks)?;
        self.committed();
        let looked_at: i64 = answers[1].rows.first().map_or(Ok(0), |found| get(found, 0))?;
        Ok(usize::try_from(looked_at).unwrap_or(0))
    }

    fn remove_index(&mut self, id: i64, most: usize) -> Result<()> {
        let (names, most) = (vec![values_of(id), foreign_of(id)], limit(most));
        let entries = "DELETE FROM attribute a
            USING (SELECT name, value, key FROM attribute WHERE name = ANY($1) LIMIT $2) d
            WHERE a.name = d.name AND a.value = d.value AND a.key = d.key";
        let itself =
            "DELETE FROM field_index WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM attribute WHERE name = ANY($2))";
        let asks = vec![
            Ask::new("remove entries", entries, vec![ints(&names), int(&most)]),
            Ask::new("remove an index", itself, vec![int(&id), ints(&names)]),
        ];
        self.alone(asks).map(drop)
    }

    fn forget(&mut self, before: StoreTime, after: i64, most: usize) -> Result<Option<i64>> {
        let (before, rows) = (before.millis(), limit(most));
        let sql = format!(
            "WITH t AS (SELECT id, at FROM gc_tombstone WHERE id > $1 ORDER BY id LIMIT $2),
             x AS (DELETE FROM gc_tombstone g USING t WHERE g.id = t.id AND t.at < $3
                AND NOT EXISTS (SELECT 1 FROM gc_task k WHERE k.uid = g.uid AND k.kind = {CASCADE})
                AND NOT EXISTS (SELECT 1 FROM gc_task k
                    WHERE k.kind = {RECHECK} AND k.state <> {PARKED} AND k.created_at < $3))
             SELECT max(id), count(*) FROM t WHERE at < $3"
        );
        let answers = self.alone(vec![Ask::new("forget", &sql, vec![int(&after), int(&rows), int(&before)])])?;
        let Some(found) = answers.first().and_then(|answer| answer.rows.first()) else { return Ok(None) };
        let (last, count): (Option<i64>, i64) = (get(found, 0)?, get(found, 1)?);
        Ok(last.filter(|_| count == rows))
    }

    fn extend_leases(&mut self, now: StoreTime, least: Duration) -> Result<usize> {
        let (now, least) = (now.millis(), i64::try_from(least.as_secs()).unwrap_or(0));
        // The first condition is for the index, the second leaves alone who has all that was granted.
        let sql = "UPDATE lease SET expires_at = $1 + least(ttl, $2) * 1000
            WHERE expires_at < $1 + $2 * 1000 AND expires_at < $1 + least(ttl, $2) * 1000";
        let answers = self.alone(vec![Ask::new("extend leases", sql, vec![int(&now), int(&least)])])?;
        let extended = answers.first().map_or(0, |answer| answer.affected);
        Ok(usize::try_from(extended).unwrap_or(usize::MAX))
    }

    fn save_clock(&mut self, _: StoreTime) -> Result<()> {
        Ok(())
    }

    fn tidy(&mut self, _: bool) -> Result<bool> {
        if self.beat.elapsed() >= BEAT {
            self.tell_alive()?;
            self.beat = Instant::now();
        }
        Ok(false)
    }

    fn defragment(&mut self) -> Result<()> {
        let database = Arc::clone(&self.database);
        remote::beside(BEAT, || defragment(&database), || self.tell_alive())
    }

    fn adopt(&mut self, cluster_id: i64) -> Result<()> {
        let (sql, owner) =
            ("UPDATE meta SET revision = 0, cluster_id = $1 WHERE id = 1 AND owner = $2", self.database.owner);
        self.alone(vec![Ask::new("adopt", sql, vec![int(&cluster_id), int(&owner)])]).map(drop)
    }

    fn take_queue(&mut self, queue: &Queue) -> Result<()> {
        let statements = batch::queue(queue);
        let highest = queue.tasks.iter().map(|task| task.id).chain(queue.tombstones.iter().map(|gone| gone.id)).max();
        let next = highest.map_or(0, |id| id.saturating_add(1));
        let sql = "UPDATE meta SET next_id = greatest(next_id, $1) WHERE id = 1";
        let mut asks = statements.asks();
        asks.push(Ask::new("next number", sql, vec![int(&next)]));
        self.alone(asks).map(drop)
    }
}

impl Session {
    /// Carries out the statements of a commit, and its end if there is a head for it; returns whether a task was woken.
    fn write(&mut self, asks: Vec<Ask<'_>>, head: Option<&NewHead>) -> Result<bool> {
        let (next_id, is_pooled) = (self.next_id, self.is_pooled());
        let mut asks: Vec<Ask<'_>> = asks.into_iter().collect();
        if let Some(head) = head {
            let params = vec![
                int(&head.revision),
                int(&head.compact_revision),
                int(&head.batch),
                int(&next_id),
                flag(&is_pooled),
            ];
            asks.extend([Ask::new("head", META, params), Ask::commit()]);
        }
        let started = Instant::now();
        let answers = if asks.is_empty() { Vec::new() } else { self.all(&asks)? };
        if let Some(head) = head {
            self.database.metrics.store_commit_seconds.observe(started.elapsed().as_secs_f64());
            self.committed();
            self.database.seen.note(head.revision, 0)?;
        }
        Ok(asks.iter().zip(&answers).any(|(ask, answer)| ask.name == WAKE && answer.affected > 0))
    }

    /// Tells that this process serves the store.
    pub(super) fn tell_alive(&mut self) -> Result<()> {
        let (is_pooled, owner) = (self.is_pooled(), self.database.owner);
        self.alone(vec![Ask::new("alive", ALIVE, vec![flag(&is_pooled), int(&owner)])]).map(drop)
    }

    /// Carries statements out in a transaction of their own, with one flush.
    fn alone(&mut self, mut asks: Vec<Ask<'_>>) -> Result<Vec<Answer>> {
        asks.push(Ask::commit());
        let (_, answers) = self.begin_write(asks)?;
        self.committed();
        Ok(answers)
    }
}
