//! A database server of the tests' own, which ends with them, and the databases that they use on it.

use fs_err as fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sluice_shell::context::Context;
use sluice_shell::error::Result;
use sluice_toolkit::cluster::database::Database;
use sluice_toolkit::cluster::leftover::{Guard, Leftover};
use sluice_toolkit::cluster::pid::Process;
use sluice_toolkit::cluster::port;

/// How long a server may take to end by itself.
const GRACE: Duration = Duration::from_secs(30);

/// A server. Dropping it ends it; its data stays until [`Server::stop`], so that it can be looked at.
pub(crate) struct Server {
    database: Database,
    folder: PathBuf,
    port: u16,
    process: Process,
    /// Databases made so far.
    made: AtomicUsize,
    _guard: Guard,
    /// Two runs at once would share the folder.
    _lock: fs::File,
}

impl Server {
    /// Starts one without any data.
    ///
    /// # Errors
    /// When it is not installed, or does not get ready.
    pub(crate) fn start(shell: &Context, database: Database) -> Result<Self> {
        let name = format!("database-{}", database.value());
        let lock = shell.lock(&name)?;
        let folder = shell.paths.cache().join(name);
        if folder.exists() {
            // Of a run that was killed.
            if let Some(process) = Process::load(&folder.join("pid"))? {
                process.kill()?;
            }
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        // The server's own user has to pass.
        fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755))?;
        let port = port::free()?;
        let process = database.start(&folder, port)?;
        let guard = Guard::new(Leftover::Process(process.clone()));
        Ok(Self { database, folder, port, process, made: AtomicUsize::new(0), _guard: guard, _lock: lock })
    }

    /// What it is.
    pub(crate) fn database(&self) -> Database {
        self.database
    }

    /// The connection string of the database that it is made with.
    ///
    /// # Errors
    /// When its password can't be read.
    pub(crate) fn endpoint(&self) -> Result<String> {
        self.database.endpoint(&self.folder, self.port)
    }

    /// Makes an empty database; returns its connection string.
    ///
    /// # Errors
    /// When the server refuses.
    pub(crate) fn make(&self) -> Result<String> {
        let name = format!("test_{}", self.made.fetch_add(1, Ordering::Relaxed));
        self.database.execute(&self.folder, self.port, &format!("CREATE DATABASE {name}"))?;
        self.database.endpoint_of(&self.folder, self.port, &name)
    }

    /// Ends it and removes its data.
    ///
    /// # Errors
    /// When it does not end, or the data can't be removed.
    pub(crate) fn stop(&self) -> Result<()> {
        self.process.stop(GRACE)?;
        Ok(fs::remove_dir_all(&self.folder)?)
    }
}
