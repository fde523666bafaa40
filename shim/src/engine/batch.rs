//! Carries out a batch of requests in memory, in order of arrival, on the part of the store that they touch. Pure: the
//! database reads before and writes after.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::catalog::Catalog;
use super::collecting::{Collecting, waits};
use super::range::assemble;
use super::store::{Before, Changes, Facets, Footprint, Lease, Row, RowChange, Superseded, declarations};
use super::types::*;
use crate::clock::StoreTime;
use crate::gc::Rules;

/// Says what the database is to index of a key's value.
pub(super) type FacetsOf = fn(&Catalog, &[u8], &[u8]) -> Facets;

/// The state of the touched keys, as the requests of a batch change it.
pub(super) struct Batch<'a> {
    footprint: &'a Footprint,
    now: StoreTime,
    /// The revision of the database.
    begun: Revision,
    revision: Revision,
    compact_revision: Revision,
    compacted: bool,
    pub(super) rows: BTreeMap<Bytes, Row>,
    /// The facets of what the database holds, of the keys that the batch changed; `None` for keys that were not there.
    before: BTreeMap<Bytes, Option<Facets>>,
    past: Vec<Result<Vec<KeyValue>>>,
    leases: BTreeMap<LeaseId, Lease>,
    lease_changes: BTreeMap<LeaseId, Option<Lease>>,
    superseded: Vec<Superseded>,
    events: Vec<Arc<Event>>,
    catalog: Arc<Catalog>,
    facets: FacetsOf,
    /// The facets of what the batch made of the keys that it changed; `None` for keys that are gone.
    pub(super) after: BTreeMap<Bytes, Option<Facets>>,
    /// What the request under way replaced, to put back if it fails.
    undo: Vec<Undo>,
    /// What is the collector's.
    pub(super) gc: Collecting<'a>,
    /// The revision of the request under way, and the place of its next change.
    place: (Revision, i64),
}

/// A change that can be taken back.
struct Undo {
    key: Bytes,
    row: Option<Row>,
    /// What `Batch::after` held.
    after: Option<Option<Facets>>,
}

impl<'a> Batch<'a> {
    /// Starts a batch.
    pub(super) fn new(footprint: &'a Footprint, before: Before, facets: FacetsOf, rules: &'a Rules) -> Self {
        Self {
            gc: Collecting::new(rules, before.blocked, before.work),
            after: BTreeMap::new(),
            footprint,
            now: before.now,
            begun: before.revision,
            revision: before.revision,
            compact_revision: before.compact_revision,
            compacted: false,
            rows: before.rows,
            before: BTreeMap::new(),
            past: before.past,
            leases: before.leases,
            lease_changes: BTreeMap::new(),
            superseded: Vec::new(),
            events: Vec::new(),
            catalog: before.catalog,
            facets,
            undo: Vec::new(),
            place: (before.revision, 0),
        }
    }

    /// The moment of the batch.
    pub(super) fn now(&self) -> StoreTime {
        self.now
    }

    /// The newest revision so far.
    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    /// What the database has to do, and the events of it in order.
    pub(super) fn finish(mut self) -> (Changes, Vec<Arc<Event>>) {
        let rows: Vec<RowChange> = std::mem::take(&mut self.before)
            .into_iter()
            .filter_map(|(key, before)| {
                let known = self.after.remove(&key).flatten();
                let after = self.rows.remove(&key).map(|row| {
                    let facets = known.unwrap_or_else(|| (self.facets)(&self.catalog, &key, &row.kv.value));
                    (row, facets)
                });
                (before.is_some() || after.is_some()).then_some(RowChange { key, before, after })
            })
            .collect();
        let changes = Changes {
            revision: self.revision,
            superseded: self.superseded,
            declarations: declarations(&rows),
            rows,
            leases: self.lease_changes,
            compact_revision: self.compacted.then_some(self.compact_revision),
            signals: self.gc.signals,
            tasks: self.gc.tasks,
        };
        (changes, self.events)
    }

    /// Carries out one write. If it fails nothing of it happened.
    pub(super) fn write(&mut self, op: &Op) -> Result<(Revision, OpResult)> {
        self.atomically(|batch| match op {
            Op::Txn(txn) => {
                let path = batch.choose(txn);
                batch.check(txn, &path)?;
                batch.run(txn, &path).map(OpResult::Txn)
            }
            Op::Put(put) => {
                batch.check_put(put)?;
                Ok(OpResult::Put(batch.put(put)?))
            }
            Op::Delete(delete) => Ok(batch.delete(delete)),
            Op::Range(query) => batch.range(query).map(OpResult::Range),
        })
    }

