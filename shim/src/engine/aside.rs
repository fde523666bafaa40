//! Lists that a process reads which does not serve the database.
//!
//! The process that serves says how far the database is ([`Stand`]), behind all that it acknowledged by then. A
//! snapshot that has all of that answers as of that revision, on whichever server it is. So a list is as fresh as one
//! that the process reads which serves; and after a failover of the database nobody reads the primary of before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::chunks::chunks;
use super::metrics::Metrics;
use super::pages::Pages;
use super::replicas::Replicas;
use super::snapshot::Stand;
use super::store::Replica;
use super::types::{Error, RangeQuery, RangeResult, Result};

/// How long a list that has begun waits for a connection to read its next part, and how often it looks.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(5);

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

    /// The same in chunks, as [`super::Engine::range_stream`] does. Each chunk is read on a connection that is free
    /// then. The first one must be, so that the query can be handed on; a later one waits for it. Where a chunk can't
    /// be read the stream ends with [`Error::Unavailable`].
    pub fn range_stream(&self, stand: Stand, query: RangeQuery) -> mpsc::Receiver<Result<RangeResult>> {
        let (aside, begun) = (self.clone(), AtomicBool::new(false));
        chunks(query, move |page| {
            let aside = aside.clone();
            let patience = if begun.swap(true, Ordering::Relaxed) { PATIENCE } else { Duration::ZERO };
            async move {
                let until = Instant::now() + patience;
                loop {
                    match aside.range(stand, page.clone()).await {
                        Some(answer) => return answer,
                        None if Instant::now() < until => tokio::time::sleep(LOOK).await,
                        None => return Err(Error::Unavailable("a part of a list could not be read".into())),
                    }
                }
            }
        })
    }
}
