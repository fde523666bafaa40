//! Several processes on one database: one of them serves, and the others hand requests on to it until it is gone.
//!
//! The row `meta` of the database says who serves, and at which URL. Whoever serves writes there with each commit, and
//! every two seconds. No commit of a process succeeds after another one has taken its place, so there is always one
//! order of writes.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::endpoint::Endpoint;
use crate::engine::aside::Aside;
use crate::engine::metrics::Metrics;
use crate::engine::store::Store;
use crate::engine::{self, Error, ReaderThreads, instance};
use crate::etcd::pair::Pair;
use crate::etcd::standby::{Leader, Minded, Peers, Standby};
use crate::sql::instances::Presence;
use crate::sql::{self, Lookout};

/// How often to look whether the process that serves is there, and how often while nobody reaches it.
const LOOK: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// How often a process that stands by tells that it is there.
const ANNOUNCE: Duration = Duration::from_secs(4);
/// How long it may take to tell that this process serves, or ends; and to see whether it can read lists: something else
/// waits for that.
const MEANWHILE: Duration = Duration::from_secs(1);

/// Stands by until this process is the one that serves the database, or is to end (`None`). `name`: that of this
/// process, for people.
///
/// # Errors
/// When the database can't be served.
pub async fn wait(
    endpoint: &Endpoint,
    metrics: &Arc<Metrics>,
    standby: &Standby,
    peers: &Peers,
    name: &str,
    end: impl Future<Output = ()>,
) -> Result<Option<Arc<dyn Store>>> {
    let mut end = pin!(end);
    let mut follower = Follower::new(endpoint, standby, peers, name)?;
    let mut waited = false;
    loop {
        let opened = {
            let (endpoint, metrics) = (endpoint.clone(), Arc::clone(metrics));
            tokio::task::spawn_blocking(move || sql::open(&endpoint, metrics)).await?
        };
        match opened {
            Ok(store) => {
                // A connection to a server that is gone must not hold up who takes the place.
                let _ = tokio::time::timeout(MEANWHILE, follower.announce(true)).await;
                return Ok(Some(store));
            }
            Err(Error::Served(place)) => {
                tracing::info!(place, "another sluice-shim serves the database");
                waited = true;
                tokio::select! {
                    () = follower.follow(place) => standby.gone(),
                    () = &mut end => {
                        follower.leave().await;
                        return Ok(None);
                    }
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
    endpoint: &'a Endpoint,
    /// This process, and when it last told that it is there.
    own: Presence,
    announced: Option<Instant>,
    standby: &'a Standby,
    peers: &'a Peers,
    /// Away while it looks.
    lookout: Option<Box<dyn Lookout>>,
    leader: Option<(Leader, Minded)>,
    /// Whether this process answers lists, and whether it was told that it can't.
    reads: bool,
    told: bool,
    /// Why the process that serves can't be reached, as it was told last.
    said: String,
}

impl<'a> Follower<'a> {
    fn new(endpoint: &'a Endpoint, standby: &'a Standby, peers: &'a Peers, name: &str) -> Result<Self> {
        let own = match endpoint {
            Endpoint::Network(address) => address.standby.as_deref(),
            Endpoint::Sqlite(_) => None,
        };
        let (lookout, own) = sql::lookout(endpoint)?.zip(own).context("the database knows no other process")?;
        let (own, lookout) = (Presence::of(own, name), Some(lookout));
        let (announced, leader, said) = (None, None, String::new());
        Ok(Self { endpoint, own, announced, standby, peers, lookout, leader, reads: false, told: false, said })
    }

    /// Hands requests on until nobody serves. `place`: who serves now.
    async fn follow(&mut self, mut place: String) {
        loop {
            self.reach(&place).await;
            self.read_beside().await;
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
        let url = instance::url(place);
        if self.leader.as_ref().is_some_and(|(leader, _)| Some(leader.url()) == url) {
            return;
        }
        self.leader = None;
        let reached = match url {
            // It was started again, and nobody can tell yet that the one before is gone.
            Some(url) if self.own.url == url => Err("its URL is that of this process".to_owned()),
            Some(url) => Leader::connect(url, self.peers).await.map_err(|error| format!("{error:#}")),
            None => Err("it was started without --standby".to_owned()),
        };
        match reached {
            Ok(leader) => {
                tracing::info!(place, "requests are handed on");
                self.standby.follow(leader.clone());
                let minded = self.standby.mind(leader.clone());
                (self.leader, self.said) = (Some((leader, minded)), String::new());
                (self.reads, self.told) = (false, false);
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

    /// Answers lists here, unless that is done. While it can't be, they are handed on as all other requests are.
    async fn read_beside(&mut self) {
        let Some((leader, _)) = self.leader.as_ref().filter(|_| !self.reads) else { return };
        let endpoint = self.endpoint.clone();
        let open = async |owner| {
            let copies = tokio::task::spawn_blocking(move || sql::copies(&endpoint, owner)).await??;
            Ok(Aside::start(copies, ReaderThreads::default().large)?)
        };
        let begun =
            tokio::time::timeout(MEANWHILE, self.standby.read_beside(leader.clone(), &self.own.url, open)).await;
        self.reads = matches!(begun, Ok(Ok(())));
        if !self.reads && !self.told {
            self.told = true;
            tracing::warn!(reason = ?begun, "lists are handed on too: this process can't read them now");
        }
    }

    async fn look(&mut self) -> engine::Result<Option<String>> {
        if self.announced.is_none_or(|at| at.elapsed() >= ANNOUNCE) {
            self.announce(false).await;
        }
        self.ask(|lookout| lookout.look()).await
    }

    /// Tells that this process is there. Nothing depends on that but what people see.
    async fn announce(&mut self, serves: bool) {
        self.announced = Some(Instant::now());
        let own = self.own.clone();
        if let Err(error) = self.ask(move |lookout| lookout.announce(&own, serves)).await {
            tracing::debug!(%error, "the database could not be told that this process is there");
        }
    }

    /// Tells that this process ends, with a connection of its own: the other one may be busy.
    async fn leave(self) {
        let (own, lookout) = (self.own, sql::lookout(self.endpoint));
        let told = tokio::task::spawn_blocking(move || match lookout {
            Ok(Some(mut lookout)) => lookout.leave(&own),
            other => other.map(drop),
        });
        if !matches!(tokio::time::timeout(MEANWHILE, told).await, Ok(Ok(Ok(())))) {
            tracing::debug!("the database could not be told that this process ends");
        }
    }

    async fn ask<T: Send + 'static>(
        &mut self,
        ask: impl FnOnce(&mut (dyn Lookout + 'static)) -> engine::Result<T> + Send + 'static,
    ) -> engine::Result<T> {
        let Some(mut lookout) = self.lookout.take() else {
            return Err(Error::Unavailable("nobody looks".into()));
        };
        let asked = tokio::task::spawn_blocking(move || (ask(lookout.as_mut()), lookout)).await;
        let (answer, lookout) = asked.map_err(|error| Error::Unavailable(error.to_string()))?;
        self.lookout = Some(lookout);
        answer
    }
}
