//! Fills a store with one of another database that goes on changing meanwhile.
//!
//! The store is at revision 0 until the end, as with [`super::load`]. The rows in the store say how far the filling is.
//! The number of the cluster says whose store it will be. So the filling can go on after a kill.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::facets::facets;
use super::limits;
use super::load::{BATCH_BYTES, INDEX_STEP, Taking, changes, check, commit, missed, not_empty, unfinished};
use super::store::{Before, Changes, Footprint, Lease, Nature, Queue, Reader, RowChange, Store, Writer};
use super::types::{Error, LeaseId, Record, Result, Revision};

/// How many records one commit carries at most, and at least if it fails.
const BATCH_RECORDS: usize = 2048;
const LEAST_RECORDS: usize = 16;

/// A store that is being filled. One that is dropped before [`Receiver::finish`] can't be served.
pub struct Receiver {
    writer: Box<dyn Writer>,
    nature: Nature,
    /// The last change that is here or in the batch.
    position: (Revision, i64),
    /// The last compaction that is known.
    compact_revision: Revision,
    batch: Vec<Record>,
    bytes: usize,
    /// How many records one commit carries at most.
    most: usize,
}

/// What a store is that may be filled with the one of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// It is fresh.
    Empty,
    /// It was begun to be filled with that one, and the last compaction was at this revision by then.
    Begun(Revision),
}

/// Whether a store can be filled with the one of a cluster.
///
/// # Errors
/// If there is anything else in it.
pub fn ready(reader: &mut dyn Reader, cluster_id: u64) -> Result<Ready> {
    let (revision, compact_revision) = reader.begin()?;
    let found = reader.status().and_then(|status| Ok((status.cluster_id, reader.leases(1)?)));
    reader.end();
    let (cluster, leases) = found?;
    match revision {
        0 if cluster == cluster_id => Ok(Ready::Begun(compact_revision)),
        0 => Err(unfinished()),
        _ if cluster == cluster_id => {
            Err(Error::Broken(format!("the database is the one that the store is in, or a copy: it is at {revision}")))
        }
        1 if compact_revision == 0 && leases.is_empty() => Ok(Ready::Empty),
        _ => Err(not_empty(revision)),
    }
}

impl Receiver {
    /// Begins, or goes on where the last process was stopped.
    ///
    /// # Errors
    /// If there is anything else in the store.
    pub fn begin(store: &dyn Store, cluster_id: u64) -> Result<Self> {
        let mut reader = store.reader()?;
        let begun = ready(reader.as_mut(), cluster_id)?;
        let mut writer = store.writer()?;
        let (position, compact_revision) = match begun {
            Ready::Empty => {
                writer.adopt(cluster_id)?;
                ((0, i64::MAX), 0)
            }
            Ready::Begun(compact_revision) => (last(reader.as_mut())?, compact_revision),
        };
        let (batch, most) = (Vec::new(), BATCH_RECORDS);
        Ok(Self { writer, nature: store.nature(), position, compact_revision, batch, bytes: 0, most })
    }

    /// The last change that is here.
    pub fn position(&self) -> (Revision, i64) {
        self.position
    }

    /// Notes a compaction of the other store: what was superseded up to it is of no use.
    pub fn compacted(&mut self, revision: Revision) -> Result<()> {
        if revision > self.compact_revision {
            self.flush()?;
            self.compact_revision = revision;
            let changes = || Changes { compact_revision: Some(revision), ..Changes::default() };
            commit(self.writer.as_mut(), &mut |_| changes())?;
        }
        Ok(())
    }

