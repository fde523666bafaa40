//! The graph of owners, and the collector's queue.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::link::{Ask, get};
use super::row::{Bounds, blob, blobs, bytes, columns, flag, int, limit, row};
use super::session::Session;
use super::task::{TASK, kind, state, task, uid};
use crate::clock::StoreTime;
use crate::engine::KeyRange;
use crate::engine::store::Row;
use crate::gc::{Below, Dependent, Place, Status, Task, TaskKind, TaskState, Tombstone, Uid};
use crate::sql::codes::{self, FOREGROUND, ORPHAN, PARKED, WAITING};
use crate::sql::failure::Result;
use crate::sql::session::{Graph, Heard, Which};

fn blobs_of<'a>(uids: &[&'a Uid]) -> Vec<Cow<'a, [u8]>> {
    uids.iter().map(|uid| uid.to_blob()).collect()
}

impl Graph for Session {
    fn tasks(&mut self, which: Which<'_>, most: usize) -> Result<Vec<Task>> {
        let most = limit(most);
        let of = |condition: &str| format!("SELECT {TASK} FROM gc_task WHERE {condition} LIMIT $1");
        let found = match which {
            Which::Due(now) => {
                let sql = of(&format!("state <> {WAITING} AND not_before <= $2 ORDER BY not_before, id"));
                self.ask(Ask::new("due tasks", &sql, vec![int(&most), int(&now.millis())]))
            }
            Which::ForegroundAfter(id) => {
                let sql = of(&format!("kind = {FOREGROUND} AND id > $2 ORDER BY id"));
                self.ask(Ask::new("foreground tasks", &sql, vec![int(&most), int(&id)]))
            }
            Which::Parked => {
                let sql = of(&format!("state = {PARKED} ORDER BY created_at, id"));
                self.ask(Ask::new("parked tasks", &sql, vec![int(&most)]))
            }
            Which::After(id) => {
                let sql = of("id > $2 ORDER BY id");
                self.ask(Ask::new("all tasks", &sql, vec![int(&most), int(&id)]))
            }
            Which::Of(uid) => {
                let sql = of("uid = $2 ORDER BY kind");
                self.ask(Ask::new("tasks of a UID", &sql, vec![int(&most), blob(&uid.to_blob())]))
            }
        };
        found?.iter().map(task).collect()
    }

    fn next_due(&mut self) -> Result<Option<StoreTime>> {
        let sql = format!("SELECT min(not_before) FROM gc_task WHERE state <> {WAITING}");
        let found = self.ask(Ask::new("next task", &sql, vec![]))?;
        let due: Option<i64> = found.first().map_or(Ok(None), |found| get(found, 0))?;
        Ok(due.map(StoreTime::from_millis))
    }

    fn with_uids(&mut self, uids: &[&Uid]) -> Result<Vec<(Uid, Row)>> {
        let sql = format!("SELECT c.uid, {} FROM current c WHERE c.uid = ANY($1)", columns("c"));
        let found = self.ask(Ask::new("objects by UID", &sql, vec![blobs(&blobs_of(uids))]))?;
        found.iter().map(|found| Ok((uid(found, 0)?, row(found, 1)?))).collect()
    }

    fn dependents(&mut self, owner: &Uid, after: (bool, &[u8]), most: usize) -> Result<Vec<Dependent>> {
        let (owner, (labelled, key), most) = (owner.to_blob(), after, limit(most));
        let sql = "SELECT labelled, key, block FROM owner
            WHERE owner_uid = $1 AND (labelled, key) > ($2, $3) ORDER BY labelled, key LIMIT $4";
        let params = vec![blob(&owner), flag(&labelled), blob(&key), int(&most)];
        let found = self.ask(Ask::new("dependents", sql, params))?;
        let dependent = |found: &tokio_postgres::Row| {
            let place = Place { labelled: get(found, 0)?, key: bytes(found, 1)? };
            Ok(Dependent { place, block: get(found, 2)? })
        };
        found.iter().map(dependent).collect()
    }

