//! `sluice-shim gc status`.

use std::io::{Result, Write};

use crate::gc::Overview;

/// Prints the state of the queue.
pub(super) fn print(out: &mut dyn Write, overview: &Overview) -> Result<()> {
    let Overview { revision, now, status, parked, unknown_owners, unknown_references } = overview;
    writeln!(out, "revision {revision}")?;
    if status.tasks.is_empty() {
        writeln!(out, "nothing is to be collected")?;
    }
    for (kind, state, count) in &status.tasks {
        writeln!(out, "{} {}: {count}", kind.name(), state.name())?;
    }
    if let Some(oldest) = status.oldest {
        writeln!(out, "the oldest is {} s old", now.since(oldest).as_secs())?;
    }
    for task in parked {
        writeln!(out, "  {}", super::line(task, *now))?;
    }
    writeln!(out, "tombstones: {}", status.tombstones)?;
    writeln!(out, "unknown owners: {unknown_owners}, in {unknown_references} references that keep labelled objects")?;
    writeln!(out, "values that can't be read, and are never collected if they are objects: {}", status.opaque)
}
