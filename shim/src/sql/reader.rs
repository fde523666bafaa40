//! Reads for clients.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::failure::{self, Failure};
use super::retry::Retry;
use super::select::{self, Found, Wish};
use super::session::{Change, Head, Log, Reading, Which};
use crate::clock::{StoreClock, StoreTime};
use crate::engine::metrics::Metrics;
use crate::engine::store::{Lease, Page, Reader, Source};
use crate::engine::{
    Error, Event, EventKind, Forwarding, KeyRange, KeyValue, LeaseId, RangeQuery, Record, Result, Revision, StoreStatus,
};
use crate::gc;

/// How long the begin of a read is tried when the database can't be reached: it may be starting anew. Less than a
/// health check waits, which says why.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a read gets the error of one that could not reach the database.
const PAUSE: Duration = Duration::from_millis(100);

/// How many changes are read at first. Their length says how many are read then, up to three times as many.
const FIRST_CHANGES: usize = 16;

/// About how many bytes of keys and values are read of changes at once: values may be a megabyte each, and each change
/// has two.
const CHANGES_BYTES: usize = 8 << 20;

/// A reader of any database.
pub(in crate::sql) struct SqlReader {
    session: Box<dyn Reading>,
    metrics: Arc<Metrics>,
    /// How long the begin of a read is tried.
    patience: Duration,
    /// The clock that goes by that of the database.
    clock: Option<StoreClock>,
    /// Of the snapshot.
    head: Head,
    /// Why the database could not be reached, and when, if that was so at last.
    unreached: Option<(Instant, Error)>,
}

impl SqlReader {
    /// Reads with that connection.
    pub(in crate::sql) fn new(session: Box<dyn Reading>, metrics: Arc<Metrics>) -> Self {
        Self { session, metrics, patience: PATIENCE, clock: None, head: Head::default(), unreached: None }
    }

    /// Has a clock go by that of the database.
    pub(in crate::sql) fn telling(self, clock: StoreClock) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// Reads a copy of the database with that connection. What fails is not tried again: others can answer.
    pub(in crate::sql) fn of_replica(session: Box<dyn Reading>, metrics: Arc<Metrics>) -> Self {
        Self { patience: Duration::ZERO, ..Self::new(session, metrics) }
    }

    /// Begins a read, again if the database can't be reached. Behind a read that waited in vain the next ones do not
    /// wait: they would wait for each other. Nor does each of them connect: all ports of this machine would be in use.
    fn patiently<T>(&mut self, read: impl Fn(&mut dyn Reading) -> failure::Result<T>) -> Result<T> {
        if let Some((since, error)) = &self.unreached
            && since.elapsed() < PAUSE
        {
            return Err(error.clone());
        }
        let patience = if self.unreached.is_none() { self.patience } else { Duration::ZERO };
        let mut retry = Retry::new(patience, std::thread::sleep);
        loop {
            match read(&mut *self.session) {
                Err(Failure::Again(_) | Failure::Lost(_)) if retry.wait() => self.session.end(),
                Err(Failure::Again(error) | Failure::Lost(error)) => {
                    self.unreached = Some((Instant::now(), error.clone()));
                    return Err(error);
                }
                begun => {
                    self.unreached = None;
                    return Ok(begun?);
                }
            }
        }
    }

    /// The values of the range that were the newest of their keys at a revision and are no longer, in order.
    fn superseded<'q>(&mut self, query: &'q RangeQuery, at: Revision, wanted: usize) -> failure::Result<Found<'q>> {
        let mut found = Found::new(query, wanted);
        self.session.superseded(&query.range, at, self.head.revision - at, &mut |row| found.take(row))?;
        self.metrics.rows_read.inc_by(found.rows());
        Ok(found)
    }

    /// At most `wanted` keys, in order; and the last one if there may be more behind it that the bytes left no room
    /// for.
    fn find(
        &mut self,
        query: &RangeQuery,
        revision: Revision,
        wanted: usize,
    ) -> failure::Result<(Vec<KeyValue>, Option<Bytes>)> {
        let is_past = revision < self.head.revision;
        let wish = Wish { query, until: if is_past { revision } else { Revision::MAX }, wanted };
        let mut live = select::current(&mut *self.session, &wish, &self.metrics)?;
        let mut cut = live.cut();
        if is_past {
            let mut superseded = self.superseded(query, revision, wanted)?;
            // Behind the key where one of the two stopped, the other is not to go on.
            cut = cut.into_iter().chain(superseded.cut()).min();
            live.kvs.append(&mut superseded.kvs);
            live.kvs.sort_by(|a, b| a.key.cmp(&b.key));
            live.kvs.retain(|kv| cut.as_ref().is_none_or(|cut| kv.key <= *cut));
        }
        Ok((live.kvs, cut))
    }
}

impl Reader for SqlReader {
    fn begin(&mut self) -> Result<(Revision, Revision)> {
        self.head = self.patiently(|session| session.snapshot())?;
        if let Some(clock) = &self.clock {
            clock.heed(self.head.now);
        }
        Ok((self.head.revision, self.head.compact_revision))
    }

    fn end(&mut self) {
        self.session.end();
    }

    fn batch(&self) -> i64 {
        self.head.batch
    }

    fn newest(&mut self, keys: &[&[u8]]) -> Result<(Revision, Vec<KeyValue>)> {
        let (head, rows) = self.patiently(|session| session.newest(keys))?;
        self.metrics.rows_read.inc_by(rows.len() as u64);
        Ok((head.revision, rows.into_iter().map(|row| row.kv).collect()))
    }

