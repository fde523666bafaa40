//! How many changes are read at a time.

use anyhow::Result;

use crate::engine::store::Reader;
use crate::engine::{Record, Revision};

/// How many bytes of values are read at a time, about, and how many changes at least and at most.
const BYTES: usize = 4 << 20;
const LEAST: usize = 16;
const MOST: usize = 4096;

/// How many changes to read at a time: as many as are about as long as they may be.
#[derive(Debug)]
pub(super) struct Chunk(usize);

impl Default for Chunk {
    fn default() -> Self {
        Self(256)
    }
}

impl Chunk {
    /// Reads the next changes, and whether there are no more up to that revision.
    pub(super) fn read(
        &mut self,
        reader: &mut dyn Reader,
        after: (Revision, i64),
        until: Revision,
    ) -> Result<(Vec<Record>, bool)> {
        let records = reader.records(after, until, None, self.0)?;
        let is_last = records.len() < self.0;
        let bytes: usize = records.iter().map(|record| record.kv.key.len() + record.kv.value.len()).sum();
        if !is_last {
            self.0 = (self.0.saturating_mul(BYTES) / bytes.max(1)).clamp(self.0 / 4, self.0 * 4).clamp(LEAST, MOST);
        }
        Ok((records, is_last))
    }
}
