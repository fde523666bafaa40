//! `up`, `status`, `down` as a person types them.

use std::path::PathBuf;

use serde_json::Value;

use super::lab::{folder, kubectl_of};
use super::{Case, Column, Suite, Verdict};
use sluice_shell::error::{Error, Result};
use sluice_shell::process::{Limit, Outcome, Run, THIS};
use sluice_toolkit::cluster::Cluster;
use sluice_toolkit::cluster::leftover::{Guard, Leftover};
use sluice_toolkit::cluster::programs;
use sluice_toolkit::cluster::settings::Store;
use sluice_toolkit::cluster::wait::ensure;

pub(super) fn cases() -> Vec<Case> {
    [Case::new("up/round", round), Case::new("up/port-taken", port_taken)]
        .map(|case| case.of(Column::OURS).on_files())
        .into()
}

/// The toolkit, as a program of its own, with one cluster's folder.
struct Toolkit {
    workspace: PathBuf,
    folder: PathBuf,
    /// The programs under their usual names.
    bin: PathBuf,
    _guard: Guard,
}

impl Toolkit {
    fn new(suite: &Suite, name: &str) -> Result<Self> {
        let folder = folder(suite, name);
        let guard = Guard::new(Leftover::Cluster(folder.clone()));
        let bin = folder.join("bin");
        let programs = suite.programs(Column::OURS)?;
        fs_err::create_dir_all(&bin)?;
        for (name, program) in [
            ("kube-apiserver", &programs.apiserver),
            ("kube-controller-manager", &programs.controller_manager),
            (programs::of_store(Store::Shim).name(), &programs.store),
        ] {
            fs_err::os::unix::fs::symlink(program, bin.join(name))?;
        }
        Ok(Self { workspace: suite.workspace.clone(), folder, bin, _guard: guard })
    }

    fn run(&self, args: &[&str]) -> Result<Outcome> {
        let mut run = Run::new(THIS, &self.workspace).args(args).arg("--dir").arg(&self.folder).env("CI", "1");
        if args[0] == "up" {
            run = run.arg("--bin").arg(&self.bin);
        }
        run.outcome()
    }

    fn finish(self) -> Result<()> {
        fs_err::remove_dir_all(&self.bin)?;
        Ok(fs_err::remove_dir(&self.folder)?)
    }
}

/// Up, up again with and without pid files, a crash of everything, up again, down: the data is there until down.
fn round(suite: &Suite) -> Result<Verdict> {
    let toolkit = Toolkit::new(suite, "up")?;
    let up = || -> Result<String> {
        let outcome = toolkit.run(&["up"])?;
        ensure(outcome.status.success(), || outcome.stderr.clone())?;
        Ok(outcome.stdout + &outcome.stderr)
    };
    let kubeconfig = toolkit.folder.join("kubeconfig");
    let kubectl = |args: &str| {
        let program = kubectl_of(suite.programs(Column::OURS)?)?;
        let run = Run::new(program, &toolkit.folder).env("KUBECONFIG", &kubeconfig).limit(Limit::ANSWER);
        run.args(args.split(' ')).read()
    };

    let first = up()?;
    let line = format!("export KUBECONFIG={}", kubeconfig.display());
    ensure(first.lines().next() == Some(&line), || format!("up printed {first:?}"))?;
    ensure(kubectl("get ns -o name")?.contains("namespace/default"), || "no namespace default".to_owned())?;
    kubectl("create configmap kept --from-literal=a=b")?;

    let second = up()?;
    ensure(second.contains("already running"), || format!("the second up printed {second:?}"))?;
    // A run that was killed right after it had started a process has written no pid file.
    fs_err::remove_dir_all(toolkit.folder.join("run"))?;
    let third = up()?;
    ensure(third.contains("already running"), || format!("without pid files up printed {third:?}"))?;
    let other = toolkit.run(&["up", "--apiserver-arg=--v=1"])?;
    ensure(other.status.code() == Some(1) && other.stderr.contains("runs with other settings"), || other.stderr)?;

    let cluster = Cluster::look(&toolkit.folder)?;
    // Backwards: a controller manager that is still starting ends by itself when its apiserver is gone.
    for component in cluster.components().rev() {
        cluster.process(component).ok_or_else(|| Error::input("a process is missing"))?.kill()?;
    }
    let status = toolkit.run(&["status"])?;
    ensure(status.status.code() == Some(1), || format!("status after the crash: {}", status.stdout))?;
    up()?;
    ensure(kubectl("get configmap kept -o jsonpath={.data.a}")? == "b", || "the data is gone".to_owned())?;

    let status = toolkit.run(&["status", "--json"])?;
    let report: Value = serde_json::from_str(&status.stdout)?;
    let processes = report["processes"].as_array().cloned().unwrap_or_default();
    let sound = processes.len() == 3
        && processes.iter().all(|row| row["ready"] == true && row["resident_bytes"].as_u64() > Some(0))
        && report["store_revision"].as_u64() > Some(1);
    ensure(sound, || format!("status says {report:#}"))?;

    let down = toolkit.run(&["down"])?;
    ensure(down.status.success(), || down.stderr)?;
    // It removes what it made; the folder with the programs is ours.
    let left: Vec<_> = fs_err::read_dir(&toolkit.folder)?.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    ensure(left == ["bin"], || format!("down left {left:?}"))?;
    toolkit.finish()?;
    Ok(Verdict::PASSED)
}

/// A taken port is named together with who holds it, and nothing is left running.
fn port_taken(suite: &Suite) -> Result<Verdict> {
    let toolkit = Toolkit::new(suite, "port")?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    let outcome = toolkit.run(&["up", "--port", &port])?;
    let mine = format!("(process {})", std::process::id());
    ensure(
        outcome.status.code() == Some(1) && outcome.stderr.contains(&port) && outcome.stderr.contains(&mine),
        || format!("up on a taken port said: {}", outcome.stderr),
    )?;
    // It is refused before anything is made there; `finish` fails if something was.
    toolkit.finish()?;
    Ok(Verdict::PASSED)
}
