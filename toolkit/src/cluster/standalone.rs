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
        empty(folder)?;
        Self::start_in(database, folder)
    }

    /// Starts one in a folder that is there, with the data in it if there is any.
    ///
    /// # Errors
    /// When the server is not installed, or does not get ready.
    pub fn start_in(database: Database, folder: &Path) -> Result<Self> {
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

/// Makes a folder for servers anew, each of which may be in a folder below it. Those of a run that was killed are
/// ended.
///
/// # Errors
/// When one does not end, or the folder can't be made.
pub fn empty(folder: &Path) -> Result<()> {
    if folder.exists() {
        for entry in walkdir::WalkDir::new(folder).max_depth(2).into_iter().flatten() {
            if entry.file_name() == "pid"
                && let Some(process) = Process::load(entry.path())?
            {
                process.kill()?;
            }
        }
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    // The server's own user has to pass.
    Ok(fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?)
}
