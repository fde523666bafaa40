//! Remembers how many keys the next page of a list has to count.

use std::collections::{HashMap, VecDeque};

use super::types::{KeyRange, Revision};

/// How many lists may be under way before the oldest has to count again.
const REMEMBERED: usize = 1024;

/// Counts of ranges at a revision, which never change.
#[derive(Debug, Default)]
pub(super) struct Counts {
    counts: HashMap<(Revision, KeyRange), i64>,
    order: VecDeque<(Revision, KeyRange)>,
}

impl Counts {
    /// The count, if it is remembered. It stays: a client may ask for the same page again.
    pub(super) fn get(&self, revision: Revision, range: &KeyRange) -> Option<i64> {
        self.counts.get(&(revision, range.clone())).copied()
    }

    /// Remembers a count.
    pub(super) fn put(&mut self, revision: Revision, range: KeyRange, count: i64) {
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
