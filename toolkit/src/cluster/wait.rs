//! Waiting for something to become true, never for time to pass.

use std::time::{Duration, Instant};

use crate::cluster::pid::POLL;
use sluice_shell::error::{Error, Result};

/// How long most things may take.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Looks again and again until `look` finds something. `what` completes "… did not happen within …".
///
/// # Errors
/// After `limit`, or as soon as `look` fails.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            return Err(Error::input(format!("{what} did not happen within {} s", limit.as_secs())));
        }
        std::thread::sleep(POLL);
    }
}

/// Fails a case with a reason unless the condition holds.
pub fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::input(otherwise())) }
}
