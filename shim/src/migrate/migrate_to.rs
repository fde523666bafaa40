//! `sluice-shim migrate-to`: moves a store to another database while a server serves it.

use std::io::Write;
use std::time::Duration;

use anyhow::{Result, bail};

use super::moving::{Move, Moved, Progress, Survey};
use crate::config::{DatabaseFlags, TargetFlags, duration};

/// How often to try to come to the end, where compactions or the time get into the way.
const TRIES: u32 = 10;

/// Move a store to another database, between any two kinds of them, while a server serves it. At the end the server
/// stops with exit code 1, and says where the store is now; start it with that endpoint. All is compared before.
///
/// The target must be new or empty, or hold what the same command had copied when it was stopped: then it goes on.
#[derive(Debug, Clone, clap::Args)]
pub struct MigrateTo {
    /// The database that the store goes to.
    #[command(flatten)]
    pub target: TargetFlags,

    /// Where the store is now.
    #[command(flatten)]
    pub database: DatabaseFlags,

    /// How long writes may wait at the end. If the rest takes longer, the server goes on and the command tries again.
    /// The server's clients give up after about 10s.
    #[arg(long, default_value = "8s", value_parser = duration, allow_hyphen_values = true, value_name = "DURATION")]
    pub longest_wait: Duration,

    /// Only read all of the store and look at the target, and say what there is and what would be refused. Nothing is
    /// changed or made in either database. Exit code 1 if anything would be refused.
    #[arg(long)]
    pub dry_run: bool,
}

impl MigrateTo {
    /// Moves, and says what was moved; returns whether all is well.
    ///
    /// # Errors
    /// When it can't be done. The source is served as before then, unless the error says that the store has left.
    pub fn run(&self, out: &mut dyn Write) -> Result<bool> {
        let (from, to) = (self.database.endpoint()?, self.target.endpoint(&self.database)?);
        if self.dry_run {
            let survey = Survey::of(&from, &to, None)?;
            writeln!(out, "would move {survey}")?;
            return Ok(survey.fits());
        }
        let progress = Progress::told();
        progress.say(&format!("the store goes from {from} to {to}"));
        let moved = complete(&mut Move::begin(&from, &to, progress)?, self.longest_wait)?;
        writeln!(out, "moved {moved}")?;
        Ok(true)
    }
}

/// Goes on until the store has moved.
fn complete(moving: &mut Move, longest_wait: Duration) -> Result<Moved> {
    for _ in 0..TRIES {
        moving.copy()?;
        if !moving.advance()? {
            moving.prove()?;
            moving.prepare()?;
        }
        // What came meanwhile, so that little is left.
        moving.copy()?;
        if !moving.advance()? {
            continue;
        }
        if let Some(held) = moving.hold(longest_wait)? {
            return held.leave()?.finish();
        }
    }
    bail!(
        "writes would have had to wait for more than {} s, {TRIES} times: give --longest-wait more, or stop what writes; \
         the source is served as before, and the same command goes on from here",
        longest_wait.as_secs_f64()
    )
}
