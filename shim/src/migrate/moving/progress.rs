//! What is said while a store is on its way.

use std::io::Write as _;
use std::time::{Duration, Instant};

/// How often.
const PAUSE: Duration = Duration::from_secs(2);

/// Says on the standard error how far it is; or nothing.
#[derive(Debug, Default)]
pub struct Progress(Option<Said>);

#[derive(Debug)]
struct Said {
    at: Instant,
    changes: u64,
}

impl Progress {
    /// To people.
    pub fn told() -> Self {
        Self(Some(Said { at: Instant::now(), changes: 0 }))
    }

    /// So many changes were copied, up to this revision of those that there are.
    pub(super) fn copied(&mut self, changes: u64, at: i64, of: i64) {
        let Some(said) = self.0.as_mut().filter(|said| said.at.elapsed() >= PAUSE) else { return };
        let rate = (changes - said.changes) as f64 / said.at.elapsed().as_secs_f64();
        *said = Said { at: Instant::now(), changes };
        self.say(&format!("copied {changes} changes up to revision {at} of {of}; {rate:.0} a second"));
    }

    /// So many were compared.
    pub(super) fn compared(&mut self, what: &str, count: u64) {
        if let Some(said) = self.0.as_mut().filter(|said| said.at.elapsed() >= PAUSE) {
            said.at = Instant::now();
            self.say(&format!("compared {count} {what}"));
        }
    }

    /// Something else, at once.
    pub fn say(&self, text: &str) {
        if self.0.is_some() {
            // Whoever does not listen does not stop the move.
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }
}
