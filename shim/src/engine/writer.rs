//! The thread that changes the database: group commit.
//!
//! All requests that wait while a commit is under way form the next one, so the cost of a durable commit is shared by
//! as many as there are.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use tokio::sync::oneshot;

use super::batch::Batch;
use super::collector::Hands;
use super::condition::Condition;
use super::facets::facets;
use super::gather::Gather;
use super::hub::Hub;
use super::kept::Kept;
use super::lease;
use super::metrics::Metrics;
use super::publish::{News, Publisher};
use super::request::{Answer, Envelope, Outcome, Request};
use super::store::{Before, Changes, Footprint, Writer};
use super::types::*;
use crate::clock::WallTime;

/// How long a step on the field indexes may take: all writes wait meanwhile.
const INDEX_STEP: Duration = Duration::from_millis(3);
/// How long to wait before a background step is tried again after the database failed.
const RETRY: Duration = Duration::from_secs(1);
/// How often to look for something to tidy up when no request comes.
const IDLE: Duration = Duration::from_secs(5);
/// How old the time in the database may be while something lasts: after a kill that much does not count. etcd's
/// checkpoints take five minutes by default (`LeaseCheckpointInterval`); so much would let what is killed again and
/// again keep its leases for ever. Only a store without other commits pays for it.
const CLOCK_AGE: Duration = Duration::from_secs(10);
/// How often to look after what is tidied up beside the writer.
const SOON: Duration = Duration::from_millis(10);

/// What others see of the writer's work.
pub(super) struct Seen {
    pub(super) hub: Arc<Hub>,
    pub(super) kept: Arc<Kept>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) condition: Arc<Condition>,
}

/// Starts the writer thread. It ends when all senders are gone.
pub(super) fn start(
    writer: Box<dyn Writer>,
    inbox: Receiver<Envelope>,
    seen: Seen,
    hands: Hands,
    gather: Gather,
) -> Result<thread::JoinHandle<()>> {
    let Seen { hub, kept, metrics, condition } = seen;
    let (compacting, indexing, tidying, waiting, retry_at) = (true, true, false, Vec::new(), None);
    let publisher = Publisher::new(Arc::clone(&hub));
    let state = WriterThread {
        writer,
        hub,
        kept,
        publisher,
        metrics,
        condition,
        hands,
        gather,
        compacting,
        indexing,
        tidying,
        waiting,
        retry_at,
        failed: false,
    };
    thread::Builder::new()
        .name("write".into())
        .spawn(move || state.run(inbox))
        .map_err(|error| Error::Broken(format!("cannot start the writer thread: {error}")))
}

struct WriterThread {
    writer: Box<dyn Writer>,
    hub: Arc<Hub>,
    kept: Arc<Kept>,
    publisher: Publisher,
    metrics: Arc<Metrics>,
    condition: Arc<Condition>,
    hands: Hands,
    gather: Gather,
    /// Whether rows may be left that the last compaction freed. True at the start: the process may have been killed
    /// between.
    compacting: bool,
    /// Whether field indexes may have to be built or removed.
    indexing: bool,
    /// Whether the database is being tidied up.
    tidying: bool,
    /// Those that wait for the compaction.
    waiting: Vec<oneshot::Sender<Answer>>,
    /// When to try background work again after it failed.
    retry_at: Option<Instant>,
    /// Whether commits failed since the leases had time to be renewed.
    failed: bool,
}

