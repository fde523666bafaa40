//! The statements that write a delta.

use std::borrow::Cow;
use std::collections::HashSet;

use super::error::CREATE;
use super::link::{Ask, Param};
use super::row::{blobs, ints};
use super::set::Kind::{Blob, Flag, Int};
use super::set::{Kind, Set};
use crate::engine::store::{Queue, Row};
use crate::gc::{Task, Tombstone, Uid};
use crate::sql::codes::{self, FOREGROUND, ORPHAN, READY};
use crate::sql::session::{Delta, IndexChange, StoredRow};

/// The columns of a live row.
const CURRENT: &[(&str, Kind)] = &[
    ("key", Blob),
    ("create_revision", Int),
    ("mod_revision", Int),
    ("sub", Int),
    ("version", Int),
    ("lease", Int),
    ("hidden", Flag),
    ("uid", Blob),
    ("value", Blob),
];
const HISTORY: &[(&str, Kind)] = &[
    ("key", Blob),
    ("create_revision", Int),
    ("mod_revision", Int),
    ("sub", Int),
    ("version", Int),
    ("lease", Int),
    ("end_revision", Int),
    ("end_sub", Int),
    ("deleted", Flag),
    ("value", Blob),
];
const CHANGE: &[(&str, Kind)] = &[("revision", Int), ("sub", Int), ("deleted", Flag), ("key", Blob)];
const END: &[(&str, Kind)] = &[("key", Blob), ("end_revision", Int), ("end_sub", Int), ("deleted", Flag)];
const ATTACHED: &[(&str, Kind)] = &[("lease", Int), ("key", Blob)];
const ATTRIBUTE: &[(&str, Kind)] = &[("name", Int), ("value", Blob), ("key", Blob)];
const DIRECTORY: &[(&str, Kind)] = &[("path", Blob), ("live", Int), ("opaque", Int), ("misplaced", Int)];
const LEASE: &[(&str, Kind)] = &[("id", Int), ("ttl", Int), ("expires_at", Int)];
const EDGE: &[(&str, Kind)] =
    &[("owner_uid", Blob), ("labelled", Flag), ("key", Blob), ("block", Flag), ("waits", Flag)];
const INDEX: &[(&str, Kind)] = &[
    ("id", Int),
    ("prefix", Blob),
    ("api_version", Blob),
    ("field", Blob),
    ("state", Int),
    ("cursor", Blob),
    ("objects", Int),
];
const INDEX_STATE: &[(&str, Kind)] = &[("id", Int), ("state", Int), ("cursor", Blob), ("objects", Int)];
const NAME: &[(&str, Kind)] = &[("id", Int), ("name", Blob)];
const PROGRESS: &[(&str, Kind)] = &[
    ("id", Int),
    ("state", Int),
    ("swept", Flag),
    ("cursor_labelled", Flag),
    ("cursor_key", Blob),
    ("failures", Int),
    ("attempts", Int),
    ("not_before", Int),
    ("reason", Blob),
];

pub(super) const TOMBSTONE: &[(&str, Kind)] =
    &[("id", Int), ("uid", Blob), ("key", Blob), ("namespaced", Flag), ("revision", Int), ("at", Int)];
const TASK: &[(&str, Kind)] = &[
    ("id", Int),
    ("uid", Blob),
    ("kind", Int),
    ("key", Blob),
    ("hidden", Flag),
    ("cause_revision", Int),
    ("created_at", Int),
    ("state", Int),
    ("swept", Flag),
    ("cursor_labelled", Flag),
    ("cursor_key", Blob),
    ("failures", Int),
    ("attempts", Int),
    ("not_before", Int),
    ("reason", Blob),
];

/// Statements with their texts and parameters, in the order in which they are carried out.
pub(super) struct Statements<'a> {
    all: Vec<(&'static str, String, Values<'a>)>,
}

