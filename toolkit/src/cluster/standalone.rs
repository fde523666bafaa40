//! A database server without a cluster, which ends with whoever started it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;

use super::database::Database;
use super::leftover::{Guard, Leftover};
use super::pid::Process;
use super::port;
use sluice_shell::error::Result;

/// How long a server may take to end by itself.
const GRACE: Duration = Duration::from_secs(30);

/// A database server that runs. Dropping it ends it; its data stays until [`Standalone::stop`], so that it can be
/// looked at.
pub struct Standalone {
    /// What it is.
    pub database: Database,
    /// The connection string of the database that it is made with, with the password.
    pub endpoint: String,
    /// Where it listens, on loopback.
    pub port: u16,
    folder: PathBuf,
    process: Process,
    _guard: Guard,
}

impl Standalone {
    /// Starts one on no data, in a folder that is its own.
    ///
    /// # Errors
    /// When the server is not installed, or does not get ready.
    pub fn start(database: Database, folder: &Path) -> Result<Self> {
        if folder.exists() {
            // Of a run that was killed.
            if let Some(process) = Process::load(&folder.join("pid"))? {
                process.kill()?;
            }
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        // The server's own user has to pass.
        fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
        let port = port::free()?;
        let process = database.start(folder, port)?;
        let guard = Guard::new(Leftover::Process(process.clone()));
        let endpoint = database.endpoint(folder, port)?;
        Ok(Self { database, endpoint, port, folder: folder.to_owned(), process, _guard: guard })
    }

    /// The first of its processes.
    pub(crate) fn pid(&self) -> i32 {
        self.process.pid
    }

    /// Carries out a statement.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn execute(&self, sql: &str) -> Result<()> {
        self.database.execute(&self.folder, self.port, sql)
    }

    /// The connection string of another database on it, with the password.
    ///
    /// # Errors
    /// When the password can't be read.
    pub fn endpoint_of(&self, name: &str) -> Result<String> {
        self.database.endpoint_of(&self.folder, self.port, name)
    }

    /// Ends it and removes its data.
    ///
    /// # Errors
    /// When it does not end, or the data can't be removed.
    pub fn stop(&self) -> Result<()> {
        self.process.stop(GRACE)?;
        Ok(fs::remove_dir_all(&self.folder)?)
    }
}
