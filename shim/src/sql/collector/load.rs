//! Reads a portion of the collector's work with all that is needed to do it.
//!
//! A database at the end of a network is asked a few times for each task, and a few times for the relatives of all
//! dependents together.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::known::known;
use super::portion::Portion;
use crate::clock::StoreTime;
use crate::engine::store::Row;
use crate::gc::{Dependent, FOREGROUND, Place, Quota, Step, Task, TaskKind, Uid, Work};
use crate::object;
use crate::sql::failure::Result;
use crate::sql::session::{Reading, Which};

/// How many tasks a portion has at most, and the owners of how many of them are read at a time.
const TASKS: usize = 64;
const OWNERS: usize = 16;
/// How many labelled dependents of an object are looked at to see whether any blocks. Among very many it is taken for
/// granted: to hold an object for a moment without need is harmless, to look at all of them in the middle of a commit
/// is not.
pub(in crate::sql) const LOOKED_AT: i64 = 1000;

/// Reads the work; the rows that it names are added to `rows`.
pub(in crate::sql) fn load(
    session: &mut dyn Reading,
    quota: &Quota,
    now: StoreTime,
    rows: &mut BTreeMap<Bytes, Row>,
) -> Result<Work> {
    let which = quota.foreground_after.map_or(Which::Due(now), Which::ForegroundAfter);
    let mut tasks = session.tasks(which, TASKS)?.into_iter();
    let mut load = Load { objects: quota.objects, bytes: quota.bytes, rows, dependents: Vec::new() };
    let mut work = Work::default();
    'quota: loop {
        let some: Vec<Task> = tasks.by_ref().take(OWNERS).collect();
        if some.is_empty() {
            break;
        }
        let owners = owners(session, &some)?;
        for (task, owner) in some.into_iter().zip(owners) {
            if load.objects == 0 || load.bytes == 0 {
                break 'quota;
            }
            let step = load.begin(session, task, owner, quota.foreground_after.is_none())?;
            work.steps.push(step);
        }
    }
    let dependents = load.dependents;
    relatives(session, &dependents, &mut work)?;
    if work.steps.is_empty() {
        work.due = session.next_due()?;
    }
    Ok(work)
}

/// For each task, the live object that has its UID. Should there be copies, the one at the task's key is it.
fn owners(session: &mut dyn Reading, tasks: &[Task]) -> Result<Vec<Option<Row>>> {
    let uids: BTreeSet<&Uid> = tasks.iter().map(|task| &task.uid).collect();
    let found = session.with_uids(&uids.into_iter().collect::<Vec<_>>())?;
    let of = |task: &Task| {
        let copies = found.iter().filter(|(uid, _)| *uid == task.uid).map(|(_, row)| row);
        copies.min_by_key(|row| (row.kv.key != task.key, &row.kv.key)).cloned()
    };
    Ok(tasks.iter().map(of).collect())
}

/// What is read of the dependents.
struct Load<'r> {
    /// How many more to look at.
    objects: usize,
    /// How many more bytes of values to read.
    bytes: usize,
    rows: &'r mut BTreeMap<Bytes, Row>,
    /// Those that were read.
    dependents: Vec<Relations>,
}