impl WriterThread {
    fn run(mut self, inbox: Receiver<Envelope>) {
        loop {
            let patience = self.patience();
            let mut idle = false;
            match inbox.recv_timeout(patience) {
                Ok(first) => {
                    let batch = self.gather.batch(first, &inbox);
                    self.serve(batch);
                }
                // Between two requests of one client the queue is empty as well: that is not idle.
                Err(RecvTimeoutError::Timeout) => idle = patience == IDLE,
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.background(idle);
        }
        if let Err(error) = self.writer.save_clock(Duration::ZERO).and_then(|()| self.writer.tidy(true)) {
            tracing::warn!(%error, "could not tidy up the database at the end");
        }
    }

    /// How long to wait for a request before the next background step.
    fn patience(&self) -> Duration {
        match self.retry_at {
            Some(at) => at.saturating_duration_since(Instant::now()),
            None if self.frees() || self.indexing || self.publisher.is_unsure() => Duration::ZERO,
            None if self.tidying || self.compacting => SOON,
            None => IDLE,
        }
    }

    /// One small step of whatever is due, so that requests never wait long.
    fn background(&mut self, idle: bool) {
        if self.retry_at.is_some_and(|at| at > Instant::now()) {
            return;
        }
        if idle {
            // When nobody writes because commits failed, somebody must notice that they no longer do. The failure
            // itself is known.
            let _ = self.probe();
        }
        let mut result = self.settle();
        if result.is_ok() {
            result = self.writer.tidy(idle).map(|under_way| self.tidying = under_way);
        }
        if result.is_ok() && self.condition.refusal().is_none() {
            result = self.give_time();
        }
        if result.is_ok() && self.frees() {
            result = self.writer.compact_step().map(|more| self.compacting = more);
            self.metrics.compaction_pending.set(i64::from(self.compacting));
        }
        if result.is_ok() && self.indexing {
            result = self.writer.index_step(INDEX_STEP).map(|more| self.indexing = more);
        }
        let result = result.and_then(|()| self.writer.save_clock(CLOCK_AGE));
        self.publisher.heed(&result);
        match result {
            Ok(()) => self.retry_at = None,
            Err(error) => {
                tracing::warn!(%error, "background work on the database failed; it will be tried again");
                self.retry_at = Some(Instant::now() + RETRY);
            }
        }
        if !self.compacting {
            for reply in self.waiting.drain(..) {
                // Whoever does not wait any more does not matter.
                let _ = reply.send(Ok((self.hub.revision(), Outcome::Done)));
            }
        }
    }

    /// Whether rows that a compaction freed are removed now.
    fn frees(&self) -> bool {
        self.compacting && !self.kept.is_kept()
    }

    /// Finds out what became of a commit whose outcome is unknown.
    fn settle(&mut self) -> Result<()> {
        if !self.publisher.is_unsure() {
            return Ok(());
        }
        let look = &mut |before| self.publisher.check(&before).map(|()| Changes::default());
        self.writer.commit(&Footprint::default(), look).map(drop)
    }

    /// Gives the leases time if commits failed: what kept them alive may not have been heard. As behind a start.
    fn give_time(&mut self) -> Result<()> {
        if self.failed {
            lease::extend(self.writer.as_mut())?;
            self.failed = false;
        }
        Ok(())
    }

    /// Whether commits succeed.
    fn probe(&mut self) -> Result<()> {
        self.hub.stopped()?;
        if self.condition.refusal().is_none() {
            return Ok(());
        }
        let tried = self.settle().and_then(|()| self.writer.try_commit());
        self.condition.committed(&tried);
        self.publisher.heed(&tried);
        tried
    }

    fn serve(&mut self, batch: Vec<Envelope>) {
        let mut transactional = Vec::with_capacity(batch.len());
        let (mut collections, mut expiries) = (Vec::new(), Vec::new());
        for envelope in batch {
            match envelope.request {
                Request::Expire(_) => match self.give_time() {
                    Ok(()) => expiries.push(envelope),
                    Err(error) => {
                        // Whoever does not wait any more does not matter.
                        let _ = envelope.reply.send(Err(error));
                    }
                },
                Request::Defragment => {
                    let answer = self.writer.defragment().map(|()| (self.hub.revision(), Outcome::Done));
                    let _ = envelope.reply.send(answer);
                }
                Request::Probe => {
                    let answer = self.probe().map(|()| (self.hub.revision(), Outcome::Done));
                    let _ = envelope.reply.send(answer);
                }
                Request::Publish(revision) => {
                    let reached = self.settle().and_then(|()| self.publisher.reach(revision));
                    let _ = envelope.reply.send(reached.map(|()| (self.hub.revision(), Outcome::Done)));
                }
                Request::AwaitCompaction => self.waiting.push(envelope.reply),
                Request::Collect(_) | Request::Forget(_) => collections.push(envelope),
                _ => transactional.push(envelope),
            }
        }
        // A lease that a client just kept alive does not end.
        transactional.append(&mut expiries);
        if !transactional.is_empty() {
            self.commit(transactional);
        }
        // The collector comes last, and never makes a client's commit longer.
        for envelope in collections {
            if let Request::Forget(before) = envelope.request {
                let answer = self.writer.forget(before).map(|more| (self.hub.revision(), Outcome::Forgotten(more)));
                let _ = envelope.reply.send(answer);
            } else {
                self.commit(vec![envelope]);
            }
        }
    }

    fn commit(&mut self, batch: Vec<Envelope>) {
        let started = Instant::now();
        let requests = || batch.iter().map(|envelope| &envelope.request);
        let footprint = footprint(requests());
        let mut answers: Vec<Answer> = Vec::with_capacity(batch.len());
        let (mut news, mut declared, mut wrote) = (None, false, false);
        let result = self.writer.commit(&footprint, &mut |before| {
            self.publisher.check(&before)?;
            let (changes, events);
            (answers, changes, events) = decide(requests(), &footprint, before, &self.hands);
            news = Some(News { events, revision: changes.revision, compacted: changes.compact_revision });
            (declared, wrote) = (!changes.declarations.is_empty(), !changes.is_empty());
            Ok(changes)
        });
        self.metrics.batch_requests.observe(batch.len() as f64);
        self.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
        self.gather.committed(batch.len(), started.elapsed());
        // What changed nothing reached no disk, so it says nothing of whether there is room.
        if wrote || result.is_err() {
            self.condition.committed(&result);
        }
        self.publisher.heed(&result);
        let asked = batch.iter().filter(|envelope| !matches!(envelope.request, Request::Collect(_))).count() as u64;
        self.indexing |= declared;
        self.compacting |= news.as_ref().is_some_and(|news| news.compacted.is_some());
        let events = news.as_ref().map_or(0, |news| news.events.len() as u64);
        // First the watchers, then the answers: whoever has an answer may start a watch behind it.
        let result = match result {
            Ok(committed) => self.publisher.committed(committed, news.unwrap_or_default()).map(|()| committed.work),
            Err(error) => {
                // Of a commit that was not even decided there is nothing to tell; of the one before there may be.
                if let (Error::Unknown(_), Some(news)) = (&error, news) {
                    self.publisher.unknown(news);
                    self.hands.wake.notify_one();
                }
                Err(error)
            }
        };
        match result {
            Ok(work) => {
                self.metrics.proposals_committed.inc_by(asked);
                self.metrics.events.inc_by(events);
                if work {
                    self.hands.wake.notify_one();
                }
                for (envelope, mut answer) in batch.into_iter().zip(answers) {
                    if let Ok((_, Outcome::Collected(collected, took))) = &mut answer {
                        *took = started.elapsed();
                        self.hands.audit.write(&collected.entries, WallTime::now());
                    }
                    let _ = envelope.reply.send(answer);
                }
            }
            Err(error) => {
                self.failed = true;
                self.metrics.commit_failures.inc();
                self.metrics.proposals_failed.inc_by(asked);
                tracing::error!(%error, requests = batch.len(), "a commit failed");
                for envelope in batch {
                    let _ = envelope.reply.send(Err(error.clone()));
                }
            }
        }
    }
}

fn footprint<'a>(requests: impl Iterator<Item = &'a Request>) -> Footprint {
    let mut footprint = Footprint::default();
    for request in requests {
        match request {
            Request::Write(op) => footprint.add(op),
            Request::Grant(id, _) | Request::KeepAlive(id) => {
                footprint.leases.insert(*id);
            }
            Request::Revoke(id) => {
                footprint.leases.insert(*id);
                footprint.lease_keys.insert(*id);
            }
            Request::Expire(ids) => {
                footprint.leases.extend(ids);
                footprint.lease_keys.extend(ids);
            }
            Request::Collect(quota) => footprint.work = Some(*quota),
            Request::Compact(_)
            | Request::Defragment
            | Request::AwaitCompaction
            | Request::Probe
            | Request::Publish(_)
            | Request::Forget(_) => {}
        }
    }
    footprint
}

