//! Revisions, group commit, snapshots, leases, compaction and the watch hub. No SQL and no protobuf in here.
//!
//! A write goes to the writer thread ([`writer`]), which carries out all that wait in one commit ([`batch`]), tells the
//! hub ([`hub`]) and then answers. A read goes to a reader thread ([`reader`]). A watcher ([`session`]) takes its
//! events from the hub's ring, or from the database when it starts in the past or fell behind.

pub mod apart;
pub mod aside;
#[cfg(test)]
mod bare;
mod batch;
pub mod catalog;
mod chunks;
mod collect;
mod collecting;
pub mod collector;
mod condition;
pub mod database_metrics;
mod examined;
mod facets;
mod forwarding;
mod gather;
mod gc_metrics;
mod hub;
mod inbox;
pub mod instance;
mod interests;
#[cfg(test)]
mod interests_tests;
mod kept;
mod lease;
mod limits;
pub mod load;
pub mod metrics;
mod pace;
mod pages;
mod publish;
mod range;
mod reader;
pub mod receive;
mod replicas;
mod request;
mod required;
mod ring_event;
pub mod rollback;
mod session;
mod snapshot;
pub mod store;
pub mod types;
mod writer;

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use chunks::chunks;
use collector::{Collector, Hands};
use condition::Condition;
use crossbeam_channel::Sender;
pub use forwarding::Forwarding;
use gather::Gather;
use hub::{Hub, Recent};
use instance::Instance;
use kept::Kept;
use metrics::Metrics;
use pages::Pages;
use prometheus_client::registry::Registry;
use range::assemble;
pub use reader::ReaderThreads;
use reader::{Readers, Weight};
#[cfg(test)]
pub(crate) use request::Request as Asked;
use request::{Envelope, Outcome, Request, Rooms};
use ring_event::RingEvent;
pub use session::WatchSession;
use snapshot::Snapshot;
pub use snapshot::Stand;
use store::{Nature, Store};
use tokio::sync::{Notify, mpsc, oneshot};
pub use types::*;
#[cfg(test)]
pub(crate) use writer::commit;

use crate::clock::StoreClock;
use crate::gc;
pub(crate) use facets::{INDEXED, facets};
pub(crate) use pace::Pace;

/// More writes than this do not wait; the client is told to come back.
const WAITING_WRITES: usize = 20_000;
/// How many bytes of keys and values wait at most. So many are committed in seconds.
const WAITING_BYTES: usize = 64 << 20;
/// How long a commit takes at most to be published after it can be read, as a rule.
const PUBLISHED: Duration = Duration::from_secs(1);
/// How many entries of the history a chunk holds at first, at least and at most, and about how many bytes of keys and
/// values: values may be a megabyte each, and several chunks are in memory at a time.
const FIRST_RECORDS: usize = 64;
const CHUNK_RECORDS: std::ops::RangeInclusive<usize> = 16..=1000;
const CHUNK_BYTES: usize = 4 << 20;
/// How many changes a watcher that catches up reads at once.
const REPLAY_CHANGES: usize = 1000;

/// The store. Clones share it.
#[derive(Debug, Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// `None` after the shutdown began.
    writer: Mutex<Option<(Sender<Envelope>, thread::JoinHandle<()>)>>,
    /// What waits for the writer's thread.
    rooms: Rooms,
    readers: Readers,
    hub: Arc<Hub>,
    kept: Arc<Kept>,
    pages: Arc<Pages>,
    clock: StoreClock,
    /// What the store can hold.
    nature: Nature,
    leases: Arc<lease::Changed>,
    collector: Arc<Notify>,
    collects: bool,
    store: Arc<dyn Store>,
    condition: Arc<Condition>,
    metrics: Arc<Metrics>,
}

impl Engine {
    /// Starts the engine on a database, with a collector that has the usual rules. Needs a tokio runtime, for the
    /// ends of the leases.
    pub async fn start(store: Arc<dyn Store>, threads: ReaderThreads, metrics: Arc<Metrics>) -> Result<Self> {
        Self::start_with(store, threads, metrics, Collector::default()).await
    }

