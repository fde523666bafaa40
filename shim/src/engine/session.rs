//! The watchers of one client stream.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Engine;
use super::hub::Recent;
use super::types::{Error, Revision, WatchMessage, WatchSpec};

/// About how many events one message holds.
const MESSAGE_EVENTS: usize = 1000;

/// The watchers of one client stream. Dropping it ends them.
#[derive(Debug)]
pub struct WatchSession {
    engine: Engine,
    inbox: Arc<Inbox>,
}

/// The part of a session that the hub knows.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    state: Mutex<InboxState>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct InboxState {
    watchers: HashMap<i64, Watcher>,
    /// The marked watchers, each once, in order of their first mark.
    marked: VecDeque<i64>,
}

#[derive(Debug)]
struct Watcher {
    spec: Arc<WatchSpec>,
    /// The first revision that it was not shown yet.
    next: Revision,
    /// The first revision that concerns it and that it was not shown; `None` if it has seen all.
    pending: Option<Revision>,
    /// Whether `next` is reading for it.
    reading: bool,
}

impl Inbox {
    /// Tells a watcher that a revision concerns it.
    pub(super) fn mark(&self, id: i64, revision: Revision) {
        let mut state = self.lock();
        let Some(watcher) = state.watchers.get_mut(&id) else { return };
        if watcher.pending.is_none() {
            watcher.pending = Some(revision);
            state.marked.push_back(id);
            drop(state);
            self.wake.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, InboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WatchSession {
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine, inbox: Arc::default() }
    }

    /// Adds a watcher. Ids are the caller's, unique in the session. Returns the store's newest revision at that moment: a watcher with start
    /// revision 0 sees all that comes after it.
    pub fn create(&self, spec: WatchSpec) -> Revision {
        let hub = &self.engine.inner.hub;
        let spec = Arc::new(spec);
        // Locked across the registration, so that a mark that comes with it finds the watcher.
        let mut state = self.inbox.lock();
        let watcher = Watcher { spec: Arc::clone(&spec), next: Revision::MAX, pending: None, reading: false };
        state.watchers.insert(spec.id, watcher);
        drop(state);
        let revision = hub.register(&self.inbox, &spec);
        let mut state = self.inbox.lock();
        if let Some(watcher) = state.watchers.get_mut(&spec.id) {
            watcher.next = if spec.start_revision > 0 { spec.start_revision } else { revision + 1 };
            let unmarked = watcher.pending.is_none();
            if watcher.next <= revision {
                watcher.pending = Some(watcher.next);
                if unmarked {
                    state.marked.push_back(spec.id);
                }
            }
        }
        drop(state);
        self.inbox.wake.notify_one();
        revision
    }

    /// Removes a watcher; false if there is none of that id.
    pub fn cancel(&self, id: i64) -> bool {
        let Some(watcher) = self.inbox.lock().watchers.remove(&id) else { return false };
        self.engine.inner.hub.unregister(&self.inbox, &watcher.spec);
        true
    }

    /// The next message; waits for one. Cancel safe: a message that was not returned is read again.
    pub async fn next(&mut self) -> WatchMessage {
        loop {
            let Some((spec, from)) = self.take_marked() else {
                self.inbox.wake.notified().await;
                continue;
            };
            let reading = Reading { inbox: &self.inbox, id: spec.id, from };
            match self.read(&spec, from).await {
                Ok(Recent { events, until, complete }) => {
                    reading.done(until, complete);
                    if !events.is_empty() {
                        return WatchMessage::Events { id: spec.id, revision: until, events };
                    }
                }
                Err(error) => {
                    drop(reading);
                    self.cancel(spec.id);
                    return match error {
                        Error::Compacted { compact_revision } => {
                            WatchMessage::Compacted { id: spec.id, compact_revision }
                        }
                        error => WatchMessage::Failed { id: spec.id, reason: error.to_string() },
                    };
                }
            }
        }
    }

    /// The revision up to which `next` has returned everything for this watcher; `None` while it catches up or if there is none.
    pub fn progress(&self, id: i64) -> Option<Revision> {
        // The revision first: whatever belongs to it was marked before it was published.
        let revision = self.engine.revision();
        let state = self.inbox.lock();
        state.watchers.get(&id).is_some_and(Watcher::is_idle).then_some(revision)
    }

    /// The same for all watchers of the session together; `None` while one of them catches up.
    pub fn progress_all(&self) -> Option<Revision> {
        let revision = self.engine.revision();
        let state = self.inbox.lock();
        state.watchers.values().all(Watcher::is_idle).then_some(revision)
    }

    fn take_marked(&self) -> Option<(Arc<WatchSpec>, Revision)> {
        let mut state = self.inbox.lock();
        while let Some(id) = state.marked.pop_front() {
            let Some(watcher) = state.watchers.get_mut(&id) else { continue };
            if let Some(pending) = watcher.pending.take() {
                watcher.reading = true;
                return Some((Arc::clone(&watcher.spec), watcher.next.max(pending)));
            }
        }
        None
    }

    async fn read(&self, spec: &Arc<WatchSpec>, from: Revision) -> Result<Recent, Error> {
        let inner = &self.engine.inner;
        let starts = spec.start_revision > 0 && from == spec.start_revision;
        let compact_revision = inner.hub.compact_revision();
        if starts && from < compact_revision {
            return Err(Error::Compacted { compact_revision });
        }
        match inner.hub.recent(spec, from, MESSAGE_EVENTS) {
            Some(found) => Ok(found),
            None => self.engine.replay(Arc::clone(spec), from, MESSAGE_EVENTS).await,
        }
    }
}

impl Watcher {
    fn is_idle(&self) -> bool {
        self.pending.is_none() && !self.reading
    }
}

impl Drop for WatchSession {
    fn drop(&mut self) {
        let ids: Vec<i64> = self.inbox.lock().watchers.keys().copied().collect();
        for id in ids {
            self.cancel(id);
        }
    }
}

/// A read under way. If it is given up the watcher is marked again from where it began.
struct Reading<'a> {
    inbox: &'a Inbox,
    id: i64,
    from: Revision,
}

