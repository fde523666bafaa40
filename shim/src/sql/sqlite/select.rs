//! Reads a range with a selector, the way that it is planned.

use rusqlite::{CachedStatement, Connection, Rows, params};

use super::merge::{Merge, Postings, is_in};
use super::plan::{Plan, Source, plan};
use super::row::Range;
use crate::engine::metrics::{Metrics, ReadSource};
use crate::engine::{KeyRange, KeyValue, Projection, RangeQuery, Revision};

/// The keys that a read found, in order.
pub(super) struct Found {
    pub(super) kvs: Vec<KeyValue>,
    wanted: usize,
    /// How many bytes of values may still be added.
    bytes: usize,
}

impl Found {
    /// None yet, `wanted` at most, or as many as have the bytes that the query allows.
    pub(super) fn new(query: &RangeQuery, wanted: usize) -> Self {
        let bytes = if query.limit_bytes == 0 { usize::MAX } else { query.limit_bytes };
        Self { kvs: Vec::new(), wanted, bytes }
    }

    fn is_enough(&self) -> bool {
        self.kvs.len() >= self.wanted || self.is_cut()
    }

    /// Whether the bytes ended it. The last key that is wanted only tells whether a full page is the last: for it there is always room.
    fn is_cut(&self) -> bool {
        self.bytes == 0 && self.kvs.len() + 1 < self.wanted
    }

    fn push(&mut self, kv: KeyValue) {
        self.bytes = self.bytes.saturating_sub(kv.value.len());
        self.kvs.push(kv);
    }

    /// The last key, if there may be more behind it that the bytes left no room for.
    pub(super) fn cut(&self) -> Option<bytes::Bytes> {
        if self.is_cut() { self.kvs.last().map(|kv| kv.key.clone()) } else { None }
    }
}

/// The live keys of the query's range, last changed at or before `past` if given, in order, at most `wanted`.
pub(super) fn current(
    connection: &Connection,
    query: &RangeQuery,
    past: Option<Revision>,
    wanted: usize,
    metrics: &Metrics,
) -> rusqlite::Result<Found> {
    let read = Read { connection, query, until: past.unwrap_or(Revision::MAX), wanted };
    let Some(selection) = &query.selection else {
        return read.scan(&query.range, false, metrics);
    };
    let plan = plan(connection, &query.range, selection, false)?;
    let kind = if plan.nothing { ReadSource::Nothing } else { plan.kind() };
    metrics.reads(kind).inc();
    if kind != ReadSource::Scan {
        metrics.index_reads.inc();
    }
    planned(&plan, &read, metrics)
}

/// What is read, and how much of it.
pub(super) struct Read<'a> {
    pub(super) connection: &'a Connection,
    pub(super) query: &'a RangeQuery,
    /// Keys that changed after this revision are left out.
    pub(super) until: Revision,
    /// How many keys to find at most.
    pub(super) wanted: usize,
}

/// Reads as planned.
pub(super) fn planned(plan: &Plan<'_>, read: &Read<'_>, metrics: &Metrics) -> rusqlite::Result<Found> {
    if plan.nothing {
        return Ok(Found::new(read.query, read.wanted));
    }
    match plan.candidates.first().map_or(&Source::Scan, |candidate| &candidate.source) {
        Source::Scan => read.scan(&plan.range, false, metrics),
        Source::Visible => read.scan(&plan.range, true, metrics),
        Source::Keys(keys) => {
            let mut keys = keys.iter();
            read.fetch(plan, &mut || Ok(keys.next().cloned()), metrics)
        }
        Source::Postings(postings) => {
            let mut merge = Merge::new(read.connection, postings, &plan.range, read.wanted)?;
            read.fetch(plan, &mut || merge.next(), metrics)
        }
    }
}

impl Read<'_> {
    fn columns(&self) -> String {
        // A value that nobody looks at need not be read from its pages.
        let full = self.query.projection == Projection::Full || self.query.selection.is_some();
        let value = if full { "value" } else { "x''" };
        format!("key, create_revision, mod_revision, version, lease, {value}")
    }

    /// Goes through the range, or through the objects in it that lack the skip label.
    fn scan(&self, range: &KeyRange, visible: bool, metrics: &Metrics) -> rusqlite::Result<Found> {
        let bounds = Range::of(range);
        let (index, visible) = if visible { ("current_visible", "AND hidden = 0") } else { ("current_key", "") };
        let sql = format!(
            "SELECT {} FROM current INDEXED BY {index} WHERE {} AND mod_revision <= ?3 {visible} ORDER BY key",
            self.columns(),
            bounds.condition("key")
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(bounds.params(&[&self.until]).as_slice())?;
        let mut found = Found::new(self.query, self.wanted);
        take(&mut rows, self.query, &mut found, metrics)?;
        Ok(found)
    }

    /// Fetches keys, in order, that no other index excludes.
    fn fetch(
        &self,
        plan: &Plan<'_>,
        next: &mut dyn FnMut() -> rusqlite::Result<Option<Vec<u8>>>,
        metrics: &Metrics,
    ) -> rusqlite::Result<Found> {
        let sql = format!(
            "SELECT {} FROM current INDEXED BY current_key WHERE key = ?1 AND mod_revision <= ?2",
            self.columns()
        );
        let mut one: CachedStatement<'_> = self.connection.prepare_cached(&sql)?;
        let probes: Vec<&[Postings]> = plan.probes().collect();
        let mut found = Found::new(self.query, self.wanted);
        'keys: while !found.is_enough() {
            let Some(key) = next()? else { break };
            if !plan.range.contains(&key) {
                continue;
            }
            for postings in &probes {
                if !is_in(self.connection, postings, &key)? {
                    continue 'keys;
                }
            }
            let mut rows = one.query(params![key, self.until])?;
            take(&mut rows, self.query, &mut found, metrics)?;
        }
        Ok(found)
    }
}

/// Takes rows that may match the query's selection until they are enough.
pub(super) fn take(
    rows: &mut Rows<'_>,
    query: &RangeQuery,
    found: &mut Found,
    metrics: &Metrics,
) -> rusqlite::Result<()> {
    let mut read = 0;
    while !found.is_enough() {
        let Some(row) = rows.next()? else { break };
        read += 1;
        let value = row.get_ref(5)?.as_blob()?;
        if query.selection.as_ref().is_none_or(|selection| selection.may_match(value)) {
            found.push(KeyValue {
                key: bytes::Bytes::copy_from_slice(row.get_ref(0)?.as_blob()?),
                create_revision: row.get(1)?,
                mod_revision: row.get(2)?,
                version: row.get(3)?,
                lease: row.get(4)?,
                value: bytes::Bytes::copy_from_slice(value),
            });
        }
    }
    metrics.rows_read.inc_by(read);
    Ok(())
}
