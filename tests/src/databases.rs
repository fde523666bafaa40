//! The shim's tests on database servers: those that are about what any database does, under the same names.

use fs_err as fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use sluice_shell::context::Context;
use sluice_shell::error::{Error, Explain, Result};
use sluice_toolkit::cluster::database::Database;
use sluice_toolkit::cluster::pid::{POLL, Process};
use sluice_toolkit::cluster::port;

/// Programs of tests that make their databases where this variable says.
pub(crate) const VARIABLE: &str = "SLUICE_TEST_DATABASE";

/// The shim's programs of tests that are about what any database does.
const PROGRAMS: [&str; 5] = ["engine", "etcd_api", "gc", "linearizability", "migrate"];

/// How long a server may take to be ready.
const READY: Duration = Duration::from_secs(120);

/// How long a server may take to end by itself.
const GRACE: Duration = Duration::from_secs(30);

/// Where to run the shim's tests.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Servers {
    /// `db`: only this server [default: all]
    #[arg(long, value_enum, value_name = "SERVER")]
    only: Option<Database>,
    /// `db`: a server that runs already, by its connection string; the tests make and remove databases of their own
    /// there
    #[arg(long, value_name = "CONNECTION", conflicts_with = "only")]
    endpoint: Option<String>,
}

/// One run of the tests: a name for people, and the command to give to cargo.
pub(crate) struct Part {
    pub(crate) name: String,
    /// Arguments of cargo.
    pub(crate) args: Vec<&'static str>,
    /// The connection string.
    pub(crate) endpoint: String,
    server: Option<Server>,
}

impl Servers {
    /// Whether servers have to be started.
    pub(crate) fn starts_servers(&self) -> bool {
        self.endpoint.is_none()
    }

    /// The servers to test on; each is started when it is its turn.
    pub(crate) fn parts<'a>(&'a self, shell: &'a Context) -> impl Iterator<Item = Result<Part>> + 'a {
        let given = self.endpoint.iter().map(|endpoint| {
            let name = endpoint.split_once("://").map_or("?", |(scheme, _)| scheme);
            Ok(Part::new(format!("shim on {name}"), endpoint.clone(), None))
        });
        let servers = Database::ALL.into_iter().filter(|database| self.only.is_none_or(|only| only == *database));
        let started = servers.filter(|_| self.starts_servers()).map(|database| {
            let server = Server::start(database, &shell.paths.cache().join("databases"))?;
            let endpoint = server.endpoint.clone();
            Ok(Part::new(format!("shim on {database}"), endpoint, Some(server)))
        });
        given.chain(started)
    }
}

impl Part {
    fn new(name: String, endpoint: String, server: Option<Server>) -> Self {
        let args = ["test", "--no-fail-fast", "--package", "sluice-shim"].into_iter();
        let args = args.chain(PROGRAMS.iter().flat_map(|program| ["--test", program])).collect();
        Self { name, args, endpoint, server }
    }

    /// Ends the server, if it was started for this.
    pub(crate) fn finish(self) -> Result<()> {
        self.server.map_or(Ok(()), Server::stop)
    }
}

/// A server that does not come up.
#[derive(Debug, thiserror::Error)]
#[error("{database} did not get ready: {reason}; it said:\n{said}")]
struct NotReady {
    database: Database,
    reason: String,
    said: String,
}

impl Explain for NotReady {}

/// A database server of the tests' own, which ends with them.
struct Server {
    process: Process,
    endpoint: String,
    folder: std::path::PathBuf,
}

impl Server {
    fn start(database: Database, folder: &Path) -> Result<Self> {
        if folder.exists() {
            // Of a run that was killed.
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        // The server's own user has to pass.
        fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
        database.prepare(folder)?;
        let (port, log) = (port::free()?, folder.join("log"));
        let child = database.command(folder, port)?.spawn(&log)?;
        let pid = i32::try_from(child.id()).map_err(anyhow::Error::from)?;
        let gone = || Error::input(format!("{database} is gone right after its start; see {}", log.display()));
        let process = Process::of(pid).ok_or_else(gone)?;
        let server = Self { process, endpoint: database.endpoint(folder, port)?, folder: folder.to_owned() };
        let deadline = Instant::now() + READY;
        while let Err(error) = database.probe(folder, port) {
            if !server.process.is_alive() || Instant::now() > deadline {
                let said = fs::read_to_string(&log).unwrap_or_default();
                server.stop()?;
                return Err(NotReady { database, reason: error.to_string(), said }.into());
            }
            std::thread::sleep(POLL);
        }
        Ok(server)
    }

    fn stop(self) -> Result<()> {
        self.process.stop(GRACE)?;
        Ok(fs::remove_dir_all(&self.folder)?)
    }
}
