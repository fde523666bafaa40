//! Reads pages of lists, and remembers how many keys the next page has to count.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use super::range::{assemble, strip_values};
use super::snapshot::Snapshot;
use super::store::Page;
use super::types::{KeyRange, Projection, RangeQuery, RangeResult, Result, Revision, SortTarget};

/// How many lists may be under way before the oldest has to count again.
const REMEMBERED: usize = 1024;

/// Reads pages. What it remembers is the same on whatever copy of the database.
#[derive(Debug, Default)]
pub(super) struct Pages {
    counts: Mutex<Counts>,
}

impl Pages {
    /// Reads a page.
    pub(super) fn read(&self, snapshot: Snapshot<'_>, query: &RangeQuery) -> Result<RangeResult> {
        let newest = snapshot.revision;
        let revision = snapshot.at(query.revision)?;
        if query.projection == Projection::CountOnly && query.selection.is_none() {
            let count = snapshot.reader.count(&query.range, revision)?;
            return Ok(RangeResult { revision: newest, count, ..RangeResult::default() });
        }
        if !query.limit_commutes() || query.projection == Projection::CountOnly {
            // Who sorts by value needs the values, even if the client does not.
            let by_value = query.sort == SortTarget::Value && query.projection == Projection::KeysOnly;
            let with_values = by_value.then(|| RangeQuery { projection: Projection::Full, ..query.clone() });
            let page = snapshot.reader.page(with_values.as_ref().unwrap_or(query), revision, 0)?;
            return Ok(assemble(query, page.kvs, newest));
        }
        let mut page = snapshot.reader.page(query, revision, query.limit)?;
        let count = self.count(snapshot, query, revision, &page)?;
        if query.projection == Projection::KeysOnly {
            strip_values(&mut page.kvs);
        }
        Ok(RangeResult { revision: newest, kvs: page.kvs, more: page.more, count })
    }

    /// How many keys the query has without its limit. The pages of one list are one snapshot, so the count of a page is
    /// that of the one before, less its keys: it is remembered instead of counted again.
    fn count(&self, snapshot: Snapshot<'_>, query: &RangeQuery, revision: Revision, page: &Page) -> Result<i64> {
        let returned = i64::try_from(page.kvs.len()).unwrap_or(i64::MAX);
        let (true, Some(last)) = (page.more, page.kvs.last()) else { return Ok(returned) };
        if query.selection.is_some() {
            return Ok(returned + 1);
        }
        let known = self.counts.lock().unwrap_or_else(PoisonError::into_inner).get(revision, &query.range);
        let count = match known {
            Some(count) => count,
            None => snapshot.reader.count(&query.range, revision)?,
        };
        let rest = query.range.after(&last.key);
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).put(revision, rest, count - returned);
        Ok(count)
    }
}

/// Counts of ranges at a revision, which never change.
#[derive(Debug, Default)]
struct Counts {
    counts: HashMap<(Revision, KeyRange), i64>,
    order: VecDeque<(Revision, KeyRange)>,
}

impl Counts {
    /// The count, if it is remembered. It stays: a client may ask for the same page again.
    fn get(&self, revision: Revision, range: &KeyRange) -> Option<i64> {
        self.counts.get(&(revision, range.clone())).copied()
    }

    /// Remembers a count.
    fn put(&mut self, revision: Revision, range: KeyRange, count: i64) {
        let key = (revision, range);
        if self.counts.insert(key.clone(), count).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.counts.remove(&oldest);
            }
        }
    }
}
