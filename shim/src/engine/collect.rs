//! The collector's part of a batch: which changes it must hear of, and the changes that it makes itself.
//!
//! Each of its changes is a revision of its own, as if a client had made it: watchers see it, and compaction forgets
//! it. What is changed was read in the same transaction, so a change never rests on something that is not so any more;
//! doing a task twice is harmless.

use bytes::Bytes;

use super::batch::Batch;
use super::collecting::Collected;
use super::store::Facets;
use super::types::*;
use crate::clock::{StoreTime, WallTime};
use crate::gc::rewrite::{Edit, rewrite};
use crate::gc::{
    Action, Below, DEFINITIONS, Deletion, Dependent, Entry, FOREGROUND, HOLD, Known, ORPHAN, Progress, Signal, Step,
    Task, TaskChange, TaskKind, TaskState, Uid, Verdict, What, Work, decide, ends, group, held_by, verdict,
};
use crate::object::{self, ObjectMeta, OwnerReference};

/// An owner as it is now.
struct Owner {
    key: Bytes,
    hidden: bool,
    deletion: Deletion,
}

/// What became of a dependent.
enum Outcome {
    /// It is not the collector's business.
    Foreign,
    /// It was kept as it is, or changed.
    Done,
    /// It can't be changed.
    Failed,
}

