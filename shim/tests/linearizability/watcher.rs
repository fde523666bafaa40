//! A watch that goes on where it was when the server comes back.

use std::time::Duration;

use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use sluice_shim::pb::etcdserverpb as pb;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::checker::revision_of;
use super::history::{Keys, Message, WatchRecord};
use super::process::{DEADLINE, Lives};
use super::random::Random;

pub(crate) struct Watcher {
    record: WatchRecord,
    /// The next revision to hear of; 0 before the first answer to a watch from now on.
    next: i64,
    random: Random,
    lives: Lives,
    /// Whether it takes its time before it goes on in another life.
    lazy: bool,
    /// Called with each revision that it hears of.
    hear: Option<Box<dyn FnMut(i64) + Send>>,
    /// The last revision of the watched keys, when no more will be written.
    last: watch::Receiver<Option<i64>>,
}

/// A stream with its watch.
struct Stream {
    requests: mpsc::Sender<pb::WatchRequest>,
    responses: Streaming<pb::WatchResponse>,
}

impl Watcher {
    /// A watch from a revision on, or from now on if that is 0.
    pub(crate) fn new(
        keys: Keys,
        from: i64,
        mut random: Random,
        lives: Lives,
        last: watch::Receiver<Option<i64>>,
    ) -> Self {
        let prev_kv = !random.once_in(4);
        let lazy = random.once_in(2);
        let record = WatchRecord { keys, prev_kv, from, messages: vec![], failed: None };
        Self { record, next: from, random, lives, lazy, hear: None, last }
    }

    /// All events and their previous values from a revision on. It loses no time, and `hear` is called with each
    /// revision that it has heard of.
    pub(crate) fn of_history(
        (keys, from): (Keys, i64),
        lives: Lives,
        last: watch::Receiver<Option<i64>>,
        hear: impl FnMut(i64) + Send + 'static,
    ) -> Self {
        let mut watcher = Self::new(keys, from, Random::new(0, 0), lives, last);
        watcher.record.prev_kv = true;
        watcher.lazy = false;
        watcher.hear = Some(Box::new(hear));
        watcher
    }

    /// Watches until it has heard of the last revision.
    pub(crate) async fn run(mut self) -> WatchRecord {
        while !self.is_done() && self.record.failed.is_none() {
            let life = self.lives.current().await;
            let Some(channel) = life.connect().await else {
                assert!(self.lives.is_over(life), "a living server refused a connection");
                continue;
            };
            let (next, outages) = (self.next, self.lives.outages());
            if let Err(status) = self.follow(WatchClient::new(channel)).await
                && !self.lives.is_over(life)
                && !self.lives.may_end_watches(outages)
                && !(matches!(self.record.messages.last(), Some(Message::Gap(_))) && self.next > next)
            {
                self.record.failed = Some(status.to_string());
            }
            if self.lazy {
                // Others compact meanwhile.
                tokio::time::sleep(Duration::from_millis(self.random.within(0..600))).await;
            }
        }
        self.record
    }

    fn is_done(&self) -> bool {
        self.last.borrow().is_some_and(|last| self.next > last)
    }

    async fn follow(&mut self, mut client: WatchClient<tonic::transport::Channel>) -> Result<(), Status> {
        let (requests, receiver) = mpsc::channel(4);
        let responses = client.watch(ReceiverStream::new(receiver));
        requests
            .try_send(create(&self.record.keys, self.next, self.record.prev_kv))
            .map_err(|_| Status::aborted("no room"))?;
        let mut stream = Stream { requests, responses: responses.await?.into_inner() };
        let mut last = self.last.clone();
        while !self.is_done() {
            let ending = last.borrow_and_update().is_some();
            tokio::select! {
                message = stream.responses.message() => {
                    let response = message?.ok_or_else(|| Status::aborted("the stream ended"))?;
                    self.take(response)?;
                }
                changed = last.changed(), if !ending => {
                    changed.map_err(|_| Status::aborted("the test ended"))?;
                }
                () = tokio::time::sleep(DEADLINE), if ending => {
                    // What is missing is found by the checker.
                    return Err(Status::deadline_exceeded(format!("nothing of {} came", self.next)));
                }
            }
            if self.random.once_in(50) {
                let request = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
                // Without room one has been asked for already.
                let _ = stream.requests.try_send(pb::WatchRequest { request_union: Some(request) });
            }
        }
        Ok(())
    }

    fn take(&mut self, response: pb::WatchResponse) -> Result<(), Status> {
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        if response.canceled && response.compact_revision > self.next && self.next > 0 {
            self.next = response.compact_revision + 1;
            self.record.messages.push(Message::Gap(response.compact_revision));
            return Err(Status::aborted("compacted"));
        }
        if response.canceled {
            return Err(Status::aborted(format!("canceled: {}", response.cancel_reason)));
        }
        if response.created {
            if self.next == 0 {
                self.next = revision + 1;
                self.record.from = self.next;
            }
        } else if response.events.is_empty() {
            self.next = self.next.max(revision + 1);
            self.record.messages.push(Message::Progress(revision));
        } else {
            let newest = response.events.iter().map(revision_of).max().unwrap_or_default();
            self.next = self.next.max(newest + 1);
            self.record.messages.push(Message::Events(revision, response.events));
            if let Some(hear) = &mut self.hear {
                hear(newest);
            }
        }
        Ok(())
    }
}

/// The request for a watch, from now on if the revision is 0.
pub(crate) fn create(keys: &Keys, start_revision: i64, prev_kv: bool) -> pb::WatchRequest {
    let request = pb::WatchCreateRequest {
        key: keys.from.clone(),
        range_end: keys.end.clone(),
        start_revision,
        prev_kv,
        ..Default::default()
    };
    pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(request)) }
}
