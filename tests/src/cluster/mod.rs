//! The cases on a node that runs Pods: the cluster that kubeadm makes of our images and manifests.
//!
//! All cases but `kubeadm/upgrade` share one node, which the first of them finds as `cargo xtask cluster up` left it,
//! and which the last one removes.

mod crash;
mod database;
mod down;
mod helm;
mod lab;
mod machine;
mod pods;
mod shims;
pub(crate) mod up;
mod upgrade;
mod vcluster;
mod wardrobe;

use self::lab::{Lab, Wish};
use crate::choice;
use crate::runner::{self, Tally, Verdict};
use sluice_shell::context::Context;
use sluice_shell::error::Result;
use sluice_toolkit::source::Target;

/// One test.
struct Case {
    name: &'static str,
    body: fn(&mut Lab) -> Result<Verdict>,
}

/// In the order in which they run.
const CASES: [Case; 15] = [
    Case { name: "kubeadm/ready", body: pods::ready },
    Case { name: "kubeadm/pods", body: pods::reach_each_other },
    Case { name: "kubeadm/up-again", body: pods::up_again },
    Case { name: "kubeadm/upgrade", body: upgrade::upgrade },
    Case { name: "crash/shim", body: crash::shim },
    Case { name: "crash/node", body: crash::node },
    Case { name: "vcluster/sqlite", body: vcluster::sqlite },
    Case { name: "vcluster/postgres", body: vcluster::postgres },
    Case { name: "vcluster/mysql", body: vcluster::mysql },
    Case { name: "vcluster/upgrade", body: vcluster::upgrade },
    Case { name: "vcluster/small", body: vcluster::small },
    Case { name: "vcluster/stock-small", body: vcluster::stock_small },
    Case { name: "helm/replicas", body: helm::replicas },
    Case { name: "helm/vcluster", body: helm::vcluster },
    Case { name: "down/nothing-left", body: down::nothing_left },
];

/// The cases whose name contains `filter`.
fn chosen(filter: Option<&str>) -> Result<Vec<Case>> {
    choice::chosen("cluster test", filter, CASES, |case| case.name)
}

/// Refuses a filter that fits no case, before minutes are spent on a node.
///
/// # Errors
/// With the names that there are.
pub(crate) fn check(filter: Option<&str>) -> Result<()> {
    chosen(filter).map(drop)
}

/// Starts a node, and runs the cases whose name contains `filter`.
///
/// # Errors
/// When the node does not get ready, or stdout is broken. A failed case is no error here: see the tally.
pub(crate) fn run(shell: &Context, target: &Target, filter: Option<&str>) -> Result<Tally> {
    let chosen = chosen(filter)?;
    let vclusters = chosen.iter().any(|case| case.name.contains("vcluster"));
    let charts = chosen.iter().any(|case| case.name.starts_with("helm/"));
    let upgrade = chosen.iter().any(|case| case.name == "vcluster/upgrade");
    let stock = chosen.iter().any(|case| case.name == "vcluster/stock-small");
    let mut lab = Lab::start(shell, target, Wish { vclusters, charts, upgrade, stock })?;
    let scratch = lab.scratch.clone();
    // One after the other: the node is the same for all.
    let cell = std::cell::RefCell::new(&mut lab);
    let steps = chosen.iter().map(|case| (case.name, || (case.body)(&mut cell.borrow_mut())));
    let tally = runner::run(shell, "cluster", &scratch, steps)?;
    if tally.failed == 0 {
        lab.finish()?;
    }
    Ok(tally)
}
