//! The graph of owners, and the collector's queue.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use bytes::Bytes as Buffer;

use super::row::{Cells, ROW};
use super::script::Script;
use super::text::{Bytes, In, Packet, Within};
use super::{Tables, error};
use crate::clock::StoreTime;
use crate::engine::KeyRange;
use crate::engine::store::Row;
use crate::gc::{Below, Dependent, Place, Progress, Status, Task, TaskKind, TaskState, Tombstone, Uid};
use crate::sql::codes::{self, FOREGROUND, ORPHAN, PARKED, READY};
use crate::sql::failure::Result;
use crate::sql::session::{Graph, Heard, Which};

/// The columns that [`task`] reads.
const TASK: &str = "id, kind, uid, k, hidden, cause_revision, created_at, state, not_before, swept, cursor_labelled, \
    cursor_key, failures, attempts, reason";

/// How many UIDs a statement names. A statement for all that a large deletion removes would be too long.
const UIDS: usize = 1024;

/// What a statement of [`Graph::heard`] asks for.
enum About<'a> {
    Tasks,
    Keys,
    Tombstones,
    DependentsOf(&'a Uid),
}

fn kind(number: i64) -> Result<TaskKind> {
    codes::kind(number).ok_or_else(error::unreadable)
}

fn state(number: i64) -> Result<TaskState> {
    codes::state(number).ok_or_else(error::unreadable)
}

fn uid(cells: &mut Cells) -> Result<Uid> {
    Uid::from_blob(&cells.bytes()?).ok_or_else(error::unreadable)
}

fn key(cells: &mut Cells) -> Result<Buffer> {
    cells.bytes().map(Buffer::from)
}

/// Reads a row of the columns [`TASK`].
fn task(cells: &mut Cells) -> Result<Task> {
    let (id, kind, uid, key) = (cells.int()?, kind(cells.int()?)?, uid(cells)?, key(cells)?);
    let (hidden, cause_revision, created_at) = (cells.flag()?, cells.int()?, cells.time()?);
    let (state, not_before, swept) = (state(cells.int()?)?, cells.time()?, cells.flag()?);
    let (labelled, cursor) = (cells.maybe_int()?, cells.maybe_bytes()?);
    let cursor = cursor.zip(labelled).map(|(key, labelled)| Place { labelled: labelled != 0, key: key.into() });
    let (failures, attempts) = (cells.int()?, cells.int()?);
    let progress = Progress { state, swept, cursor, failures, attempts, not_before, reason: cells.text()? };
    Ok(Task { id, kind, uid, key, hidden, cause_revision, created_at, progress })
}

/// UIDs as they are stored.
pub(super) fn blobs<'a>(uids: &[&'a Uid]) -> Vec<std::borrow::Cow<'a, [u8]>> {
    uids.iter().map(|uid| uid.to_blob()).collect()
}

/// Whether labelled dependents block, as far as these are looked at.
fn blocks(owner: &impl Display, looked_at: i64) -> String {
    format!(
        "(SELECT COALESCE(MAX(block), 0) = 1 OR COUNT(*) = {looked_at} FROM (SELECT block FROM owner
            WHERE owner_uid = {owner} AND labelled = 1 LIMIT {looked_at}) t)"
    )
}

/// The statement that tells those of UIDs that labelled dependents block.
pub(super) fn blocked(uid: &Uid, looked_at: i64) -> String {
    let owner = uid.to_blob();
    format!("SELECT {}", blocks(&Bytes(&owner), looked_at))
}

fn has_dependents(owner: &impl Display, more: &str) -> String {
    format!("EXISTS (SELECT 1 FROM owner WHERE owner_uid = {owner}{more})")
}

impl Graph for Tables {
    fn tasks(&mut self, which: Which<'_>, limit: usize) -> Result<Vec<Task>> {
        let sql = match which {
            Which::Due(now) => {
                let of = |state: i64| {
                    let now = now.millis();
                    format!(
                        "(SELECT {TASK} FROM gc_task WHERE state = {state} AND not_before <= {now} ORDER BY not_before, id LIMIT {limit})"
                    )
                };
                let (ready, parked) = (of(READY), of(PARKED));
                format!("{ready} UNION ALL {parked} ORDER BY not_before, id LIMIT {limit}")
            }
            Which::ForegroundAfter(id) => {
                format!("SELECT {TASK} FROM gc_task WHERE kind = {FOREGROUND} AND id > {id} ORDER BY id LIMIT {limit}")
            }
            Which::Parked => {
                format!("SELECT {TASK} FROM gc_task WHERE state = {PARKED} ORDER BY created_at, id LIMIT {limit}")
            }
            Which::After(id) => {
                format!("SELECT {TASK} FROM gc_task WHERE id > {id} ORDER BY id LIMIT {limit}")
            }
            Which::Of(uid) => {
                let uid = uid.to_blob();
                format!("SELECT {TASK} FROM gc_task WHERE uid = {} ORDER BY kind LIMIT {limit}", Bytes(&uid))
            }
        };
        self.connection.all("tasks", sql, task)
    }

