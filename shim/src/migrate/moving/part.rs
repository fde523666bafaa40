//! The part of a store below some prefixes, as if it were a whole store.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::clock::StoreTime;
use crate::engine::store::{Lease, Page, Reader, Source};
use crate::engine::{
    Event, Forwarding, KeyRange, KeyValue, LeaseId, RangeQuery, Record, Result, Revision, StoreStatus,
};
use crate::gc::{Status, Task, Tombstone};

/// Ranges of keys, in order; none overlaps another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranges(Vec<KeyRange>);

impl Ranges {
    /// All that begins with one of these prefixes. Each ends in a slash.
    pub fn below(prefixes: &[KeyRange]) -> Self {
        let mut ranges = prefixes.to_vec();
        ranges.sort_by(|a, b| a.start.cmp(&b.start));
        // Of two trees that overlap, one is in the other, and begins behind it.
        ranges.dedup_by(|inner, outer| outer.contains(&inner.start));
        Self(ranges)
    }

    /// Whether a key is in one of them.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.0.iter().any(|range| range.contains(key))
    }

    /// What they have in common with a range, in order.
    fn within(&self, range: &KeyRange) -> Vec<KeyRange> {
        self.0.iter().filter_map(|own| common(own, range)).collect()
    }

    /// The number of the cluster that the part becomes: the same part of the same cluster has the same number.
    pub(super) fn cluster_id(&self, of: u64) -> u64 {
        let mut hash = Sha256::new();
        hash.update(of.to_be_bytes());
        for range in &self.0 {
            hash.update((range.start.len() as u64).to_be_bytes());
            hash.update(&range.start);
        }
        let hash = hash.finalize();
        let first = hash.first_chunk().copied().unwrap_or_default();
        // A positive number, as each cluster has.
        (u64::from_be_bytes(first) >> 1).max(1)
    }
}

/// What two ranges have in common.
fn common(one: &KeyRange, other: &KeyRange) -> Option<KeyRange> {
    let ((from, to), (other_from, other_to)) = (one.bounds(), other.bounds());
    let start = from.max(other_from);
    let end = match (to, other_to) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    let is_any = end.as_ref().is_none_or(|end| start < *end);
    is_any.then(|| KeyRange::from_wire(start, end.unwrap_or_else(|| Bytes::from_static(&[0]))))
}

/// A store of which only a part is seen: its keys and their history, and all that the collector remembers.
pub(super) struct Part {
    source: Box<dyn Source>,
    ranges: Ranges,
}

impl Part {
    pub(super) fn new(source: Box<dyn Source>, ranges: Ranges) -> Self {
        Self { source, ranges }
    }
}

impl Reader for Part {
    fn begin(&mut self) -> Result<(Revision, Revision)> {
        self.source.begin()
    }

    fn end(&mut self) {
        self.source.end();
    }

    fn batch(&self) -> i64 {
        self.source.batch()
    }

    fn newest(&mut self, keys: &[&[u8]]) -> Result<(Revision, Vec<KeyValue>)> {
        let keys: Vec<_> = keys.iter().copied().filter(|key| self.ranges.contains(key)).collect();
        self.source.newest(&keys)
    }

    fn page(&mut self, query: &RangeQuery, revision: Revision, limit: usize) -> Result<Page> {
        let ranges = self.ranges.within(&query.range);
        for (at, range) in ranges.iter().enumerate() {
            let page = self.source.page(&RangeQuery { range: range.clone(), ..query.clone() }, revision, limit)?;
            if !page.kvs.is_empty() {
                return Ok(Page { more: page.more || at + 1 < ranges.len(), ..page });
            }
        }
        Ok(Page::default())
    }

    fn count(&mut self, range: &KeyRange, revision: Revision) -> Result<i64> {
        let counts = self.ranges.within(range).into_iter().map(|range| self.source.count(&range, revision));
        counts.sum()
    }

    fn events(&mut self, range: &KeyRange, from: Revision, limit: usize) -> Result<(Vec<Event>, Revision)> {
        let (mut events, until) = self.source.events(range, from, limit)?;
        events.retain(|event| self.ranges.contains(&event.kv.key));
        Ok((events, until))
    }

