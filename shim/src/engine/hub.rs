//! The watch hub: recent events in memory, and who wants which.
//!
//! Watchers hold no events. A commit appends its events to one ring, and marks the watchers that they concern with the
//! first revision that they have not seen; a marked watcher reads the ring from there, or the database if the ring no
//! longer reaches back so far. So the memory of a watcher is constant, a slow one holds up nobody, and nothing is lost
//! between the database and the ring.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::watch;

use super::inbox::Inbox;
use super::interests::Interests;
use super::metrics::Metrics;
use super::ring_event::RingEvent;
use super::types::{Error, Event, Result, Revision, WatchSpec};

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
    /// Why nothing is published any more.
    stopped: OnceLock<Error>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct State {
    ring: VecDeque<Arc<RingEvent>>,
    ring_bytes: usize,
    /// The ring holds all events from this revision on.
    ring_from: Revision,
    interests: Interests,
}

/// What [`Hub::recent`] found.
#[derive(Debug)]
pub(super) struct Recent {
    /// The events that the watcher wants.
    pub(super) events: Vec<Arc<Event>>,
    /// The revision up to which that is all.
    pub(super) until: Revision,
    /// Whether whatever is newer marks the watcher: the ring was read to its end.
    pub(super) complete: bool,
}

impl Hub {
    pub(super) fn new(revision: Revision, compact_revision: Revision, metrics: Arc<Metrics>) -> Self {
        let state =
            State { ring: VecDeque::new(), ring_bytes: 0, ring_from: revision + 1, interests: Interests::default() };
        Self {
            state: Mutex::new(state),
            revision: AtomicI64::new(revision),
            published: watch::Sender::new(revision),
            compact_revision: AtomicI64::new(compact_revision),
            stopped: OnceLock::new(),
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

    /// Waits until the revision is published, or never will be.
    pub(super) async fn reached(&self, revision: Revision) -> Result<()> {
        let done = |published: &Revision| *published >= revision || self.stopped.get().is_some();
        if self.revision() < revision {
            // Fails only when the sender is gone, which is `self`.
            let _ = self.published.subscribe().wait_for(done).await;
        }
        if self.revision() < revision { self.stopped() } else { Ok(()) }
    }

    /// Publishes nothing more.
    pub(super) fn stop(&self, why: Error) {
        if self.stopped.set(why).is_ok() {
            // Wakes all that wait.
            self.published.send_modify(|_| {});
        }
    }

    /// Waits until nothing is published any more, and says why.
    pub(super) async fn ended(&self) -> Error {
        let mut published = self.published.subscribe();
        loop {
            if let Some(why) = self.stopped.get() {
                return why.clone();
            }
            // Fails only without a sender, which is this hub's.
            let _ = published.changed().await;
        }
    }

    /// Why nothing is published any more, as an error.
    pub(super) fn stopped(&self) -> Result<()> {
        self.stopped.get().cloned().map_or(Ok(()), Err)
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
        state.interests.insert(inbox, spec);
        self.revision()
    }

    /// Removes a watcher.
    pub(super) fn unregister(&self, inbox: &Arc<Inbox>, spec: &WatchSpec) {
        self.lock().interests.remove(inbox, spec);
    }

    /// The events from a revision on that the watcher wants, at most about `limit`, whole revisions only; `None` if the
    /// ring does not reach back so far.
    pub(super) fn recent(&self, spec: &WatchSpec, from: Revision, limit: usize) -> Option<Recent> {
        let (recent, revision) = {
            let state = self.lock();
            if from < state.ring_from {
                return None;
            }
            let start = state.ring.partition_point(|event| event.revision() < from);
            // A clone of the pointers, so that selectors are evaluated without the lock.
            let recent: Vec<_> = state.ring.range(start..).take(MAX_EXAMINED).cloned().collect();
            let all = recent.len() == state.ring.len() - start;
            (recent, all.then(|| self.revision()))
        };
        let until = revision.or_else(|| recent.last().map(|event| event.revision() - 1))?;
        let mut events: Vec<Arc<Event>> = Vec::new();
        for event in recent.iter().take_while(|event| event.revision() <= until) {
            let begins_revision = events.last().is_none_or(|last| last.kv.mod_revision != event.revision());
            if events.len() >= limit && begins_revision {
                return Some(Recent { events, until: event.revision() - 1, complete: false });
            }
            if event.wanted_by(spec) {
                events.push(Arc::clone(&event.event));
            }
        }
        let complete = revision.is_some();
        // One revision with more changes than are examined at once: leave it to the database.
        if until < from && !complete { None } else { Some(Recent { events, until, complete }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many events of the ring a watcher examines before it gives others a turn.
const MAX_EXAMINED: usize = 4096;

impl State {
    fn mark(&self, event: &RingEvent) {
        self.interests.each_wanting(event, |id, inbox| {
            if let Some(inbox) = inbox.upgrade() {
                inbox.mark(id, event.revision());
            }
        });
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
