//! Programs of another platform: they can't be asked for their version on this machine.

use std::path::Path;

use regex::bytes::Regex;

use crate::images::require_static;
use sluice_shell::error::{Explain, Result};
use sluice_shell::platform::Platform;

/// Why a program would lack its version.
pub(super) const MOVED: &str = "upstream moved its version variables: compare hack/lib/version.sh in the tree with toolkit/src/build/kubernetes.rs";

/// A program does not hold what was to be stamped into it.
#[derive(Debug, thiserror::Error)]
#[error("{program} for {platform} does not hold its version {expected:?}")]
struct NotStamped {
    program: String,
    platform: Platform,
    expected: String,
}

impl Explain for NotStamped {
    fn hint(&self) -> Option<String> {
        Some(MOVED.into())
    }
}

/// Makes sure that the program at `path` is a static one for `platform` that holds the text `stamped`. A linker says
/// nothing of a variable that it does not find; its value is not in the program then.
pub(super) fn check(program: &str, path: &Path, platform: Platform, stamped: &str) -> Result<()> {
    require_static(path, platform)?;
    let text = Regex::new(&regex::escape(stamped)).map_err(anyhow::Error::from)?;
    if text.is_match(&fs_err::read(path)?) {
        return Ok(());
    }
    Err(NotStamped { program: program.into(), platform, expected: stamped.into() }.into())
}
