//! The shim's tests on database servers: those that are about what any database does, under the same names.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;
use nix::unistd::{Gid, Uid, geteuid};
use sluice_shell::context::Context;
use sluice_shell::error::{Explain, Result};
use sluice_shell::process::Run;
use sluice_toolkit::cluster::database::Database;
use sluice_toolkit::cluster::launch::launch;
use sluice_toolkit::cluster::leftover::{Guard, Leftover};
use sluice_toolkit::cluster::pid::Process;
use sluice_toolkit::cluster::standalone::Standalone;
use sluice_toolkit::cluster::wait::{LIMIT, until};

use crate::server::Server;

mod archive;
mod galera;
mod pooler;
mod seekdb;
mod tidb;
mod version;

/// Programs of tests that make their databases where this variable says.
pub(crate) const VARIABLE: &str = "SLUICE_TEST_DATABASE";

/// How the tables of these databases are divided: `key` or `resource`.
pub(crate) const PARTITIONS: &str = "SLUICE_TEST_PARTITIONS";

/// Who makes them and removes them, if that is a pooler.
pub(crate) const DIRECT: &str = "SLUICE_TEST_DATABASE_DIRECT";

/// The shim's programs of tests that are about what any database does.
const PROGRAMS: [&str; 6] = ["engine", "etcd_api", "faults", "gc", "linearizability", "migrate"];

/// Where the tests of the SQL find a server that speaks MySQL's protocol.
const MYSQL_PORT: &str = "SLUICE_TEST_MYSQL_PORT";

/// Those of them that need nothing that MariaDB alone has.
const SQL_OF_MYSQL: [&str; 4] =
    ["sql::mysql::tests::find", "sql::mysql::tests::graph", "sql::mysql::tests::model", "sql::mysql::tests::store"];

/// Those of them that are run through a pooler, and on partitioned tables, as well.
const THROUGH_POOLERS: [&str; 3] = ["engine", "etcd_api", "gc"];

/// Set where tests are to start clusters of their own.
pub(crate) const GALERA: &str = "SLUICE_TEST_GALERA";

/// How long a process may take to end by itself.
const GRACE: Duration = Duration::from_secs(30);

/// Where to run the shim's tests.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Servers {
    /// `db`: only this server, or through this pooler [default: postgres and mariadb]
    #[arg(long, value_enum, value_name = "SERVER")]
    only: Option<Kind>,
    /// `db`: a server that runs already, by its connection string; the tests make and remove databases of their own
    /// there. The variable `SLUICE_TEST_DATABASE` hides a password from other users of the machine
    #[arg(long, value_name = "CONNECTION", conflicts_with = "only")]
    endpoint: Option<String>,
}

/// What to test on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// PostgreSQL
    Postgres,
    /// MariaDB
    Mariadb,
    /// PostgreSQL behind PgBouncer in transaction mode
    Pgbouncer,
    /// PostgreSQL with a standby that is late, behind Pgpool-II, which sends it what only reads
    Pgpool,
    /// Three nodes of a Galera cluster of MariaDB
    Galera,
    /// PostgreSQL with partitioned tables, by key and by resource
    PostgresPartitions,
    /// MariaDB with partitioned tables, by key and by resource
    MariadbPartitions,
    /// The SQL on PostgreSQL 17
    #[value(name = "postgres-17")]
    Postgres17,
    /// The SQL on PostgreSQL 18
    #[value(name = "postgres-18")]
    Postgres18,
    /// The SQL on MariaDB 11.4
    #[value(name = "mariadb-11.4")]
    Mariadb114,
    /// The SQL on OceanBase's server of one process
    Seekdb,
    /// The SQL on TiDB with its storage within the process
    Tidb,
}

/// What was started for a run, and ends with it.
enum Running {
    Server(Server),
    Standalone(Standalone),
    Launched(Launched),
}

/// A process that ends when this is dropped.
struct Launched {
    process: Process,
    /// Its data.
    folder: PathBuf,
    _guard: Guard,
}

