//! What happens when the person or the CI system interrupts us (Ctrl-C, SIGTERM, SIGHUP).

use std::process;
use std::sync::{Mutex, PoisonError};

use crate::error::Result;

/// The exit code of a program that Ctrl-C ended, as shells count it.
const INTERRUPTED: i32 = 130;

/// Last acts, in the order in which they are done.
static ACTS: Mutex<Vec<fn()>> = Mutex::new(Vec::new());

/// Does `act` before we end, after all that were given earlier. One that is given twice is done once.
///
/// # Errors
/// When the signals can't be caught.
pub fn before_the_end(act: fn()) -> Result<()> {
    let mut acts = ACTS.lock().unwrap_or_else(PoisonError::into_inner);
    if acts.is_empty() {
        ctrlc::set_handler(end).map_err(anyhow::Error::from)?;
    }
    if !acts.iter().any(|known| std::ptr::fn_addr_eq(*known, act)) {
        acts.push(act);
    }
    Ok(())
}

fn end() {
    let acts = ACTS.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for act in acts {
        act();
    }
    process::exit(INTERRUPTED);
}