    fn tombstones(&mut self, uids: &[&Uid]) -> Result<BTreeMap<Uid, (bool, Bytes)>> {
        let sql = "SELECT u.uid, g.namespaced, g.key FROM unnest($1::bytea[]) u(uid)
            CROSS JOIN LATERAL (SELECT namespaced, key FROM gc_tombstone WHERE uid = u.uid ORDER BY id DESC LIMIT 1) g";
        let found = self.ask(Ask::new("tombstones", sql, vec![blobs(&blobs_of(uids))]))?;
        found.iter().map(|found| Ok((uid(found, 0)?, (get(found, 1)?, bytes(found, 2)?)))).collect()
    }

    fn tombstones_after(&mut self, id: i64, most: usize) -> Result<Vec<Tombstone>> {
        let sql = "SELECT id, uid, key, namespaced, revision, at FROM gc_tombstone WHERE id > $1 ORDER BY id LIMIT $2";
        let most = limit(most);
        let found = self.ask(Ask::new("all tombstones", sql, vec![int(&id), int(&most)]))?;
        let tombstone = |found: &tokio_postgres::Row| {
            Ok(Tombstone {
                id: get(found, 0)?,
                uid: uid(found, 1)?,
                key: bytes(found, 2)?,
                namespaced: get(found, 3)?,
                revision: get(found, 4)?,
                at: StoreTime::from_millis(get(found, 5)?),
            })
        };
        found.iter().map(tombstone).collect()
    }

    fn orphaning(&mut self, uids: &[&Uid]) -> Result<BTreeSet<Uid>> {
        let sql = format!("SELECT uid FROM gc_task WHERE uid = ANY($1) AND kind = {ORPHAN}");
        let found = self.ask(Ask::new("orphaning", &sql, vec![blobs(&blobs_of(uids))]))?;
        found.iter().map(|found| uid(found, 0)).collect()
    }

    fn below(&mut self, uids: &[&Uid], looked_at: i64) -> Result<BTreeMap<Uid, Below>> {
        let sql = "SELECT u.uid, EXISTS (SELECT 1 FROM owner WHERE owner_uid = u.uid),
            EXISTS (SELECT 1 FROM owner WHERE owner_uid = u.uid AND waits),
            (SELECT coalesce(bool_or(block), false) OR count(*) = $2
                FROM (SELECT block FROM owner WHERE owner_uid = u.uid AND labelled LIMIT $2) b)
            FROM unnest($1::bytea[]) u(uid)";
        let found = self.ask(Ask::new("below", sql, vec![blobs(&blobs_of(uids)), int(&looked_at)]))?;
        let below = |found: &tokio_postgres::Row| {
            Ok((uid(found, 0)?, Below { any: get(found, 1)?, waits: get(found, 2)?, blocks: get(found, 3)? }))
        };
        found.iter().map(below).collect()
    }

    fn heard(&mut self, uids: &[&Uid], owners: &[&Uid]) -> Result<Heard> {
        let (uids, owners) = (blobs_of(uids), blobs_of(owners));
        let dependents = "SELECT u.uid, EXISTS (SELECT 1 FROM owner WHERE owner_uid = u.uid AND NOT labelled),
            EXISTS (SELECT 1 FROM owner WHERE owner_uid = u.uid AND labelled) FROM unnest($1::bytea[]) u(uid)";
        let tombstones = "SELECT u.uid FROM unnest($1::bytea[]) u(uid)
            WHERE EXISTS (SELECT 1 FROM gc_tombstone WHERE uid = u.uid)";
        let answers = self.all(&[
            Ask::new("heard dependents", dependents, vec![blobs(&uids)]),
            Ask::new("heard tasks", "SELECT uid, kind, state FROM gc_task WHERE uid = ANY($1)", vec![blobs(&uids)]),
            Ask::new("heard keys", "SELECT uid, key FROM current WHERE uid = ANY($1)", vec![blobs(&owners)]),
            Ask::new("heard tombstones", tombstones, vec![blobs(&owners)]),
        ])?;
        let mut heard = Heard::default();
        for found in &answers[0].rows {
            let there: (bool, bool) = (get(found, 1)?, get(found, 2)?);
            if there != (false, false) {
                heard.dependents.insert(uid(found, 0)?, there);
            }
        }
        for found in &answers[1].rows {
            heard.tasks.entry(uid(found, 0)?).or_default().insert(kind(found, 1)?, state(found, 2)?);
        }
        for found in &answers[2].rows {
            heard.keys.entry(uid(found, 0)?).or_default().push(bytes(found, 1)?);
        }
        for found in &answers[3].rows {
            heard.tombstones.insert(uid(found, 0)?);
        }
        Ok(heard)
    }

