//! Copies the changes of the source, and compares those that are new.

use std::time::Instant;

use anyhow::Result;

use super::Move;
use super::compare::{differ, history};
use crate::engine::{Record, Revision};

/// How the two are after the target has followed the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follow {
    /// They are the same.
    Same,
    /// All is to be compared: it never was, or deletions were compacted since that were not copied.
    Unknown,
    /// It took too long.
    Late,
}

impl Move {
    pub(super) fn push(&mut self, records: Vec<Record>, newest: Revision) -> Result<()> {
        self.figures.copied += records.len() as u64;
        for record in records {
            self.target.push(record)?;
        }
        self.progress.copied(self.figures.copied, self.target.position().0, newest);
        Ok(())
    }

    /// Copies the rest up to a revision of the snapshot that is under way; false if it is not done by then.
    pub(super) fn copy_rest(&mut self, revision: Revision, until: Option<Instant>) -> Result<bool> {
        loop {
            let (records, is_last) = self.chunk.read(self.source.as_mut(), self.target.position(), revision)?;
            self.push(records, revision)?;
            if is_last {
                self.target.flush()?;
                return Ok(true);
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ok(false);
            }
        }
    }

    /// Copies and compares the rest up to a revision of the snapshot that is under way. Since all before was the same,
    /// so is all then.
    pub(super) fn follow(
        &mut self,
        revision: Revision,
        compact_revision: Revision,
        until: Option<Instant>,
    ) -> Result<Follow> {
        let Some(proven) = self.proven.filter(|proven| compact_revision <= *proven) else {
            return Ok(Follow::Unknown);
        };
        self.target.compacted(compact_revision)?;
        if !self.copy_rest(revision, until)? {
            return Ok(Follow::Late);
        }
        let after = (proven, i64::MAX);
        let there = history(self.source.as_mut(), after, revision, &mut |_| Ok(()))?;
        self.reader.begin()?;
        let here = history(self.reader.as_mut(), after, Revision::MAX, &mut |_| Ok(()))
            .and_then(|here| Ok((here, self.reader.count(&crate::migrate::all_keys(), 0)?)));
        self.reader.end();
        let (here, keys) = here?;
        differ("changes", revision, &there, &here)?;
        super::compare::count(self.source.count(&crate::migrate::all_keys(), revision)?, keys)?;
        self.figures.live = u64::try_from(keys).unwrap_or(0);
        self.proven = Some(revision);
        Ok(Follow::Same)
    }
}
