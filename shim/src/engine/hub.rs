//! The watch hub: recent events in memory, and who wants which.
//!
//! Watchers hold no events. A commit appends its events to one ring, and marks the watchers that they concern with the first revision that
//! they have not seen; a marked watcher reads the ring from there, or the database if the ring no longer reaches back so far. So the memory of
//! a watcher is constant, a slow one holds up nobody, and nothing is lost between the database and the ring.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use tokio::sync::watch;

use super::examined::Examined;
use super::metrics::Metrics;
use super::session::Inbox;
use super::types::{Event, EventKind, KeyRange, RangeEnd, Revision, WatchSpec};
use crate::selector::Selection;

/// How many bytes of keys and values the ring holds.
const RING_BYTES: usize = 16 << 20;

/// One per store.
#[derive(Debug)]
pub(super) struct Hub {
    state: Mutex<State>,
    /// The newest revision that all concerned watchers have been marked with.
    revision: AtomicI64,
    /// The same, for those that wait for a revision.
    published: watch::Sender<Revision>,
    compact_revision: AtomicI64,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct State {
    ring: VecDeque<Arc<RingEvent>>,
    ring_bytes: usize,
    /// The ring holds all events from this revision on.
    ring_from: Revision,
    /// Watchers of one key, by the key.
    single: HashMap<Bytes, HashMap<Interest, Members>>,
    ranges: HashMap<Interest, Members>,
}

type Members = HashMap<(usize, i64), Weak<Inbox>>;

/// What a group of watchers wants.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Interest {
    range: KeyRange,
    no_put: bool,
    no_delete: bool,
    selection: Option<Arc<Selection>>,
}

/// An event with what selectors know of it.
#[derive(Debug)]
pub(super) struct RingEvent {
    pub(super) event: Arc<Event>,
    examined: Examined,
}

impl RingEvent {
    pub(super) fn new(event: Arc<Event>) -> Self {
        Self { event, examined: Examined::default() }
    }

    /// The revision of the event.
    pub(super) fn revision(&self) -> Revision {
        self.event.kv.mod_revision
    }

    fn bytes(&self) -> usize {
        let previous = self.event.prev_kv.as_ref().map_or(0, |kv| kv.value.len());
        self.event.kv.key.len() + self.event.kv.value.len() + previous + 200
    }

    /// Whether a watcher wants the event. With a selection: whether the current *or* the previous value may match, so that the
    /// client learns of objects that leave the selection.
    pub(super) fn wanted_by(&self, spec: &WatchSpec) -> bool {
        self.concerns(&spec.range, spec.no_put, spec.no_delete) && self.selected_by(spec.selection.as_deref())
    }

    fn concerns(&self, range: &KeyRange, no_put: bool, no_delete: bool) -> bool {
        let kind_wanted = match self.event.kind {
            EventKind::Put => !no_put,
            EventKind::Delete => !no_delete,
        };
        kind_wanted && range.contains(&self.event.kv.key)
    }

    fn selected_by(&self, selection: Option<&Selection>) -> bool {
        selection.is_none_or(|selection| self.examined.may_match(&self.event, selection))
    }
}

impl Hub {
    pub(super) fn new(revision: Revision, compact_revision: Revision, metrics: Arc<Metrics>) -> Self {
        let state = State {
            ring: VecDeque::new(),
            ring_bytes: 0,
            ring_from: revision + 1,
            single: HashMap::new(),
            ranges: HashMap::new(),
        };
        Self {
            state: Mutex::new(state),
            revision: AtomicI64::new(revision),
            published: watch::Sender::new(revision),
            compact_revision: AtomicI64::new(compact_revision),
            metrics,
        }
    }

    /// The newest published revision.
    pub(super) fn revision(&self) -> Revision {
        self.revision.load(Ordering::Acquire)
    }

    /// The revision of the last compaction, or 0.
    pub(super) fn compact_revision(&self) -> Revision {
        self.compact_revision.load(Ordering::Acquire)
    }

    /// Tells the hub of a compaction.
    pub(super) fn compacted(&self, revision: Revision) {
        self.compact_revision.fetch_max(revision, Ordering::AcqRel);
        self.metrics.compact_revision.set(self.compact_revision());
    }

    /// Waits until the revision is published.
    pub(super) async fn reached(&self, revision: Revision) {
        if self.revision() < revision {
            // Fails only when the sender is gone, which is `self`.
            let _ = self.published.subscribe().wait_for(|published| *published >= revision).await;
        }
    }