enum Values<'a> {
    Rows(Set<'a>),
    Keys(Vec<Cow<'a, [u8]>>),
    Numbers(Vec<i64>),
}

/// The name of statements after which tasks can go on, if they change any.
pub(super) const WAKE: &str = "wake";

impl<'a> Statements<'a> {
    pub(super) fn new() -> Self {
        Self { all: Vec::new() }
    }

    /// Adds one, if it has rows.
    pub(super) fn rows(&mut self, name: &'static str, rows: Set<'a>, sql: impl FnOnce(&Set<'a>) -> String) {
        if !rows.is_empty() {
            let sql = sql(&rows);
            self.all.push((name, sql, Values::Rows(rows)));
        }
    }

    /// Adds one whose only parameter is a list of bytes.
    pub(super) fn keys(&mut self, name: &'static str, keys: Vec<Cow<'a, [u8]>>, sql: &str) {
        if !keys.is_empty() {
            self.all.push((name, sql.to_owned(), Values::Keys(keys)));
        }
    }

    fn numbers(&mut self, name: &'static str, numbers: Vec<i64>, sql: &str) {
        if !numbers.is_empty() {
            self.all.push((name, sql.to_owned(), Values::Numbers(numbers)));
        }
    }

    /// All of them, to be carried out.
    pub(super) fn asks(&self) -> Vec<Ask<'_>> {
        let mut asks = Vec::with_capacity(self.all.len() + 2);
        for (name, sql, values) in &self.all {
            asks.push(Ask::new(name, sql, values.params()));
        }
        asks
    }
}

impl Values<'_> {
    fn params(&self) -> Vec<Param<'_>> {
        match self {
            Self::Rows(rows) => rows.params(),
            Self::Keys(keys) => vec![blobs(keys)],
            Self::Numbers(numbers) => vec![ints(numbers)],
        }
    }
}

/// The statements of a delta. `names`: the names that it brings; `ids`: numbers for the indexes that it adds.
pub(super) fn statements<'a>(delta: &'a Delta<'a>, names: &'a [(i64, Box<str>)], ids: &[i64]) -> Statements<'a> {
    let mut all = Statements::new();
    tasks(&mut all, delta);
    values(&mut all, delta);
    let mut new_names = Set::new(NAME);
    for (id, name) in names {
        new_names.push([(*id).into(), name.as_bytes().into()]);
    }
    all.rows("names", new_names, |rows| rows.insert("attribute_name"));
    derived(&mut all, delta);
    indexes(&mut all, delta, ids);
    owners(&mut all, delta);
    leases(&mut all, delta);
    all
}

/// The statements that store the collector's rows of another database.
pub(super) fn queue(queue: &Queue) -> Statements<'_> {
    let mut all = Statements::new();
    let numbers = |gone: &[i64], come: &mut dyn Iterator<Item = i64>| gone.iter().copied().chain(come).collect();
    let tasks = numbers(&queue.tasks_gone, &mut queue.tasks.iter().map(|task| task.id));
    let tombstones = numbers(&queue.tombstones_gone, &mut queue.tombstones.iter().map(|tombstone| tombstone.id));
    all.numbers("other tasks", tasks, "DELETE FROM gc_task WHERE id = ANY($1)");
    all.numbers("other tombstones", tombstones, "DELETE FROM gc_tombstone WHERE id = ANY($1)");
    let mut rows = Set::new(TASK);
    for Task { id, kind, uid, key, hidden, cause_revision, created_at, progress } in &queue.tasks {
        let cursor = progress.cursor.as_ref();
        rows.push([
            (*id).into(),
            uid.to_blob().into(),
            codes::of_kind(*kind).into(),
            key[..].into(),
            (*hidden).into(),
            (*cause_revision).into(),
            created_at.millis().into(),
            codes::of_state(progress.state).into(),
            progress.swept.into(),
            cursor.map(|place| place.labelled).into(),
            cursor.map(|place| Cow::Borrowed(&place.key[..])).into(),
            progress.failures.into(),
            progress.attempts.into(),
            progress.not_before.millis().into(),
            progress.reason.as_bytes().into(),
        ]);
    }
    all.rows("take tasks", rows, |rows| rows.insert("gc_task"));
    let mut rows = Set::new(TOMBSTONE);
    for Tombstone { id, uid, key, namespaced, revision, at } in &queue.tombstones {
        rows.push([
            (*id).into(),
            uid.to_blob().into(),
            key[..].into(),
            (*namespaced).into(),
            (*revision).into(),
            at.millis().into(),
        ]);
    }
    all.rows("take tombstones", rows, |rows| rows.insert("gc_tombstone"));
    all
}

