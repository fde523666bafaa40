//! What a move would do, found without a trace.

use std::fmt;

use anyhow::Result;
use bytes::Bytes;

use super::chunk::Chunk;
use super::{Ranges, check_target, origin};
use crate::endpoint::Endpoint;
use crate::engine::receive::Ready;
use crate::engine::store::{Nature, Reader};
use crate::engine::{Record, Revision};
use crate::sql;

/// How many rows of the collector are counted at a time.
const PAGE: usize = 2000;

/// What there is to move, and what the target can't hold of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// To where.
    pub endpoint: String,
    /// Whether the target holds a part of it already.
    pub begun: bool,
    /// The newest revision of the source, and that of its last compaction.
    pub revisions: (Revision, Revision),
    /// Live keys.
    pub keys: u64,
    /// Puts and deletions, live keys included.
    pub changes: u64,
    /// Bytes of keys and values in them.
    pub bytes: u64,
    /// Leases, tasks and tombstones.
    pub leases: u64,
    /// As above.
    pub tasks: u64,
    /// As above.
    pub tombstones: u64,
    /// The longest key and the longest value, in bytes.
    pub longest: (usize, usize),
    /// Keys that are too long for the target, and how many bytes it takes.
    pub long_keys: TooLong,
    /// Keys whose values are too long.
    pub long_values: TooLong,
}

/// What is too long for the target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TooLong {
    /// The longest that the target takes.
    pub limit: usize,
    /// How many are longer.
    pub count: u64,
    /// The key of the first of them.
    pub first: Bytes,
}

impl TooLong {
    fn look(&mut self, limit: Option<usize>, length: usize, key: &Bytes) {
        if let Some(limit) = limit.filter(|limit| length > *limit) {
            if self.count == 0 {
                self.first = key.clone();
            }
            self.limit = limit;
            self.count += 1;
        }
    }
}

impl Survey {
    /// Reads all of the source, or of a part of it, and looks at the target, without a trace in either.
    ///
    /// # Errors
    /// When one of them can't be read, or the store can't go there whatever is in it.
    pub fn of(from: &Endpoint, to: &Endpoint, part: Option<&Ranges>) -> Result<Self> {
        let mut origin = origin(from, part)?;
        let begun = matches!(check_target(&origin, (from, to))?, Ready::Begun(_));
        let (nature, _) = sql::probe(to)?;
        let source = origin.source.as_mut();
        let revisions = source.begin()?;
        let mut survey = Self { endpoint: super::whole_name(to)?, begun, revisions, ..Self::default() };
        let read = survey.read(source, nature);
        source.end();
        read.map(|()| survey)
    }

    /// Whether the store can go there.
    pub fn fits(&self) -> bool {
        self.long_keys.count == 0 && self.long_values.count == 0
    }

    fn read(&mut self, source: &mut dyn Reader, nature: Nature) -> Result<()> {
        let (mut chunk, mut after) = (Chunk::default(), (0, i64::MAX));
        loop {
            let (records, is_last) = chunk.read(source, after, self.revisions.0)?;
            records.iter().for_each(|record| self.add(record, nature));
            match records.last() {
                Some(last) if !is_last => after = (last.revision, last.sub),
                _ => break,
            }
        }
        self.keys = u64::try_from(source.count(&crate::migrate::all_keys(), self.revisions.0)?).unwrap_or(0);
        self.leases = source.leases(0)?.len() as u64;
        self.tasks = count(|after| Ok(source.tasks(after, PAGE)?.iter().map(|task| task.id).collect()))?;
        self.tombstones = count(|after| Ok(source.tombstones(after, PAGE)?.iter().map(|gone| gone.id).collect()))?;
        Ok(())
    }

    fn add(&mut self, Record { kv, .. }: &Record, nature: Nature) {
        self.changes += 1;
        self.bytes += (kv.key.len() + kv.value.len()) as u64;
        self.longest = (self.longest.0.max(kv.key.len()), self.longest.1.max(kv.value.len()));
        self.long_keys.look(nature.key_limit, kv.key.len(), &kv.key);
        self.long_values.look(nature.values_limit, kv.value.len(), &kv.key);
    }
}

/// How many rows there are, by their numbers.
fn count(mut numbers: impl FnMut(i64) -> Result<Vec<i64>>) -> Result<u64> {
    let (mut count, mut after) = (0, i64::MIN);
    loop {
        let page = numbers(after)?;
        count += page.len() as u64;
        match page.last() {
            Some(last) if page.len() >= PAGE => after = *last,
            _ => return Ok(count),
        }
    }
}

impl fmt::Display for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, revisions: (revision, compacted), keys, changes, bytes, .. } = self;
        let Self { leases, tasks, tombstones, longest, .. } = self;
        let begun = if self.begun { ", which holds a part already" } else { "" };
        writeln!(f, "to {endpoint}{begun}: revision {revision}, compacted at {compacted}")?;
        writeln!(f, "{keys} keys, {changes} changes of {bytes} bytes, {leases} leases")?;
        writeln!(f, "{tasks} tasks and {tombstones} deletions of the collector")?;
        write!(f, "the longest key has {} bytes, the longest value {}", longest.0, longest.1)?;
        for (what, TooLong { limit, count, first }) in [("key", &self.long_keys), ("value", &self.long_values)] {
            if *count > 0 {
                let first = first.escape_ascii();
                write!(f, "\nrefused: {count} changes have a {what} of more than {limit} bytes; the first: {first}")?;
            }
        }
        Ok(())
    }
}
