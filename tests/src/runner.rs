//! Runs end-to-end cases, and says how each ended.

use std::path::Path;
use std::time::Instant;

use sluice_shell::context::Context;
use sluice_shell::error::Result;
use sluice_toolkit::cluster::leftover;

/// How many cases passed and failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Those that did what they should.
    pub(crate) passed: usize,
    /// The others.
    pub(crate) failed: usize,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// How a case ended that did not fail.
pub(crate) enum Verdict {
    /// As it should, with the numbers that it measured, if any.
    Passed(String),
    /// It can't run on this machine; says why.
    Skipped(String),
}

impl Verdict {
    pub(crate) const PASSED: Self = Self::Passed(String::new());
}

/// Runs the cases of one `part` of the tests, which have names, one after the other, and prints how each ended. What a
/// failed one left in `scratch` is named once.
///
/// # Errors
/// When stdout is broken. A failed case is no error here: see the tally.
pub(crate) fn run<'a>(
    shell: &Context,
    part: &str,
    scratch: &Path,
    cases: impl IntoIterator<Item = (&'a str, impl FnOnce() -> Result<Verdict>)>,
) -> Result<Tally> {
    let mut left = Vec::new();
    let mut tally = Tally::default();
    for (name, body) in cases {
        let clock = Instant::now();
        let progress = shell.out.spinner(format!("{part} {name}"));
        let result = body();
        drop(progress);
        let seconds = clock.elapsed().as_secs_f64();
        let (word, detail) = match &result {
            Ok(Verdict::Passed(numbers)) => ("ok", numbers.clone()),
            Ok(Verdict::Skipped(why)) => ("skip", why.clone()),
            Err(_) => ("FAIL", String::new()),
        };
        let gap = if detail.is_empty() { "" } else { "  " };
        shell.out.data(format!("{word:<4} {part} {name} ({seconds:.1} s){gap}{detail}"))?;
        match result {
            Ok(Verdict::Passed(_)) => tally.passed += 1,
            Ok(Verdict::Skipped(_)) => {}
            Err(error) => {
                tally.failed += 1;
                shell.out.data(format!("{error:?}"))?;
                for folder in leftover::folders_of(scratch, std::process::id())? {
                    if !left.contains(&folder) {
                        shell.out.data(format!("  logs and data: {}", folder.display()))?;
                        left.push(folder);
                    }
                }
            }
        }
    }
    Ok(tally)
}
