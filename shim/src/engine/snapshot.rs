//! What a read sees.

use serde::{Deserialize, Serialize};

use super::store::Reader;
use super::types::{Error, Result, Revision};

/// A snapshot to read from.
pub(super) struct Snapshot<'a> {
    pub(super) reader: &'a mut dyn Reader,
    pub(super) revision: Revision,
    pub(super) compact_revision: Revision,
}

/// How far a database was at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stand {
    /// The newest revision.
    pub revision: Revision,
    /// That of the last compaction.
    pub compact_revision: Revision,
    /// As [`Reader::batch`] says.
    pub batch: i64,
}

impl Snapshot<'_> {
    /// How far the database is in it.
    pub(super) fn stand(&self) -> Stand {
        let Self { revision, compact_revision, .. } = *self;
        Stand { revision, compact_revision, batch: self.reader.batch() }
    }

    /// The revision to read at for a request: the newest for 0. Errors on one that was compacted or lies in the future.
    pub(super) fn at(&self, requested: Revision) -> Result<Revision> {
        match requested {
            ..=0 => Ok(self.revision),
            future if future > self.revision => Err(Error::FutureRevision),
            old if old < self.compact_revision => Err(Error::Compacted { compact_revision: self.compact_revision }),
            revision => Ok(revision),
        }
    }
}
