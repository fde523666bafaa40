//! The Watch service (etcd: server/etcdserver/api/v3rpc/watch.go, server/storage/mvcc/watcher.go).
//!
//! A client's stream is pulled: responses are made when the connection has room for one. So nothing is buffered beyond
//! one message of the engine, a slow client holds up itself alone, and when it is gone all of it is dropped.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tonic::{Request, Response, Status, Streaming};

use super::context::{Shared, stopped};
use super::errors::{self, Fault};
use super::{fragment, oversized, translate};
use crate::engine::{Event, KeyRange, RangeEnd, Revision, WatchMessage, WatchSession, WatchSpec};
use crate::metrics::Method;
use crate::pb::etcdserverpb as pb;
use crate::selector::Selection;
use pb::watch_request::RequestUnion;
use pb::watch_server::Watch;

/// Lets the server choose the id of a watcher (etcd: `clientv3.AutoWatchID`).
const AUTO_ID: i64 = 0;

/// The id in answers that belong to no watcher, or to all of the stream (etcd: `clientv3.InvalidWatchID`).
const NO_ID: i64 = -1;

/// The Watch service.
#[derive(Debug, Clone)]
pub struct WatchService(pub Shared);

#[tonic::async_trait]
impl Watch for WatchService {
    type WatchStream = BoxStream<'static, Result<pb::WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let context = &self.0;
        let selection = context.selection(request.metadata());
        let watchers = Watchers::new(self.0.clone(), selection);
        let client = Client { requests: request.into_inner(), all_sent: false, watchers };
        let answers = stream::unfold(client, Client::step).boxed();
        let method = Method::two_streams("etcdserverpb.Watch", "Watch");
        Ok(Response::new(context.metrics.observed(method, answers).boxed()))
    }
}

/// A client with its watchers.
struct Client {
    requests: Streaming<pb::WatchRequest>,
    /// Whether the client sends nothing more. Its watchers go on until it is gone (etcd: v3rpc/watch.go, `Watch`: the
    /// end of `recvLoop` without an error is not waited for).
    all_sent: bool,
    watchers: Watchers,
}

impl Client {
    /// Makes the next response.
    async fn step(mut self) -> Option<(Result<pb::WatchResponse, Status>, Self)> {
        let watchers = &mut self.watchers;
        let mut stop = watchers.context.stop.clone();
        loop {
            if let Some(response) = watchers.queue.pop_front() {
                return Some((Ok(response), self));
            }
            if watchers.ended {
                return None;
            }
            tokio::select! {
                () = stopped(&mut stop) => {
                    watchers.ended = true;
                    return Some((Err(Fault::Stopped.into()), self));
                }
                // An error: the client is gone, or sent what can't be read.
                request = self.requests.message(), if !self.all_sent => match request {
                    Ok(Some(request)) => watchers.handle(request),
                    // Nothing will ever be said to who has no watchers.
                    Ok(None) if watchers.watchers.is_empty() => return None,
                    Ok(None) => self.all_sent = true,
                    Err(error) => {
                        watchers.ended = true;
                        return Some((Err(oversized::renamed(error)), self));
                    }
                },
                message = watchers.session.next() => watchers.deliver(message),
                () = tick(&mut watchers.ticker) => watchers.notify_progress(),
            }
        }
    }
}

/// The next tick, if there is a ticker.
async fn tick(ticker: &mut Option<Interval>) {
    match ticker {
        Some(ticker) => {
            ticker.tick().await;
        }
        None => std::future::pending().await,
    }
}

/// What a client asked for with a watcher, beyond what the engine knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Watcher {
    /// Whether it wants previous values; then, the last compaction before it: what was changed up to there has none.
    /// etcd reads them as they are one revision earlier (etcd: v3rpc/watch.go, `sendLoop`), and kube-apiserver's tests
    /// rely on it.
    prev_kv: Option<Revision>,
    fragment: bool,
    /// Whether it wants to hear of the progress; then, whether nothing was sent to it since the last tick.
    progress: Option<bool>,
    start_revision: Revision,
}

/// The watchers of a stream, and the responses that are to be sent.
struct Watchers {
    context: Shared,
    selection: Option<Arc<Selection>>,
    session: WatchSession,
    watchers: HashMap<i64, Watcher>,
    next_id: i64,
    queue: VecDeque<pb::WatchResponse>,
    ticker: Option<Interval>,
    ended: bool,
}

impl Watchers {
    fn new(context: Shared, selection: Option<Arc<Selection>>) -> Self {
        context.metrics.watch_streams.inc();
        let session = context.engine.watch();
        let (watchers, queue) = Default::default();
        Self { context, selection, session, watchers, next_id: 0, queue, ticker: None, ended: false }
    }

