//! Power failures: what was acknowledged is there when the power comes back.
//!
//! The real program runs on a file system of this test's own (FUSE), which knows what was synced. At a cut the program
//! is killed, and of what was not synced nothing, all, or some sectors in any order are left. Then the program starts
//! on what is left.
//!
//! `SLUICE_POWER_CUTS` says how many cuts are made; without it the test ends after some seconds.
//! `SLUICE_POWER_SEED` is printed with a failure, and makes the same choices again (not the scheduling).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cuts;
mod disk;
mod ledger;
mod load;
mod machine;
mod mount;
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