/// What became of tasks.
fn tasks<'a>(all: &mut Statements<'a>, delta: &'a Delta<'a>) {
    let (mut gone, mut going) = (Vec::new(), Set::new(PROGRESS));
    for change in delta.tasks {
        let Some(progress) = &change.progress else {
            gone.push(change.id);
            continue;
        };
        let cursor = progress.cursor.as_ref();
        going.push([
            change.id.into(),
            codes::of_state(progress.state).into(),
            progress.swept.into(),
            cursor.map(|place| place.labelled).into(),
            cursor.map(|place| Cow::Borrowed(&place.key[..])).into(),
            progress.failures.into(),
            progress.attempts.into(),
            progress.not_before.millis().into(),
            progress.reason.as_bytes().into(),
        ]);
    }
    all.numbers("tasks that are done", gone, "DELETE FROM gc_task WHERE id = ANY($1)");
    all.rows("tasks", going, |rows| {
        let set = rows.list("").split(", ").skip(1).map(|name| format!("{name} = t.{name}")).collect::<Vec<_>>();
        format!("UPDATE gc_task g SET {} FROM {} WHERE g.id = t.id", set.join(", "), rows.table())
    });
}

/// Keys, what they held before, and the order in which it changed.
///
/// What was stored is put aside by the server: its value need not be sent. Of a key that existed that is the first of
/// the values that the batch put aside; all others lived within the batch only.
fn values<'a>(all: &mut Statements<'a>, delta: &'a Delta<'a>) {
    let existed = delta.updated.iter().map(|stored| &stored.row.kv.key[..]);
    let mut existed: HashSet<&[u8]> = existed.chain(delta.removed.iter().map(|(key, _)| *key)).collect();
    let (mut change, mut history, mut ends) = (Set::new(CHANGE), Set::new(HISTORY), Set::new(END));
    for superseded in delta.history {
        let Row { kv, sub } = &superseded.row;
        let (key, end, end_sub, deleted) =
            (&kv.key[..], superseded.end_revision, superseded.end_sub, superseded.deleted);
        if existed.remove(key) {
            ends.push([key.into(), end.into(), end_sub.into(), deleted.into()]);
        } else {
            change.push([kv.mod_revision.into(), (*sub).into(), false.into(), key.into()]);
            history.push([
                key.into(),
                kv.create_revision.into(),
                kv.mod_revision.into(),
                (*sub).into(),
                kv.version.into(),
                kv.lease.into(),
                end.into(),
                end_sub.into(),
                deleted.into(),
                kv.value[..].into(),
            ]);
        }
        if deleted {
            change.push([end.into(), end_sub.into(), true.into(), key.into()]);
        }
    }
    let (mut created, mut updated) = (Set::new(CURRENT), Set::new(CURRENT));
    for (rows, set) in [(&delta.created, &mut created), (&delta.updated, &mut updated)] {
        for stored in rows {
            let Row { kv, sub } = stored.row;
            change.push([kv.mod_revision.into(), (*sub).into(), false.into(), kv.key[..].into()]);
            push_row(set, stored);
        }
    }
    // Of a store that is being loaded some of the past is left out: then the old value and its change go.
    let forgotten = existed.into_iter().map(Cow::Borrowed).collect();
    let sql =
        "DELETE FROM change y USING current c WHERE c.key = ANY($1) AND y.revision = c.mod_revision AND y.sub = c.sub";
    all.keys("forget changes", forgotten, sql);
    all.rows("change", change, |rows| rows.insert("change"));
    all.rows("put aside", ends, |rows| {
        format!(
            "INSERT INTO history (key, create_revision, mod_revision, sub, version, lease, end_revision, end_sub,
                deleted, value)
             SELECT c.key, c.create_revision, c.mod_revision, c.sub, c.version, c.lease, t.end_revision, t.end_sub,
                 t.deleted,
             c.value FROM {} JOIN current c ON c.key = t.key",
            rows.table()
        )
    });
    all.rows("history", history, |rows| rows.insert("history"));
    all.rows(CREATE, created, |rows| rows.insert("current"));
    all.rows("update", updated, |rows| {
        let set = rows.list("").split(", ").skip(1).map(|name| format!("{name} = t.{name}")).collect::<Vec<_>>();
        format!("UPDATE current c SET {} FROM {} WHERE c.key = t.key", set.join(", "), rows.table())
    });
    let removed = delta.removed.iter().map(|(key, _)| Cow::Borrowed(*key)).collect();
    all.keys("remove", removed, "DELETE FROM current c USING unnest($1::bytea[]) t(key) WHERE c.key = t.key");
}