/// What requests do to what their footprint names, with their answers and the events of it.
fn decide<'a>(
    requests: impl Iterator<Item = &'a Request>,
    footprint: &Footprint,
    before: Before,
    hands: &Hands,
) -> (Vec<Answer>, Changes, Vec<Arc<Event>>) {
    let mut state = Batch::new(footprint, before, facets, &hands.rules);
    let mut answers = Vec::new();
    for request in requests {
        let signals = state.signals();
        answers.push(carry_out(&mut state, request));
        if hands.enabled {
            state.hold(signals);
        }
    }
    let (changes, events) = state.finish();
    (answers, changes, events)
}

/// Carries requests out in one commit, as the thread does, with a collector that has the usual rules; says what is
/// answered to each.
#[cfg(test)]
pub(crate) fn commit(writer: &mut dyn Writer, requests: &[Request]) -> Result<Vec<String>> {
    let (footprint, hands) = (footprint(requests.iter()), Hands::new(&super::collector::Collector::default()));
    let mut answers = Vec::new();
    writer.commit(&footprint, &mut |before| {
        let changes;
        (answers, changes, _) = decide(requests.iter(), &footprint, before, &hands);
        Ok(changes)
    })?;
    let text = |answer: &Answer| match answer {
        Ok((revision, Outcome::Collected(done, _))) => {
            let changed: Vec<_> = done.entries.iter().map(|entry| (entry.revision, &entry.key, entry.action)).collect();
            format!("{revision}: {} tasks, {changed:?}, {:?}", done.tasks, done.due)
        }
        answer => format!("{answer:?}"),
    };
    Ok(answers.iter().map(text).collect())
}

