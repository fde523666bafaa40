//! Changes a database, whichever it is.
//!
//! A transaction that got into the way of another one is begun again, until the requests behind it would have given up.
//! If the connection was lost, the transaction is begun on another connection. If nobody knows whether a commit
//! happened, the next transaction tells, because each commit stores the number of its batch. Then either the first
//! decision stands, or everything is done again with the same number.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::collector;
use super::delta::{delta, label_changes};
use super::failure::{Failure, Result};
use super::index::{backfill, declare};
use super::numbers::Numbers;
use super::retry::Retry;
use super::session::{Begun, Commit, Head, IndexChange, NewHead, StoredIndex};
use super::turn::Turn;
use crate::clock::{StoreClock, StoreTime};
use crate::engine::catalog::Catalog;
use crate::engine::metrics::Metrics;
use crate::engine::store::{Before, Changes, Committed, Decide, Footprint, Queue, Row, Writer};
use crate::engine::{self, Error, LeaseId, Pace};

/// How long a commit is tried: about as long as those who wait for it do.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long anything else is tried. It is asked for again, and commits wait meanwhile.
const SHORT_PATIENCE: Duration = Duration::from_secs(1);
/// How many tombstones are looked at in a step.
const TOMBSTONES: usize = 1000;

/// The one writer of a database.
pub(super) struct SqlWriter {
    session: Box<dyn Commit>,
    clock: StoreClock,
    metrics: Arc<Metrics>,
    /// How long a step of a compaction may take, all writes waiting meanwhile.
    turn: Turn,
    sleep: fn(Duration),
    /// Whether the connection is to be opened anew.
    lost: bool,
    /// The number of the last batch that may have been committed.
    batch: i64,
    numbers: Numbers,
    /// The field indexes; `None` after a transaction that may have changed them.
    catalog: Option<Arc<Catalog>>,
    /// How late it was when that was last kept.
    saved: StoreTime,
    compacting: Pace,
    building: Pace,
    /// The last tombstone that was looked at.
    forgotten: i64,
    /// How late it is, whatever the database says: for a test that has several.
    #[cfg(test)]
    pub(super) at: Option<StoreTime>,
}

/// A commit under way, over all its tries.
#[derive(Default)]
struct Attempt {
    /// The number of the batch, once it has one.
    number: Option<i64>,
    /// What is to be returned if the last try happened, which nobody knows.
    unsure: Option<Committed>,
}

impl SqlWriter {
    /// `turn`: how long a step of a compaction may take.
    pub(super) fn new(session: Box<dyn Commit>, clock: StoreClock, metrics: Arc<Metrics>, turn: Turn) -> Self {
        Self {
            session,
            saved: clock.now(),
            clock,
            metrics,
            turn,
            sleep: std::thread::sleep,
            lost: false,
            batch: 0,
            numbers: Numbers::default(),
            catalog: None,
            compacting: Pace::new(256, 16, 16_384),
            building: Pace::new(128, 32, 16_384),
            forgotten: 0,
            #[cfg(test)]
            at: None,
        }
    }

    /// The connection, between two transactions.
    #[cfg(test)]
    pub(super) fn session(&mut self) -> &mut dyn Commit {
        self.session.as_mut()
    }

    /// One try.
    fn transact(&mut self, footprint: &Footprint, decide: &mut Decide<'_>, attempt: &mut Attempt) -> Result<Committed> {
        self.connect()?;
        let started = Instant::now();
        #[cfg_attr(not(test), expect(unused_mut, reason = "a test sets the time"))]
        let mut begun = self.session.begin(footprint)?;
        self.clock.heed(begun.head.now);
        #[cfg(test)]
        if let Some(now) = self.at {
            begun.head.now = now;
        }
        let head = begun.head;
        if let Some(committed) = attempt.unsure.take()
            && attempt.number == Some(head.batch)
        {
            self.session.rollback();
            return Ok(committed);
        }
        let number = *attempt.number.get_or_insert(self.batch.max(head.batch) + 1);
        self.batch = number;
        let catalog = match self.catalog.take() {
            Some(catalog) => catalog,
            None => declare::catalog(&self.session.indexes()?),
        };
        let before = self.before(begun, footprint, &catalog)?;
        let attached = attached(&before.rows);
        let changes = decide(before)?;
        if changes.declarations.is_empty() {
            self.catalog = Some(catalog);
        }
        let mut committed = Committed { before: head.revision, work: false };
        if changes.is_empty() {
            self.session.rollback();
            return Ok(committed);
        }
        let stored = self.store(&changes, &attached, (head, number), &mut committed);
        if let Err(Failure::Unknown(_)) = stored {
            self.metrics.database.unknown_outcomes.inc();
            attempt.unsure = Some(Committed { work: true, ..committed });
        }
        let indexes = stored?;
        self.turn.committed(started.elapsed());
        self.numbers.keep();
        self.saved = head.now;
        if let Some((indexes, changed)) = indexes {
            declare::log(&indexes, &changed);
            declare::measure(&indexes, &changed, &self.metrics);
        }
        Ok(committed)
    }

