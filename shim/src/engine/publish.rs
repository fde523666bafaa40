//! What commits tell the watchers: all of it, in order, and once.

use std::sync::Arc;

use super::hub::Hub;
use super::store::{Before, Committed};
use super::types::{Error, Event, Result, Revision};

/// What is to be told of a commit.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Its events, in order.
    pub(super) events: Vec<Arc<Event>>,
    /// The newest revision after it.
    pub(super) revision: Revision,
    /// The revision of its compaction, if there was one.
    pub(super) compacted: Option<Revision>,
}

/// Keeps the hub where the database is.
#[derive(Debug)]
pub(super) struct Publisher {
    hub: Arc<Hub>,
    /// What is to be told of the last commit if it happened, which nobody knows.
    unsure: Option<News>,
}

impl Publisher {
    pub(super) fn new(hub: Arc<Hub>) -> Self {
        Self { hub, unsure: None }
    }

    /// Checks in a transaction that the hub knows all that was committed before it, and tells the hub of a commit whose
    /// outcome was unknown until now.
    pub(super) fn check(&mut self, before: &Before) -> Result<()> {
        self.hub.stopped()?;
        let known = self.hub.revision();
        if before.revision < known {
            return Err(Error::Unavailable(format!(
                "the database is at revision {} and was at revision {known}: it lacks what was written since",
                before.revision
            )));
        }
        if let Some(unsure) = self.unsure.take() {
            if before.revision == unsure.revision {
                self.hub.publish(unsure.events, unsure.revision);
            }
            // A compaction has no revision of its own.
            self.hub.compacted(before.compact_revision);
        }
        self.reach(before.revision)
    }

    /// Tells the hub of a commit.
    pub(super) fn committed(&self, committed: Committed, news: News) -> Result<()> {
        self.reach(committed.before)?;
        self.hub.publish(news.events, news.revision);
        if let Some(revision) = news.compacted {
            self.hub.compacted(revision);
        }
        Ok(())
    }

    /// Keeps what is to be told of a commit until its outcome is known.
    pub(super) fn unknown(&mut self, news: News) {
        self.unsure = Some(news);
    }

    /// Whether the outcome of a commit is unknown.
    pub(super) fn is_unsure(&self) -> bool {
        self.unsure.is_some()
    }

    /// Serves nothing any more if another process does.
    pub(super) fn heed<T>(&self, result: &Result<T>) {
        if let Err(error @ Error::Replaced(_)) = result {
            self.hub.stop(error.clone());
        }
    }

    /// Checks that a revision of the database is published, of which all commits of this process are. Else another
    /// process made it, its events are unknown here, and whoever watched would miss them: nothing is served any more.
    pub(super) fn reach(&self, revision: Revision) -> Result<()> {
        let known = self.hub.revision();
        if revision > known {
            self.heed(&Err::<(), _>(Error::Replaced(format!(
                "another process has written to the database, which is at revision {revision} and not {known}; a \
                 database serves one sluice-shim: stop the other one, then start this one anew"
            ))));
        }
        self.hub.stopped()
    }
}