impl Load<'_> {
    /// Reads the next dependents of a task.
    fn begin(&mut self, session: &mut dyn Reading, task: Task, owner: Option<Row>, works: bool) -> Result<Step> {
        let key = owner.as_ref().map(|owner| owner.kv.key.clone());
        self.rows.extend(owner.map(|owner| (owner.kv.key.clone(), owner)));
        let mut step = Step { task, owner: key, dependents: Vec::new(), last: true };
        if step.task.kind == TaskKind::Recheck {
            let itself = |key: Bytes| Dependent { place: Place { labelled: true, key }, block: false };
            step.dependents.extend(step.owner.take().map(itself));
        } else if works {
            step.dependents = dependents(session, &step.task, self.objects)?;
            step.last = step.dependents.len() < self.objects;
        }
        let read = self.read(session, &step)?;
        if read < step.dependents.len() {
            step.dependents.truncate(read);
            step.last = false;
        }
        self.objects = self.objects.saturating_sub(read.max(1));
        Ok(step)
    }

    /// Reads the dependents that matter, as far as the bytes go; returns how many were looked at.
    fn read(&mut self, session: &mut dyn Reading, step: &Step) -> Result<usize> {
        // A task that is left with waiting for the dependents that block looks at no others.
        let awaits = step.task.kind == TaskKind::Foreground && step.task.progress.swept;
        let (mut list, mut portion, mut read) = (&step.dependents[..], Portion::new(), 0);
        while !list.is_empty() && self.bytes > 0 {
            let some = portion.of(&mut list);
            let matter = |dependent: &&Dependent| !awaits || dependent.block;
            let keys = some.iter().filter(matter).map(|dependent| &dependent.place.key);
            let keys: Vec<&[u8]> = keys.filter(|key| !self.rows.contains_key(*key)).map(|key| &key[..]).collect();
            let found = if keys.is_empty() { Vec::new() } else { session.rows(&keys)? };
            portion.had(found.len(), found.iter().map(|row| row.kv.value.len()).sum());
            let mut found: BTreeMap<Bytes, Row> = found.into_iter().map(|row| (row.kv.key.clone(), row)).collect();
            for dependent in some {
                if self.bytes == 0 {
                    break;
                }
                read += 1;
                if matter(&dependent) {
                    self.take(&dependent.place.key, &mut found);
                }
            }
        }
        Ok(read)
    }

    /// Takes a dependent, if it is there.
    fn take(&mut self, key: &Bytes, found: &mut BTreeMap<Bytes, Row>) {
        if let Some(row) = found.remove(key) {
            self.rows.insert(key.clone(), row);
        }
        if let Some(row) = self.rows.get(key) {
            self.bytes = self.bytes.saturating_sub(row.kv.value.len());
            self.dependents.extend(Relations::of(&row.kv.value));
        }
    }
}

/// The dependents behind the task's cursor. A visible owner's visible dependents are the controller manager's; they
/// come first and are passed over.
fn dependents(session: &mut dyn Reading, task: &Task, limit: usize) -> Result<Vec<Dependent>> {
    let after = match &task.progress.cursor {
        Some(place) => (place.labelled, &place.key[..]),
        None => (!task.hidden, &b""[..]),
    };
    session.dependents(&task.uid, after, limit)
}

/// What of a dependent tells which relatives matter.
struct Relations {
    uid: Option<Uid>,
    owners: Vec<Uid>,
    /// Whether it waits for its own dependents, or will.
    waits: bool,
}

impl Relations {
    /// Those of an object; `None` if the value can't be read.
    fn of(value: &[u8]) -> Option<Self> {
        let meta = object::decode(value)?;
        Some(Self {
            uid: Uid::parse(&meta.uid),
            owners: meta.owner_references.iter().filter_map(|reference| Uid::parse(&reference.uid)).collect(),
            waits: meta.finalizers.iter().any(|finalizer| finalizer == FOREGROUND),
        })
    }
}

/// Adds what is known of the owners of dependents, and of their own dependents if these may matter.
fn relatives(session: &mut dyn Reading, dependents: &[Relations], work: &mut Work) -> Result<()> {
    let owners: BTreeSet<Uid> = dependents.iter().flat_map(|dependent| &dependent.owners).cloned().collect();
    work.known = known(session, &owners)?;
    let waits = |owner: &Uid| work.known.get(owner).is_some_and(|known| known.live.iter().any(|at| at.waits));
    let wait = dependents.iter().filter(|dependent| dependent.waits || dependent.owners.iter().any(waits));
    let wait: BTreeSet<&Uid> = wait.filter_map(|dependent| dependent.uid.as_ref()).collect();
    if !wait.is_empty() {
        work.below = session.below(&wait.into_iter().collect::<Vec<_>>(), LOOKED_AT)?;
    }
    Ok(())
}
