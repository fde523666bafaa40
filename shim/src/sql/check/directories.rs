//! The counts of directories.

use std::collections::BTreeMap;

use super::pages::PAGE;
use super::{Report, shown, stale};
use crate::engine::store::Facets;
use crate::sql::failure::Result;
use crate::sql::select::directories::counts;
use crate::sql::session::Audit;
use crate::sql::{Damage, directory};

/// What the live values should make of the directories.
#[derive(Default)]
pub(super) struct Directories {
    counted: BTreeMap<Box<[u8]>, [i64; 3]>,
}

impl Directories {
    pub(super) fn add(&mut self, key: &[u8], facets: &Facets) {
        let path = directory(key);
        if !self.counted.contains_key(path) {
            self.counted.insert(path.into(), [0; 3]);
        }
        if let Some(counted) = self.counted.get_mut(path) {
            let more = counts(Some(facets));
            *counted = std::array::from_fn(|at| counted[at] + more[at]);
        }
    }

    pub(super) fn compare(mut self, audit: &mut dyn Audit, report: &mut Report<'_>) -> Result<()> {
        // The first path is empty, and nothing is before it.
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = audit.directories_after(after.as_deref(), PAGE)?;
            for (path, stored) in &page {
                let counted = self.counted.remove(&path[..]);
                if counted != Some(*stored) {
                    report(wrong(path, *stored, counted.unwrap_or_default()));
                }
            }
            let Some((last, _)) = page.into_iter().last() else { break };
            after = Some(last);
        }
        for (path, counted) in self.counted {
            report(wrong(&path, [0; 3], counted));
        }
        Ok(())
    }
}

fn wrong(path: &[u8], is: [i64; 3], expected: [i64; 3]) -> Damage {
    let ([live, opaque, misplaced], [all, unreadable, elsewhere]) = (is, expected);
    stale(format!(
        "directory {}: counts {live} keys, {opaque} of them unreadable, {misplaced} misplaced, \
         instead of {all}, {unreadable} and {elsewhere}",
        shown(path)
    ))
}
