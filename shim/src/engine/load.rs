//! Fills an empty store with another one's history.
//!
//! A store is at revision 0 while it is being loaded, and at no other time. So the revision tells a store that was not
//! loaded to its end from a whole one, in any database. [`super::Engine::start`] refuses the former.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::catalog::Catalog;
use super::collecting::seen;
use super::facets::facets;
use super::limits;
use super::store::{
    Changes, Facets, Footprint, Lease, Nature, Row, RowChange, Store, Superseded, Writer, declarations,
};
use super::types::{Error, KeyValue, Record, Result, Revision};
use crate::clock::StoreTime;
use crate::gc::{Rules, signals};

/// How many records one commit carries at most, and how many bytes of keys and values.
const BATCH_RECORDS: usize = 8192;
pub(super) const BATCH_BYTES: usize = 4 << 20;
/// How long a step on the field indexes takes; nobody waits.
pub(super) const INDEX_STEP: Duration = Duration::from_millis(500);
/// How many leases one commit carries.
const BATCH_LEASES: usize = 8192;

/// Loads a store. One that is dropped before [`Loader::finish`] leaves a store that can't be used.
pub struct Loader {
    writer: Box<dyn Writer>,
    keep_after: Revision,
    nature: Nature,
    batch: Vec<Record>,
    bytes: usize,
    loaded: Loaded,
}

/// What was loaded so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Loaded {
    /// Puts and deletions.
    pub records: u64,
    /// Leases.
    pub leases: u64,
    /// The newest revision among the records, or 0.
    pub revision: Revision,
}

/// The error that a store gives which was not loaded to its end.
pub(super) fn unfinished() -> Error {
    Error::Broken(
        "the database was not loaded to its end and can't be used; remove it with all files that begin with its name, and restore or import it \
         again"
            .into(),
    )
}

/// The error that a database gives that was to be filled.
pub(super) fn not_empty(revision: Revision) -> Error {
    Error::Broken(format!(
        "the database is not empty: it is at revision {revision}; name a new one, nothing is ever overwritten"
    ))
}

impl Loader {
    /// Begins to load. Values that were superseded at or before `keep_after` are left out: the revision of the
    /// compaction, as a rule. Fails if there is anything in the store.
    pub fn begin(store: &dyn Store, keep_after: Revision) -> Result<Self> {
        let mut reader = store.reader()?;
        let (revision, _) = reader.begin()?;
        let status = reader.status()?;
        let leases = reader.leases(1)?;
        reader.end();
        if revision == 0 {
            return Err(unfinished());
        }
        if status.revision != 1 || status.compact_revision != 0 || !leases.is_empty() {
            return Err(not_empty(revision));
        }
        let mut writer = store.writer()?;
        commit(writer.as_mut(), &mut |_| Changes { compact_revision: Some(0), ..Changes::default() })?;
        let nature = store.nature();
        Ok(Self { writer, keep_after, nature, batch: Vec::new(), bytes: 0, loaded: Loaded::default() })
    }

    /// Adds a change. Those of one key come in the order in which they happened. One with an empty key only moves the
    /// revision.
    pub fn push(&mut self, record: Record) -> Result<()> {
        self.loaded.revision = self.loaded.revision.max(record.revision);
        if record.kv.key.is_empty() {
            return Ok(());
        }
        check(&record)?;
        limits::check_key(&record.kv.key, &self.nature)?;
        limits::check_values(record.kv.value.len(), &self.nature)?;
        self.loaded.records += 1;
        self.bytes += record.kv.key.len() + record.kv.value.len();
        self.batch.push(record);
        if self.batch.len() >= BATCH_RECORDS || self.bytes >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Adds leases. None gets more time than it was granted, whatever the source says.
    pub fn leases(&mut self, leases: Vec<Lease>) -> Result<()> {
        if let Some(lease) = leases.iter().find(|lease| lease.id == 0 || lease.ttl < 0) {
            let Lease { id, ttl, .. } = lease;
            return Err(Error::Broken(format!("the lease {id:x} with a time to live of {ttl} s is not sound")));
        }
        for part in leases.chunks(BATCH_LEASES) {
            commit(self.writer.as_mut(), &mut |now| {
                let bounded = |lease: &Lease| {
                    let full = Lease::full(lease.id, lease.ttl, now);
                    Lease { expires_at: lease.expires_at.min(full.expires_at), ..full }
                };
                let leases = part.iter().map(|lease| (lease.id, Some(bounded(lease)))).collect();
                Changes { leases, ..Changes::default() }
            })?;
            self.loaded.leases += part.len() as u64;
        }
        Ok(())
    }

    /// Writes what was added; readers see it from now on.
    pub fn flush(&mut self) -> Result<Loaded> {
        let records = std::mem::take(&mut self.batch);
        self.bytes = 0;
        if !records.is_empty() {
            let keys = records.iter().map(|record| record.kv.key.clone()).collect();
            let footprint = Footprint { keys, ..Footprint::default() };
            let taking = Taking { keep_after: self.keep_after, moves: false };
            self.writer.commit(&footprint, &mut |before| changes(&records, before.rows, &before.catalog, taking))?;
            self.writer.tidy(false)?;
        }
        Ok(self.loaded)
    }

    /// Ends the loading: the store is at `revision` and can be used.
    pub fn finish(mut self, revision: Revision, compact_revision: Revision) -> Result<Loaded> {
        self.flush()?;
        if revision < self.loaded.revision.max(compact_revision).max(1) {
            return Err(Error::Broken(format!(
                "there are changes after revision {revision}, which was to be the last"
            )));
        }
        commit(self.writer.as_mut(), &mut |_| Changes {
            revision,
            compact_revision: Some(compact_revision),
            ..Changes::default()
        })?;
        while self.writer.index_step(INDEX_STEP)? {
            self.writer.tidy(false)?;
        }
        // All of it in the database itself, so that the file alone can be moved.
        self.writer.defragment()?;
        Ok(self.loaded)
    }
}

/// How records are taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taking {
    /// What was superseded up to this revision is of no use.
    pub(super) keep_after: Revision,
    /// Whether the store is one that is moved as it is. Then the collector's work comes along, so that the collector
    /// hears of nothing; and deletions that were compacted before they were read are missing.
    pub(super) moves: bool,
}

