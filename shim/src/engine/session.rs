//! The watchers of one client stream.

use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::hub::Recent;
use super::inbox::{Inbox, ReadUnderWay};
use super::types::{Error, Revision, WatchMessage, WatchSpec};

/// About how many events one message holds.
const MESSAGE_EVENTS: usize = 1000;

/// How long to wait before a watcher looks again whether the database can be read.
const RETRY: Duration = Duration::from_millis(200);

/// The watchers of one client stream. Dropping it ends them.
#[derive(Debug)]
pub struct WatchSession {
    engine: Engine,
    inbox: Arc<Inbox>,
}

impl WatchSession {
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine, inbox: Arc::default() }
    }

    /// Adds a watcher. Ids are the caller's, unique in the session. Returns the store's newest revision at that moment:
    /// a watcher with start revision 0 sees all that comes after it.
    pub fn create(&self, spec: WatchSpec) -> Revision {
        let hub = &self.engine.inner.hub;
        let spec = Arc::new(spec);
        // In the inbox before in the hub, so that a mark that comes with the registration finds the watcher.
        self.inbox.add(Arc::clone(&spec));
        let revision = hub.register(&self.inbox, &spec);
        self.inbox.start(spec.id, revision);
        revision
    }

    /// Removes a watcher; false if there is none of that id.
    pub fn cancel(&self, id: i64) -> bool {
        let Some(spec) = self.inbox.remove(id) else { return false };
        self.engine.inner.hub.unregister(&self.inbox, &spec);
        true
    }

    /// The next message; waits for one. Cancel safe: a message that was not returned is read again.
    pub async fn next(&mut self) -> WatchMessage {
        loop {
            let Some((spec, from)) = self.inbox.take_marked() else {
                self.inbox.marked().await;
                continue;
            };
            let reading = ReadUnderWay::new(&self.inbox, spec.id, from);
            match self.read(&spec, from).await {
                Ok(Recent { events, until, complete }) => {
                    reading.done(until, complete);
                    if !events.is_empty() {
                        return WatchMessage::Events { id: spec.id, revision: until, events };
                    }
                }
                // It goes on from the same revision.
                Err(Error::Unavailable(_) | Error::TooManyRequests) => {
                    drop(reading);
                    tokio::time::sleep(RETRY).await;
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

    /// The revision up to which `next` has returned everything for this watcher; `None` while it catches up or if there
    /// is none.
    pub fn progress(&self, id: i64) -> Option<Revision> {
        // The revision first: whatever belongs to it was marked before it was published.
        let revision = self.engine.revision();
        self.inbox.is_idle(id).then_some(revision)
    }

    /// The same for all watchers of the session together; `None` while one of them catches up.
    pub fn progress_all(&self) -> Option<Revision> {
        let revision = self.engine.revision();
        self.inbox.all_idle().then_some(revision)
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

impl Drop for WatchSession {
    fn drop(&mut self) {
        for id in self.inbox.ids() {
            self.cancel(id);
        }
    }
}
