//! The verb `cluster up`, as tests run it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;

use crate::kubectl::Kubectl;
use sluice_shell::context::Context;
use sluice_shell::error::Result;
use sluice_shell::interrupt;
use sluice_shell::process::{Run, THIS};
use sluice_toolkit::cluster::leftover;
use sluice_toolkit::node;
use sluice_toolkit::source::Target;

/// The folders of the nodes that run now, for who interrupts us.
static ACTIVE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// What `cluster up --json` prints.
#[derive(Deserialize)]
pub(crate) struct Report {
    pub(crate) folder: PathBuf,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) kubectl: PathBuf,
    pub(crate) images: Vec<String>,
    pub(crate) started: bool,
    pub(crate) seconds: f64,
}

impl Report {
    /// A kubectl outside of the node.
    pub(crate) fn client(&self) -> Kubectl {
        // Its cache is not in the node's folder, which must be gone in the end.
        Kubectl::new(&self.kubectl, &self.cache(), &self.kubeconfig)
    }

    /// Where that kubectl keeps what it has discovered.
    pub(crate) fn cache(&self) -> PathBuf {
        self.folder.with_extension("kubectl")
    }
}

/// The folder of nodes that tests start, without what runs left there that are over.
///
/// # Errors
/// When such a node can't be ended or removed.
pub(crate) fn scratch(shell: &Context) -> Result<PathBuf> {
    interrupt::before_the_end(end_active)?;
    let scratch = shell.paths.cache().join("node-tests");
    fs_err::create_dir_all(&scratch)?;
    for folder in leftover::abandoned(&scratch)? {
        node::end_in(&folder)?;
    }
    leftover::sweep(&scratch)?;
    Ok(scratch)
}

/// The verb for a node in that folder, with flags more.
pub(crate) fn verb(shell: &Context, target: &Target, flags: &[&str], folder: &Path) -> Run {
    Run::new(THIS, shell.paths.root())
        .args(["cluster", "up", "--json", "--k8s", target.k8s.as_str(), "--source", &target.source.to_string()])
        .args(flags)
        .arg("--dir")
        .arg(folder)
}

/// Has the verb build what is missing and start the node in that folder.
///
/// # Errors
/// Those of the verb.
pub(crate) fn start(shell: &Context, verb: &Run, folder: &Path) -> Result<Report> {
    end_later(folder.to_owned());
    let progress = shell.out.spinner("cluster up");
    let report = read(&verb.read_with(|line| progress.now(line)).inspect_err(|_| end_active())?)?;
    progress.done(format!("ready after {:.0} s", report.seconds));
    Ok(report)
}

/// What the verb printed.
///
/// # Errors
/// When it is no report.
pub(crate) fn read(report: &str) -> Result<Report> {
    Ok(serde_json::from_str(report)?)
}

/// Has the node in that folder ended when the cases are done or somebody interrupts us.
pub(crate) fn end_later(folder: PathBuf) {
    ACTIVE.lock().unwrap_or_else(PoisonError::into_inner).push(folder);
}

/// Failing to is not reported: this runs when something else has failed already, or nothing is left to end.
pub(crate) fn end_active() {
    for folder in ACTIVE.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let _ = node::end_in(folder);
    }
}