    /// Forgets what was superseded at or before the revision (etcd: server/storage/mvcc/kvstore.go,
    /// `updateCompactRev`).
    pub(super) fn compact(&mut self, revision: Revision) -> Result<Revision> {
        if revision <= self.compact_revision {
            return Err(Error::Compacted { compact_revision: self.compact_revision });
        }
        if revision > self.revision {
            return Err(Error::FutureRevision);
        }
        self.compact_revision = revision;
        self.compacted = true;
        Ok(self.revision)
    }

    /// Grants a lease. `ttl` in seconds.
    pub(super) fn grant(&mut self, id: LeaseId, ttl: i64) -> Result<Lease> {
        if self.leases.contains_key(&id) {
            return Err(Error::LeaseExists);
        }
        let lease = Lease::full(id, ttl, self.now);
        self.store_lease(lease.clone());
        Ok(lease)
    }

    /// Makes a lease live its full time from now on; returns that time.
    pub(super) fn keep_alive(&mut self, id: LeaseId) -> Result<i64> {
        let ttl = self.leases.get(&id).ok_or(Error::LeaseNotFound)?.ttl;
        self.store_lease(Lease::full(id, ttl, self.now));
        Ok(ttl)
    }

    /// Ends a lease and deletes its keys, all at one revision.
    pub(super) fn revoke(&mut self, id: LeaseId) -> Result<Revision> {
        if self.leases.remove(&id).is_none() {
            return Err(Error::LeaseNotFound);
        }
        self.lease_changes.insert(id, None);
        self.atomically(|batch| {
            let keys: Vec<_> =
                batch.rows.values().filter(|row| row.kv.lease == id).map(|row| row.kv.key.clone()).collect();
            for key in keys {
                batch.remove(&key);
            }
            Ok(batch.revision)
        })
        .map(|(revision, _)| revision)
    }

    /// Ends a lease if its time is over.
    pub(super) fn expire(&mut self, id: LeaseId) -> Result<bool> {
        match self.leases.get(&id) {
            Some(lease) if lease.expires_at <= self.now => self.revoke(id).map(|_| true),
            _ => Ok(false),
        }
    }

    fn store_lease(&mut self, lease: Lease) {
        self.lease_changes.insert(lease.id, Some(lease.clone()));
        self.leases.insert(lease.id, lease);
    }

    pub(super) fn atomically<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<(Revision, T)> {
        self.undo.clear();
        self.place = (self.revision + 1, 0);
        let (superseded, events, signals) = (self.superseded.len(), self.events.len(), self.gc.signals.len());
        match work(self) {
            Ok(result) => {
                if self.place.1 > 0 {
                    self.revision = self.place.0;
                }
                Ok((self.revision, result))
            }
            Err(error) => {
                self.superseded.truncate(superseded);
                self.events.truncate(events);
                self.gc.signals.truncate(signals);
                while let Some(Undo { key, row, after }) = self.undo.pop() {
                    match after {
                        Some(after) => self.after.insert(key.clone(), after),
                        // It was the first change of the key.
                        None => {
                            self.before.remove(&key);
                            self.after.remove(&key)
                        }
                    };
                    match row {
                        Some(row) => self.rows.insert(key, row),
                        None => self.rows.remove(&key),
                    };
                }
                Err(error)
            }
        }
    }

    /// Which branches a transaction takes, nested ones included, decided before anything changes
    /// (etcd: server/etcdserver/txn/txn.go, `compareToPath`).
    fn choose(&self, txn: &Txn) -> Path {
        let succeeded = txn.compares.iter().all(|compare| self.holds(compare));
        let nested = branch(txn, succeeded)
            .iter()
            .filter_map(|op| if let Op::Txn(inner) = op { Some(self.choose(inner)) } else { None })
            .collect();
        Path { succeeded, nested }
    }

