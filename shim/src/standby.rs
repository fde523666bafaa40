//! Several processes on one database: one of them serves, and the others hand requests on to it until it is gone.
//!
//! The row `meta` of the database says who serves, and at which URL. Whoever serves writes there with each commit, and
//! every two seconds. No commit of a process succeeds after another one has taken its place, so there is always one
//! order of writes.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::endpoint::Endpoint;
use crate::engine::metrics::Metrics;
use crate::engine::store::Store;
use crate::engine::{self, Error};
use crate::etcd::pair::Pair;
use crate::etcd::standby::{Leader, Minded, Peers, Standby};
use crate::sql::{self, Lookout};

/// How often to look whether the process that serves is there, and how often while nobody reaches it.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Stands by until this process is the one that serves the database, or is to end (`None`).
///
/// # Errors
/// When the database can't be served.
pub async fn wait(
    endpoint: &Endpoint,
    metrics: &Arc<Metrics>,
    standby: &Standby,
    peers: &Peers,
    end: impl Future<Output = ()>,
) -> Result<Option<Arc<dyn Store>>> {
    let mut end = pin!(end);
    let lookout = sql::lookout(endpoint)?.context("the database knows no other process")?;
    let own = match endpoint {
        Endpoint::Network(address) => address.standby.as_deref(),
        Endpoint::Sqlite(_) => None,
    };
    let mut follower = Follower { own, standby, peers, lookout: Some(lookout), leader: None, said: String::new() };
    let mut waited = false;
    loop {
        let opened = {
            let (endpoint, metrics) = (endpoint.clone(), Arc::clone(metrics));
            tokio::task::spawn_blocking(move || sql::open(&endpoint, metrics)).await?
        };
        match opened {
            Ok(store) => return Ok(Some(store)),
            Err(Error::Served(place)) => {
                tracing::info!(place, "another sluice-shim serves the database");
                waited = true;
                tokio::select! {
                    () = follower.follow(place) => standby.gone(),
                    () = &mut end => return Ok(None),
                }
            }
            // A database that could be reached before may come back.
            Err(Error::Unavailable(error)) if waited => {
                tracing::warn!(error, "the database is not available");
                standby.hold(&error);
                tokio::select! {
                    () = tokio::time::sleep(LOOK) => {}
                    () = &mut end => return Ok(None),
                }
            }
            Err(error) => return Err(error).with_context(|| format!("--endpoint: open {endpoint}")),
        }
    }
}

/// What the processes on a database know each other by. The first process that asks makes it. `folder`: where it is
/// written as well.
///
/// # Errors
/// When the database or the folder can't be used.
pub fn pair(endpoint: &Endpoint, folder: Option<&Path>) -> Result<Pair> {
    let kept = sql::keep_pair(endpoint, &Pair::fresh()?);
    let pair = Pair::kept(kept.with_context(|| format!("--peer-auto-tls: keep a certificate in {endpoint}"))?);
    if let Some(folder) = folder {
        pair.write(folder).with_context(|| format!("--peer-auto-tls-dir: write to {}", folder.display()))?;
    }
    Ok(pair)
}

/// Follows the process that serves.
struct Follower<'a> {
    /// The URL of this process.
    own: Option<&'a str>,
    standby: &'a Standby,
    peers: &'a Peers,
    /// Away while it looks.
    lookout: Option<Box<dyn Lookout>>,
    leader: Option<(Leader, Minded)>,
    /// Why the process that serves can't be reached, as it was told last.
    said: String,
}

impl Follower<'_> {
    /// Hands requests on until nobody serves. `place`: who serves now.
    async fn follow(&mut self, mut place: String) {
        loop {
            self.reach(&place).await;
            let pause = if self.leader.is_some() { LOOK } else { LOOK_AGAIN };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.standby.broken(), if self.leader.is_some() => {
                    self.leader = None;
                    self.standby.hold("the sluice-shim that served ends, or its connection broke");
                }
            }
            match self.look().await {
                Ok(Some(now)) => place = now,
                Ok(None) => break,
                Err(error) => tracing::debug!(%error, "it can't be seen who serves the database"),
            }
        }
        self.leader = None;
    }

    /// Connects to the process that serves, unless that is done.
    async fn reach(&mut self, place: &str) {
        let url = sql::url_of(place);
        if self.leader.as_ref().is_some_and(|(leader, _)| Some(leader.url()) == url) {
            return;
        }
        self.leader = None;
        let reached = match url {
            // It was started again, and nobody can tell yet that the one before is gone.
            Some(url) if self.own == Some(url) => Err("its URL is that of this process".to_owned()),
            Some(url) => Leader::connect(url, self.peers).await.map_err(|error| format!("{error:#}")),
            None => Err("it was started without --standby".to_owned()),
        };
        match reached {
            Ok(leader) => {
                tracing::info!(place, "requests are handed on");
                self.standby.follow(leader.clone());
                let minded = self.standby.mind(leader.clone());
                (self.leader, self.said) = (Some((leader, minded)), String::new());
            }
            Err(why) => {
                let text = format!("the sluice-shim that serves the database can't be reached: {place}: {why}");
                self.standby.hold(&text);
                if self.said != text {
                    tracing::warn!("{text}");
                    self.said = text;
                }
            }
        }
    }

    async fn look(&mut self) -> engine::Result<Option<String>> {
        let Some(mut lookout) = self.lookout.take() else {
            return Err(Error::Unavailable("nobody looks".into()));
        };
        let looked = tokio::task::spawn_blocking(move || (lookout.look(), lookout)).await;
        let (seen, lookout) = looked.map_err(|error| Error::Unavailable(error.to_string()))?;
        self.lookout = Some(lookout);
        seen
    }
}
