//! One writer, many watchers, each with a selector of its own, as kube-apiserver opens them when the watch cache is
//! off.
//!
//! Each write changes what one watcher wants, and the next one follows when its event has arrived there. A server that
//! does not know selectors sends every event to every watcher.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use sluice_wire::pb::etcdserverpb as pb;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming};

use crate::client::{Store, select};
use crate::load::{Measured, micros};
use crate::workload::{Keys, colored};

/// How long an event may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The watchers, each on a stream of its own: the selector is the stream's metadata.
#[derive(Debug)]
pub(crate) struct Watchers {
    keys: Keys,
    /// The value of the label that each of them wants.
    colors: Vec<String>,
    /// Keys that arrived where they were wanted.
    arrived: mpsc::UnboundedReceiver<Bytes>,
    /// Dropping it ends the streams.
    _readers: JoinSet<()>,
}

impl Watchers {
    /// Opens them.
    pub(crate) async fn open(store: &Store, count: usize, run: u64) -> Result<Self> {
        let keys = Keys::of_run(run);
        let colors: Vec<String> = (0..count).map(|number| format!("c{number}")).collect();
        let (sender, arrived) = mpsc::unbounded_channel();
        let mut readers = JoinSet::new();
        for (number, color) in colors.iter().enumerate() {
            let (requests, responses) = watch(store, number, keys, color).await?;
            let wanted = Bytes::from(format!(r#""color":"{color}""#));
            readers.spawn(read(requests, responses, wanted, sender.clone()));
        }
        Ok(Self { keys, colors, arrived, _readers: readers })
    }

    /// Writes for a time. A latency is that of the write and of its event's way to the watcher together.
    pub(crate) async fn measure(mut self, store: &Store, duration: Duration) -> Result<Measured> {
        let client = store.client(0);
        let (begin, mut latencies) = (Instant::now(), Vec::new());
        while begin.elapsed() < duration {
            let number = latencies.len();
            // Neighbours share a connection, so not one after the other.
            let color = &self.colors[number * 7919 % self.colors.len()];
            let (key, value) = (self.keys.key(number as u64), colored(number, color));
            let sent = Instant::now();
            if !client.create(key.clone(), value).await?.succeeded {
                bail!("a key exists already");
            }
            let arrived = tokio::time::timeout(PATIENCE, self.arrived.recv()).await;
            if arrived.context("an event did not arrive")?.context("all watches ended")? != key {
                bail!("another event arrived than was due");
            }
            latencies.push(micros(sent.elapsed()));
        }
        Ok(Measured::of(latencies, begin.elapsed()))
    }
}

type Requests = mpsc::Sender<pb::WatchRequest>;

async fn watch(
    store: &Store,
    number: usize,
    keys: Keys,
    color: &str,
) -> Result<(Requests, Streaming<pb::WatchResponse>)> {
    let (key, range_end) = keys.range();
    let create = pb::WatchCreateRequest { key, range_end, ..Default::default() };
    let request_union = Some(pb::watch_request::RequestUnion::CreateRequest(create));
    let (requests, receiver) = mpsc::channel(1);
    requests.send(pb::WatchRequest { request_union }).await?;
    let mut request = Request::new(ReceiverStream::new(receiver));
    select(&mut request, &format!("color={color}"))?;
    let mut responses = store.watch_client(number).watch(request).await?.into_inner();
    if !responses.message().await?.context("a watch ended")?.created {
        bail!("a watch was not created");
    }
    Ok((requests, responses))
}

/// Reports the keys of the wanted events. Dropping `requests` would end the stream.
async fn read(
    requests: Requests,
    mut responses: Streaming<pb::WatchResponse>,
    wanted: Bytes,
    arrived: mpsc::UnboundedSender<Bytes>,
) {
    while let Ok(Some(message)) = responses.message().await {
        for kv in message.events.into_iter().filter_map(|event| event.kv) {
            // The labels are in the first part of the value.
            let labels = &kv.value[..kv.value.len().min(250)];
            if labels.windows(wanted.len()).any(|part| part == wanted) && arrived.send(kv.key).is_err() {
                return;
            }
        }
    }
    drop(requests);
}