/// A commit that depends on nothing but the time. The revision stays 0 unless the changes say otherwise.
pub(super) fn commit(writer: &mut dyn Writer, decide: &mut dyn FnMut(StoreTime) -> Changes) -> Result<()> {
    writer.commit(&Footprint::default(), &mut |before| Ok(decide(before.now))).map(drop)
}

/// Checks that a change can be one at all.
pub(super) fn check(record: &Record) -> Result<()> {
    let Record { revision, sub, tombstone, kv } = record;
    let sound = *revision > 0
        && *sub >= 0
        && (*tombstone
            || (kv.mod_revision == *revision
                && (1..=kv.mod_revision).contains(&kv.create_revision)
                && kv.version >= 1
                && (kv.version == 1) == (kv.create_revision == kv.mod_revision)));
    if sound { Ok(()) } else { Err(unsound(record)) }
}

/// Checks that a change goes with the value that the key had before. Of what was compacted, parts may be missing.
fn check_after(record: &Record, before: Option<&Row>, keep_after: Revision) -> Result<()> {
    let Record { revision, sub, tombstone, kv } = record;
    let follows = match before {
        Some(Row { kv: before, sub: place }) => {
            (*revision, *sub) > (before.mod_revision, *place)
                && (*tombstone
                    || *revision <= keep_after
                    || (kv.create_revision, Some(kv.version))
                        == (before.create_revision, before.version.checked_add(1)))
        }
        None => *tombstone || *revision <= keep_after || kv.version == 1,
    };
    if follows { Ok(()) } else { Err(unsound(record)) }
}

fn unsound(record: &Record) -> Error {
    let Record { revision, sub, kv, .. } = record;
    let KeyValue { create_revision, mod_revision, version, .. } = kv;
    Error::Broken(format!(
        "the change of {:?} at revision {revision}/{sub} is not sound: create revision {create_revision}, mod revision {mod_revision}, \
         version {version}",
        String::from_utf8_lossy(&kv.key)
    ))
}

/// A value whose deletion was compacted before it could be read: it ends right behind the revision that put it, at a
/// place that no other change has. Nobody ever sees that end, and a compaction removes the value.
pub(super) fn missed(row: Row) -> Superseded {
    let (end_revision, end_sub) = (row.kv.mod_revision.saturating_add(1), i64::MAX - row.sub);
    Superseded { row, end_revision, end_sub, deleted: true }
}

/// Whether the key was deleted between a value and the next change of it that is known.
fn is_missed(row: &Row, next: &Record, keep_after: Revision) -> bool {
    !next.tombstone && row.kv.mod_revision < keep_after && next.kv.create_revision > row.kv.mod_revision
}

/// What the records make of the rows that were there before. The revision of it is 0: the loading goes on.
pub(super) fn changes(
    records: &[Record],
    mut rows: BTreeMap<Bytes, Row>,
    catalog: &Catalog,
    Taking { keep_after, moves }: Taking,
) -> Result<Changes> {
    let mut before: BTreeMap<Bytes, Option<Facets>> = BTreeMap::new();
    let mut superseded = Vec::new();
    let (rules, mut heard) = (Rules::default(), Vec::new());
    for record in records {
        let Record { revision, sub, tombstone, kv } = record;
        let mut old = rows.remove(&kv.key);
        let of = |row: &Row| facets(catalog, &kv.key, &row.kv.value);
        // What is stored must not vanish without a trace: the order of changes names it.
        let is_stored = !before.contains_key(&kv.key);
        before.entry(kv.key.clone()).or_insert_with(|| old.as_ref().map(of));
        if moves && let Some(row) = old.take_if(|row| is_missed(row, record, keep_after)) {
            superseded.push(missed(row));
        }
        check_after(record, old.as_ref(), keep_after)?;
        if let Some(row) = old.as_ref().filter(|_| *tombstone && !moves) {
            // Its dependents may not have been collected yet, nor have lost their references.
            let (facets, at) = (of(row), (&kv.key, *revision));
            if seen(&facets).is_some_and(|seen| seen.node.deletion.orphan) {
                signals(&rules, at, None, seen(&facets), &mut heard);
            }
            signals(&rules, at, seen(&facets), None, &mut heard);
        }
        if let Some(row) = old.filter(|_| is_stored || *revision > keep_after) {
            superseded.push(Superseded { row, end_revision: *revision, end_sub: *sub, deleted: *tombstone });
        }
        if !tombstone {
            rows.insert(kv.key.clone(), Row { kv: kv.clone(), sub: *sub });
        }
    }
    let change = |(key, before): (Bytes, Option<Facets>)| {
        let after = rows.remove(&key).map(|row| {
            let facets = facets(catalog, &key, &row.kv.value);
            if !moves {
                signals(&rules, (&key, row.kv.mod_revision), None, seen(&facets), &mut heard);
            }
            (row, facets)
        });
        (before.is_some() || after.is_some()).then_some(RowChange { key, before, after })
    };
    let rows: Vec<RowChange> = before.into_iter().filter_map(change).collect();
    Ok(Changes { superseded, declarations: declarations(&rows), rows, signals: heard, ..Changes::default() })
}
