//! The statements of a commit.
//!
//! Rows are deleted with the spelling for several tables: an administrator's KILL QUERY may let a `DELETE FROM` of
//! MariaDB 10.11 do nothing and succeed, and the transaction would be committed without it.

use std::collections::HashMap;
use std::fmt;

use super::Tables;
use super::error::CREATE;
use super::graph::blobs;
use super::script::Script;
use super::text::{Bytes, In, Maybe};
use crate::engine::Revision;
use crate::engine::store::{Queue, Superseded};
use crate::gc::{Progress, Task, TaskChange, Tombstone};
use crate::sql::codes::{self, FOREGROUND, ORPHAN, READY};
use crate::sql::session::{Delta, EdgeRow, IndexChange, PostingRow, StoredRow};

/// The statements that let tasks go on.
pub(super) const WAKE: &str = "wake";

/// A row of the table `change`.
struct Changed<'a> {
    at: (Revision, i64),
    deleted: bool,
    key: &'a [u8],
}

impl fmt::Display for Changed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at: (revision, sub), deleted, key } = self;
        write!(f, "({revision},{sub},{},{})", i64::from(*deleted), Bytes(key))
    }
}

/// The changes that the transaction makes: puts of values that are new in it, and deletions.
fn changes<'a>(delta: &Delta<'a>, before: Revision) -> Vec<Changed<'a>> {
    let mut all = Vec::new();
    for row in delta.created.iter().chain(&delta.updated) {
        let (kv, sub) = (&row.row.kv, row.row.sub);
        all.push(Changed { at: (kv.mod_revision, sub), deleted: false, key: &kv.key });
    }
    for Superseded { row, end_revision, end_sub, deleted } in delta.history {
        let (kv, key) = (&row.kv, &row.kv.key[..]);
        if kv.mod_revision > before {
            all.push(Changed { at: (kv.mod_revision, row.sub), deleted: false, key });
        }
        if *deleted {
            all.push(Changed { at: (*end_revision, *end_sub), deleted: true, key });
        }
    }
    all
}

/// A row of the table `history`.
struct Old<'a>(&'a Superseded);

impl fmt::Display for Old<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Superseded { row, end_revision, end_sub, deleted } = self.0;
        let (kv, sub, deleted) = (&row.kv, row.sub, i64::from(*deleted));
        let (create, modified) = (kv.create_revision, kv.mod_revision);
        write!(f, "({},{create},{modified},{sub},{},{},", Bytes(&kv.key), kv.version, kv.lease)?;
        write!(f, "{end_revision},{end_sub},{deleted},{})", Bytes(&kv.value))
    }
}

/// A row of the table `current`.
struct New<'a>(&'a StoredRow<'a>);

impl fmt::Display for New<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StoredRow { row, hidden, uid, .. } = self.0;
        let (kv, sub, hidden) = (&row.kv, row.sub, Maybe(hidden.map(i64::from)));
        let uid = uid.map(|uid| uid.to_blob());
        let (create, modified) = (kv.create_revision, kv.mod_revision);
        write!(f, "({},{create},{modified},{sub},{},{},", Bytes(&kv.key), kv.version, kv.lease)?;
        write!(f, "{hidden},{},{})", Maybe(uid.as_deref().map(Bytes)), Bytes(&kv.value))
    }
}

fn posting(PostingRow { name, value, key }: &PostingRow<'_>) -> String {
    format!("({name},{},{})", Bytes(value.as_bytes()), Bytes(key))
}

/// The columns of `history` and of `current`, in the order of [`Old`] and [`New`].
const HISTORY: &str = "INSERT INTO history (k, create_revision, mod_revision, sub, version, lease, end_revision, \
    end_sub, deleted, value)";
const CURRENT: &str =
    "INSERT INTO current (k, create_revision, mod_revision, sub, version, lease, hidden, uid, value) VALUES ";
const UPDATE: &str = " ON DUPLICATE KEY UPDATE create_revision = VALUES(create_revision), \
    mod_revision = VALUES(mod_revision), sub = VALUES(sub), version = VALUES(version), lease = VALUES(lease), \
    hidden = VALUES(hidden), uid = VALUES(uid), value = VALUES(value)";

