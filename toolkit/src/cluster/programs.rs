//! Which programs a cluster runs.

use std::path::{Path, PathBuf};

use super::settings::{Programs, Store};
use crate::build::{self, Options, Program};
use crate::pipeline::Binary;
use crate::source::Target;
use sluice_shell::context::Context;
use sluice_shell::error::{Error, Explain, Result};
use sluice_shell::process::Run;

/// A folder that was said to hold the programs lacks one.
#[derive(Debug, thiserror::Error)]
#[error("{} is not there", .0.display())]
struct Missing(PathBuf);

impl Explain for Missing {
    fn hint(&self) -> Option<String> {
        Some(
            "`--bin` wants a folder with kube-apiserver, kube-controller-manager, and sluice-shim, etcd or kine".into(),
        )
    }
}

/// The store's program.
pub fn of_store(store: Store) -> Program {
    match store {
        Store::Shim => Program::SluiceShim,
        Store::Etcd => Program::Etcd,
        Store::Kine => Program::Kine,
    }
}

/// Programs that this toolkit builds; what is up to date is not built again.
///
/// # Errors
/// When the build fails.
pub fn built(shell: &Context, target: &Target, store: Store, patched: bool) -> Result<Programs> {
    let wanted = [Program::KubeApiserver, Program::KubeControllerManager, Program::Kubectl, of_store(store)];
    let binaries = if patched {
        build::build_patched(shell, target, Options::host()?, &wanted)?.binaries
    } else {
        build::build_stock(shell, target, Options::host()?, &wanted)?.binaries
    };
    Ok(Programs {
        apiserver: path(&binaries, Program::KubeApiserver)?,
        controller_manager: path(&binaries, Program::KubeControllerManager)?,
        store: path(&binaries, of_store(store))?,
        kubectl: Some(path(&binaries, Program::Kubectl)?),
        patched,
    })
}

/// Upstream's end-to-end tests, which are the same for each control plane.
#[derive(Debug, Clone)]
pub struct EndToEnd {
    /// Upstream's version.
    pub version: String,
    /// The tests.
    pub tests: PathBuf,
    /// What runs them side by side.
    pub ginkgo: PathBuf,
}

/// Upstream's end-to-end tests of a minor, compiled of the tree as upstream ships it.
///
/// # Errors
/// When the build fails.
pub fn end_to_end(shell: &Context, target: &Target) -> Result<EndToEnd> {
    let stock = build::build_stock(shell, target, Options::host()?, &[Program::E2eTest, Program::Ginkgo])?;
    Ok(EndToEnd {
        tests: path(&stock.binaries, Program::E2eTest)?,
        ginkgo: path(&stock.binaries, Program::Ginkgo)?,
        version: stock.version,
    })
}

/// Upstream's end-to-end tests that someone else built.
///
/// # Errors
/// When a program is missing, or the tests do not say their version.
pub fn end_to_end_in_folder(folder: &Path) -> Result<EndToEnd> {
    let folder = std::path::absolute(folder)?;
    let [tests, ginkgo] = [Program::E2eTest, Program::Ginkgo].map(|program| folder.join(program.name()));
    let version = Run::new(&tests, &folder).arg("--version").read()?;
    if !ginkgo.is_file() {
        return Err(Missing(ginkgo).into());
    }
    Ok(EndToEnd { version: version.trim().to_owned(), tests, ginkgo })
}

fn path(binaries: &[Binary], program: Program) -> Result<PathBuf> {
    let found = binaries.iter().find(|binary| binary.name == program.name());
    found.map(|binary| binary.path.clone()).ok_or_else(|| Error::input(format!("{} was not built", program.name())))
}

/// Programs that someone else built.
///
/// # Errors
/// When one is missing.
pub fn in_folder(folder: &Path, store: Store, patched: bool) -> Result<Programs> {
    let folder = std::path::absolute(folder)?;
    let find = |name: &str| {
        let path = folder.join(name);
        if path.is_file() { Ok(path) } else { Err(Missing(path)) }
    };
    Ok(Programs {
        apiserver: find("kube-apiserver")?,
        controller_manager: find("kube-controller-manager")?,
        store: find(of_store(store).name())?,
        kubectl: find("kubectl").ok(),
        patched,
    })
}
