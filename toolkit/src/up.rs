//! `cargo xtask up`: a control plane on this machine.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::cluster::Cluster;
use crate::cluster::component::{Component, OVERRIDES};
use crate::cluster::database::Database;
use crate::cluster::policies;
use crate::cluster::programs;
use crate::cluster::settings::{Backend, Place, Settings, Store};
use crate::cluster::shard::Shard;
use crate::source::Target;
use sluice_shell::context::Context;
use sluice_shell::error::{Error, Explain, Result};
use sluice_shell::minor::Minor;
use sluice_shell::process::quoted;

/// Starts a Kubernetes control plane on this machine and prints the line that points kubectl at it
///
/// Store, apiserver and controller manager run as processes that listen on 127.0.0.1; there are no nodes, so nothing
/// runs pods. The first `up` compiles them, which takes minutes, and says so; what is compiled is not compiled again. A
/// second `up` starts what is missing and keeps the data. `status` shows what runs, `down` ends it.
#[derive(clap::Args)]
pub struct Cmd {
    /// The cluster's folder [default: .sluice/cluster in the workspace]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
    /// Port of the Kubernetes API; 0 means any that is free [default: the one it had, else any]
    #[arg(long)]
    port: Option<u16>,
    /// The shim's connection string [default: an SQLite file in the cluster's folder]
    #[arg(long, value_name = "CONNECTION")]
    backend: Option<String>,
    /// A database server for the shim, started with the cluster, its data in the cluster's folder
    #[arg(long, value_enum, value_name = "SERVER", conflicts_with = "backend")]
    database: Option<Database>,
    /// Custom resources that are kept in a database of their own, by a shim of their own: a group, or GROUP/RESOURCE,
    /// and behind `=` its connection string [default: an SQLite file in the cluster's folder]; repeatable
    #[arg(long = "shard", value_name = "GROUP[=CONNECTION]")]
    shards: Vec<Shard>,
    /// What keeps the objects
    #[arg(long, value_enum, default_value_t)]
    store: Store,
    /// Kubernetes without the patches
    #[arg(long)]
    stock: bool,
    /// Take the programs from this folder; build nothing
    #[arg(long, value_name = "DIR")]
    bin: Option<PathBuf>,
    /// One more argument for kube-apiserver, as `--name=value`; repeatable
    #[arg(long = "apiserver-arg", value_name = "ARG", allow_hyphen_values = true)]
    apiserver_args: Vec<String>,
    /// One more argument for kube-controller-manager; repeatable
    #[arg(long = "controller-manager-arg", value_name = "ARG", allow_hyphen_values = true)]
    controller_manager_args: Vec<String>,
    /// One more argument for the store; repeatable
    #[arg(long = "shim-arg", value_name = "ARG", allow_hyphen_values = true)]
    shim_args: Vec<String>,
    /// Install the admission policies of images/manifests/policies: new objects of these API groups get the label that
    /// hides them from the controller manager, and keep it
    #[arg(
        long,
        value_name = "GROUP,...",
        num_args = 0..=1,
        require_equals = true,
        value_delimiter = ',',
        default_missing_value = "stable.example.com"
    )]
    with_policies: Option<Vec<String>>,
    /// Print a report instead
    #[arg(long)]
    json: bool,
}

/// What `up --json` prints.
#[derive(Serialize)]
struct Report {
    folder: PathBuf,
    kubeconfig: PathBuf,
    kubectl: Option<PathBuf>,
    server: String,
    /// What this run started; empty if everything ran already.
    started: Vec<Component>,
    seconds: f64,
}

