//! `ci/conformance/clients/<name>.toml`: which tests of a client program run, and which can't pass.

use serde::Deserialize;
use std::path::Path;

use crate::conformance::suite::Entry;
use sluice_shell::error::{Attempt as _, Error, Result};

/// A client program's list, as its file says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    /// The file's name without `.toml`.
    #[serde(skip)]
    pub(super) name: String,
    /// What runs, in a line for people.
    pub(super) about: String,
    /// Its packages of tests, if not all run.
    #[serde(default)]
    pub(super) packages: Vec<String>,
    /// Tests that say nothing about a control plane: they do not run, or are not counted.
    #[serde(default)]
    pub(super) outside: Vec<Entry>,
    /// Tests that can't pass. They run, to see that they still do not.
    #[serde(default)]
    pub(super) cannot: Vec<Entry>,
}

impl List {
    /// Reads a file.
    ///
    /// # Errors
    /// When it has another form, or an entry has no reason.
    pub(super) fn load(root: &Path, name: &str) -> Result<Self> {
        let path = root.join(format!("ci/conformance/clients/{name}.toml"));
        let text = fs_err::read_to_string(&path)?;
        let mut list: Self = toml::from_str(&text).attempting(|| format!("cannot read {}", path.display()))?;
        name.clone_into(&mut list.name);
        if let Some(entry) = list.outside.iter().chain(&list.cannot).find(|entry| entry.reason.trim().is_empty()) {
            return Err(Error::input(format!("{}: no reason for {}", path.display(), entry.tests.join(", "))));
        }
        Ok(list)
    }

    /// Whether a test is not counted.
    pub(super) fn is_outside(&self, package: &str, test: &str) -> bool {
        self.outside.iter().any(|entry| entry.covering(package, test).is_some())
    }
}
