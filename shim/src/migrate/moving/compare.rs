//! Whether the two hold the same.

use std::collections::VecDeque;

use anyhow::{Result, bail};
use bytes::Bytes;

use super::Move;
use super::chunk::Chunk;
use crate::engine::store::Reader;
use crate::engine::{KeyValue, RangeQuery, Record, Revision};
use crate::migrate::all_keys;
use crate::migrate::digest::{Hasher, Summary};

/// How many live keys, and how many bytes of values, are read at a time.
const PAGE: usize = 1000;
const BYTES: usize = 4 << 20;

/// Adds a value with all that is stored with it.
fn add(hasher: &mut Hasher, kv: &KeyValue) {
    hasher.add(&[&kv.key, &kv.value], &[kv.create_revision, kv.mod_revision, kv.version, kv.lease]);
}

/// Adds a change.
fn add_record(hasher: &mut Hasher, Record { revision, sub, tombstone, kv }: &Record) {
    let numbers = [kv.create_revision, kv.mod_revision, kv.version, kv.lease, *revision, *sub, i64::from(*tombstone)];
    hasher.add(&[&kv.key, &kv.value], &numbers);
}

/// Fails unless the two are the same.
pub(super) fn differ(what: &str, revision: Revision, there: &Summary, here: &Summary) -> Result<()> {
    if there == here {
        return Ok(());
    }
    bail!(
        "the target is not what the source is at revision {revision}: {} {what} with SHA-256 {} here, {} with {} there; \
         the source is served on as before. Move the store to an empty database",
        here.count,
        here.sha256,
        there.count,
        there.sha256
    )
}

/// Fails unless the two count the same number of keys.
pub(super) fn count(there: i64, here: i64) -> Result<()> {
    if there == here {
        return Ok(());
    }
    bail!("the target counts {here} keys, the source {there}; the source is served on as before. Check both with fsck")
}

/// The changes behind a place, up to a revision.
pub(super) fn history(
    reader: &mut dyn Reader,
    mut after: (Revision, i64),
    until: Revision,
    beat: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Summary> {
    let (mut hasher, mut chunk) = (Hasher::default(), Chunk::default());
    loop {
        let (records, is_last) = chunk.read(reader, after, until)?;
        records.iter().for_each(|record| add_record(&mut hasher, record));
        beat(hasher.count())?;
        match records.last() {
            Some(last) if !is_last => after = (last.revision, last.sub),
            _ => return Ok(hasher.finish()),
        }
    }
}

/// The live keys of a snapshot, in order.
pub(super) struct Live<'a> {
    reader: &'a mut dyn Reader,
    query: RangeQuery,
    revision: Revision,
    page: VecDeque<KeyValue>,
    more: bool,
}

impl<'a> Live<'a> {
    pub(super) fn new(reader: &'a mut dyn Reader, revision: Revision) -> Self {
        let query = RangeQuery { range: all_keys(), limit_bytes: BYTES, ..RangeQuery::default() };
        Self { reader, query, revision, page: VecDeque::new(), more: true }
    }

    /// Takes the next one.
    pub(super) fn next(&mut self) -> Result<Option<KeyValue>> {
        self.fill()?;
        Ok(self.page.pop_front())
    }

    fn first(&mut self) -> Result<Option<&KeyValue>> {
        self.fill()?;
        Ok(self.page.front())
    }

    fn fill(&mut self) -> Result<()> {
        if self.page.is_empty() && self.more {
            let page = self.reader.page(&self.query, self.revision, PAGE)?;
            self.more = page.more && !page.kvs.is_empty();
            if let Some(last) = page.kvs.last() {
                self.query.range = self.query.range.after(&last.key);
            }
            self.page = page.kvs.into();
        }
        Ok(())
    }
}

