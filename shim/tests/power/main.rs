//! Power failures: what was acknowledged is there when the power comes back.
//!
//! The real program runs on a file system of this test's own (FUSE), which knows what was synced. At a cut the program
//! is killed, and of what was not synced nothing, all, or some sectors in any order are left. Then the program starts
//! on what is left.
//!
//! Each test goes on for some seconds with one machine after the other, or for as many machines as a variable says:
//! `SLUICE_POWER_MACHINES` (six cuts each), `SLUICE_POWER_STARTS`, `SLUICE_POWER_MOVES`, `SLUICE_POWER_FAULTS`. A
//! failure names the seed of its machine, `SLUICE_POWER_SEED`, which makes the same choices again (not the scheduling).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::{Duration, Instant};

mod cuts;
mod disk;
mod failing;
mod ledger;
mod load;
mod machine;
mod mount;
mod moving;
#[path = "../linearizability/random.rs"]
mod random;
mod shim;
mod values;

/// Whether no file system can be mounted here, after a word about it.
fn is_skipped() -> bool {
    let missing = mount::is_missing();
    if let Some(why) = &missing {
        // Past the harness, which keeps what a test prints to itself unless it fails.
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "skipped: {why}; this takes root and /dev/fuse");
    }
    missing.is_some()
}

/// A number that the environment names.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Runs one machine after the other, for as long as is usual or as many as the variable says. Returns the sum of what
/// they count; `None` if none can be had here.
async fn each<F>(variable: &str, usual: Duration, run: impl Fn(u64) -> F) -> Option<u64>
where
    F: Future<Output = Result<u64, String>>,
{
    if is_skipped() {
        return None;
    }
    let first = number("SLUICE_POWER_SEED").unwrap_or_else(|| std::process::id().into());
    let (wanted, start, mut sum) = (number(variable), Instant::now(), 0);
    for seed in first.. {
        if wanted.map_or(seed > first && start.elapsed() > usual, |wanted| seed - first >= wanted) {
            break;
        }
        // Also for a failure that ends the test at once.
        println!("SLUICE_POWER_SEED={seed} {variable}=1");
        sum += run(seed).await.unwrap_or_else(|error| panic!("SLUICE_POWER_SEED={seed}: {error}"));
    }
    Some(sum)
}
