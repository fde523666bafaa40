//! The marks of a session's watchers: which of them must read, and from which revision on.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::types::{Revision, WatchSpec};

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

    /// Adds a watcher, which is marked from now on, but not yet at rest: [`start`](Self::start) says where it begins.
    pub(super) fn add(&self, spec: Arc<WatchSpec>) {
        let watcher = Watcher { spec: Arc::clone(&spec), next: Revision::MAX, pending: None, reading: false };
        self.lock().watchers.insert(spec.id, watcher);
    }

    /// Says what the newest revision was when the hub learnt of a watcher: the watcher begins behind that revision, or
    /// at its start revision.
    pub(super) fn start(&self, id: i64, revision: Revision) {
        let mut state = self.lock();
        if let Some(watcher) = state.watchers.get_mut(&id) {
            let start = watcher.spec.start_revision;
            watcher.next = if start > 0 { start } else { revision + 1 };
            let unmarked = watcher.pending.is_none();
            if watcher.next <= revision {
                watcher.pending = Some(watcher.next);
                if unmarked {
                    state.marked.push_back(id);
                }
            }
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Removes a watcher; `None` if there is none of that id.
    pub(super) fn remove(&self, id: i64) -> Option<Arc<WatchSpec>> {
        self.lock().watchers.remove(&id).map(|watcher| watcher.spec)
    }

    /// Whether a watcher has been shown all that concerns it; false if there is none of that id.
    pub(super) fn is_idle(&self, id: i64) -> bool {
        self.lock().watchers.get(&id).is_some_and(Watcher::is_idle)
    }

    /// The same for all watchers together.
    pub(super) fn all_idle(&self) -> bool {
        self.lock().watchers.values().all(Watcher::is_idle)
    }

    /// The ids of the watchers.
    pub(super) fn ids(&self) -> Vec<i64> {
        self.lock().watchers.keys().copied().collect()
    }

    /// The watcher that has been marked longest, and the revision that it must read from. `None` if none is marked.
    pub(super) fn take_marked(&self) -> Option<(Arc<WatchSpec>, Revision)> {
        let mut state = self.lock();
        while let Some(id) = state.marked.pop_front() {
            let Some(watcher) = state.watchers.get_mut(&id) else { continue };
            if let Some(pending) = watcher.pending.take() {
                watcher.reading = true;
                return Some((Arc::clone(&watcher.spec), watcher.next.max(pending)));
            }
        }
        None
    }

    /// Waits until a watcher was marked.
    pub(super) async fn marked(&self) {
        self.wake.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, InboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher {
    fn is_idle(&self) -> bool {
        self.pending.is_none() && !self.reading
    }
}

/// A read under way. If it is given up the watcher is marked again from where it began.
pub(super) struct ReadUnderWay<'a> {
    inbox: &'a Inbox,
    id: i64,
    from: Revision,
}

impl<'a> ReadUnderWay<'a> {
    /// Begins to read for a watcher that [`Inbox::take_marked`] gave.
    pub(super) fn new(inbox: &'a Inbox, id: i64, from: Revision) -> Self {
        Self { inbox, id, from }
    }

    /// The watcher has seen everything up to `until`. If that was all there is, it rests until the next event that
    /// concerns it marks it: while others write, a watcher that looked again for whatever is newer would never come to
    /// rest.
    pub(super) fn done(mut self, until: Revision, complete: bool) {
        self.from = if complete { Revision::MAX } else { until + 1 };
        let mut state = self.inbox.lock();
        if let Some(watcher) = state.watchers.get_mut(&self.id) {
            watcher.next = watcher.next.max(until + 1);
        }
    }
}

impl Drop for ReadUnderWay<'_> {
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
        ReadUnderWay::new(&inbox, 1, 2).done(9, true);
        assert_eq!(pending(&inbox), (None, 0));
        inbox.mark(1, 12);
        assert_eq!(pending(&inbox), (Some(12), 1));
    }

    #[test]
    fn a_mark_that_comes_while_it_reads_stays() {
        let inbox = watched();
        let reading = ReadUnderWay::new(&inbox, 1, 2);
        inbox.mark(1, 10);
        reading.done(9, true);
        assert_eq!(pending(&inbox), (Some(10), 1));
    }

    #[test]
    fn a_watcher_that_has_more_to_read_goes_on() {
        let inbox = watched();
        ReadUnderWay::new(&inbox, 1, 2).done(9, false);
        assert_eq!(pending(&inbox), (Some(10), 1));
        let inbox = watched();
        drop(ReadUnderWay::new(&inbox, 1, 2));
        assert_eq!(pending(&inbox), (Some(2), 1), "given up");
    }
}