    /// Adds the next change.
    pub fn push(&mut self, record: Record) -> Result<()> {
        check(&record)?;
        limits::check_key(&record.kv.key, &self.nature)?;
        limits::check_value(&record.kv, &self.nature)?;
        self.position = (record.revision, record.sub);
        self.bytes += record.kv.key.len() + record.kv.value.len();
        self.batch.push(record);
        if self.batch.len() >= BATCH_RECORDS || self.bytes >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    /// Writes what was added; readers see it from now on.
    pub fn flush(&mut self) -> Result<()> {
        let records = std::mem::take(&mut self.batch);
        self.bytes = 0;
        let mut rest = &records[..];
        while !rest.is_empty() {
            let (part, behind) = rest.split_at(rest.len().min(self.most));
            match self.write(part) {
                Ok(()) => rest = behind,
                // Servers let a transaction wait for some seconds only: on a busy machine less is done in that time.
                Err(Error::Unavailable(_)) if part.len() > LEAST_RECORDS => self.most = part.len() / 2,
                Err(error) => return Err(error),
            }
        }
        self.beat()
    }

    fn write(&mut self, records: &[Record]) -> Result<()> {
        let keys = records.iter().map(|record| record.kv.key.clone()).collect();
        let footprint = Footprint { keys, ..Footprint::default() };
        let taking = Taking { keep_after: self.compact_revision, moves: true };
        let decide = &mut |before: Before| changes(records, before.rows, &before.catalog, taking);
        self.writer.commit(&footprint, decide).map(drop)
    }

    /// A chance for the database to tidy up, and to say that it is in use.
    pub fn beat(&mut self) -> Result<()> {
        self.writer.tidy(false).map(drop)
    }

    /// Takes keys away whose deletion was compacted before it could be read.
    pub fn remove(&mut self, keys: &[Bytes]) -> Result<()> {
        for keys in keys.chunks(BATCH_RECORDS) {
            let footprint = Footprint { keys: keys.iter().cloned().collect(), ..Footprint::default() };
            self.writer.commit(&footprint, &mut |before| {
                let mut gone = Changes::default();
                for (key, row) in before.rows {
                    let facets = facets(&before.catalog, &key, &row.kv.value);
                    gone.rows.push(RowChange { key, before: Some(facets), after: None });
                    gone.superseded.push(missed(row));
                }
                gone.declarations = super::store::declarations(&gone.rows);
                Ok(gone)
            })?;
        }
        Ok(())
    }

    /// Stores leases, or removes them.
    pub fn leases(&mut self, leases: &BTreeMap<LeaseId, Option<Lease>>) -> Result<()> {
        if leases.is_empty() {
            return Ok(());
        }
        commit(self.writer.as_mut(), &mut |_| Changes { leases: leases.clone(), ..Changes::default() })
    }

    /// Stores rows of the collector.
    pub fn queue(&mut self, queue: &Queue) -> Result<()> {
        self.writer.take_queue(queue)
    }

    /// Builds field indexes, and removes what the compaction freed.
    pub fn settle(&mut self) -> Result<()> {
        while self.writer.index_step(INDEX_STEP)? {
            self.beat()?;
        }
        while self.writer.compact_step()? {
            self.beat()?;
        }
        Ok(())
    }

    /// Ends it: the store is at that revision and can be served.
    pub fn finish(&mut self, revision: Revision) -> Result<()> {
        self.flush()?;
        let compact_revision = Some(self.compact_revision);
        commit(self.writer.as_mut(), &mut |_| Changes { revision, compact_revision, ..Changes::default() })
    }
}

/// The last change in a store. Between two looks the revisions that it may have are halved.
fn last(reader: &mut dyn Reader) -> Result<(Revision, i64)> {
    reader.begin()?;
    let found = last_in_snapshot(reader);
    reader.end();
    found
}

fn last_in_snapshot(reader: &mut dyn Reader) -> Result<(Revision, i64)> {
    let (mut from, mut to) = (0, Revision::MAX);
    while from < to {
        let middle = from + (to - from) / 2;
        match reader.records((middle, i64::MAX), Revision::MAX, None, 1)?.first() {
            Some(behind) => from = behind.revision,
            None => to = middle,
        }
    }
    let within = reader.records((from, -1), from, None, usize::MAX)?;
    Ok((from, within.last().map_or(i64::MAX, |last| last.sub)))
}