impl Launched {
    /// Starts one with its log in its folder, and waits until it answers.
    fn start(title: &str, run: &Run, folder: PathBuf, answers: impl Fn() -> Result<()>) -> Result<Self> {
        let process = launch(title, run, &folder.join("log"))?;
        let guard = Guard::new(Leftover::Process(process.clone()));
        process.save(&folder.join("pid"))?;
        until(&format!("the start of {title}"), LIMIT, || Ok(answers().is_ok().then_some(())))?;
        Ok(Self { process, folder, _guard: guard })
    }

    /// The same of one that speaks MySQL's protocol and knows root without a password.
    fn mysql(title: &str, run: &Run, folder: PathBuf, port: u16) -> Result<Self> {
        let ask = Database::Mariadb.tool("mariadb", "/")?;
        let ask = ask.args(["--no-defaults", "-h127.0.0.1", "-uroot", "-eSELECT 1"]).arg(format!("-P{port}"));
        Self::start(title, run, folder, || ask.run())
    }

    /// Ends it and removes its data.
    fn stop(&self) -> Result<()> {
        self.process.stop(GRACE)?;
        Ok(fs::remove_dir_all(&self.folder)?)
    }
}

/// One run of the tests: a name for people, and the command to give to cargo.
pub(crate) struct Part {
    pub(crate) name: String,
    /// Arguments of cargo.
    pub(crate) args: Vec<&'static str>,
    /// What tells the tests which server to use.
    pub(crate) variables: Vec<(&'static str, String)>,
    servers: Vec<Running>,
}

impl Servers {
    /// Whether a flag says on which server, so that no other part is meant.
    pub(crate) fn is_chosen(&self) -> bool {
        self.only.is_some() || self.endpoint.is_some()
    }

    /// Whether servers have to be started.
    pub(crate) fn starts_servers(&self) -> bool {
        self.given().is_none()
    }

    /// The server that runs already.
    fn given(&self) -> Option<String> {
        self.given_or(std::env::var(VARIABLE).ok())
    }

    fn given_or(&self, variable: Option<String>) -> Option<String> {
        let variable = variable.filter(|endpoint| self.only.is_none() && !endpoint.is_empty());
        self.endpoint.clone().or(variable)
    }

