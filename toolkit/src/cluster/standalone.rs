//! A database server without a cluster, which ends with whoever started it.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fs_err as fs;

use super::certs::Issued;
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

    /// Starts one on no data that takes connections by TLS alone. Its certificate is for these names and addresses.
    ///
    /// # Errors
    /// When the server is not installed, or does not get ready.
    pub fn encrypted(database: Database, folder: &Path, hosts: &[&str]) -> Result<Self> {
        empty(folder)?;
        database.encrypt(folder, hosts)?;
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

    /// Starts a PostgreSQL that standbys can follow, with settings of one's own, in a folder that is there.
    ///
    /// # Errors
    /// When PostgreSQL is not installed, or does not get ready.
    pub fn primary(folder: &Path, settings: &str) -> Result<Self> {
        let database = Database::Postgres;
        database.prepare(folder)?;
        append(&database.data(folder).join("postgresql.conf"), settings)?;
        append(&database.data(folder).join("pg_hba.conf"), "host replication all 127.0.0.1/32 scram-sha-256\n")?;
        Self::start_in(database, folder)
    }

    /// Starts a standby that follows this primary, with settings of one's own. Its folder is in that of the primary.
    ///
    /// # Errors
    /// When no copy can be made, or the standby does not get ready.
    pub fn standby(&self, name: &str, settings: &str) -> Result<Self> {
        let (database, own) = (Database::Postgres, self.folder_beside(name)?);
        let copy = database.tool("pg_basebackup", "/")?.env("PGPASSWORD", database.password(&self.folder)?);
        let copy = copy.args(["-h", "127.0.0.1", "-U", "sluice", "-R", "-X", "stream", "-c", "fast", "-p"]);
        copy.arg(self.port.to_string()).arg("-D").arg(database.data(&own)).run()?;
        append(&database.data(&own).join("postgresql.conf"), settings)?;
        fs::copy(self.folder.join("postgres.password"), own.join("postgres.password"))?;
        Self::start_in(database, &own)
    }

    /// A new folder beside the data, which belongs to the same user.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn folder_beside(&self, name: &str) -> Result<PathBuf> {
        let own = self.folder.join(name);
        fs::create_dir(&own)?;
        self.database.own(&own)?;
        Ok(own)
    }

    /// The certificate of the authority that signed the server's one, if there is any (PEM).
    pub fn authority(&self) -> PathBuf {
        Issued::at(&self.folder).authority
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

fn append(file: &Path, text: &str) -> Result<()> {
    Ok(fs::OpenOptions::new().append(true).open(file)?.write_all(text.as_bytes())?)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_with_a_certificate_takes_connections_by_tls_alone() {
        for database in Database::ALL {
            let temp = tempfile::tempdir().unwrap();
            fs::set_permissions(temp.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
            let folder = temp.path().join("server");
            let server = Standalone::encrypted(database, &folder, &["127.0.0.1"]).unwrap();
            // With encryption both see to it that the server is who it should be.
            let ask = |encrypted: bool| match database {
                Database::Postgres => {
                    let run = database.tool("psql", "/").unwrap().env("PGSSLROOTCERT", server.authority());
                    // There the program looks for a certificate of its own.
                    let run = run.env("HOME", &folder);
                    let run = run.env("PGSSLMODE", if encrypted { "verify-full" } else { "disable" });
                    run.args(["--no-psqlrc", "--command=SELECT 1", &server.endpoint]).outcome().unwrap()
                }
                Database::Mariadb => {
                    let run = database.tool("mariadb", "/").unwrap();
                    let run = run.args(["--no-defaults", "--execute=SELECT 1", "--host=127.0.0.1", "--user=sluice"]);
                    let run = run.arg(format!("--port={}", server.port));
                    let authority = format!("--ssl-ca={}", server.authority().display());
                    let verified = ["--ssl-verify-server-cert", &authority];
                    let run = run.args(if encrypted { &verified[..] } else { &["--skip-ssl"] });
                    run.env("MYSQL_PWD", database.password(&folder).unwrap()).outcome().unwrap()
                }
            };
            let [refused, taken] = [false, true].map(ask);
            let reason = match database {
                Database::Postgres => "no encryption",
                Database::Mariadb => "Access denied",
            };
            assert!(!refused.status.success() && refused.stderr.contains(reason), "{database}: {}", refused.stderr);
            assert!(taken.status.success(), "{database}: {}", taken.stderr);
            server.stop().unwrap();
        }
    }
}