impl Tables {
    /// The statements that write a delta.
    pub(super) fn script(&mut self, delta: &Delta<'_>) -> Script {
        let mut script = Script::new(self.connection.packet_bytes());
        tasks(&mut script, delta.tasks);
        let new = self.transaction.names.iter().skip(self.transaction.written);
        let new = new.map(|(name, id)| format!("({id},{})", Bytes(name.as_bytes())));
        script.rows("names", "INSERT INTO attribute_name (id, name) VALUES ", new, "");
        rows(&mut script, delta, self.transaction.revision);
        let removed: Vec<&[u8]> = delta.removed.iter().map(|(key, _)| *key).collect();
        script.rows(
            "remove keys",
            "DELETE current FROM current WHERE k IN (",
            removed.iter().map(|key| Bytes(key)),
            ")",
        );
        script.rows(CREATE, CURRENT, delta.created.iter().map(New), "");
        script.rows("update keys", CURRENT, delta.updated.iter().map(New), UPDATE);
        attached(&mut script, delta);
        let gone = "DELETE attribute FROM attribute WHERE (name, value, k) IN (";
        script.rows("postings gone", gone, delta.postings_gone.iter().map(posting), ")");
        let new = "INSERT INTO attribute (name, value, k) VALUES ";
        script.rows(
            "postings",
            new,
            delta.postings_new.iter().map(posting),
            " ON DUPLICATE KEY UPDATE name = VALUES(name)",
        );
        directories(&mut script, delta);
        owners(&mut script, delta);
        self.indexes(&mut script, &delta.indexes);
        let (mut gone, mut kept) = (Vec::new(), Vec::new());
        for (id, lease) in &delta.leases {
            match lease {
                Some(lease) => kept.push(format!("({id},{},{})", lease.ttl, lease.expires_at.millis())),
                None => gone.push(*id),
            }
        }
        let same = " ON DUPLICATE KEY UPDATE ttl = VALUES(ttl), expires_at = VALUES(expires_at)";
        script.rows("leases", "INSERT INTO lease (id, ttl, expires_at) VALUES ", kept, same);
        script.rows("leases gone", "DELETE lease FROM lease WHERE id IN (", gone, ")");
        script
    }

    fn indexes(&mut self, script: &mut Script, indexes: &[IndexChange]) {
        for change in indexes {
            let sql = match change {
                IndexChange::Add { prefix, api_version, field, state } => format!(
                    "INSERT INTO field_index (id, prefix, api_version, field, state, `cursor`, objects) VALUES
                        ({}, {prefix}, {}, {}, {}, {prefix}, 0)",
                    self.next_id(),
                    Bytes(api_version.as_bytes()),
                    Bytes(field.as_bytes()),
                    codes::of_index(*state),
                    prefix = Bytes(prefix)
                ),
                IndexChange::Set { id, state, cursor, objects } => format!(
                    "UPDATE field_index SET state = {}, `cursor` = {}, objects = {objects} WHERE id = {id}",
                    codes::of_index(*state),
                    Bytes(cursor)
                ),
            };
            script.add("index", sql);
        }
    }
}

fn tasks(script: &mut Script, tasks: &[TaskChange]) {
    let done = tasks.iter().filter(|task| task.progress.is_none()).map(|task| task.id);
    script.rows("tasks done", "DELETE gc_task FROM gc_task WHERE id IN (", done, ")");
    for TaskChange { id, progress } in tasks {
        let Some(Progress { state, swept, cursor, failures, attempts, not_before, reason }) = progress else {
            continue;
        };
        let labelled = Maybe(cursor.as_ref().map(|place| i64::from(place.labelled)));
        let key = Maybe(cursor.as_ref().map(|place| Bytes(&place.key)));
        let (state, swept, not_before) = (codes::of_state(*state), i64::from(*swept), not_before.millis());
        let reason = Bytes(reason.as_bytes());
        script.add(
            "task",
            format_args!(
                "UPDATE gc_task SET state = {state}, swept = {swept}, cursor_labelled = {labelled}, cursor_key = {key},
                 failures = {failures}, attempts = {attempts}, not_before = {not_before}, reason = {reason} \
                 WHERE id = {id}"
            ),
        );
    }
}