    /// The servers to test on, in lanes that do not disturb each other.
    pub(crate) fn lanes(&self) -> Vec<Lane> {
        if let Some(endpoint) = self.given() {
            return vec![vec![Turn::Given(endpoint)]];
        }
        match self.only {
            None => vec![vec![Turn::Kind(Kind::Postgres, true)], vec![Turn::Kind(Kind::Mariadb, true)]],
            // Galera: through one node, and through all. Partitions: by key, and by resource.
            Some(kind @ (Kind::Galera | Kind::PostgresPartitions | Kind::MariadbPartitions)) => {
                vec![vec![Turn::Kind(kind, false), Turn::Kind(kind, true)]]
            }
            Some(kind) => vec![vec![Turn::Kind(kind, true)]],
        }
    }
}

/// Turns, one after the other.
pub(crate) type Lane = Vec<Turn>;

/// A server to test on, before it is its turn.
pub(crate) enum Turn {
    /// One that runs already.
    Given(String),
    /// One to be started, in the second of its forms or in the first.
    Kind(Kind, bool),
}

impl Turn {
    /// Starts the server, unless it runs already.
    pub(crate) fn start(self, shell: &Context) -> Result<Part> {
        let (kind, second) = match self {
            Self::Kind(kind, second) => (kind, second),
            Self::Given(endpoint) => {
                let name = endpoint.split_once("://").map_or("?", |(scheme, _)| scheme);
                return Ok(Part::new(format!("shim on {name}"), &PROGRAMS, endpoint, vec![]));
            }
        };
        let database = match kind {
            Kind::Postgres => Database::Postgres,
            Kind::Mariadb => Database::Mariadb,
            Kind::Pgbouncer => return pooler::pgbouncer(&shell.paths.cache().join("pgbouncer")),
            Kind::Pgpool => return pooler::pgpool(&shell.paths.cache().join("pgpool")),
            Kind::Galera => return galera::part(shell, second),
            Kind::Postgres17 => return version::POSTGRES_17.part(shell),
            Kind::Postgres18 => return version::POSTGRES_18.part(shell),
            Kind::Mariadb114 => return version::MARIADB_11_4.part(shell),
            Kind::Seekdb => return seekdb::part(shell),
            Kind::Tidb => return tidb::part(shell),
            Kind::PostgresPartitions => return partitioned(shell, Database::Postgres, second),
            Kind::MariadbPartitions => return partitioned(shell, Database::Mariadb, second),
        };
        let server = Server::start(shell, database)?;
        let endpoint = server.endpoint();
        Ok(Part::new(format!("shim on {database}"), &PROGRAMS, endpoint, vec![Running::Server(server)]))
    }
}

/// A server in whose databases the tables are divided, by resource or by key.
fn partitioned(shell: &Context, database: Database, by_resource: bool) -> Result<Part> {
    let server = Server::start(shell, database)?;
    let by = if by_resource { "resource" } else { "key" };
    let name = format!("shim on {database}, partitioned by {by}");
    let endpoint = server.endpoint();
    let mut part = Part::new(name, &THROUGH_POOLERS, endpoint, vec![Running::Server(server)]);
    part.variables.push((PARTITIONS, by.to_owned()));
    Ok(part)
}

impl Part {
    fn new(name: String, programs: &[&'static str], endpoint: String, servers: Vec<Running>) -> Self {
        // As a run of all tests has compiled them.
        let args = ["test", "--no-fail-fast", "--workspace"].into_iter();
        let args = args.chain(programs.iter().flat_map(|program| ["--test", program])).collect();
        Self { name, args, variables: vec![(VARIABLE, endpoint)], servers }
    }

    /// The shim's tests with these names, which are about its SQL on a kind of server.
    fn of_sql(title: &str, tests: &[&'static str], variable: (&'static str, String), servers: Vec<Running>) -> Self {
        let args = [&["test", "--no-fail-fast", "--package", "sluice-shim", "--lib", "--"], tests].concat();
        Self { name: format!("SQL on {title}"), args, variables: vec![variable], servers }
    }

    /// Ends the servers that were started for this, the last one first.
    pub(crate) fn finish(self) -> Result<()> {
        self.servers.iter().rev().try_for_each(|server| match server {
            Running::Server(server) => server.stop(),
            Running::Standalone(server) => server.stop(),
            Running::Launched(launched) => launched.stop(),
        })
    }
}

/// A program that keeps its data in a folder, which is made, as a user who owns nothing else.
fn as_nobody(run: Run, data: &Path) -> Result<Run> {
    const NOBODY: u32 = 65534;
    fs::create_dir(data)?;
    if !geteuid().is_root() {
        return Ok(run);
    }
    fs_err::os::unix::fs::chown(data, Some(NOBODY), Some(NOBODY))?;
    Ok(run.user(Uid::from_raw(NOBODY), Gid::from_raw(NOBODY)))
}

/// A file of a Debian package.
fn installed(package: &'static str, file: &'static str) -> Result<PathBuf> {
    let path = PathBuf::from(file);
    if path.is_file() { Ok(path) } else { Err(NotInstalled { package, file }.into()) }
}

/// What a test needs is not on this machine.
#[derive(Debug, thiserror::Error)]
#[error("{package} is not installed: there is no {file}")]
struct NotInstalled {
    package: &'static str,
    file: &'static str,
}

impl Explain for NotInstalled {
    fn hint(&self) -> Option<String> {
        Some(format!("`apt-get install --no-install-recommends -y {}` installs it on Debian", self.package))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_of_a_flag_wins_over_that_of_the_variable() {
        let servers = |only, endpoint: Option<&str>| Servers { only, endpoint: endpoint.map(str::to_owned) };
        let variable = || Some("mysql://v".to_owned());
        assert_eq!(servers(None, None).given_or(variable()).as_deref(), Some("mysql://v"));
        assert_eq!(servers(None, None).given_or(Some(String::new())), None);
        assert_eq!(servers(None, Some("mysql://f")).given_or(variable()).as_deref(), Some("mysql://f"));
        assert_eq!(servers(Some(Kind::Postgres), None).given_or(variable()), None);
    }
}
