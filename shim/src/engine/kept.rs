//! The history is kept while somebody reads it in several parts.
//!
//! Each part is a snapshot of its own. If a compaction freed rows between two of them, the first part would have the
//! put of a key and no later part its deletion: the key would come to life again where the parts are put together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many read the history.
#[derive(Debug, Default)]
pub(super) struct Kept(AtomicUsize);

/// As long as there is one, no rows are freed.
#[derive(Debug)]
pub(super) struct Keeping(Arc<Kept>);

impl Kept {
    /// Has the history kept. Rows of compactions that a snapshot of from now on shows may still be freed.
    pub(super) fn keep(self: &Arc<Self>) -> Keeping {
        self.0.fetch_add(1, Ordering::SeqCst);
        Keeping(Arc::clone(self))
    }

    /// Whether somebody has it kept.
    pub(super) fn is_kept(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}