    fn check(&self, txn: &Txn, path: &Path) -> Result<()> {
        let mut nested = path.nested.iter();
        for op in branch(txn, path.succeeded) {
            match op {
                Op::Put(put) => self.check_put(put)?,
                Op::Txn(inner) => {
                    if let Some(path) = nested.next() {
                        self.check(inner, path)?;
                    }
                }
                Op::Range(query) => {
                    // What the batch itself makes is read as the newest only: nobody knows its revisions yet.
                    if query.revision > self.begun {
                        return Err(Error::FutureRevision);
                    }
                    if query.revision < 0 || (query.revision > 0 && query.revision < self.compact_revision) {
                        return Err(Error::Compacted { compact_revision: self.compact_revision });
                    }
                }
                Op::Delete(_) => {}
            }
        }
        Ok(())
    }

    fn check_put(&self, put: &Put) -> Result<()> {
        // In etcd's order (etcd: server/etcdserver/txn/put.go).
        if put.lease != 0 && !put.ignore_lease && !self.leases.contains_key(&put.lease) {
            return Err(Error::LeaseNotFound);
        }
        if (put.ignore_value || put.ignore_lease) && !self.rows.contains_key(&put.key) {
            return Err(Error::KeyNotFound);
        }
        Ok(())
    }

    fn run(&mut self, txn: &Txn, path: &Path) -> Result<TxnResult> {
        let mut nested = path.nested.iter();
        let mut results = Vec::new();
        for op in branch(txn, path.succeeded) {
            results.push(match op {
                Op::Range(query) => OpResult::Range(self.range(query)?),
                Op::Put(put) => OpResult::Put(self.put(put)?),
                Op::Delete(delete) => self.delete(delete),
                Op::Txn(inner) => {
                    let path = nested.next().cloned().unwrap_or_default();
                    OpResult::Txn(self.run(inner, &path)?)
                }
            });
        }
        Ok(TxnResult { succeeded: path.succeeded, results })
    }

    fn holds(&self, compare: &Compare) -> bool {
        let mut any = false;
        for row in rows_in(&self.rows, &compare.range) {
            any = true;
            if !compare_row(compare, &row.kv) {
                return false;
            }
        }
        // A range without keys is compared as one key that does not exist, except by value: there is no value to
        // compare.
        any || (!matches!(compare.target, CompareTarget::Value(_)) && compare_row(compare, &KeyValue::default()))
    }

    fn range(&self, query: &RangeQuery) -> Result<RangeResult> {
        let newest = self.place.0 - i64::from(self.place.1 == 0);
        let wanted = |(range, revision): &(KeyRange, Revision)| *range == query.range && *revision == query.revision;
        let past = self.footprint.past.iter().position(wanted).and_then(|at| self.past.get(at));
        let kvs = match past {
            Some(kvs) => kvs.clone()?,
            None => rows_in(&self.rows, &query.range).map(|row| row.kv.clone()).collect(),
        };
        Ok(assemble(query, kvs, newest))
    }

    pub(super) fn put(&mut self, put: &Put) -> Result<Option<KeyValue>> {
        let old = self.rows.get(&put.key).cloned();
        let (revision, sub) = self.next_place();
        let kept = |ignore: bool| if ignore { old.as_ref() } else { None };
        // The request's buffer is larger than its value, so history and watchers get a copy of their own.
        let value =
            kept(put.ignore_value).map_or_else(|| Bytes::copy_from_slice(&put.value), |row| row.kv.value.clone());
        let kv = KeyValue {
            key: old.as_ref().map_or_else(|| Bytes::copy_from_slice(&put.key), |row| row.kv.key.clone()),
            value,
            create_revision: old.as_ref().map_or(revision, |row| row.kv.create_revision),
            mod_revision: revision,
            version: old.as_ref().map_or(1, |row| row.kv.version + 1),
            lease: kept(put.ignore_lease).map_or(put.lease, |row| row.kv.lease),
        };
        let key = kv.key.clone();
        let event = Event { kind: EventKind::Put, kv: kv.clone(), prev_kv: old.as_ref().map(|row| row.kv.clone()) };
        self.replace(key, old, Some(Row { kv, sub }), event);
        Ok(if put.prev_kv { self.events.last().and_then(|event| event.prev_kv.clone()) } else { None })
    }

    fn delete(&mut self, delete: &DeleteRange) -> OpResult {
        let keys: Vec<_> = rows_in(&self.rows, &delete.range).map(|row| row.kv.key.clone()).collect();
        let removed = keys.iter().filter_map(|key| self.remove(key));
        let (mut deleted, mut prev_kvs) = (0, Vec::new());
        for kv in removed {
            deleted += 1;
            if delete.prev_kv {
                prev_kvs.push(kv);
            }
        }
        OpResult::Delete { deleted, prev_kvs }
    }