impl Batch<'_> {
    /// Holds objects that began, since there were so many signals, to wait for dependents that the controller manager
    /// does not see: it would let them go at once. Lets go of those that are to leave their dependents alone, for
    /// which they need not be there.
    ///
    /// A namespace goes when its own controller has emptied it, of hidden objects too (kube-apiserver:
    /// `ShouldDeleteNamespaceDuringUpdate` in pkg/registry/core/namespace/storage). What is held must be removed here
    /// at last, and a Service has addresses and ports that only the API server gives back (`afterDelete` in
    /// pkg/registry/core/service/storage/storage.go).
    pub(super) fn hold(&mut self, since: usize) {
        let edit = |signal: &Signal| {
            let edit = match signal.what {
                What::Orphaning if self.is_held(&signal.key) => {
                    Edit { remove_finalizer: Some(HOLD.to_owned()), ..Edit::default() }
                }
                What::Foreground if self.is_to_wait(signal) => {
                    Edit { add_finalizer: Some(HOLD.to_owned()), ..Edit::default() }
                }
                _ => return None,
            };
            Some((signal.key.clone(), edit))
        };
        for (key, edit) in self.gc.signals[since..].iter().filter_map(edit).collect::<Vec<_>>() {
            if self.edit(&key, &[edit]).is_none() {
                tracing::warn!(key = %key.escape_ascii(), "can't hold the object, or let go of it");
            }
        }
    }

    /// How many signals there are so far.
    pub(super) fn signals(&self) -> usize {
        self.gc.signals.len()
    }

    fn is_held(&self, key: &Bytes) -> bool {
        let node = self.after.get(key).and_then(Option::as_ref).and_then(|facets| facets.node.as_ref());
        node.is_some_and(|node| node.deletion.held)
    }

    /// Whether an object that began to wait is to be held.
    fn is_to_wait(&self, signal: &Signal) -> bool {
        let strict = self.gc.rules.strict_foreground;
        strict && !signal.hidden && self.blocks(&signal.uid) && !self.goes_by_itself(&signal.key)
    }

    fn goes_by_itself(&self, key: &Bytes) -> bool {
        let meta = self.rows.get(key).and_then(|row| object::decode(&row.kv.value));
        meta.is_some_and(|meta| meta.api_version == "v1" && ["Namespace", "Service"].contains(&&*meta.kind))
    }

    fn blocks(&self, uid: &Uid) -> bool {
        let blocks = |facets: &Facets| {
            let owners = facets.node.as_ref().map_or(&[][..], |node| &node.owners);
            facets.hidden && owners.iter().any(|edge| edge.block && edge.owner == *uid)
        };
        self.gc.blocked.contains(uid) || self.after.values().flatten().any(blocks)
    }

    /// Does the work that the database brought.
    pub(super) fn collect(&mut self) -> Collected {
        let now = self.now();
        let mut work = std::mem::take(&mut self.gc.work);
        for step in std::mem::take(&mut work.steps) {
            let progress = self.step(&step, &work, now);
            if progress.is_none() {
                self.gc.done.ages.push(now.since(step.task.created_at));
            }
            self.gc.tasks.push(TaskChange { id: step.task.id, progress });
            self.gc.done.tasks += 1;
        }
        Collected { due: work.due, ..std::mem::take(&mut self.gc.done) }
    }

    /// Lets go of what was held, because nobody collects any more.
    pub(super) fn release(&mut self) -> Collected {
        let work = std::mem::take(&mut self.gc.work);
        for step in &work.steps {
            if let Some(owner) = self.owner(step).filter(|owner| owner.deletion.held)
                && !self.let_go(&step.task, &owner, &[HOLD])
            {
                self.gc.done.failures.push((step.task.id, owner.key));
            }
            self.gc.done.last_task = Some(step.task.id);
        }
        std::mem::take(&mut self.gc.done)
    }

    /// Does a piece of a task; returns how far it is, or `None` if it is done.
    fn step(&mut self, step: &Step, work: &Work, now: StoreTime) -> Option<Progress> {
        let (task, owner) = (&step.task, self.owner(step));
        let mut progress = task.progress.clone();
        if is_void(task.kind, owner.as_ref()) {
            return None;
        }
        let hidden = owner.as_ref().map_or(task.hidden, |owner| owner.hidden);
        let awaiting = task.kind == TaskKind::Foreground && progress.swept;
        let mut cursor = progress.cursor.take();
        for dependent in &step.dependents {
            if !awaiting || dependent.block {
                match self.dependent(task, hidden, dependent, work) {
                    Outcome::Foreign => {}
                    Outcome::Failed => {
                        progress.failures += 1;
                        progress.reason = format!("{} can't be changed", dependent.place.key.escape_ascii());
                        self.gc.done.failures.push((task.id, dependent.place.key.clone()));
                    }
                    Outcome::Done if awaiting && self.still_blocks(task, dependent) => {
                        progress.cursor = cursor;
                        progress.state = TaskState::Waiting;
                        return Some(progress);
                    }
                    Outcome::Done => {}
                }
            }
            cursor = Some(dependent.place.clone());
        }
        if !step.last {
            progress.go_on(cursor, now);
            return Some(progress);
        }
        if progress.failures > 0 {
            progress.park(now, spread(&task.uid));
            return Some(progress);
        }
        let finalizers: &[&str] = match task.kind {
            TaskKind::Foreground if !progress.swept => {
                progress.swept = true;
                progress.go_on(None, now);
                return Some(progress);
            }
            TaskKind::Foreground if hidden => &[FOREGROUND, HOLD],
            TaskKind::Orphan if hidden => &[ORPHAN, HOLD],
            // The controller manager takes its own away.
            TaskKind::Foreground | TaskKind::Orphan => &[HOLD],
            TaskKind::Cascade | TaskKind::Recheck => &[],
        };
        match owner {
            Some(owner) if !self.let_go(task, &owner, finalizers) => {
                progress.reason = format!("{} can't be changed", owner.key.escape_ascii());
                self.gc.done.failures.push((task.id, owner.key));
                progress.park(now, spread(&task.uid));
                Some(progress)
            }
            _ => None,
        }
    }

    /// The owner of a step, if it is there still.
    fn owner(&self, step: &Step) -> Option<Owner> {
        let row = self.rows.get(step.owner.as_ref()?)?;
        let meta = object::decode(&row.kv.value)?;
        if Uid::parse(&meta.uid).as_ref() != Some(&step.task.uid) {
            return None;
        }
        let hidden = self.gc.rules.hides(group(&meta.api_version), labelled(&meta));
        Some(Owner { key: row.kv.key.clone(), hidden, deletion: Deletion::of(&meta) })
    }

    /// Whether a dependent, as it is now, blocks the task's owner.
    fn still_blocks(&self, task: &Task, dependent: &Dependent) -> bool {
        let meta = self.rows.get(&dependent.place.key).and_then(|row| object::decode(&row.kv.value));
        let blocks = |owner: &OwnerReference<'_>| {
            owner.block_owner_deletion && Uid::parse(&owner.uid).as_ref() == Some(&task.uid)
        };
        meta.is_some_and(|meta| meta.owner_references.iter().any(blocks))
    }

    fn dependent(&mut self, task: &Task, owner_hidden: bool, dependent: &Dependent, work: &Work) -> Outcome {
        let key = &dependent.place.key;
        // Its bytes are shared, so that the object can be changed while its metadata is looked at.
        let Some(value) = self.rows.get(key).map(|row| row.kv.value.clone()) else { return Outcome::Done };
        let Some(meta) = object::decode(&value) else { return Outcome::Failed };
        let of = group(&meta.api_version);
        let hidden = self.gc.rules.hides(of, labelled(&meta));
        let ours = match task.kind {
            TaskKind::Orphan => hidden || owner_hidden,
            _ if of == DEFINITIONS => false,
            TaskKind::Recheck => hidden,
            TaskKind::Cascade | TaskKind::Foreground => hidden || (owner_hidden && !self.gc.rules.typed(of)),
        };
        if !ours {
            return Outcome::Foreign;
        }
        let (name, done) = if task.kind == TaskKind::Orphan {
            let uid = task.uid.to_string();
            if !meta.owner_references.iter().any(|owner| owner.uid == uid) {
                return Outcome::Done;
            }
            ("orphan", self.edit(key, &[Edit { drop_owners: vec![uid], ..Edit::default() }]))
        } else {
            let known = |reference: &OwnerReference<'_>| work.known.get(&Uid::parse(&reference.uid)?);
            self.gc.done.unknown += unknown(&meta, known);
            let below = Uid::parse(&meta.uid).and_then(|uid| work.below.get(&uid)).copied().unwrap_or_default();
            match decide(&meta, below, known) {
                Action::Keep(_) => return Outcome::Done,
                Action::Delete => ("delete", self.delete_key(key)),
                Action::Drop(owners) => {
                    ("drop_references", self.edit(key, &[Edit { drop_owners: owners, ..Edit::default() }]))
                }
                Action::Mark => ("mark", self.edit(key, &self.mark(&meta, hidden, below))),
                Action::Foreground(unblock) => {
                    let begin = Edit {
                        mark_deleting: Some(WallTime::now().seconds()),
                        unblock_owners: unblock,
                        add_finalizer: Some(FOREGROUND.to_owned()),
                        remove_finalizer: Some(ORPHAN.to_owned()),
                        ..Edit::default()
                    };
                    ("mark_foreground", self.edit(key, &self.held(begin, hidden, below)))
                }
            }
        };
        let Some(bytes) = done else { return Outcome::Failed };
        self.note(task, key, &meta.uid, name, bytes);
        Outcome::Done
    }

    fn mark(&self, meta: &ObjectMeta<'_>, hidden: bool, below: Below) -> Vec<Edit> {
        let mark = Edit { mark_deleting: Some(WallTime::now().seconds()), ..Edit::default() };
        if meta.finalizers.iter().any(|finalizer| finalizer == FOREGROUND) {
            self.held(mark, hidden, below)
        } else {
            vec![mark]
        }
    }

    /// An edit that begins a foreground deletion, with all that has to be done at once.
    fn held(&self, edit: Edit, hidden: bool, below: Below) -> Vec<Edit> {
        let hold = Edit { add_finalizer: Some(HOLD.to_owned()), ..Edit::default() };
        let hold = (!hidden && below.blocks && self.gc.rules.strict_foreground).then_some(hold);
        [edit].into_iter().chain(hold).collect()
    }

    /// Takes finalizers from the owner, which goes if it was the last. Returns whether that could be done.
    fn let_go(&mut self, task: &Task, owner: &Owner, finalizers: &[&str]) -> bool {
        let Some(value) = self.rows.get(&owner.key).map(|row| row.kv.value.clone()) else { return true };
        let Some(meta) = object::decode(&value) else { return false };
        let lost = held_by(&meta, finalizers);
        if lost.is_empty() {
            return true;
        }
        let done = if ends(&meta, &lost) {
            self.delete_key(&owner.key)
        } else {
            let remove = |name: &&str| Edit { remove_finalizer: Some((*name).to_owned()), ..Edit::default() };
            self.edit(&owner.key, &lost.iter().map(remove).collect::<Vec<_>>())
        };
        if let Some(bytes) = done {
            let name = if lost == [HOLD] { "release" } else { "finish" };
            self.note(task, &owner.key, &meta.uid, name, bytes);
        }
        done.is_some()
    }

    fn note(&mut self, task: &Task, key: &Bytes, uid: &str, action: &'static str, bytes: usize) {
        self.gc.done.bytes += bytes;
        self.gc.done.entries.push(Entry {
            revision: self.revision(),
            key: key.clone(),
            uid: uid.to_owned(),
            action,
            cause: task.kind,
            cause_uid: task.uid.clone(),
            cause_key: task.key.clone(),
        });
    }

    /// Rewrites a value at a revision of its own; returns the size of the old one, or `None` if it can't be rewritten.
    fn edit(&mut self, key: &Bytes, edits: &[Edit]) -> Option<usize> {
        let old = self.rows.get(key)?.kv.value.clone();
        let mut new = old.to_vec();
        for edit in edits {
            new = rewrite(&new, edit)?;
        }
        if new == old {
            return Some(0);
        }
        let put = Put { key: key.clone(), value: new.into(), ignore_lease: true, ..Put::default() };
        self.atomically(|batch| batch.put(&put)).ok()?;
        Some(old.len())
    }

    /// Removes a key at a revision of its own; returns the size of its value.
    fn delete_key(&mut self, key: &Bytes) -> Option<usize> {
        let (_, removed) = self.atomically(|batch| Ok(batch.remove(key))).ok()?;
        removed.map(|kv| kv.value.len())
    }
}