    /// The same with a collector of one's own.
    pub async fn start_with(
        store: Arc<dyn Store>,
        threads: ReaderThreads,
        metrics: Arc<Metrics>,
        collector: Collector,
    ) -> Result<Self> {
        let mut writer = store.writer()?;
        let condition = Arc::<Condition>::default();
        let readers = Readers::start(&store, threads, Arc::clone(&condition), &metrics)?;
        let state = readers.run(Weight::Small, |snapshot| Ok((snapshot.revision, snapshot.compact_revision))).await?;
        if state.0 == 0 {
            return Err(load::unfinished());
        }
        lease::extend(writer.as_mut())?;
        let hub = Arc::new(Hub::new(state.0, state.1, Arc::clone(&metrics)));
        metrics.revision.set(state.0);
        metrics.compact_revision.set(state.1);
        let (sender, inbox) = crossbeam_channel::unbounded();
        let hands = Hands::new(&collector);
        let wake = Arc::clone(&hands.wake);
        let kept = Arc::<Kept>::default();
        let seen =
            writer::Seen { hub: Arc::clone(&hub), kept: Arc::clone(&kept), metrics: Arc::clone(&metrics), condition };
        let condition = Arc::clone(&seen.condition);
        let thread = writer::start(writer, inbox, seen, hands, Gather::new(store.nature().gather))?;
        let inner = Arc::new(Inner {
            writer: Mutex::new(Some((sender, thread))),
            rooms: Rooms::default(),
            readers,
            hub,
            kept,
            pages: Arc::default(),
            clock: store.clock(),
            nature: store.nature(),
            leases: Arc::default(),
            collector: wake,
            collects: collector.enabled,
            store: Arc::clone(&store),
            condition,
            metrics,
        });
        tokio::spawn(lease::run(Arc::downgrade(&inner)));
        tokio::spawn(collector::run(Arc::downgrade(&inner), collector, store.nature().portion));
        Ok(Self { inner })
    }

    /// Reads a range. Linearizable.
    pub async fn range(&self, query: RangeQuery) -> Result<RangeResult> {
        let weight = if query.is_small() { Weight::Small } else { Weight::Large };
        let readers = &self.inner.readers;
        let result = match query.newest_of().filter(|_| readers.gather()) {
            Some(key) => {
                let (revision, kv) = readers.newest(key.clone()).await?;
                assemble(&query, kv.into_iter().collect(), revision)
            }
            None => {
                let pages = Arc::clone(&self.inner.pages);
                match weight {
                    Weight::Small => readers.run(weight, move |snapshot| pages.read(snapshot, &query)).await?,
                    Weight::Large => readers.run_anywhere(move |snapshot| pages.read(snapshot, &query)).await?,
                }
            }
        };
        self.inner.metrics.rows_returned.inc_by(result.kvs.len() as u64);
        self.reached(result.revision).await?;
        Ok(result)
    }

    /// Reads a range in chunks of one revision; the last chunk alone has `revision`, `more` and `count` set. Dropping
    /// the receiver ends it.
    pub fn range_stream(&self, query: RangeQuery) -> mpsc::Receiver<Result<RangeResult>> {
        let engine = self.clone();
        chunks(query, move |page| {
            let engine = engine.clone();
            async move { engine.range(page).await }
        })
    }

    /// Carries out a put, a deletion or a transaction; returns the newest revision after it. Durable when it returns.
    pub async fn write(&self, op: Op) -> Result<(Revision, OpResult)> {
        limits::check(&op, &self.inner.nature)?;
        match self.request(Request::Write(op)).await? {
            (revision, Outcome::Op(result)) => Ok((revision, result)),
            (_, other) => Err(mismatch(&other)),
        }
    }

    /// Forgets all that was superseded at or before the revision. With `physical`, returns when the rows are gone.
    pub async fn compact(&self, revision: Revision, physical: bool) -> Result<Revision> {
        let (newest, _) = self.request(Request::Compact(revision)).await?;
        if physical {
            self.request(Request::AwaitCompaction).await?;
        }
        Ok(newest)
    }

