//! What a batch knows and gathers of the collector's business.

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use memchr::memmem::Finder;

use super::store::Facets;
use super::types::Revision;
use crate::clock::StoreTime;
use crate::gc::{Deletion, Entry, FOREGROUND, Rules, Seen, Signal, TaskChange, Uid, Work, signals};
use crate::object;

/// What a batch knows and gathers of the collector's business.
pub(super) struct Collecting<'a> {
    pub(super) rules: &'a Rules,
    /// Objects that labelled dependents block.
    pub(super) blocked: BTreeSet<Uid>,
    /// The work that the database brought.
    pub(super) work: Work,
    /// What the collector must hear of, in order.
    pub(super) signals: Vec<Signal>,
    /// What became of tasks.
    pub(super) tasks: Vec<TaskChange>,
    /// What came of the work so far.
    pub(super) done: Collected,
}

/// What a portion of the collector's work came to.
#[derive(Debug, Default)]
pub(super) struct Collected {
    /// How many tasks were worked on.
    pub(super) tasks: usize,
    /// What was changed.
    pub(super) entries: Vec<Entry>,
    /// How many bytes of values the changes put aside.
    pub(super) bytes: usize,
    /// How many references to unknown UIDs were met.
    pub(super) unknown: u64,
    /// How long the tasks that ended had been there.
    pub(super) ages: Vec<Duration>,
    /// What can't be changed, with its task's number.
    pub(super) failures: Vec<(i64, Bytes)>,
    /// When there is more to do.
    pub(super) due: Option<StoreTime>,
    /// The last task of a portion that was asked for by number.
    pub(super) last_task: Option<i64>,
}

impl<'a> Collecting<'a> {
    pub(super) fn new(rules: &'a Rules, blocked: BTreeSet<Uid>, work: Work) -> Self {
        Self { rules, blocked, work, signals: Vec::new(), tasks: Vec::new(), done: Collected::default() }
    }

    /// Notes a change of a key at a revision. Nothing is concluded from a value that can't be read any more, as that of
    /// an object which is encrypted now: the object lives.
    pub(super) fn changed(&mut self, at: (&Bytes, Revision), old: Option<&Facets>, new: Option<&Facets>) {
        if new.is_some_and(|new| new.node.is_none()) {
            return;
        }
        signals(self.rules, at, old.and_then(seen), new.and_then(seen), &mut self.signals);
    }
}

/// An object as the collector sees it.
pub(super) fn seen(facets: &Facets) -> Option<Seen<'_>> {
    facets.node.as_ref().map(|node| Seen { node, labelled: facets.hidden })
}

/// The UID of an object that waits for its dependents, if the value is one. Nearly all values are told by their bytes
/// alone: the finalizer is written the same in all encodings.
pub(super) fn waits(value: &[u8]) -> Option<Uid> {
    static NAME: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(FOREGROUND));
    NAME.find(value)?;
    let meta = object::decode(value)?;
    Deletion::of(&meta).foreground.then(|| Uid::parse(&meta.uid)).flatten()
}
