//! Where the shims of a run keep their data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::server::Server;
use sluice_shell::context::Context;
use sluice_shell::error::Result;
use sluice_toolkit::cluster::backend;
use sluice_toolkit::cluster::database::Database;

/// In files, or on one database server, which ends with the run.
#[derive(Default)]
pub(crate) struct Data {
    server: Option<Server>,
    /// Connection strings on the server, by the file that would be used otherwise.
    made: Mutex<BTreeMap<PathBuf, String>>,
}

impl Data {
    /// On a server that is started for this.
    ///
    /// # Errors
    /// When it does not get ready.
    pub(super) fn on(shell: &Context, database: Database) -> Result<Self> {
        Ok(Self { server: Some(Server::start(shell, database)?), ..Self::default() })
    }

    /// The connection string of a database, which is empty at first. The file's name is that of the database also on a
    /// server.
    ///
    /// # Errors
    /// When the server makes none.
    pub(super) fn endpoint(&self, file: &Path) -> Result<String> {
        let Some(server) = &self.server else { return Ok(backend::sqlite(file)) };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(endpoint) = made.get(file) {
            return Ok(endpoint.clone());
        }
        let endpoint = server.make()?.endpoint;
        made.insert(file.to_owned(), endpoint.clone());
        Ok(endpoint)
    }

    /// The kind of the server.
    pub(super) fn database(&self) -> Option<Database> {
        self.server.as_ref().map(Server::database)
    }

    /// Ends the server, and removes all databases.
    ///
    /// # Errors
    /// When it does not end.
    pub(super) fn remove(&self) -> Result<()> {
        self.server.as_ref().map_or(Ok(()), Server::stop)
    }
}
