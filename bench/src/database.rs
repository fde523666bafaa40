//! A database server that runs already: each server of the etcd API gets a database of its own there.

use std::fmt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::cost::{Cost, cost_of};

/// The variable with the connection string: a password in an argument would be seen by all users of the machine.
pub(crate) const VARIABLE: &str = "SLUICE_BENCH_DATABASE";

/// The variable with the hosts of its replicas and their ports, separated by spaces.
pub(crate) const REPLICAS: &str = "SLUICE_BENCH_REPLICAS";

/// What the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Software {
    /// PostgreSQL.
    Postgres,
    /// MariaDB.
    Mariadb,
}

impl fmt::Display for Software {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres => "PostgreSQL",
            Self::Mariadb => "MariaDB",
        })
    }
}

/// Which database server there is; none if the servers that are measured keep their data in files.
#[derive(Debug, clap::Args)]
pub(crate) struct ServerFlags {
    /// Let the servers keep their data on a database server of this kind, whose connection string is in
    /// SLUICE_BENCH_DATABASE and whose user may make databases.
    #[arg(id = "database", long = "database", value_enum, value_name = "KIND", requires = "database_pid")]
    pub(crate) software: Option<Software>,
    /// The first process of that server.
    #[arg(id = "database_pid", long = "database-pid", value_name = "PID")]
    pid: Option<u32>,
}

/// A database server on this machine.
#[derive(Debug)]
pub(crate) struct Database {
    software: Software,
    /// User, password, host with port, as the connection string has them.
    user: String,
    password: String,
    host: String,
    /// Those of its replicas.
    replicas: Vec<String>,
    /// The process that all others of the server are children of.
    pid: u32,
    /// How many databases were made.
    made: AtomicU32,
}

/// A database of its own. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Place {
    on: Arc<Database>,
    name: String,
}

