//! What the check of a release finds.

use std::fmt;

use sluice_shell::error::Explain;

/// One thing that is not as it was made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub(super) struct Problem {
    /// The file in the release.
    pub(super) file: String,
    /// What is wrong with it.
    pub(super) what: String,
}

impl Problem {
    /// `what` is wrong with `file`.
    pub(super) fn new(file: impl Into<String>, what: impl Into<String>) -> Self {
        Self { file: file.into(), what: what.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.what)
    }
}

/// A release is not as it was made.
#[derive(Debug, thiserror::Error)]
#[error("{path} is not a whole release:\n{}", lines(problems))]
pub(super) struct Refused {
    pub(super) path: String,
    pub(super) problems: Vec<Problem>,
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("  {problem}")).collect::<Vec<_>>().join("\n")
}

impl Explain for Refused {
    fn hint(&self) -> Option<String> {
        Some("don't use it: fetch it again, and ask whoever published it if that does not help".to_owned())
    }
}