fn push_row<'a>(rows: &mut Set<'a>, stored: &StoredRow<'a>) {
    let Row { kv, sub } = stored.row;
    rows.push([
        kv.key[..].into(),
        kv.create_revision.into(),
        kv.mod_revision.into(),
        (*sub).into(),
        kv.version.into(),
        kv.lease.into(),
        stored.hidden.into(),
        stored.uid.map(Uid::to_blob).into(),
        kv.value[..].into(),
    ]);
}

/// The index, and the counts of directories.
fn derived<'a>(all: &mut Statements<'a>, delta: &'a Delta<'a>) {
    let (mut gone, mut new) = (Set::new(ATTRIBUTE), Set::new(ATTRIBUTE));
    for (rows, set) in [(&delta.postings_gone, &mut gone), (&delta.postings_new, &mut new)] {
        for row in rows {
            set.push([row.name.into(), row.value.as_bytes().into(), row.key.into()]);
        }
    }
    all.rows("entries that go", gone, |rows| {
        let same = "a.name = t.name AND a.value = t.value AND a.key = t.key";
        format!("DELETE FROM attribute a USING {} WHERE {same}", rows.table())
    });
    all.rows("entries", new, |rows| format!("{} ON CONFLICT DO NOTHING", rows.insert("attribute")));
    let (mut counts, mut fewer) = (Set::new(DIRECTORY), Vec::new());
    for (path, [live, opaque, misplaced]) in &delta.directories {
        if [*live, *opaque, *misplaced] != [0; 3] {
            counts.push([(*path).into(), (*live).into(), (*opaque).into(), (*misplaced).into()]);
        }
        if *live < 0 {
            fewer.push(Cow::Borrowed(*path));
        }
    }
    all.rows("directories", counts, |rows| {
        format!(
            "INSERT INTO directory AS d (path, live, opaque, misplaced) SELECT * FROM {} ON CONFLICT (path) DO UPDATE
             SET live = d.live + excluded.live, opaque = d.opaque + excluded.opaque,
                 misplaced = d.misplaced + excluded.misplaced",
            rows.table()
        )
    });
    all.keys("empty directories", fewer, "DELETE FROM directory WHERE path = ANY($1) AND live = 0");
}

/// The table of field indexes.
fn indexes<'a>(all: &mut Statements<'a>, delta: &'a Delta<'a>, ids: &[i64]) {
    let (mut set, mut new, mut ids) = (Set::new(INDEX_STATE), Set::new(INDEX), ids.iter());
    for change in &delta.indexes {
        match change {
            IndexChange::Set { id, state, cursor, objects } => {
                set.push([(*id).into(), codes::of_index(*state).into(), cursor[..].into(), (*objects).into()]);
            }
            IndexChange::Add { prefix, api_version, field, state } => new.push([
                ids.next().copied().unwrap_or(0).into(),
                prefix[..].into(),
                api_version.as_bytes().into(),
                field.as_bytes().into(),
                codes::of_index(*state).into(),
                prefix[..].into(),
                0.into(),
            ]),
        }
    }
    all.rows("set indexes", set, |rows| {
        format!(
            "UPDATE field_index f SET state = t.state, cursor = t.cursor, objects = t.objects FROM {} WHERE f.id =
                t.id",
            rows.table()
        )
    });
    all.rows("add indexes", new, |rows| rows.insert("field_index"));
}