    /// The newest revision whose events are on their way to the watchers. No answer's revision is ever ahead of it.
    pub fn revision(&self) -> Revision {
        self.inner.hub.revision()
    }

    /// The revision of the last compaction, or 0.
    pub fn compact_revision(&self) -> Revision {
        self.inner.hub.compact_revision()
    }

    /// Sizes and revisions.
    pub async fn status(&self) -> Result<StoreStatus> {
        let status = self.inner.readers.run(Weight::Small, |snapshot| snapshot.reader.status()).await?;
        self.reached(status.revision).await?;
        Ok(status)
    }

    /// Whether a write would be taken: the writer's thread answers, and the last commit, or else a trial now, reached
    /// the disk.
    pub async fn writable(&self) -> Result<()> {
        self.request(Request::Probe).await.map(|_| ())
    }

    /// Whether the writer's thread is there to take requests.
    pub fn takes_writes(&self) -> bool {
        let writer = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.as_ref().is_some_and(|(_, thread)| !thread.is_finished())
    }

    /// How many requests wait for the writer's thread.
    pub fn waiting_writes(&self) -> usize {
        let writer = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.as_ref().map_or(0, |(sender, _)| sender.len())
    }

    /// Whether the last commit failed for want of space.
    pub fn is_full(&self) -> bool {
        matches!(self.inner.condition.refusal(), Some(Error::NoSpace(_)))
    }

    /// What was found damaged in the database since the start.
    pub fn damage(&self) -> Option<&str> {
        self.inner.condition.damage()
    }

    /// Adds what etcd has metrics of to a registry, under etcd's names.
    pub fn register_as_etcd(&self, registry: &mut Registry) {
        self.inner.metrics.register_as_etcd(registry);
    }

    /// The processes that share the database; none where it knows one process alone.
    pub async fn instances(&self) -> Result<Vec<Instance>> {
        let store = Arc::clone(&self.inner.store);
        let asked = tokio::task::spawn_blocking(move || store.instances()).await;
        asked.map_err(|error| Error::Unavailable(error.to_string()))?
    }

    /// Whether the collector works.
    pub fn collects(&self) -> bool {
        self.inner.collects
    }

    /// What the collector has to do.
    pub async fn collector(&self) -> Result<gc::Status> {
        self.inner.readers.run(Weight::Small, |snapshot| snapshot.reader.collector()).await
    }

    /// Everything a backup needs that was not compacted at the revision (0: the newest), in order of (revision, sub),
    /// in chunks. Compactions meanwhile take nothing of it.
    pub fn records(&self, revision: Revision) -> mpsc::Receiver<Result<Vec<Record>>> {
        let (sender, receiver) = mpsc::channel(2);
        let (readers, hub, keeping) = (self.inner.readers.clone(), Arc::clone(&self.inner.hub), self.inner.kept.keep());
        tokio::spawn(async move {
            let _keeping = keeping;
            let (mut after, mut begun, mut most) = ((0, i64::MAX), None, FIRST_RECORDS);
            loop {
                let (position, at, limit) = (after, begun, most);
                let chunk = readers.run(Weight::Large, move |snapshot| {
                    let (until, above) = match at {
                        Some(at) => at,
                        None => (snapshot.at(revision)?, snapshot.compact_revision),
                    };
                    Ok(((until, above), snapshot.reader.records(position, until, Some(above), limit)?))
                });
                // Another process that serves the database keeps nothing for this one.
                let chunk = chunk.await.and_then(|chunk| hub.stopped().map(|()| chunk));
                let message = chunk.map(|(at, records)| {
                    begun = Some(at);
                    after = records.last().map_or(after, |last| (last.revision, last.sub));
                    most = next_chunk(limit, &records);
                    records
                });
                let last = message.as_ref().map_or(true, |records| records.len() < limit);
                if sender.send(message).await.is_err() || last {
                    break;
                }
            }
        });
        receiver
    }

    /// Gives unused space back to the file system.
    pub async fn defragment(&self) -> Result<()> {
        self.request(Request::Defragment).await.map(|_| ())
    }