    /// Appends the events of a commit, in order, and marks the watchers that want them.
    pub(super) fn publish(&self, events: Vec<Arc<Event>>, revision: Revision) {
        if revision <= self.revision() {
            return;
        }
        let mut state = self.lock();
        for event in events {
            let event = Arc::new(RingEvent::new(event));
            state.mark(&event);
            state.push(event);
        }
        self.revision.store(revision, Ordering::Release);
        drop(state);
        self.metrics.revision.set(revision);
        self.published.send_replace(revision);
    }

    /// Adds a watcher; returns the newest revision at that moment.
    pub(super) fn register(&self, inbox: &Arc<Inbox>, spec: &WatchSpec) -> Revision {
        let mut state = self.lock();
        let members = state.members(spec);
        members.insert((Arc::as_ptr(inbox) as usize, spec.id), Arc::downgrade(inbox));
        self.revision()
    }

    /// Removes a watcher.
    pub(super) fn unregister(&self, inbox: &Arc<Inbox>, spec: &WatchSpec) {
        let mut state = self.lock();
        let members = state.members(spec);
        members.remove(&(Arc::as_ptr(inbox) as usize, spec.id));
        if members.is_empty() {
            state.forget(spec);
        }
    }

    /// The events from a revision on that the watcher wants, at most about `limit`, whole revisions only, and the revision up to which that is
    /// all; `None` if the ring does not reach back so far.
    pub(super) fn recent(&self, spec: &WatchSpec, from: Revision, limit: usize) -> Option<(Vec<Arc<Event>>, Revision)> {
        let (events, revision) = {
            let state = self.lock();
            if from < state.ring_from {
                return None;
            }
            let start = state.ring.partition_point(|event| event.revision() < from);
            // A clone of the pointers, so that selectors are evaluated without the lock.
            let events: Vec<_> = state.ring.range(start..).take(MAX_EXAMINED).cloned().collect();
            let all = events.len() == state.ring.len() - start;
            (events, all.then(|| self.revision()))
        };
        let last_whole = revision.or_else(|| events.last().map(|event| event.revision() - 1))?;
        let mut wanted: Vec<Arc<Event>> = Vec::new();
        for event in events.iter().take_while(|event| event.revision() <= last_whole) {
            let begins_revision = wanted.last().is_none_or(|last| last.kv.mod_revision != event.revision());
            if wanted.len() >= limit && begins_revision {
                return Some((wanted, event.revision() - 1));
            }
            if event.wanted_by(spec) {
                wanted.push(Arc::clone(&event.event));
            }
        }
        // One revision with more changes than are examined at once: leave it to the database.
        if last_whole < from && revision.is_none() { None } else { Some((wanted, last_whole)) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many events of the ring a watcher examines before it gives others a turn.
const MAX_EXAMINED: usize = 4096;

impl State {
    fn members(&mut self, spec: &WatchSpec) -> &mut Members {
        let interest = Interest::of(spec);
        match spec.range.end {
            RangeEnd::Single => self.single.entry(spec.range.start.clone()).or_default().entry(interest).or_default(),
            _ => self.ranges.entry(interest).or_default(),
        }
    }

    fn forget(&mut self, spec: &WatchSpec) {
        let interest = Interest::of(spec);
        if spec.range.end != RangeEnd::Single {
            self.ranges.remove(&interest);
        } else if let Some(interests) = self.single.get_mut(&spec.range.start) {
            interests.remove(&interest);
            if interests.is_empty() {
                self.single.remove(&spec.range.start);
            }
        }
    }

    fn mark(&self, event: &RingEvent) {
        let single = self.single.get(&event.event.kv.key).into_iter().flatten();
        for (interest, members) in self.ranges.iter().chain(single) {
            if event.concerns(&interest.range, interest.no_put, interest.no_delete)
                && event.selected_by(interest.selection.as_deref())
            {
                for ((_, id), inbox) in members {
                    if let Some(inbox) = inbox.upgrade() {
                        inbox.mark(*id, event.revision());
                    }
                }
            }
        }
    }

    fn push(&mut self, event: Arc<RingEvent>) {
        self.ring_bytes += event.bytes();
        self.ring.push_back(event);
        while self.ring_bytes > RING_BYTES {
            let Some(oldest) = self.ring.pop_front() else { break };
            self.ring_bytes -= oldest.bytes();
            self.ring_from = oldest.revision() + 1;
        }
    }
}

impl Interest {
    fn of(spec: &WatchSpec) -> Self {
        Self {
            range: spec.range.clone(),
            no_put: spec.no_put,
            no_delete: spec.no_delete,
            selection: spec.selection.clone(),
        }
    }
}