    pub(super) fn remove(&mut self, key: &Bytes) -> Option<KeyValue> {
        let old = self.rows.get(key).cloned()?;
        let (revision, _) = self.next_place();
        let kv = KeyValue { key: old.kv.key.clone(), mod_revision: revision, ..KeyValue::default() };
        let removed = old.kv.clone();
        let event = Event { kind: EventKind::Delete, kv, prev_kv: Some(removed.clone()) };
        self.replace(removed.key.clone(), Some(old), None, event);
        Some(removed)
    }

    fn next_place(&mut self) -> (Revision, i64) {
        let place = self.place;
        self.place.1 += 1;
        place
    }

    fn replace(&mut self, key: Bytes, old: Option<Row>, new: Option<Row>, event: Event) {
        let facets = |row: &Row| (self.facets)(&self.catalog, &key, &row.kv.value);
        let before = self.before.entry(key.clone()).or_insert_with(|| old.as_ref().map(facets));
        let replaced = self.after.remove(&key);
        let after = new.as_ref().map(facets);
        self.gc.changed((&key, self.place.0), replaced.as_ref().unwrap_or(before).as_ref(), after.as_ref());
        self.after.insert(key.clone(), after);
        self.undo.push(Undo { key: key.clone(), row: old.clone(), after: replaced });
        if let Some(row) = old {
            self.superseded.push(Superseded {
                row,
                end_revision: self.place.0,
                end_sub: self.place.1 - 1,
                deleted: event.kind == EventKind::Delete,
            });
        }
        match new {
            Some(row) => self.rows.insert(key, row),
            None => self.rows.remove(&key),
        };
        self.events.push(Arc::new(event));
    }
}

/// The branches that a transaction takes.
#[derive(Debug, Clone, Default)]
struct Path {
    succeeded: bool,
    /// Of the nested transactions in the chosen branch, in order.
    nested: Vec<Path>,
}

fn branch(txn: &Txn, succeeded: bool) -> &[Op] {
    if succeeded { &txn.success } else { &txn.failure }
}

fn rows_in<'r>(rows: &'r BTreeMap<Bytes, Row>, range: &KeyRange) -> impl Iterator<Item = &'r Row> {
    let start = Bound::Included(range.start.clone());
    let end = match &range.end {
        RangeEnd::Single => Bound::Included(range.start.clone()),
        // An empty range; BTreeMap panics on one whose start is greater than its end.
        RangeEnd::Before(end) if *end <= range.start => Bound::Excluded(range.start.clone()),
        RangeEnd::Before(end) => Bound::Excluded(end.clone()),
        RangeEnd::Unbounded => Bound::Unbounded,
    };
    rows.range((start, end)).map(|(_, row)| row)
}

fn compare_row(compare: &Compare, kv: &KeyValue) -> bool {
    let order = match &compare.target {
        CompareTarget::Version(given) => kv.version.cmp(given),
        CompareTarget::Create(given) => kv.create_revision.cmp(given),
        CompareTarget::Mod(given) => kv.mod_revision.cmp(given),
        CompareTarget::Value(given) => kv.value.cmp(given),
        CompareTarget::Lease(given) => kv.lease.cmp(given),
    };
    match compare.result {
        CompareResult::Equal => order.is_eq(),
        CompareResult::NotEqual => order.is_ne(),
        CompareResult::Greater => order.is_gt(),
        CompareResult::Less => order.is_lt(),
    }
}

impl Footprint {
    /// Adds what a write touches.
    pub(super) fn add(&mut self, op: &Op) {
        match op {
            Op::Range(query) if query.revision > 0 => self.past.push((query.range.clone(), query.revision)),
            Op::Range(query) => self.add_range(&query.range),
            Op::Delete(delete) => self.add_range(&delete.range),
            Op::Put(put) => {
                self.keys.insert(put.key.clone());
                self.blocked.extend(waits(&put.value));
                if put.lease != 0 {
                    self.leases.insert(put.lease);
                }
            }
            Op::Txn(txn) => {
                for compare in &txn.compares {
                    self.add_range(&compare.range);
                }
                for op in txn.success.iter().chain(&txn.failure) {
                    self.add(op);
                }
            }
        }
    }

    fn add_range(&mut self, range: &KeyRange) {
        if range.end == RangeEnd::Single {
            self.keys.insert(range.start.clone());
        } else {
            self.ranges.push(range.clone());
        }
    }
}