/// The graph of owners, and the tasks that wait for it.
fn owners<'a>(all: &mut Statements<'a>, delta: &'a Delta<'a>) {
    let (mut gone, mut new) = (Set::new(EDGE), Set::new(EDGE));
    for (rows, set) in [(&delta.edges_gone, &mut gone), (&delta.edges_new, &mut new)] {
        for edge in rows {
            let owner = edge.owner.to_blob();
            set.push([owner.into(), edge.labelled.into(), edge.key.into(), edge.block.into(), edge.waits.into()]);
        }
    }
    all.rows("owners that go", gone, |rows| {
        let same = "o.owner_uid = t.owner_uid AND o.labelled = t.labelled AND o.key = t.key";
        format!("DELETE FROM owner o USING {} WHERE {same}", rows.table())
    });
    all.rows("owners", new, |rows| {
        let conflict =
            "ON CONFLICT (owner_uid, labelled, key) DO UPDATE SET block = excluded.block, waits = excluded.waits";
        format!("{} {conflict}", rows.insert("owner"))
    });
    let blobs = |uids: &[&'a Uid]| uids.iter().map(|uid| uid.to_blob()).collect();
    let sql = format!(
        "UPDATE gc_task SET state = {READY}, not_before = 0
         WHERE uid = ANY($1) AND kind = {FOREGROUND} AND state <> {READY}"
    );
    all.keys(WAKE, blobs(&delta.wake_foreground), &sql);
    let sql = format!(
        "UPDATE gc_task SET state = {READY}, not_before = 0, swept = false, cursor_labelled = NULL, cursor_key = NULL
         WHERE uid = ANY($1) AND kind IN ({ORPHAN}, {FOREGROUND})"
    );
    all.keys(WAKE, blobs(&delta.restart), &sql);
}

/// Leases, and the keys that are attached to them.
fn leases<'a>(all: &mut Statements<'a>, delta: &'a Delta<'a>) {
    let (mut off, mut on) = (Set::new(ATTACHED), Set::new(ATTACHED));
    for StoredRow { row, .. } in delta.created.iter().filter(|stored| stored.row.kv.lease != 0) {
        on.push([row.kv.lease.into(), row.kv.key[..].into()]);
    }
    for StoredRow { row, old_lease, .. } in delta.updated.iter().filter(|row| row.old_lease != row.row.kv.lease) {
        if *old_lease != 0 {
            off.push([(*old_lease).into(), row.kv.key[..].into()]);
        }
        if row.kv.lease != 0 {
            on.push([row.kv.lease.into(), row.kv.key[..].into()]);
        }
    }
    for (key, lease) in delta.removed.iter().filter(|(_, lease)| *lease != 0) {
        off.push([(*lease).into(), (*key).into()]);
    }
    all.rows("detach", off, |rows| {
        format!("DELETE FROM attached a USING {} WHERE a.lease = t.lease AND a.key = t.key", rows.table())
    });
    all.rows("attach", on, |rows| rows.insert("attached"));
    let (mut gone, mut stored) = (Vec::new(), Set::new(LEASE));
    for (id, lease) in &delta.leases {
        match lease {
            Some(lease) => stored.push([(*id).into(), lease.ttl.into(), lease.expires_at.millis().into()]),
            None => gone.push(*id),
        }
    }
    all.numbers("leases that go", gone, "DELETE FROM lease WHERE id = ANY($1)");
    all.rows("leases", stored, |rows| {
        let conflict = "ON CONFLICT (id) DO UPDATE SET ttl = excluded.ttl, expires_at = excluded.expires_at";
        format!("{} {conflict}", rows.insert("lease"))
    });
}