fn carry_out(state: &mut Batch<'_>, request: &Request) -> Answer {
    match request {
        Request::Write(op) => state.write(op).map(|(revision, result)| (revision, Outcome::Op(result))),
        Request::Compact(revision) => state.compact(*revision).map(|revision| (revision, Outcome::Done)),
        Request::Grant(id, ttl) => state.grant(*id, *ttl).map(|lease| (state.revision(), Outcome::Lease(lease))),
        Request::Revoke(id) => state.revoke(*id).map(|revision| (revision, Outcome::Done)),
        Request::KeepAlive(id) => state.keep_alive(*id).map(|ttl| (state.revision(), Outcome::Ttl(ttl))),
        Request::Expire(ids) => {
            let mut expired: BTreeSet<LeaseId> = BTreeSet::new();
            for id in ids {
                if state.expire(*id)? {
                    expired.insert(*id);
                }
            }
            Ok((state.revision(), Outcome::Expired(expired.len() as u64)))
        }
        Request::Collect(quota) => {
            let collected = if quota.foreground_after.is_some() { state.release() } else { state.collect() };
            Ok((state.revision(), Outcome::Collected(collected, Duration::ZERO)))
        }
        Request::Defragment | Request::AwaitCompaction | Request::Probe | Request::Publish(_) | Request::Forget(_) => {
            Ok((state.revision(), Outcome::Done))
        }
    }
}
