//! Starts a server and waits until it can serve.

use std::path::Path;
use std::time::{Duration, Instant};

use super::pid::{POLL, Process};
use super::problem::{self, NotReady, Reason};
use sluice_shell::error::{Error, Result};
use sluice_shell::process::Run;

/// How long a process may take to be ready. The apiserver needs 5 s on an idle machine of two cores.
const READY_LIMIT: Duration = Duration::from_secs(120);

/// Starts a process that goes on when we end. What it says is appended to `log`.
///
/// # Errors
/// When it can't be started.
pub fn launch(title: &str, run: &Run, log: &Path) -> Result<Process> {
    let child = run.spawn(log)?;
    let pid = i32::try_from(child.id()).map_err(anyhow::Error::from)?;
    // A child that has ended already is still there until it is waited for, so this can't be another process.
    let gone = || Error::input(format!("{title} is gone right after its start; see {}", log.display()));
    Process::of(pid).ok_or_else(gone)
}

/// A server that starts, for [`Start::wait`].
pub(super) struct Start<'a> {
    /// What a person calls it.
    pub(super) title: &'a str,
    /// What it logs.
    pub(super) log: &'a Path,
    /// What is in the log from before, in bytes.
    pub(super) said_before: u64,
}

impl Start<'_> {
    /// Waits until the server says that it is ready.
    ///
    /// # Errors
    /// [`NotReady`] with the last lines of the log.
    pub(super) fn wait(&self, probe: impl Fn() -> Result<()>, is_alive: impl Fn() -> bool) -> Result<()> {
        let deadline = Instant::now() + READY_LIMIT;
        let not_ready = |reason| {
            let tail = problem::log_tail(self.log, self.said_before);
            Err(NotReady { component: self.title.to_owned(), reason, log: self.log.to_owned(), tail }.into())
        };
        loop {
            let Err(error) = probe() else { return Ok(()) };
            if !is_alive() {
                return not_ready(Reason::Ended);
            }
            if Instant::now() >= deadline {
                return not_ready(Reason::TimedOut { limit: READY_LIMIT, last: error.to_string() });
            }
            std::thread::sleep(POLL);
        }
    }
}