    fn handle(&mut self, request: pb::WatchRequest) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(request)) => self.create(request),
            Some(RequestUnion::CancelRequest(request)) => self.cancel(request.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => self.answer_progress(),
            None => tracing::info!("a watch request without a request"),
        }
    }

    fn create(&mut self, request: pb::WatchCreateRequest) {
        let selection = self.context.watch_selection(self.selection.as_ref(), &request);
        let range = watched_range(request.key, request.range_end);
        let id = match checked_id(&range, request.start_revision, request.watch_id, &self.watchers) {
            Ok(AUTO_ID) => free_id(&mut self.next_id, &self.watchers),
            Ok(id) => id,
            Err(reason) => return self.refuse(reason),
        };
        let has = |filter: pb::watch_create_request::FilterType| request.filters.contains(&(filter as i32));
        let revision = self.session.create(WatchSpec {
            id,
            range,
            start_revision: request.start_revision,
            no_put: has(pb::watch_create_request::FilterType::Noput),
            no_delete: has(pb::watch_create_request::FilterType::Nodelete),
            selection,
        });
        let progress = request.progress_notify.then_some(true);
        let prev_kv = request.prev_kv.then(|| self.context.engine.compact_revision());
        let (fragment, start_revision) = (request.fragment, request.start_revision);
        self.watchers.insert(id, Watcher { prev_kv, fragment, progress, start_revision });
        self.context.metrics.watchers.inc();
        if request.progress_notify && self.ticker.is_none() {
            let period = with_jitter(self.context.progress_interval);
            let mut ticker = interval_at(Instant::now() + period, period);
            // A client that was slow needs no notifications for the time that it missed.
            ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
            self.ticker = Some(ticker);
        }
        self.respond(revision, pb::WatchResponse { watch_id: id, created: true, ..Default::default() });
    }

    fn refuse(&mut self, reason: &str) {
        let cancel_reason = reason.to_owned();
        let refused =
            pb::WatchResponse { watch_id: NO_ID, created: true, canceled: true, cancel_reason, ..Default::default() };
        self.respond(self.context.engine.revision(), refused);
    }

    fn cancel(&mut self, id: i64) {
        if self.forget(id) {
            self.session.cancel(id);
            let canceled = pb::WatchResponse { watch_id: id, canceled: true, ..Default::default() };
            self.respond(self.context.engine.revision(), canceled);
        }
    }

    fn forget(&mut self, id: i64) -> bool {
        let known = self.watchers.remove(&id).is_some();
        if known {
            self.context.metrics.watchers.dec();
        }
        known
    }

    fn deliver(&mut self, message: WatchMessage) {
        match message {
            WatchMessage::Events { id, revision, events } => self.deliver_events(id, revision, &events),
            WatchMessage::Compacted { id, compact_revision } => {
                if self.forget(id) {
                    // etcd sends no revision here.
                    let ended =
                        pb::WatchResponse { watch_id: id, canceled: true, compact_revision, ..Default::default() };
                    self.respond(0, ended);
                }
            }
            WatchMessage::Failed { id, reason } => {
                if self.forget(id) {
                    tracing::warn!(id, reason, "a watch failed");
                    let cancel_reason = format!("etcdserver: watch failed: {reason}");
                    let ended = pb::WatchResponse { watch_id: id, canceled: true, cancel_reason, ..Default::default() };
                    self.respond(self.context.engine.revision(), ended);
                }
            }
        }
    }

    fn deliver_events(&mut self, id: i64, revision: Revision, events: &[Arc<Event>]) {
        // A watcher that was cancelled may still have had events under way.
        let Some(watcher) = self.watchers.get_mut(&id) else { return };
        if let Some(quiet) = &mut watcher.progress {
            *quiet = false;
        }
        self.context.metrics.watch_events.inc_by(events.len() as u64);
        let with_prev = |event: &Event| watcher.prev_kv.is_some_and(|compacted| event.kv.mod_revision > compacted);
        let events = events.iter().map(|event| translate::event(event, with_prev(event))).collect();
        let header = Some(self.context.header_at(revision));
        let response = pb::WatchResponse { header, watch_id: id, events, ..Default::default() };
        if watcher.fragment {
            fragment::push(response, self.context.limits.message_bytes(), &mut self.queue);
        } else {
            self.queue.push_back(response);
        }
    }

    /// Tells each watcher that wants it, and that got nothing since the last time, how far it is.
    fn notify_progress(&mut self) {
        let mut due = vec![];
        for (&id, watcher) in &mut self.watchers {
            if let Some(quiet) = &mut watcher.progress
                && !std::mem::replace(quiet, true)
            {
                continue;
            }
            let revision = watcher.progress.and_then(|_| self.session.progress(id));
            if let Some(revision) = revision.filter(|revision| *revision >= watcher.start_revision) {
                due.push((id, revision));
            }
        }
        for (watch_id, revision) in due {
            self.respond(revision, pb::WatchResponse { watch_id, ..Default::default() });
        }
    }

    /// Tells the client how far all its watchers are; nothing while one of them catches up, as etcd does.
    fn answer_progress(&mut self) {
        let Some(revision) = self.session.progress_all() else { return };
        let begun = self.watchers.values().all(|watcher| watcher.start_revision <= revision);
        if begun && !self.watchers.is_empty() {
            self.respond(revision, pb::WatchResponse { watch_id: NO_ID, ..Default::default() });
        }
    }

    fn respond(&mut self, revision: Revision, response: pb::WatchResponse) {
        let header = Some(self.context.header_at(revision));
        self.queue.push_back(pb::WatchResponse { header, ..response });
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        self.context.metrics.watch_streams.dec();
        self.context.metrics.watchers.dec_by(self.watchers.len() as i64);
    }
}

