//! The control planes that the specs run against.

use clap::ValueEnum;
use std::path::Path;

use sluice_shell::context::Context;
use sluice_shell::error::Result;
use sluice_toolkit::cluster::Cluster;
use sluice_toolkit::cluster::database::Database;
use sluice_toolkit::cluster::programs;
use sluice_toolkit::cluster::settings::{Backend, Programs, Settings, Store};
use sluice_toolkit::source::Target;

/// A control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum System {
    /// Kubernetes as it is, on etcd
    Stock,
    /// Patched Kubernetes on sluice-shim
    Sluice,
    /// The same with `--watch-cache=false`
    SluiceUncached,
    /// Patched Kubernetes on sluice-shim, with the policy that keeps custom resources out of the watch cache
    SluiceAnnotated,
}

impl System {
    /// For the command line and for files.
    pub(in crate::conformance) fn name(self) -> &'static str {
        match self {
            Self::Stock => "stock",
            Self::Sluice => "sluice",
            Self::SluiceUncached => "sluice-uncached",
            Self::SluiceAnnotated => "sluice-annotated",
        }
    }

    /// For people.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Stock => "stock + etcd",
            Self::Sluice => "patched + shim",
            Self::SluiceUncached => "patched + shim, `--watch-cache=false`",
            Self::SluiceAnnotated => "patched + shim, no watch cache of custom resources",
        }
    }

    fn store(self) -> Store {
        match self {
            Self::Stock => Store::Etcd,
            Self::Sluice | Self::SluiceUncached | Self::SluiceAnnotated => Store::Shim,
        }
    }

    /// What it runs: built, or those in the folders `stock` and `patched` of another folder.
    ///
    /// # Errors
    /// When a program can't be built or is missing.
    pub(in crate::conformance) fn programs(
        self,
        shell: &Context,
        target: &Target,
        bin: Option<&Path>,
    ) -> Result<Programs> {
        let patched = self != Self::Stock;
        match bin {
            Some(bin) => {
                programs::in_folder(&bin.join(if patched { "patched" } else { "stock" }), self.store(), patched)
            }
            None => programs::built(shell, target, self.store(), patched),
        }
    }

    /// Starts it in a folder.
    ///
    /// # Errors
    /// When it does not get ready.
    pub(super) fn start(self, programs: &Programs, database: Option<Database>, folder: &Path) -> Result<Cluster> {
        let uncached = (self == Self::SluiceUncached).then(|| "--watch-cache=false".to_owned());
        let server = database.filter(|_| self.store() == Store::Shim);
        let settings = Settings {
            kubernetes: self.name().to_owned(),
            store: self.store(),
            backend: server.map(|server| Backend::Server { server }),
            programs: programs.clone(),
            apiserver_args: uncached.into_iter().collect(),
            controller_manager_args: Vec::new(),
            store_args: Vec::new(),
            shards: Vec::new(),
        };
        let cluster = Cluster::prepare(folder, settings, Some(0))?;
        cluster.start(|_| {})?;
        Ok(cluster)
    }
}
