//! Lists that a process reads which does not serve the database.
//!
//! The process that serves says how far the database is ([`Stand`]), behind all that it acknowledged by then. A
//! snapshot that has all of that answers as of that revision, on whichever server it is. So a list is as fresh as one
//! that the process reads which serves; and after a failover of the database nobody reads the primary of before.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::chunks::chunks;
use super::metrics::Metrics;
use super::pages::Pages;
use super::replicas::Replicas;
use super::snapshot::Stand;
use super::store::Replica;
use super::types::{Error, RangeQuery, RangeResult, Result};

/// Reads beside the process that serves. Clones share the connections.
#[derive(Debug, Clone)]
pub struct Aside {
    replicas: Replicas,
    pages: Arc<Pages>,
}

impl Aside {
    /// Has so many connections to each server opened, of those that hold the database.
    ///
    /// # Errors
    /// When a thread can't be started.
    pub fn start(servers: Vec<Replica>, connections: usize) -> Result<Self> {
        Ok(Self { replicas: Replicas::start(servers, connections, &Metrics::default())?, pages: Arc::default() })
    }

    /// Whether a query is one to read here: it costs more than to ask how far the database is.
    pub fn takes(query: &RangeQuery) -> bool {
        !query.is_small()
    }

    /// Reads a range of the database as it was when it stood there; `None` if that can't be done here and now.
    pub async fn range(&self, stand: Stand, query: RangeQuery) -> Option<Result<RangeResult>> {
        let (lent, pages) = (self.replicas.lend()?, Arc::clone(&self.pages));
        let read = move || lent.read(stand, &|snapshot| pages.read(snapshot, &query));
        tokio::task::spawn_blocking(read).await.ok()?
    }

    /// The same in chunks, as [`super::Engine::range_stream`] does. Where one can't be read it ends with
    /// [`Error::Unavailable`].
    pub fn range_stream(&self, stand: Stand, query: RangeQuery) -> mpsc::Receiver<Result<RangeResult>> {
        let aside = self.clone();
        chunks(query, move |page| {
            let aside = aside.clone();
            async move {
                let unread = || Err(Error::Unavailable("a part of a list could not be read".into()));
                aside.range(stand, page).await.unwrap_or_else(unread)
            }
        })
    }
}
