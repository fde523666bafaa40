//! What all databases on servers have in common.

use std::time::Duration;

/// The longest key, in bytes: an entry of an index holds one beside a value.
pub(super) const LONGEST_KEY: usize = 1536;
/// How long a step of a compaction may take, all writes waiting meanwhile.
pub(super) const STEP: Duration = Duration::from_millis(20);
/// How often the process that serves the store tells that it is there.
pub(super) const BEAT: Duration = Duration::from_secs(2);
/// How long that process may be silent and still be taken to serve the store, in milliseconds.
pub(super) const SILENCE: i64 = 10_000;