/// The statements that store the collector's rows of another database.
pub(super) fn queue(script: &mut Script, queue: &Queue) {
    let Queue { tasks, tasks_gone, tombstones, tombstones_gone } = queue;
    let gone = tasks_gone.iter().copied().chain(tasks.iter().map(|task| task.id));
    script.rows("other tasks", "DELETE FROM gc_task WHERE id IN (", gone, ")");
    let gone = tombstones_gone.iter().copied().chain(tombstones.iter().map(|tombstone| tombstone.id));
    script.rows("other tombstones", "DELETE FROM gc_tombstone WHERE id IN (", gone, ")");
    let row = |Task { id, kind, uid, key, hidden, cause_revision, created_at, progress }: &Task| {
        let Progress { state, swept, cursor, failures, attempts, not_before, reason } = progress;
        let (uid, key, hidden, created_at) = (uid.to_blob(), Bytes(key), i64::from(*hidden), created_at.millis());
        let labelled = Maybe(cursor.as_ref().map(|place| i64::from(place.labelled)));
        let cursor = Maybe(cursor.as_ref().map(|place| Bytes(&place.key)));
        let (kind, state, swept) = (codes::of_kind(*kind), codes::of_state(*state), i64::from(*swept));
        let (uid, reason, not_before) = (Bytes(&uid), Bytes(reason.as_bytes()), not_before.millis());
        format!(
            "({id}, {kind}, {uid}, {key}, {hidden}, {cause_revision}, {created_at}, {state}, {not_before}, {swept}, \
             {labelled}, {cursor}, {failures}, {attempts}, {reason})"
        )
    };
    script.rows("take tasks", "INSERT INTO gc_task VALUES ", tasks.iter().map(row), "");
    let row = |Tombstone { id, uid, key, namespaced, revision, at }: &Tombstone| {
        let (uid, namespaced, at) = (uid.to_blob(), i64::from(*namespaced), at.millis());
        format!("({id}, {}, {}, {namespaced}, {revision}, {at})", Bytes(&uid), Bytes(key))
    };
    let insert = "INSERT INTO gc_tombstone (id, uid, k, namespaced, revision, at) VALUES ";
    script.rows("take tombstones", insert, tombstones.iter().map(row), "");
    let highest = tasks.iter().map(|task| task.id).chain(tombstones.iter().map(|tombstone| tombstone.id)).max();
    let next = highest.map_or(0, |id| id.saturating_add(1));
    script.add("next number", format_args!("UPDATE meta SET next_id = GREATEST(next_id, {next}) WHERE id = 1"));
}

/// The tables `change` and `history`, before `current` changes. The database copies values from there, so that an
/// update sends a value once; but for keys that change twice, and for a store that is being loaded.
fn rows(script: &mut Script, delta: &Delta<'_>, before: Revision) {
    let changes = changes(delta, before);
    let until = changes.iter().map(|change| change.at.0).max().unwrap_or(before);
    let mut times: HashMap<&[u8], u32> = HashMap::new();
    for change in &changes {
        *times.entry(change.key).or_default() += 1;
    }
    // A store that is being loaded may have the changes of values that were stored before.
    let again = if before == 0 { " ON DUPLICATE KEY UPDATE deleted = VALUES(deleted)" } else { "" };
    script.rows("changes", "INSERT INTO `change` (revision, sub, deleted, k) VALUES ", &changes, again);
    let is_sent = |old: &&Superseded| {
        before == 0
            || old.row.kv.mod_revision > before
            || times.get(&old.row.kv.key[..]).is_some_and(|times| *times > 1)
    };
    let sent: Vec<&Superseded> = delta.history.iter().filter(is_sent).collect();
    if sent.len() < delta.history.len() {
        let mut keys: Vec<&[u8]> = times.iter().filter(|(_, times)| **times > 1).map(|(key, _)| *key).collect();
        keys.sort_unstable();
        script.add(
            "history",
            format_args!(
                "{HISTORY} SELECT c.k, c.create_revision, c.mod_revision, c.sub, c.version, c.lease, ch.revision, \
                 ch.sub, ch.deleted, c.value FROM `change` ch FORCE INDEX (PRIMARY) \
                 STRAIGHT_JOIN current c FORCE INDEX (PRIMARY) ON c.k = ch.k WHERE ch.revision > {before} AND ch.revision <= {until} AND NOT {}",
                In("ch.k", &keys)
            ),
        );
    }
    script.rows("short history", &format!("{HISTORY} VALUES "), sent.into_iter().map(Old), "");
}