    /// Opens a watch session for one client stream.
    pub fn watch(&self) -> WatchSession {
        WatchSession::new(self.clone())
    }

    /// Takes no more writes, finishes those under way and closes the writer's connection.
    pub async fn shutdown(&self) {
        let writer = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((sender, thread)) = writer {
            drop(sender);
            // Fails only if the thread panicked, which it has reported itself.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    /// How far the database is, for a process that reads beside this one.
    pub async fn stand(&self) -> Result<Stand> {
        self.inner.readers.run(Weight::Small, |snapshot| Ok(snapshot.stand())).await
    }

    /// The number by which the database knows this process; 0 where it knows one process alone.
    pub fn owner(&self) -> i64 {
        self.inner.store.owner()
    }

    /// Waits until another process has taken the database over, which nobody can serve beside it; says so.
    pub async fn ended(&self) -> Error {
        self.inner.hub.ended().await
    }

    /// Whether no more requests are taken.
    fn is_stopping(&self) -> bool {
        self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Reads the changes that a watcher missed, from the database.
    async fn replay(&self, spec: Arc<WatchSpec>, from: Revision, limit: usize) -> Result<Recent> {
        self.inner.metrics.replays.inc();
        let read = move |snapshot: Snapshot<'_>| {
            if from < snapshot.compact_revision {
                return Err(Error::Compacted { compact_revision: snapshot.compact_revision });
            }
            let (events, until) = snapshot.reader.events(&spec.range, from, limit.min(REPLAY_CHANGES))?;
            // A copy may be ahead of the snapshot.
            let until = until.min(snapshot.revision);
            let events = events.into_iter().filter(|event| event.kv.mod_revision <= until);
            let wanted = events.map(|event| RingEvent::new(Arc::new(event)));
            Ok((wanted.filter(|event| event.wanted_by(&spec)).map(|event| event.event).collect(), until))
        };
        let (events, until): (Vec<_>, _) = self.inner.readers.run_anywhere(read).await?;
        self.reached(until).await?;
        // Not if the limit cut it, nor if newer ones came meanwhile: then the watcher looks again.
        Ok(Recent { events, until, complete: until >= self.revision() })
    }

    /// Waits until a revision that was read is published. What this process committed has been when its writer answers;
    /// so if that takes long, the writer finds out why.
    async fn reached(&self, revision: Revision) -> Result<()> {
        let hub = &self.inner.hub;
        if hub.revision() >= revision {
            return Ok(());
        }
        tokio::select! {
            reached = hub.reached(revision) => return reached,
            () = tokio::time::sleep(PUBLISHED) => {}
        }
        tokio::select! {
            reached = hub.reached(revision) => reached,
            answer = self.request(Request::Publish(revision)) => answer.map(drop),
        }
    }

    async fn request(&self, request: Request) -> request::Answer {
        let (reply, answer) = oneshot::channel();
        {
            let writer = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
            let (sender, _) = writer.as_ref().ok_or_else(stopping)?;
            if sender.len() >= WAITING_WRITES {
                return Err(Error::TooManyRequests);
            }
            let room = self.inner.rooms.make(request.bytes(), WAITING_BYTES).ok_or(Error::TooManyRequests)?;
            sender.send(Envelope { request, reply, room }).map_err(|_| stopping())?;
        }
        answer.await.map_err(|_| Error::Unknown("the server stopped while the request was under way".into()))?
    }
}

/// How many entries to read after a full chunk: as many as are about as long as they may be.
fn next_chunk(limit: usize, records: &[Record]) -> usize {
    let bytes: usize = records.iter().map(|record| record.kv.key.len() + record.kv.value.len()).sum();
    let next = limit.saturating_mul(CHUNK_BYTES) / bytes.max(1);
    next.clamp(limit / 4, limit * 4).clamp(*CHUNK_RECORDS.start(), *CHUNK_RECORDS.end())
}

fn stopping() -> Error {
    Error::Unavailable("the server is stopping".into())
}

fn mismatch(outcome: &Outcome) -> Error {
    Error::Broken(format!("the writer gave an answer of another kind: {outcome:?}"))
}