impl Reading<'_> {
    /// The watcher has seen everything up to `until`. If that was all there is, it rests until the next event that concerns it marks
    /// it: while others write, a watcher that looked again for whatever is newer would never come to rest.
    fn done(mut self, until: Revision, complete: bool) {
        self.from = if complete { Revision::MAX } else { until + 1 };
        let mut state = self.inbox.lock();
        if let Some(watcher) = state.watchers.get_mut(&self.id) {
            watcher.next = watcher.next.max(until + 1);
        }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut state = self.inbox.lock();
        let Some(watcher) = state.watchers.get_mut(&self.id) else { return };
        watcher.reading = false;
        if self.from < Revision::MAX {
            let marked = watcher.pending.is_some();
            watcher.pending = Some(watcher.pending.map_or(self.from, |pending| pending.min(self.from)));
            if !marked {
                state.marked.push_back(self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::KeyRange;

    fn watched() -> Inbox {
        let (inbox, range) = (Inbox::default(), KeyRange::single("k"));
        let spec = WatchSpec { id: 1, range, start_revision: 0, no_put: false, no_delete: false, selection: None };
        let watcher = Watcher { spec: Arc::new(spec), next: 2, pending: None, reading: true };
        inbox.lock().watchers.insert(1, watcher);
        inbox
    }

    fn pending(inbox: &Inbox) -> (Option<Revision>, usize) {
        let state = inbox.lock();
        (state.watchers[&1].pending, state.marked.len())
    }

    #[test]
    fn a_watcher_that_has_read_all_rests_until_it_is_marked() {
        let inbox = watched();
        Reading { inbox: &inbox, id: 1, from: 2 }.done(9, true);
        assert_eq!(pending(&inbox), (None, 0));
        inbox.mark(1, 12);
        assert_eq!(pending(&inbox), (Some(12), 1));
    }

    #[test]
    fn a_mark_that_comes_while_it_reads_stays() {
        let inbox = watched();
        let reading = Reading { inbox: &inbox, id: 1, from: 2 };
        inbox.mark(1, 10);
        reading.done(9, true);
        assert_eq!(pending(&inbox), (Some(10), 1));
    }

    #[test]
    fn a_watcher_that_has_more_to_read_goes_on() {
        let inbox = watched();
        Reading { inbox: &inbox, id: 1, from: 2 }.done(9, false);
        assert_eq!(pending(&inbox), (Some(10), 1));
        let inbox = watched();
        drop(Reading { inbox: &inbox, id: 1, from: 2 });
        assert_eq!(pending(&inbox), (Some(2), 1), "given up");
    }
}