/// Which keys are attached to which leases.
fn attached(script: &mut Script, delta: &Delta<'_>) {
    let (mut gone, mut new) = (Vec::new(), Vec::new());
    let row = |lease: i64, key: &[u8]| format!("({lease},{})", Bytes(key));
    for StoredRow { row: stored, old_lease, .. } in delta.created.iter().chain(&delta.updated) {
        let (lease, key) = (stored.kv.lease, &stored.kv.key);
        if lease != *old_lease {
            gone.extend((*old_lease != 0).then(|| row(*old_lease, key)));
            new.extend((lease != 0).then(|| row(lease, key)));
        }
    }
    gone.extend(delta.removed.iter().filter(|(_, lease)| *lease != 0).map(|(key, lease)| row(*lease, key)));
    script.rows("detached", "DELETE attached FROM attached WHERE (lease, k) IN (", gone, ")");
    script.rows(
        "attached",
        "INSERT INTO attached (lease, k) VALUES ",
        new,
        " ON DUPLICATE KEY UPDATE lease = VALUES(lease)",
    );
}

fn directories(script: &mut Script, delta: &Delta<'_>) {
    let row = |(path, [live, opaque, misplaced]): (&&[u8], &[i64; 3])| {
        format!("({},{live},{opaque},{misplaced})", Bytes(path))
    };
    let add = " ON DUPLICATE KEY UPDATE live = live + VALUES(live), opaque = opaque + VALUES(opaque), \
        misplaced = misplaced + VALUES(misplaced)";
    let new = "INSERT INTO directory (path, live, opaque, misplaced) VALUES ";
    script.rows("directories", new, delta.directories.iter().map(row), add);
    let fewer = delta.directories.iter().filter(|(_, counts)| counts[0] < 0).map(|(path, _)| Bytes(path));
    script.rows("empty directories", "DELETE directory FROM directory WHERE live = 0 AND path IN (", fewer, ")");
}

fn owners(script: &mut Script, delta: &Delta<'_>) {
    let place = |edge: &EdgeRow<'_>| {
        let (owner, labelled) = (edge.owner.to_blob(), i64::from(edge.labelled));
        format!("{},{labelled},{}", Bytes(&owner), Bytes(edge.key))
    };
    let gone = delta.edges_gone.iter().map(|edge| format!("({})", place(edge)));
    script.rows("owners gone", "DELETE owner FROM owner WHERE (owner_uid, labelled, k) IN (", gone, ")");
    let new = delta.edges_new.iter();
    let new = new.map(|edge| format!("({},{},{})", place(edge), i64::from(edge.block), i64::from(edge.waits)));
    let same = " ON DUPLICATE KEY UPDATE block = VALUES(block), waits = VALUES(waits)";
    script.rows("owners", "INSERT INTO owner (owner_uid, labelled, k, block, waits) VALUES ", new, same);
    let wake = format!(
        "UPDATE gc_task SET state = {READY}, not_before = 0 WHERE kind = {FOREGROUND} AND state <> {READY} AND uid IN ("
    );
    script.rows(WAKE, &wake, blobs(&delta.wake_foreground).iter().map(|uid| Bytes(uid)), ")");
    let restart = format!(
        "UPDATE gc_task SET state = {READY}, not_before = 0, swept = 0, cursor_labelled = NULL, cursor_key = NULL
         WHERE kind IN ({ORPHAN}, {FOREGROUND}) AND uid IN ("
    );
    script.rows(WAKE, &restart, blobs(&delta.restart).iter().map(|uid| Bytes(uid)), ")");
}
