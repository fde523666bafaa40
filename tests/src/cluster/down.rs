//! The end of a node.

use super::lab::Lab;
use super::machine::Machine;
use crate::runner::Verdict;
use sluice_shell::error::Result;
use sluice_shell::process::{Run, THIS};
use sluice_toolkit::cluster::wait::ensure;

/// While the node runs its control group shows, so that looking works; after `cluster down` nothing does.
pub(super) fn nothing_left(lab: &mut Lab) -> Result<Verdict> {
    let running = Machine::look()?;
    let group = running.since(&lab.before);
    ensure(group.iter().any(|line| line.contains("/sluice-node-")), || format!("the node shows as {group:?}"))?;
    let others: Vec<_> = group.iter().filter(|line| !line.starts_with("control group ")).collect();
    ensure(others.is_empty(), || format!("a node that runs shows outside: {others:#?}"))?;
    Run::new(THIS, "/").args(["cluster", "down", "--dir"]).arg(&lab.report.folder).run()?;
    let after = Machine::look()?;
    let left = after.since(&lab.before);
    ensure(left.is_empty(), || format!("the node has left {left:#?}"))?;
    ensure(!lab.report.folder.exists(), || format!("{} is still there", lab.report.folder.display()))?;
    Ok(Verdict::PASSED)
}