/// The range of a watcher. No key means the least one.
fn watched_range(key: Bytes, range_end: Bytes) -> KeyRange {
    let key = if key.is_empty() { Bytes::from_static(&[0]) } else { key };
    KeyRange::from_wire(key, range_end)
}

/// The id that a client wants, or why there can be no such watcher.
fn checked_id(
    range: &KeyRange,
    start_revision: Revision,
    id: i64,
    watchers: &HashMap<i64, Watcher>,
) -> Result<i64, &'static str> {
    if start_revision < 0 {
        return Err(errors::watch::NEGATIVE_START);
    }
    if matches!(&range.end, RangeEnd::Before(end) if *end <= range.start) {
        return Err(errors::watch::EMPTY_RANGE);
    }
    if id != AUTO_ID && watchers.contains_key(&id) {
        return Err(errors::watch::DUPLICATE_ID);
    }
    Ok(id)
}

/// The next id that the stream doesn't use.
fn free_id(next_id: &mut i64, watchers: &HashMap<i64, Watcher>) -> i64 {
    while watchers.contains_key(next_id) {
        *next_id += 1;
    }
    *next_id += 1;
    *next_id - 1
}

/// Up to a tenth more, so that the streams of a client that just connected are not all notified at once.
fn with_jitter(period: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish();
    period + period.mul_f64((random % 1000) as f64 / 10_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WATCHER: Watcher = Watcher { prev_kv: None, fragment: false, progress: None, start_revision: 0 };

    #[test]
    fn ids() {
        let watchers = HashMap::from([(1, WATCHER), (5, WATCHER)]);
        let range = KeyRange::single("a");
        assert_eq!(checked_id(&range, 0, 5, &watchers), Err(errors::watch::DUPLICATE_ID));
        assert_eq!(checked_id(&range, 0, 6, &watchers), Ok(6));
        assert_eq!(checked_id(&range, 0, AUTO_ID, &watchers), Ok(AUTO_ID));
        let mut next_id = 0;
        assert_eq!(free_id(&mut next_id, &watchers), 0);
        assert_eq!(free_id(&mut next_id, &watchers), 2);
        assert_eq!(free_id(&mut next_id, &watchers), 3);
    }

    #[test]
    fn ranges() {
        let none = HashMap::new();
        let check = |key: &'static str, end: &'static str, start| {
            checked_id(&watched_range(key.into(), end.into()), start, 7, &none)
        };
        assert_eq!(check("a", "", 0), Ok(7));
        assert_eq!(check("a", "b", 0), Ok(7));
        assert_eq!(check("a", "\0", 0), Ok(7));
        assert_eq!(check("a", "a", 0), Err(errors::watch::EMPTY_RANGE));
        assert_eq!(check("b", "a", 0), Err(errors::watch::EMPTY_RANGE));
        assert_eq!(check("a", "b", -1), Err(errors::watch::NEGATIVE_START));
        assert_eq!(watched_range(Bytes::new(), Bytes::new()), KeyRange::single(&b"\0"[..]));
    }

    #[test]
    fn jitter_is_at_most_a_tenth() {
        for _ in 0..100 {
            let period = with_jitter(Duration::from_secs(10));
            assert!((Duration::from_secs(10)..Duration::from_secs(11)).contains(&period));
        }
    }
}