impl Database {
    /// The server that a connection string leads to.
    pub(crate) fn new<'a>(
        software: Software,
        url: &str,
        pid: u32,
        replicas: impl Iterator<Item = &'a str>,
    ) -> Result<Arc<Self>> {
        let parts = url.split_once("://").and_then(|(_, rest)| {
            let (who, rest) = rest.split_once('@')?;
            let ((user, password), (host, _)) = (who.split_once(':')?, rest.split_once('/')?);
            Some((user.to_owned(), password.to_owned(), host.to_owned()))
        });
        let Some((user, password, host)) = parts else {
            bail!("{VARIABLE} must be SCHEME://USER:PASSWORD@HOST:PORT/DATABASE");
        };
        let replicas = replicas.map(str::to_owned).collect();
        Ok(Arc::new(Self { software, user, password, host, replicas, pid, made: AtomicU32::new(0) }))
    }

    /// The server that the flags and the environment tell of, if they do.
    pub(crate) fn told(flags: &ServerFlags) -> Result<Option<Arc<Self>>> {
        let (Some(software), Some(pid)) = (flags.software, flags.pid) else { return Ok(None) };
        let url = std::env::var(VARIABLE).with_context(|| format!("read {VARIABLE}"))?;
        let replicas = std::env::var(REPLICAS).unwrap_or_default();
        Self::new(software, &url, pid, replicas.split_whitespace()).map(Some)
    }

    /// Makes a database.
    pub(crate) fn make(self: &Arc<Self>) -> Result<Place> {
        let name = format!("bench_{}", self.made.fetch_add(1, Ordering::Relaxed));
        // Of a run that was killed.
        self.run(&format!("DROP DATABASE IF EXISTS {name}"))?;
        self.run(&format!("CREATE DATABASE {name}"))?;
        Ok(Place { on: Arc::clone(self), name })
    }

    /// Name and version.
    pub(crate) fn version(&self) -> Result<String> {
        let sql = match self.software {
            Software::Postgres => "SHOW server_version",
            Software::Mariadb => "SELECT version()",
        };
        let text = self.run(sql)?;
        Ok(format!("{} {}", self.software, text.split(['-', ' ']).next().unwrap_or_default()))
    }

    /// What all its processes took.
    pub(crate) fn cost(&self) -> Result<Cost> {
        let children = format!("/proc/{0}/task/{0}/children", self.pid);
        let text = std::fs::read_to_string(&children).with_context(|| format!("read {children}"))?;
        let children = text.split_whitespace().filter_map(|pid| pid.parse().ok());
        // A child may end while we look; then its time is its parent's.
        let theirs = children.filter_map(|pid| cost_of(pid).ok());
        Ok(theirs.fold(cost_of(self.pid)?, |sum, cost| sum + cost))
    }

    /// What the server's own client says to a statement.
    fn run(&self, sql: &str) -> Result<String> {
        let (host, port) = self.host.rsplit_once(':').context("the database's host has no port")?;
        let mut command = match self.software {
            Software::Postgres => {
                let mut psql = Command::new("psql");
                psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", "postgres"]);
                psql.args(["-h", host, "-p", port, "-U", &self.user, "-c", sql]).env("PGPASSWORD", &self.password);
                psql
            }
            Software::Mariadb => {
                let mut mariadb = Command::new("mariadb");
                mariadb.args(["--no-defaults", "-N", "-h", host, "-P", port, "-u", &self.user, "-e", sql]);
                mariadb.env("MYSQL_PWD", &self.password);
                mariadb
            }
        };
        let output = command.output().with_context(|| format!("start the client of {}", self.software))?;
        if !output.status.success() {
            bail!("{} refuses {sql:?}: {}", self.software, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

impl Place {
    /// The connection string that the shim takes.
    pub(crate) fn for_shim(&self) -> String {
        self.at(&self.on.host)
    }

    /// Those of its copies on replicas, as the shim takes them.
    pub(crate) fn of_replicas(&self) -> String {
        self.on.replicas.iter().map(|host| self.at(host)).collect::<Vec<_>>().join(" ")
    }

    fn at(&self, host: &str) -> String {
        let Self { on, name } = self;
        let scheme = match on.software {
            Software::Postgres => "postgres",
            Software::Mariadb => "mysql",
        };
        format!("{scheme}://{}:{}@{host}/{name}?sslmode=disable", on.user, on.password)
    }

    /// The connection string that kine takes.
    pub(crate) fn for_kine(&self) -> String {
        let Self { on, name } = self;
        match on.software {
            Software::Postgres => self.for_shim(),
            Software::Mariadb => format!("mysql://{}:{}@tcp({})/{name}", on.user, on.password, on.host),
        }
    }

    /// What the server took.
    pub(crate) fn cost(&self) -> Result<Cost> {
        self.on.cost()
    }

    /// Bytes that it takes on the disk.
    pub(crate) fn bytes(&self) -> Result<f64> {
        let name = &self.name;
        let text = self.on.run(&match self.on.software {
            Software::Postgres => format!("SELECT pg_database_size('{name}')"),
            Software::Mariadb => format!(
                "SELECT SUM(allocated_size) FROM information_schema.innodb_sys_tablespaces WHERE name LIKE '{name}/%'"
            ),
        })?;
        text.parse().with_context(|| format!("the size of a database is {text:?}"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let how = match self.on.software {
            // Connections of a process that was killed may not have ended yet.
            Software::Postgres => " WITH (FORCE)",
            Software::Mariadb => "",
        };
        if let Err(error) = self.on.run(&format!("DROP DATABASE {}{how}", self.name)) {
            crate::say(&format!("a database was left: {error:#}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_connection_string_of_its_own_form() {
        let url = "mysql://sluice:secret@127.0.0.1:3307/sluice";
        for (software, shim, kine) in [
            (
                Software::Postgres,
                "postgres://sluice:secret@127.0.0.1:3307/x?sslmode=disable",
                "postgres://sluice:secret@127.0.0.1:3307/x?sslmode=disable",
            ),
            (
                Software::Mariadb,
                "mysql://sluice:secret@127.0.0.1:3307/x?sslmode=disable",
                "mysql://sluice:secret@tcp(127.0.0.1:3307)/x",
            ),
        ] {
            let place = std::mem::ManuallyDrop::new(Place {
                on: Database::new(software, url, 1, ["r1:1", "r2:2"].into_iter()).unwrap(),
                name: "x".to_owned(),
            });
            assert_eq!((place.for_shim().as_str(), place.for_kine().as_str()), (shim, kine));
            let [first, second] = ["r1:1", "r2:2"].map(|replica| shim.replace("127.0.0.1:3307", replica));
            assert_eq!(place.of_replicas(), format!("{first} {second}"));
        }
        assert!(Database::new(Software::Postgres, "postgres://nobody", 1, [].into_iter()).is_err());
    }
}