/// The live keys of both, and those that the target alone has and whose deletion may have been compacted.
fn live(
    source: &mut Live<'_>,
    target: &mut Live<'_>,
    compact_revision: Revision,
    beat: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<(Summary, Summary, Vec<Bytes>)> {
    let (mut there, mut here, mut stale) = (Hasher::default(), Hasher::default(), Vec::new());
    loop {
        let next = source.next()?;
        // What is not after it, in the target.
        while let Some(first) = target.first()? {
            if next.as_ref().is_some_and(|next| first.key > next.key) {
                break;
            }
            let is_there = next.as_ref().is_some_and(|next| next.key == first.key);
            match target.next()? {
                Some(kv) if !is_there && kv.mod_revision < compact_revision => stale.push(kv.key),
                Some(kv) => add(&mut here, &kv),
                None => {}
            }
        }
        let Some(kv) = next else { break };
        add(&mut there, &kv);
        if there.count() % PAGE as u64 == 0 {
            beat(there.count())?;
        }
    }
    Ok((there.finish(), here.finish(), stale))
}

impl Move {
    /// Copies the rest and compares all, in the snapshot that is under way.
    pub(super) fn prove_in_snapshot(&mut self, revision: Revision, compact_revision: Revision) -> Result<()> {
        self.target.compacted(compact_revision)?;
        self.copy_rest(revision, None)?;
        let Self { source, reader, target, progress, .. } = self;
        reader.begin()?;
        let compared = {
            let mut beat = |count| {
                progress.compared("keys", count);
                Ok(target.beat()?)
            };
            // A store that is being filled has no revision.
            let (mut source, mut here) = (Live::new(source.as_mut(), revision), Live::new(reader.as_mut(), 0));
            live(&mut source, &mut here, compact_revision, &mut beat)
        };
        reader.end();
        let (there, here, stale) = compared?;
        differ("keys", revision, &there, &here)?;
        target.remove(&stale)?;
        let mut beat = |count| {
            progress.compared("changes", count);
            Ok(target.beat()?)
        };
        let all = history(source.as_mut(), (0, i64::MAX), revision, &mut beat)?;
        reader.begin()?;
        let theirs = history(reader.as_mut(), (0, i64::MAX), Revision::MAX, &mut beat)
            .and_then(|theirs| Ok((theirs, reader.count(&all_keys(), 0)?)));
        reader.end();
        let (theirs, keys) = theirs?;
        differ("changes", revision, &all, &theirs)?;
        count(source.count(&all_keys(), revision)?, keys)?;
        (self.figures.keys, self.figures.history) = (there, all);
        self.figures.compared_at = revision;
        self.proven = Some(revision);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each part of a record counts, wherever it stands.
    #[test]
    fn every_part_counts() {
        let one = Record {
            revision: 7,
            sub: 1,
            tombstone: false,
            kv: KeyValue {
                key: "ab".into(),
                value: "c".into(),
                create_revision: 2,
                mod_revision: 7,
                version: 3,
                lease: 4,
            },
        };
        let of = |record: &Record| {
            let mut hasher = Hasher::default();
            add_record(&mut hasher, record);
            hasher.finish()
        };
        let with = |change: &dyn Fn(&mut Record)| {
            let mut other = one.clone();
            change(&mut other);
            other
        };
        let others = [
            with(&|other| other.revision += 1),
            with(&|other| other.sub += 1),
            with(&|other| other.tombstone = true),
            with(&|other| (other.kv.key, other.kv.value) = ("a".into(), "bc".into())),
            with(&|other| other.kv.value = "d".into()),
            with(&|other| other.kv.create_revision += 1),
            with(&|other| other.kv.mod_revision += 1),
            with(&|other| other.kv.version += 1),
            with(&|other| other.kv.lease += 1),
        ];
        assert!(differ("changes", 7, &of(&one), &of(&one.clone())).is_ok());
        for other in &others {
            assert!(differ("changes", 7, &of(&one), &of(other)).is_err(), "{other:?}");
        }
    }
}