impl Cmd {
    /// Starts the cluster.
    pub(crate) fn run(self, shell: &Context) -> Result<()> {
        if self.store != Store::Shim && (self.backend.is_some() || self.database.is_some()) {
            let what = "`--backend` and `--database` are for the shim; others keep their data in the cluster's folder";
            return Err(Error::input(what));
        }
        if self.backend.as_ref().is_some_and(|backend| !backend.contains("://")) {
            return Err(NoConnection.into());
        }
        if !self.shards.is_empty() {
            if self.stock || self.store != Store::Shim {
                let what = "`--shard` needs the patches, which make kube-apiserver look for custom resources in more \
                            than one store, and the shim";
                return Err(Error::input(what));
            }
            if self.apiserver_args.iter().any(|arg| arg.starts_with(OVERRIDES)) {
                return Err(Error::input(format!("`--shard` says it with {OVERRIDES}: give one of the two")));
            }
        }
        let shards = Shard::sorted(self.shards)?;
        let folder = folder(shell, self.dir.as_deref());
        // Whoever is second finds the programs built and the cluster running.
        let _lock = shell.lock("up")?;
        let backend = self.backend.map(Backend::Url).or(self.database.map(|server| Backend::Server { server }));
        let place = Place { store: self.store, backend: backend.as_ref(), shards: &shards };
        Cluster::check(&folder, place, self.port)?;
        let programs = match &self.bin {
            Some(bin) => programs::in_folder(bin, self.store, !self.stock)?,
            None => programs::built(shell, &self.target, self.store, !self.stock)?,
        };
        let mut apiserver_args = flags("--apiserver-arg", self.apiserver_args)?;
        if self.with_policies.is_some() {
            // First: what a person asks for wins.
            apiserver_args.splice(0..0, policies::apiserver_args(&self.target.k8s));
        }
        let settings = Settings {
            kubernetes: self.target.k8s.to_string(),
            store: self.store,
            backend,
            shards,
            programs,
            apiserver_args,
            controller_manager_args: flags("--controller-manager-arg", self.controller_manager_args)?,
            store_args: flags("--shim-arg", self.shim_args)?,
        };
        let cluster = Cluster::prepare(&folder, settings, self.port)?;
        let progress = shell.out.spinner("cluster");
        let clock = std::time::Instant::now();
        let started = cluster.start(|step| progress.now(step))?;
        if let Some(groups) = &self.with_policies {
            progress.now("installing the policies");
            policies::install(&cluster, shell.paths.root(), groups)?;
        }
        progress.done(if started.is_empty() { "already running" } else { "ready" });
        let kubectl = cluster.settings.programs.kubectl.clone();
        if self.json {
            return shell.out.json(&Report {
                folder: cluster.folder.clone(),
                kubeconfig: cluster.kubeconfig(),
                kubectl,
                server: format!("https://127.0.0.1:{}", cluster.ports.apiserver),
                started,
                seconds: clock.elapsed().as_secs_f64(),
            });
        }
        if let Some(kubectl) = kubectl.filter(|_| !has_kubectl()) {
            shell.out.note(format!("there is no kubectl in PATH; use {}", kubectl.display()));
        }
        shell.out.data(format!("export KUBECONFIG={}", quoted(&cluster.kubeconfig())))
    }
}

/// `--backend` is not even of the form. What comes after the `://` is the shim's to judge.
#[derive(Debug, thiserror::Error)]
#[error("the value of `--backend` is no connection string")]
struct NoConnection;

impl Explain for NoConnection {
    fn hint(&self) -> Option<String> {
        Some("for example `--backend sqlite:///var/lib/sluice/state.db`; without the flag the database is in the cluster's folder".into())
    }
}

/// The command that starts a cluster once more as it was started. What may hold a password is left out.
pub(crate) fn again(cluster: &Cluster) -> String {
    let Settings { kubernetes, store, backend, shards, programs, .. } = &cluster.settings;
    let Settings { apiserver_args, controller_manager_args, store_args, .. } = &cluster.settings;
    let mut words = vec!["cargo xtask up --dir".to_owned(), quoted(&cluster.folder)];
    if kubernetes != Minor::DEFAULT {
        words.push(format!("--k8s {kubernetes}"));
    }
    if *store != Store::Shim {
        words.push(format!("--store {}", store.value()));
    }
    if !programs.patched {
        words.push("--stock".into());
    }
    // What is built here is in two folders.
    if let Some(bin) = programs.store.parent().filter(|bin| Some(*bin) == programs.apiserver.parent()) {
        words.push(format!("--bin {}", quoted(bin)));
    }
    match backend {
        Some(Backend::Url(_)) => words.push("--backend CONNECTION".into()),
        Some(Backend::Server { server }) => words.push(format!("--database {}", server.value())),
        None => {}
    }
    words.extend(shards.iter().map(|shard| match shard.endpoint {
        Some(_) => format!("--shard {shard}=CONNECTION"),
        None => format!("--shard {shard}"),
    }));
    let passed = [("apiserver", apiserver_args), ("controller-manager", controller_manager_args), ("shim", store_args)];
    for (to, args) in passed {
        words.extend(args.iter().map(|arg| format!("--{to}-arg={}", quoted(Path::new(arg)))));
    }
    words.join(" ")
}

/// Where a cluster is unless `--dir` says otherwise.
pub(crate) fn folder(shell: &Context, dir: Option<&Path>) -> PathBuf {
    dir.map_or_else(|| shell.paths.cache().join("cluster"), Path::to_owned)
}

/// Arguments that are passed on must be in one piece: `--name=value`.
fn flags(option: &str, args: Vec<String>) -> Result<Vec<String>> {
    let in_pieces = |arg: &&String| {
        let name = arg.split_once('=').map_or(arg.as_str(), |(name, _)| name);
        !name.starts_with("--") || name.contains(char::is_whitespace)
    };
    match args.iter().find(in_pieces) {
        Some(wrong) => Err(Error::input(format!("{option} {wrong:?}: write it as {option}=--name=value"))),
        None => Ok(args),
    }
}

fn has_kubectl() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join("kubectl").is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_is_passed_on_in_one_piece() {
        for (arg, good) in [("--v=4", true), ("--quiet", true), ("--a=b c", true), ("--v 4", false), ("v=4", false)] {
            assert_eq!(flags("--apiserver-arg", vec![arg.to_owned()]).is_ok(), good, "{arg}");
        }
    }
}
