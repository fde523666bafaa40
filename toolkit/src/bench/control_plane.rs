//! The control planes that `bench platform` compares, and the load generator's commands on them.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde_json::Value;

use super::MEASURING;
use crate::cluster::Cluster;
use crate::cluster::component::Component;
use crate::cluster::leftover::{Guard, Leftover};
use crate::cluster::programs;
use crate::cluster::settings::{Backend, Programs, Settings, Store};
use crate::source::Target;
use sluice_shell::context::Context;
use sluice_shell::error::{Error, Result};
use sluice_shell::process::Run;

/// The resources of the load leave the watch cache.
const NO_WATCH_CACHE: &str = "--watch-cache-sizes=*.stable.example.com#0";

/// etcd refuses writes beyond 2 GB unless told otherwise.
const ETCD_QUOTA: &str = "--quota-backend-bytes=8589934592";

/// A control plane and what it keeps its objects in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum System {
    /// Kubernetes as it is, on etcd
    StockEtcd,
    /// Kubernetes as it is, on kine with SQLite
    StockKine,
    /// Patched Kubernetes on sluice-shim
    Sluice,
}

impl System {
    /// As the load generator knows it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::StockEtcd => "stock-etcd",
            Self::StockKine => "stock-kine",
            Self::Sluice => "sluice",
        }
    }

    fn store(self) -> Store {
        match self {
            Self::StockEtcd => Store::Etcd,
            Self::StockKine => Store::Kine,
            Self::Sluice => Store::Shim,
        }
    }

    /// What it runs: built, or those in the folders `stock` and `patched` of another folder.
    ///
    /// # Errors
    /// When a program can't be built or is missing.
    pub(super) fn programs(self, shell: &Context, target: &Target, bin: Option<&Path>) -> Result<Programs> {
        let patched = self == Self::Sluice;
        match bin {
            Some(bin) => {
                programs::in_folder(&bin.join(if patched { "patched" } else { "stock" }), self.store(), patched)
            }
            None => programs::built(shell, target, self.store(), patched),
        }
    }
}

/// What the load generator is called with.
pub(super) struct Generator {
    /// The program.
    pub(super) program: PathBuf,
    /// Where its results are added.
    pub(super) parts: PathBuf,
    /// What it logs.
    pub(super) log: PathBuf,
    /// Of a system, in megabytes.
    pub(super) memory: u64,
}

/// A control plane that runs. Dropping it ends it and removes its data.
pub(super) struct ControlPlane {
    /// What it is.
    pub(super) system: System,
    cluster: Option<Cluster>,
    token: PathBuf,
    _guard: Guard,
}

impl ControlPlane {
    /// Starts one in an empty folder, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not get ready.
    pub(super) fn start(system: System, programs: &Programs, backend: Option<Backend>, folder: &Path) -> Result<Self> {
        let guard = Guard::new(Leftover::Cluster(folder.to_owned()));
        let mut apiserver_args = vec![format!("--token-auth-file={}", Cluster::token_file(folder).display())];
        if system == System::Sluice {
            apiserver_args.push(NO_WATCH_CACHE.to_owned());
        }
        let settings = Settings {
            kubernetes: system.name().to_owned(),
            store: system.store(),
            backend: backend.filter(|_| system == System::Sluice),
            shards: Vec::new(),
            programs: programs.clone(),
            apiserver_args,
            controller_manager_args: Vec::new(),
            store_args: if system == System::StockEtcd { vec![ETCD_QUOTA.to_owned()] } else { Vec::new() },
        };
        let cluster = Cluster::prepare(folder, settings, Some(0))?;
        let token = cluster.write_token()?;
        cluster.start(|_| {})?;
        Ok(Self { system, cluster: Some(cluster), token, _guard: guard })
    }

    /// Runs a command of the load generator on it. Returns why the system had to be stopped, if it had.
    ///
    /// # Errors
    /// When the load generator fails.
    pub(super) fn measure(
        &self,
        shell: &Context,
        generator: &Generator,
        command: &str,
        args: &[String],
    ) -> Result<Option<String>> {
        let Some(cluster) = &self.cluster else { return Err(Error::input("the control plane is gone")) };
        let mut run = Run::new(&generator.program, shell.paths.root())
            .limit(MEASURING)
            .args(["platform", command, "--system", self.system.name()])
            .arg("--port")
            .arg(cluster.ports.apiserver.to_string())
            .arg("--ca")
            .arg(cluster.authority())
            .arg("--token")
            .arg(&self.token)
            .arg("--parts")
            .arg(&generator.parts)
            .arg("--memory")
            .arg(generator.memory.to_string());
        for (name, component) in [
            ("store", Component::Store),
            ("apiserver", Component::Apiserver),
            ("controller-manager", Component::ControllerManager),
        ] {
            let Some(process) = cluster.process(component) else {
                return Err(Error::input(format!("{} has ended", component.title(cluster))));
            };
            run = run.arg("--process").arg(format!("{name}={}", process.pid));
        }
        run.args(args).log(&generator.log).watch(|line| shell.out.note(line))?;
        stop_of_last(&generator.parts)
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if let Some(cluster) = self.cluster.take() {
            // The measurement is over; what can't be removed is swept by the next one.
            let _ = cluster.stop().and_then(|()| cluster.remove());
        }
    }
}

/// Why the last measurement in the file did not come to its end.
fn stop_of_last(parts: &Path) -> Result<Option<String>> {
    let text = fs_err::read_to_string(parts)?;
    let Some(line) = text.lines().last() else { return Ok(None) };
    let part: Value = serde_json::from_str(line)?;
    Ok(part["stopped"].as_str().map(str::to_owned))
}

/// Program and version, as programs say it.
///
/// # Errors
/// When one does not answer.
pub(super) fn versions(system: System, programs: &Programs) -> Result<Vec<String>> {
    let say = |path: &Path| -> Result<String> {
        let text = Run::new(path, "/").arg("--version").read()?;
        Ok(text.lines().next().unwrap_or_default().replace(" Version:", "").trim().to_owned())
    };
    let store = match system {
        // It says no more than its own name when it is built without a version.
        System::StockKine => say(&programs.store)?.replace(" version", ""),
        _ => say(&programs.store)?,
    };
    Ok(vec![say(&programs.apiserver)?, store])
}
