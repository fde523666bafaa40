//! Watches: some that stay, some whose client is slow, and many that are closed as soon as they are open.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use sluice_wire::pb::etcdserverpb as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};

use super::traffic::{Traffic, Work, count};
use super::writers::keys;
use crate::client::{Store, select};

/// A stream of watches.
struct Stream {
    requests: mpsc::Sender<pb::WatchRequest>,
    responses: Streaming<pb::WatchResponse>,
}

impl Stream {
    /// Opens one with a watch of all objects in it, from a revision on (0: from now on).
    async fn open(store: &Store, number: usize, start_revision: i64, selector: Option<&str>) -> Result<Self> {
        let (requests, receiver) = mpsc::channel(2);
        requests.send(create(start_revision)).await?;
        let mut request = Request::new(ReceiverStream::new(receiver));
        if let Some(selector) = selector {
            select(&mut request, selector)?;
        }
        let responses = store.watch_client(number).watch(request).await?.into_inner();
        let mut stream = Self { requests, responses };
        stream.created().await?;
        Ok(stream)
    }

    /// Reads until the next watch is there; returns its number.
    async fn created(&mut self) -> Result<i64> {
        loop {
            let message = self.next().await?;
            if message.created {
                return Ok(message.watch_id);
            }
        }
    }

    async fn next(&mut self) -> Result<pb::WatchResponse> {
        self.responses.message().await?.context("a stream of watches ended")
    }
}

fn create(start_revision: i64) -> pb::WatchRequest {
    let (key, range_end) = keys().range();
    let create = pb::WatchCreateRequest { key, range_end, start_revision, ..Default::default() };
    pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) }
}

/// Opens a watch and closes it, in one of the ways in which clients do that.
pub(crate) struct Opener {
    store: Store,
    number: usize,
    /// A stream on which watches come and go.
    shared: Option<Stream>,
}

impl Opener {
    pub(crate) fn new(store: Store, number: usize) -> Self {
        Self { store, number, shared: None }
    }

    /// On a stream that stays, as kube-apiserver's client does.
    async fn on_shared(&mut self) -> Result<()> {
        let mut stream = match self.shared.take() {
            // It ends with the server.
            Some(stream) if !stream.requests.is_closed() => stream,
            _ => Stream::open(&self.store, self.number, 0, None).await?,
        };
        stream.requests.send(create(0)).await?;
        let watch_id = stream.created().await?;
        let cancel = pb::WatchCancelRequest { watch_id };
        let request_union = Some(pb::watch_request::RequestUnion::CancelRequest(cancel));
        stream.requests.send(pb::WatchRequest { request_union }).await?;
        loop {
            let message = stream.next().await?;
            if message.canceled && message.watch_id == watch_id {
                self.shared = Some(stream);
                return Ok(());
            }
        }
    }

    /// From an older revision on, up to the first events.
    async fn in_history(&self, revision: i64) -> Result<()> {
        let mut stream = Stream::open(&self.store, self.number, (revision - 50).max(1), None).await?;
        loop {
            let message = stream.next().await?;
            if !message.events.is_empty() || message.compact_revision > 0 {
                return Ok(());
            }
        }
    }
}

impl Work for Opener {
    const NAME: &str = "watch";

    async fn once(&mut self, traffic: &Traffic) -> Result<()> {
        self.number += 1;
        match self.number % 8 {
            0 | 1 => self.on_shared().await?,
            2 => self.in_history(traffic.revision.load(Ordering::Relaxed)).await?,
            3 | 4 => drop(Stream::open(&self.store, self.number, 0, Some("color=red,size in (s,m)")).await?),
            5 => {
                let own = Store::connect(&traffic.url, 1).await?;
                drop(Stream::open(&own, 0, 0, None).await?);
            }
            _ => drop(Stream::open(&self.store, self.number, 0, None).await?),
        }
        count(&traffic.counts.watches, 1);
        Ok(())
    }
}

/// A watch that stays, and goes on behind a restart where it was. It must see each revision once, in order, or with a
/// selector some of them in order.
pub(crate) async fn steady(store: Store, number: usize, traffic: Arc<Traffic>, selector: Option<&'static str>) {
    let mut last = 0;
    loop {
        let life = traffic.up().await;
        if let Err(error) = follow(&store, number, &traffic, selector, &mut last).await {
            traffic.failed(life, "a watch that stays", &error);
            // Not in a circle without a rest.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn follow(store: &Store, number: usize, traffic: &Traffic, selector: Option<&str>, last: &mut i64) -> Result<()> {
    let from = if *last == 0 { 0 } else { *last + 1 };
    let mut stream = Stream::open(store, number, from, selector).await?;
    loop {
        let message = stream.next().await?;
        if is_outrun(&message, traffic)? {
            *last = 0;
            return Ok(());
        }
        for event in &message.events {
            let revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            let due = match (selector, *last) {
                (_, 0) => true,
                (None, last) => revision == traffic.after(last),
                (Some(_), last) => revision > last,
            };
            if !due {
                bail!("it saw revision {revision} after {last}");
            }
            *last = revision;
        }
        count(&traffic.counts.events, message.events.len());
    }
}

/// Whether a compaction has ended a watch that was behind. Nothing else may end one.
fn is_outrun(message: &pb::WatchResponse, traffic: &Traffic) -> Result<bool> {
    if message.canceled && message.compact_revision == 0 {
        bail!("the server ended it: {}", message.cancel_reason);
    }
    count(&traffic.counts.outrun, usize::from(message.canceled));
    Ok(message.canceled)
}

/// A watch whose client reads one event a second. When what it has still to see is compacted, it begins anew.
pub(crate) async fn slow(traffic: Arc<Traffic>) {
    loop {
        let life = traffic.up().await;
        if let Err(error) = crawl(&traffic).await {
            traffic.failed(life, "a slow watch", &error);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn crawl(traffic: &Traffic) -> Result<()> {
    let store = Store::narrow(&traffic.url).await?;
    let mut stream = Stream::open(&store, 0, 0, None).await?;
    loop {
        let message = stream.next().await?;
        if is_outrun(&message, traffic)? {
            return Ok(());
        }
        for _ in &message.events {
            tokio::time::sleep(Duration::from_secs(1)).await;
            count(&traffic.counts.slow_events, 1);
        }
    }
}