    fn next_due(&mut self) -> Result<Option<StoreTime>> {
        let sql = format!(
            "SELECT MIN(due) FROM (SELECT MIN(not_before) due FROM gc_task WHERE state = {READY}
                UNION ALL SELECT MIN(not_before) FROM gc_task WHERE state = {PARKED}) t"
        );
        Ok(self.connection.first("next task", sql, Cells::maybe_int)?.flatten().map(StoreTime::from_millis))
    }

    fn with_uids(&mut self, uids: &[&Uid]) -> Result<Vec<(Uid, Row)>> {
        let sql = format!("SELECT uid, {ROW} FROM current FORCE INDEX (current_uid) WHERE {}", In("uid", &blobs(uids)));
        self.connection.all("objects", sql, |cells| Ok((uid(cells)?, cells.row()?)))
    }

    fn dependents(&mut self, owner: &Uid, after: (bool, &[u8]), limit: usize) -> Result<Vec<Dependent>> {
        let (owner, labelled) = (owner.to_blob(), i64::from(after.0));
        let sql = format!(
            "SELECT labelled, k, block FROM owner FORCE INDEX (PRIMARY) WHERE owner_uid = {} AND labelled >= {labelled}
                AND (labelled > {labelled} OR k > {}) ORDER BY labelled, k LIMIT {limit}",
            Bytes(&owner),
            Bytes(after.1)
        );
        self.connection.all("dependents", sql, |cells| {
            let place = Place { labelled: cells.flag()?, key: key(cells)? };
            Ok(Dependent { place, block: cells.flag()? })
        })
    }

    fn tombstones(&mut self, uids: &[&Uid]) -> Result<BTreeMap<Uid, (bool, Buffer)>> {
        let sql = format!("SELECT uid, namespaced, k FROM gc_tombstone WHERE {} ORDER BY id", In("uid", &blobs(uids)));
        let found = self.connection.all("tombstones", sql, |cells| Ok((uid(cells)?, (cells.flag()?, key(cells)?))))?;
        // Of several the last one is left.
        Ok(found.into_iter().collect())
    }

    fn tombstones_after(&mut self, id: i64, limit: usize) -> Result<Vec<Tombstone>> {
        let sql = format!(
            "SELECT id, uid, k, namespaced, revision, at FROM gc_tombstone WHERE id > {id} ORDER BY id LIMIT {limit}"
        );
        self.connection.all("all tombstones", sql, |cells| {
            let (id, uid, key) = (cells.int()?, uid(cells)?, key(cells)?);
            Ok(Tombstone { id, uid, key, namespaced: cells.flag()?, revision: cells.int()?, at: cells.time()? })
        })
    }

    fn orphaning(&mut self, uids: &[&Uid]) -> Result<BTreeSet<Uid>> {
        let sql = format!("SELECT uid FROM gc_task WHERE kind = {ORPHAN} AND {}", In("uid", &blobs(uids)));
        Ok(self.connection.all("orphaning", sql, uid)?.into_iter().collect())
    }

    fn below(&mut self, uids: &[&Uid], looked_at: i64) -> Result<BTreeMap<Uid, Below>> {
        let mut script = Script::new(self.connection.packet_bytes());
        for owner in blobs(uids) {
            let owner = Bytes(&owner);
            let (any, waits) = (has_dependents(&owner, ""), has_dependents(&owner, " AND waits = 1"));
            script.add("below", format_args!("SELECT {any}, {waits}, {}", blocks(&owner, looked_at)));
        }
        let mut below = BTreeMap::new();
        script.each(&mut self.connection, &mut |nth, mut cells| {
            let known = Below { any: cells.flag()?, waits: cells.flag()?, blocks: cells.flag()? };
            below.extend(uids.get(nth).map(|uid| ((*uid).clone(), known)));
            Ok(())
        })?;
        Ok(below)
    }

    fn heard(&mut self, uids: &[&Uid], owners: &[&Uid]) -> Result<Heard> {
        let (about, named) = (blobs(uids), blobs(owners));
        let mut script = Script::new(self.connection.packet_bytes());
        let mut asked: Vec<About<'_>> = Vec::new();
        for some in about.chunks(UIDS) {
            asked.push(About::Tasks);
            script.add("tasks", format_args!("SELECT uid, kind, state FROM gc_task WHERE {}", In("uid", some)));
        }
        for some in named.chunks(UIDS) {
            let among = In("uid", some);
            asked.extend([About::Keys, About::Tombstones]);
            script.add("keys", format_args!("SELECT uid, k FROM current WHERE {among} ORDER BY k"));
            script.add("tombstones", format_args!("SELECT DISTINCT uid FROM gc_tombstone WHERE {among}"));
        }
        for (owner, of) in about.iter().zip(uids) {
            let sort = |labelled: i64| has_dependents(&Bytes(owner), &format!(" AND labelled = {labelled}"));
            asked.push(About::DependentsOf(of));
            script.add("dependents", format_args!("SELECT {}, {}", sort(0), sort(1)));
        }
        let mut heard = Heard::default();
        script.each(&mut self.connection, &mut |nth, mut cells| {
            match asked.get(nth) {
                Some(About::Tasks) => {
                    let tasks = heard.tasks.entry(uid(&mut cells)?).or_default();
                    tasks.insert(kind(cells.int()?)?, state(cells.int()?)?);
                }
                Some(About::Keys) => heard.keys.entry(uid(&mut cells)?).or_default().push(key(&mut cells)?),
                Some(About::Tombstones) => drop(heard.tombstones.insert(uid(&mut cells)?)),
                Some(About::DependentsOf(uid)) => {
                    let sorts = (cells.flag()?, cells.flag()?);
                    heard.dependents.extend((sorts.0 || sorts.1).then(|| ((*uid).clone(), sorts)));
                }
                None => {}
            }
            Ok(())
        })?;
        Ok(heard)
    }

    fn queue(&mut self) -> Result<Status> {
        let mut packet =
            Packet::of("queue", "SELECT kind, state, COUNT(*) FROM gc_task GROUP BY kind, state ORDER BY kind, state");
        packet.add(
            "memory",
            "SELECT (SELECT MIN(created_at) FROM gc_task), (SELECT COUNT(*) FROM gc_tombstone),
                (SELECT COALESCE(SUM(opaque), 0) FROM directory WHERE opaque > 0)",
        );
        let mut status = Status::default();
        self.connection.each(&packet, &mut |nth, mut cells| {
            if nth == 0 {
                status.tasks.push((kind(cells.int()?)?, state(cells.int()?)?, cells.int()?));
            } else {
                status.oldest = cells.maybe_int()?.map(StoreTime::from_millis);
                (status.tombstones, status.opaque) = (cells.int()?, cells.int()?);
            }
            Ok(())
        })?;
        Ok(status)
    }

    fn unknown_owners(&mut self) -> Result<(i64, i64)> {
        // An owner is looked up once, however many name it.
        let sql = "SELECT COUNT(*), COALESCE(SUM(dependents), 0)
            FROM (SELECT owner_uid, COUNT(*) dependents FROM owner WHERE labelled = 1 GROUP BY owner_uid) named
            WHERE NOT EXISTS (SELECT 1 FROM current WHERE uid = owner_uid)
            AND NOT EXISTS (SELECT 1 FROM gc_tombstone WHERE uid = owner_uid)";
        Ok(self.connection.first("unknown owners", sql, |cells| Ok((cells.int()?, cells.int()?)))?.unwrap_or_default())
    }

    fn dependents_count(&mut self, owner: &Uid) -> Result<(i64, i64)> {
        let owner = owner.to_blob();
        let sql = format!(
            "SELECT COUNT(*) - COALESCE(SUM(labelled), 0), COALESCE(SUM(labelled), 0) FROM owner WHERE owner_uid = {}",
            Bytes(&owner)
        );
        Ok(self.connection.first("dependents", sql, |cells| Ok((cells.int()?, cells.int()?)))?.unwrap_or_default())
    }

    fn deleted(&mut self, key: &[u8]) -> Result<Option<(Uid, i64)>> {
        // Tombstones are found by UID, so this reads all of them.
        let sql = format!("SELECT uid, revision FROM gc_tombstone WHERE k = {} ORDER BY id DESC LIMIT 1", Bytes(key));
        self.connection.first("deleted", sql, |cells| Ok((uid(cells)?, cells.int()?)))
    }

    fn opaque_directories(&mut self) -> Result<Vec<Vec<u8>>> {
        let sql = "SELECT path FROM directory FORCE INDEX (directory_opaque) WHERE opaque > 0";
        self.connection.all("opaque directories", sql, Cells::bytes)
    }

    fn opaque_key(&mut self, range: &KeyRange, begins: &[u8]) -> Result<Option<Buffer>> {
        let sql = format!(
            "SELECT k FROM current FORCE INDEX (current_visible) WHERE hidden IS NULL AND {} AND LEFT(value, {}) = {} LIMIT 1",
            Within("k", range),
            begins.len(),
            Bytes(begins)
        );
        self.connection.first("opaque key", sql, key)
    }
}