    /// As many as are asked for, if there are so many: fewer say that there are no more.
    fn records(
        &mut self,
        mut after: (Revision, i64),
        until: Revision,
        above: Option<Revision>,
        limit: usize,
    ) -> Result<Vec<Record>> {
        let mut found: Vec<Record> = Vec::new();
        while found.len() < limit {
            let records = self.source.records(after, until, above, limit)?;
            let is_last = records.len() < limit;
            after = records.last().map_or(after, |last| (last.revision, last.sub));
            found.extend(records.into_iter().filter(|record| self.ranges.contains(&record.kv.key)));
            if is_last {
                break;
            }
        }
        found.truncate(limit);
        Ok(found)
    }

    fn lease(&mut self, id: LeaseId) -> Result<Option<Lease>> {
        self.source.lease(id)
    }

    fn lease_keys(&mut self, id: LeaseId) -> Result<Vec<Bytes>> {
        self.source.lease_keys(id)
    }

    fn leases(&mut self, limit: usize) -> Result<Vec<Lease>> {
        self.source.leases(limit)
    }

    fn status(&mut self) -> Result<StoreStatus> {
        self.source.status()
    }

    fn collector(&mut self) -> Result<Status> {
        self.source.collector()
    }

    fn opaque_directories(&mut self) -> Result<Vec<Vec<u8>>> {
        let mut directories = self.source.opaque_directories()?;
        directories.retain(|directory| self.ranges.contains(directory));
        Ok(directories)
    }

    fn opaque_key(&mut self, range: &KeyRange, begins: &[u8]) -> Result<Option<Bytes>> {
        for range in self.ranges.within(range) {
            if let Some(key) = self.source.opaque_key(&range, begins)? {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    fn tasks(&mut self, after: i64, limit: usize) -> Result<Vec<Task>> {
        self.source.tasks(after, limit)
    }

    fn tombstones(&mut self, after: i64, limit: usize) -> Result<Vec<Tombstone>> {
        self.source.tombstones(after, limit)
    }
}

impl Source for Part {
    fn now(&self) -> StoreTime {
        self.source.now()
    }

    fn forwarding(&mut self) -> Result<Option<Forwarding>> {
        self.source.forwarding()
    }

    fn hold(&mut self) -> Result<(Revision, Revision)> {
        self.source.hold()
    }

    fn leave(&mut self, note: &Forwarding) -> Result<()> {
        self.source.leave(note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(path: &str) -> KeyRange {
        KeyRange::tree(path.as_bytes())
    }

    #[test]
    fn what_is_in_another_prefix_counts_once() {
        let ranges = Ranges::below(&[tree("/r/b/"), tree("/r/a/x/"), tree("/r/a/"), tree("/r/a/"), tree("/r/a.b/")]);
        assert_eq!(ranges.0, [tree("/r/a.b/"), tree("/r/a/"), tree("/r/b/")]);
        for (key, expected) in
            [("/r/a/1", true), ("/r/a.b/1", true), ("/r/a.c/1", false), ("/r/a", false), ("/r/b/", true)]
        {
            assert_eq!(ranges.contains(key.as_bytes()), expected, "{key}");
        }
    }

    #[test]
    fn what_ranges_have_in_common() {
        let all = KeyRange::from_wire(vec![0].into(), vec![0].into());
        let ranges = Ranges::below(&[tree("/a/"), tree("/c/")]);
        assert_eq!(ranges.within(&all), [tree("/a/"), tree("/c/")]);
        assert_eq!(ranges.within(&all.after(b"/a/5")), [tree("/a/").after(b"/a/5"), tree("/c/")]);
        assert_eq!(ranges.within(&tree("/b/")), []);
        assert_eq!(ranges.within(&tree("/c/d/")), [tree("/c/d/")]);
        assert_eq!(ranges.within(&KeyRange::single("/d")), []);
    }

    #[test]
    fn a_part_is_a_cluster_of_its_own() {
        let ids = [&[tree("/a/")][..], &[tree("/b/")], &[tree("/a/"), tree("/b/")]];
        let [a, b, both] = ids.map(|prefixes| Ranges::below(prefixes).cluster_id(7));
        assert!(a != b && b != both && a != both && a != 7);
        assert_eq!(a, Ranges::below(&[tree("/a/")]).cluster_id(7));
        assert_ne!(a, Ranges::below(&[tree("/a/")]).cluster_id(8));
    }
}