    fn queue(&mut self) -> Result<Status> {
        let sql = "SELECT (SELECT min(created_at) FROM gc_task), (SELECT count(*) FROM gc_tombstone),
            (SELECT coalesce(sum(opaque), 0) FROM directory WHERE opaque > 0)::bigint";
        let answers = self.all(&[
            Ask::new("queue", "SELECT kind, state, count(*) FROM gc_task GROUP BY kind, state", vec![]),
            Ask::new("memory", sql, vec![]),
        ])?;
        let mut counted: Vec<(i64, i64, i64)> = Vec::new();
        for found in &answers[0].rows {
            counted.push((get(found, 0)?, get(found, 1)?, get(found, 2)?));
        }
        let mut status = Status::default();
        for kind in TaskKind::ALL {
            for state in TaskState::ALL {
                let numbers = (codes::of_kind(kind), codes::of_state(state));
                let of = counted.iter().find(|(kind, state, _)| (*kind, *state) == numbers);
                status.tasks.extend(of.map(|(.., count)| (kind, state, *count)));
            }
        }
        if let Some(found) = answers[1].rows.first() {
            status.oldest = get::<Option<i64>>(found, 0)?.map(StoreTime::from_millis);
            (status.tombstones, status.opaque) = (get(found, 1)?, get(found, 2)?);
        }
        Ok(status)
    }

    fn unknown_owners(&mut self) -> Result<(i64, i64)> {
        // An owner is looked up once, however many name it.
        let sql = "SELECT count(*), coalesce(sum(dependents), 0)::bigint
            FROM (SELECT owner_uid, count(*) AS dependents FROM owner WHERE labelled GROUP BY owner_uid) n
            WHERE NOT EXISTS (SELECT 1 FROM current WHERE uid = owner_uid)
            AND NOT EXISTS (SELECT 1 FROM gc_tombstone WHERE uid = owner_uid)";
        self.pair(Ask::new("unknown owners", sql, vec![]))
    }

    fn dependents_count(&mut self, owner: &Uid) -> Result<(i64, i64)> {
        let sql = "SELECT count(*) FILTER (WHERE NOT labelled), count(*) FILTER (WHERE labelled) FROM owner
            WHERE owner_uid = $1";
        self.pair(Ask::new("count dependents", sql, vec![blob(&owner.to_blob())]))
    }

    fn deleted(&mut self, key: &[u8]) -> Result<Option<(Uid, i64)>> {
        // Tombstones are found by UID, so this reads all of them.
        let sql = "SELECT uid, revision FROM gc_tombstone WHERE key = $1 ORDER BY id DESC LIMIT 1";
        let found = self.ask(Ask::new("deleted", sql, vec![blob(&key)]))?;
        found.first().map(|found| Ok((uid(found, 0)?, get(found, 1)?))).transpose()
    }

    fn opaque_directories(&mut self) -> Result<Vec<Vec<u8>>> {
        let sql = "SELECT path FROM directory WHERE opaque > 0 ORDER BY path";
        self.ask(Ask::new("opaque directories", sql, vec![]))?.iter().map(|found| get(found, 0)).collect()
    }

    fn opaque_key(&mut self, range: &KeyRange, begins: &[u8]) -> Result<Option<Bytes>> {
        let bounds = Bounds::of(range);
        let sql = "SELECT key FROM current WHERE key >= $1 AND key < $2 AND hidden IS NULL
            AND substring(value FROM 1 FOR $4::int) = $3 ORDER BY key LIMIT 1";
        let len = i32::try_from(begins.len()).unwrap_or(i32::MAX);
        let params =
            vec![blob(&bounds.start), blob(&bounds.end), blob(&begins), (&len as _, tokio_postgres::types::Type::INT4)];
        self.ask(Ask::new("opaque key", sql, params))?.first().map(|found| bytes(found, 0)).transpose()
    }
}

impl Session {
    fn pair(&mut self, ask: Ask<'_>) -> Result<(i64, i64)> {
        self.ask(ask)?.first().map_or(Ok((0, 0)), |found| Ok((get(found, 0)?, get(found, 1)?)))
    }
}
