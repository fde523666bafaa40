//! A cluster's store, behind the apiserver's back.

use std::path::PathBuf;

use super::Suite;
use super::lab::Lab;
use super::stores::tool;
use sluice_shell::error::Result;
use sluice_shell::process::{Limit, Run};
use sluice_toolkit::build::Program;

/// etcdctl with the apiserver's own certificate.
pub(super) struct Raw {
    etcdctl: PathBuf,
    folder: PathBuf,
    flags: Vec<String>,
}

impl Raw {
    /// With etcdctl; none if there is none beside the programs under test.
    ///
    /// # Errors
    /// When it can't be built.
    pub(super) fn of(suite: &Suite, lab: &Lab) -> Result<Option<Self>> {
        Self::at(suite, lab, lab.cluster.ports.store)
    }

    /// The same for another store of the cluster.
    ///
    /// # Errors
    /// When it can't be built.
    pub(super) fn at(suite: &Suite, lab: &Lab, port: u16) -> Result<Option<Self>> {
        let Some(etcdctl) = tool(suite, Program::Etcdctl)? else { return Ok(None) };
        let certificates = lab.cluster.certificates();
        let client = certificates.store_client();
        let flags = vec![
            format!("--endpoints=https://127.0.0.1:{port}"),
            format!("--cacert={}", certificates.store_authority().cert.display()),
            format!("--cert={}", client.cert.display()),
            format!("--key={}", client.key.display()),
        ];
        Ok(Some(Self { etcdctl, folder: lab.cluster.folder.clone(), flags }))
    }

    fn run(&self, words: &[&str]) -> Run {
        Run::new(&self.etcdctl, &self.folder).limit(Limit::ANSWER).args(&self.flags).args(words)
    }

    /// The value of a key; bytes that are no text are replaced.
    ///
    /// # Errors
    /// When etcdctl fails.
    pub(super) fn get(&self, key: &str) -> Result<String> {
        self.run(&["get", "--print-value-only", key]).read()
    }

    /// The keys that begin with a text, one a line.
    ///
    /// # Errors
    /// When etcdctl fails.
    pub(super) fn keys(&self, prefix: &str) -> Result<String> {
        self.run(&["get", "--prefix", "--keys-only", prefix]).read()
    }

    /// Sets a key.
    ///
    /// # Errors
    /// When etcdctl fails.
    pub(super) fn put(&self, key: &str, value: impl Into<Vec<u8>>) -> Result<()> {
        self.run(&["put", key]).stdin(value).read().map(drop)
    }

    /// Compacts the history up to a revision.
    ///
    /// # Errors
    /// When etcdctl fails.
    pub(super) fn compact(&self, revision: u64) -> Result<()> {
        self.run(&["compact", &revision.to_string()]).read().map(drop)
    }

    /// Removes a key.
    ///
    /// # Errors
    /// When etcdctl fails.
    pub(super) fn delete(&self, key: &str) -> Result<()> {
        self.run(&["del", key]).read().map(drop)
    }
}