    /// What the footprint names, with the collector's work.
    fn before(&mut self, begun: Begun, footprint: &Footprint, catalog: &Arc<Catalog>) -> Result<Before> {
        let Begun { head: Head { revision, compact_revision, now, .. }, mut rows, past, leases, blocked } = begun;
        let work = match &footprint.work {
            Some(quota) => collector::load(self.session.as_mut(), quota, now, &mut rows)?,
            None => Default::default(),
        };
        let is_there = |(kvs, (_, at)): (Vec<_>, &(_, engine::Revision))| match *at {
            at if at > revision => Err(Error::FutureRevision),
            at if at < compact_revision => Err(Error::Compacted { compact_revision }),
            _ => Ok(kvs),
        };
        let past = past.into_iter().zip(&footprint.past).map(is_there).collect();
        let catalog = Arc::clone(catalog);
        Ok(Before { now, revision, compact_revision, rows, past, leases, blocked, work, catalog })
    }

    /// Writes changes and commits; returns the field indexes as they were and what became of them, if definitions
    /// changed.
    fn store(
        &mut self,
        changes: &Changes,
        attached: &BTreeMap<Bytes, LeaseId>,
        (head, batch): (Head, i64),
        committed: &mut Committed,
    ) -> Result<Option<(Vec<StoredIndex>, Vec<IndexChange>)>> {
        let session = self.session.as_mut();
        let labels = label_changes(&changes.rows);
        let numbers = self.numbers.of(session, labels.iter().map(|label| label.name))?;
        let mut delta = delta(changes, &labels, &numbers, attached);
        let mut indexes = None;
        if !changes.declarations.is_empty() {
            let stored = session.indexes()?;
            let held = declare::held(session, &changes.declarations, &delta.directories)?;
            delta.indexes = declare::changes(&stored, &changes.declarations, &held);
            indexes = Some((stored, delta.indexes.clone()));
        }
        let compact_revision = changes.compact_revision.unwrap_or(0);
        let new = NewHead { revision: changes.revision, compact_revision, now: head.now, batch };
        if changes.signals.is_empty() {
            committed.work = session.apply(&delta, Some(&new))?;
        } else {
            committed.work = session.apply(&delta, None)?;
            let started = collector::hear(session, &changes.signals)?;
            committed.work |= started.has_work();
            session.tell(&started, new.now, Some(&new))?;
        }
        Ok(indexes)
    }

    /// Opens the connection anew if it was lost. What was known by the last one may not hold on another server.
    fn connect(&mut self) -> Result<()> {
        if self.lost {
            self.session.reconnect()?;
            (self.numbers, self.catalog, self.lost) = (Numbers::default(), None, false);
        }
        Ok(())
    }

    /// Ends the transaction that failed.
    fn clean_up(&mut self, failure: &Failure) {
        self.lost |= matches!(failure, Failure::Lost(_) | Failure::Unknown(_));
        self.session.rollback();
        self.numbers.forget();
    }