/// A number that is the same on each database, and another one for most other objects.
fn spread(uid: &Uid) -> i64 {
    uid.to_blob().iter().fold(0, |sum: i64, byte| sum.wrapping_mul(31).wrapping_add(i64::from(*byte)))
}

/// Whether a task has nothing to do any more, because its owner took another way.
fn is_void(kind: TaskKind, owner: Option<&Owner>) -> bool {
    match (kind, owner.map(|owner| owner.deletion)) {
        (TaskKind::Foreground, deletion) => deletion.is_none_or(|deletion| !deletion.waits()),
        // Whose `orphan` the controller manager took away, or who is gone already, still leaves hidden dependents
        // behind.
        (TaskKind::Orphan, Some(deletion)) => !deletion.orphan && (deletion.foreground || !deletion.begun),
        _ => false,
    }
}

fn labelled(meta: &ObjectMeta<'_>) -> bool {
    meta.label(crate::contract::SKIP_METADATA_CACHING_LABEL).is_some()
}

fn unknown<'k>(meta: &ObjectMeta<'_>, known: impl Fn(&OwnerReference<'_>) -> Option<&'k Known>) -> u64 {
    let unknown = |reference: &&OwnerReference<'_>| {
        known(reference).is_none_or(|known| {
            matches!(verdict(&meta.namespace, reference, known), Verdict::Unknown | Verdict::Unserved)
        })
    };
    meta.owner_references.iter().filter(unknown).count() as u64
}
