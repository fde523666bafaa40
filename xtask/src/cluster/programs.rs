//! Which programs a cluster runs.

use std::path::{Path, PathBuf};

use super::settings::{Programs, Store};
use crate::error::{Explain, Result};

/// A folder that was said to hold the programs lacks one.
#[derive(Debug, thiserror::Error)]
#[error("{} is not there", .0.display())]
struct Missing(PathBuf);

impl Explain for Missing {
    fn hint(&self) -> Option<String> {
        Some("`--bin` wants a folder with kube-apiserver, kube-controller-manager, and sluice-shim or etcd".into())
    }
}

/// The file name of the store's program.
pub(crate) fn store_program(store: Store) -> &'static str {
    match store {
        Store::Shim => "sluice-shim",
        Store::Etcd => "etcd",
    }
}

/// Programs that someone else built.
///
/// # Errors
/// When one is missing.
pub(crate) fn in_folder(folder: &Path, store: Store, patched: bool) -> Result<Programs> {
    let folder = std::path::absolute(folder)?;
    let find = |name: &str| {
        let path = folder.join(name);
        if path.is_file() { Ok(path) } else { Err(Missing(path)) }
    };
    Ok(Programs {
        apiserver: find("kube-apiserver")?,
        controller_manager: find("kube-controller-manager")?,
        store: find(store_program(store))?,
        kubectl: find("kubectl").ok(),
        patched,
    })
}