    /// Does something that may be done twice.
    fn duty<T>(&mut self, mut work: impl FnMut(&mut Self) -> Result<T>) -> engine::Result<T> {
        let mut retry = Retry::new(SHORT_PATIENCE, self.sleep);
        loop {
            let failure = match self.connect().and_then(|()| work(self)) {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            self.clean_up(&failure);
            match failure {
                Failure::Final(error) => return Err(error),
                Failure::Again(error) | Failure::Lost(error) | Failure::Unknown(error) => {
                    tracing::debug!(%error, "the database is tried again");
                    if !retry.wait() {
                        return Err(error);
                    }
                    self.metrics.database.retries.inc();
                }
            }
        }
    }
}

impl Writer for SqlWriter {
    fn commit(&mut self, footprint: &Footprint, decide: &mut Decide<'_>) -> engine::Result<Committed> {
        let (mut retry, mut attempt) = (Retry::new(PATIENCE, self.sleep), Attempt::default());
        loop {
            // While it is unknown what became of a try, no other error says that nothing happened.
            let failure = match self.transact(footprint, decide, &mut attempt) {
                Ok(committed) => return Ok(committed),
                Err(failure) => failure,
            };
            self.clean_up(&failure);
            let is_final = matches!(failure, Failure::Final(_));
            let error = if attempt.unsure.is_some() { Error::Unknown(text(failure)) } else { failure.into() };
            if is_final || !retry.wait() {
                return Err(error);
            }
            self.metrics.database.retries.inc();
            tracing::debug!(%error, "a commit is tried again");
        }
    }

    fn try_commit(&mut self) -> engine::Result<()> {
        self.duty(|writer| writer.session.try_commit())
    }

    fn compact_step(&mut self) -> engine::Result<bool> {
        let (started, limit) = (Instant::now(), self.compacting.size());
        let removed = self.duty(|writer| writer.session.compact(limit))?;
        self.compacting.took(started.elapsed(), self.turn.may_take());
        Ok(removed >= limit)
    }

    fn index_step(&mut self, time: Duration) -> engine::Result<bool> {
        let (started, limit) = (Instant::now(), self.building.size());
        let more = self.duty(|writer| backfill::step(writer.session.as_mut(), &writer.metrics, limit))?;
        if more {
            self.building.took(started.elapsed(), time.max(self.turn.may_take()));
        }
        Ok(more)
    }

    fn tidy(&mut self, idle: bool) -> engine::Result<bool> {
        self.duty(|writer| writer.session.tidy(idle))
    }

    fn defragment(&mut self) -> engine::Result<()> {
        self.duty(|writer| writer.session.defragment())
    }

    fn forget(&mut self, before: StoreTime) -> engine::Result<bool> {
        let next = self.duty(|writer| writer.session.forget(before, writer.forgotten, TOMBSTONES))?;
        self.forgotten = next.unwrap_or(0);
        Ok(next.is_some())
    }

    fn extend_leases(&mut self, least: Duration) -> engine::Result<usize> {
        let now = self.clock.now();
        let extended = self.duty(|writer| writer.session.extend_leases(now, least))?;
        self.saved = now;
        Ok(extended)
    }

    fn save_clock(&mut self, age: Duration) -> engine::Result<()> {
        let now = self.clock.now();
        if now.since(self.saved) > age {
            self.duty(|writer| writer.session.save_clock(now))?;
            self.saved = now;
        }
        Ok(())
    }

    fn adopt(&mut self, cluster_id: u64) -> engine::Result<()> {
        let cluster_id = i64::try_from(cluster_id).unwrap_or(i64::MAX);
        self.duty(|writer| writer.session.adopt(cluster_id))
    }

    fn take_queue(&mut self, queue: &Queue) -> engine::Result<()> {
        self.duty(|writer| writer.session.take_queue(queue))
    }
}

/// The leases of rows that have one.
fn attached(rows: &BTreeMap<Bytes, Row>) -> BTreeMap<Bytes, LeaseId> {
    let leased = rows.values().filter(|row| row.kv.lease != 0);
    leased.map(|row| (row.kv.key.clone(), row.kv.lease)).collect()
}

/// What went wrong.
fn text(failure: Failure) -> String {
    match failure {
        Failure::Again(error) | Failure::Lost(error) | Failure::Unknown(error) | Failure::Final(error) => {
            error.to_string()
        }
    }
}

#[cfg(test)]
mod double;
#[cfg(test)]
mod tests;