    fn page(&mut self, query: &RangeQuery, revision: Revision, limit: usize) -> Result<Page> {
        // One more tells whether there are more.
        let wanted = if limit == 0 { usize::MAX } else { limit + 1 };
        let (mut kvs, cut) = self.find(query, revision, wanted)?;
        // In the past the bytes may have ended one of the two reads, and what both found is a full page all the same.
        if kvs.len() == limit
            && let (Some(last), Some(_)) = (kvs.last(), cut.as_ref())
        {
            let behind = RangeQuery { range: query.range.after(&last.key), ..query.clone() };
            let more = !self.page(&behind, revision, 1)?.kvs.is_empty();
            return Ok(Page { kvs, more });
        }
        let more = cut.is_some() || (limit > 0 && kvs.len() > limit);
        if limit > 0 {
            kvs.truncate(limit);
        }
        Ok(Page { kvs, more })
    }

    fn count(&mut self, range: &KeyRange, revision: Revision) -> Result<i64> {
        let now = self.session.count(range)?;
        if revision == self.head.revision {
            return Ok(now);
        }
        Ok(now + self.session.count_difference(range, revision)?)
    }

    fn events(&mut self, range: &KeyRange, from: Revision, limit: usize) -> Result<(Vec<Event>, Revision)> {
        let (mut changes, mut bytes) = (Vec::<Change>::new(), 0);
        let mut step = FIRST_CHANGES.min(limit).max(1);
        loop {
            // The engine asks for no revisions whose history a compaction may have taken from.
            let log = Log {
                range: Some(range),
                after: changes.last().map_or((from, -1), |last| last.at),
                until: self.head.revision,
                above: 0,
                limit: step,
                previous: true,
            };
            let found = self.session.log(&log)?;
            let all = found.len() < step;
            bytes += found.iter().map(Change::bytes).sum::<usize>();
            changes.extend(found);
            let until = match changes.last() {
                // The last revision may have more.
                Some(last) if !all => last.at.0 - 1,
                _ => return Ok((changes.into_iter().map(event).collect(), self.head.revision)),
            };
            // The first revision alone may have more changes than that.
            if until >= from && (changes.len() >= limit || bytes >= CHANGES_BYTES) {
                changes.truncate(changes.partition_point(|change| change.at.0 <= until));
                return Ok((changes.into_iter().map(event).collect(), until));
            }
            step = 3 * changes.len();
            if until >= from {
                let fit = CHANGES_BYTES.saturating_sub(bytes) / (bytes / changes.len()).max(1);
                step = step.min(fit).min(limit.saturating_sub(changes.len())).max(1);
            }
        }
    }

    fn records(
        &mut self,
        after: (Revision, i64),
        until: Revision,
        above: Option<Revision>,
        limit: usize,
    ) -> Result<Vec<Record>> {
        let above = above.unwrap_or(self.head.compact_revision);
        let log = Log { range: None, after, until, above, limit, previous: false };
        Ok(self.session.log(&log)?.into_iter().map(record).collect())
    }

    fn lease(&mut self, id: LeaseId) -> Result<Option<Lease>> {
        Ok(self.session.lease(id)?)
    }

    fn lease_keys(&mut self, id: LeaseId) -> Result<Vec<Bytes>> {
        Ok(self.session.lease_keys(id)?)
    }

    fn leases(&mut self, limit: usize) -> Result<Vec<Lease>> {
        Ok(self.session.leases(limit)?)
    }

    fn status(&mut self) -> Result<StoreStatus> {
        Ok(self.session.status(self.head)?)
    }

    fn collector(&mut self) -> Result<gc::Status> {
        Ok(self.session.queue()?)
    }

    fn opaque_directories(&mut self) -> Result<Vec<Vec<u8>>> {
        Ok(self.session.opaque_directories()?)
    }

    fn opaque_key(&mut self, range: &KeyRange, begins: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.session.opaque_key(range, begins)?)
    }

    fn tasks(&mut self, after: i64, limit: usize) -> Result<Vec<gc::Task>> {
        Ok(self.session.tasks(Which::After(after), limit)?)
    }

    fn tombstones(&mut self, after: i64, limit: usize) -> Result<Vec<gc::Tombstone>> {
        Ok(self.session.tombstones_after(after, limit)?)
    }
}

impl Source for SqlReader {
    fn now(&self) -> StoreTime {
        self.head.now
    }

    fn forwarding(&mut self) -> Result<Option<Forwarding>> {
        self.session.note()?.map(|note| note.parse()).transpose()
    }

    fn hold(&mut self) -> Result<(Revision, Revision)> {
        self.head = self.session.hold()?;
        Ok((self.head.revision, self.head.compact_revision))
    }

    fn leave(&mut self, note: &Forwarding) -> Result<()> {
        Ok(self.session.leave(&note.to_string())?)
    }
}

fn event(change: Change) -> Event {
    let kind = if change.deleted { EventKind::Delete } else { EventKind::Put };
    Event { kind, kv: change.kv, prev_kv: change.previous }
}

fn record(change: Change) -> Record {
    let (revision, sub) = change.at;
    let kv = if change.deleted { KeyValue { key: change.kv.key, ..KeyValue::default() } } else { change.kv };
    Record { revision, sub, tombstone: change.deleted, kv }
}
