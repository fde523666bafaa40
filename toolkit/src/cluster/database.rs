//! A database server as one process of a cluster: for whoever wants to try one, and for the tests.
//!
//! It listens on loopback, and its data is in the cluster's folder. It never runs as root: PostgreSQL refuses that.

use std::fmt;
use std::path::{Path, PathBuf};

use fs_err as fs;
use nix::unistd::{User, geteuid};
use serde::{Deserialize, Serialize};

use super::certs::{Issued, Pair};
use super::launch::{Start, launch};
use super::pid::Process;
use super::private;
use sluice_shell::error::{Attempt as _, Explain, Result};
use sluice_shell::process::Run;

/// The database on the server, and the user that owns it.
const NAME: &str = "sluice";

/// How many connections a server takes. The shim makes few, but kine, which is measured beside it, two for each
/// request that is under way: with fewer its requests wait for each other for ever.
const CONNECTIONS: u32 = 600;

/// A database server that the toolkit can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Database {
    /// PostgreSQL.
    Postgres,
    /// MariaDB.
    Mariadb,
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres => "PostgreSQL",
            Self::Mariadb => "MariaDB",
        })
    }
}

/// The programs of a database server are not on this machine.
#[derive(Debug, thiserror::Error)]
#[error("{database} is not installed: there is no {program} in {places}")]
struct NotInstalled {
    database: Database,
    program: &'static str,
    places: &'static str,
}

impl Explain for NotInstalled {
    fn hint(&self) -> Option<String> {
        Some("`cargo xtask doctor --for databases --install` installs it on Debian".into())
    }
}

/// The user that the server runs as is not on this machine.
#[derive(Debug, thiserror::Error)]
#[error("{database} does not run as root, and there is no user {user:?} on this machine")]
struct NoUser {
    database: Database,
    user: &'static str,
}

impl Explain for NoUser {
    fn hint(&self) -> Option<String> {
        Some(format!("the package of {} adds it; or run this as another user than root", self.database))
    }
}

/// The user that the server runs as can't pass to the data.
#[derive(Debug, thiserror::Error)]
#[error("{database} does not run as root, and its user {user} cannot pass {}", barrier.display())]
struct Unreachable {
    database: Database,
    user: String,
    barrier: PathBuf,
}

impl Explain for Unreachable {
    fn hint(&self) -> Option<String> {
        let barrier = self.barrier.display();
        Some(format!("name a folder elsewhere with `--dir`, or let others pass: `chmod o+x {barrier}`"))
    }
}

impl Database {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Postgres, Self::Mariadb];

    /// As `--database` takes it.
    pub fn value(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Mariadb => "mariadb",
        }
    }

    /// Makes the data folder, unless it is there. A run that was killed in the middle leaves nothing that counts.
    ///
    /// # Errors
    /// When the server is not installed, can't get to the folder, or can't make its files.
    pub fn prepare(self, folder: &Path) -> Result<()> {
        let data = self.data(folder);
        let user = self.user()?;
        if let Some(user) = &user {
            self.refuse_unreachable(folder, user)?;
        }
        if data.exists() {
            return Ok(());
        }
        let unfinished = folder.join(format!("{}.unfinished", self.value()));
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)?;
        }
        fs::create_dir(&unfinished)?;
        let password = private::random()?;
        private::write(&self.password_file(folder), password.as_bytes())?;
        self.own(&unfinished)?;
        match self {
            Self::Postgres => self.prepare_postgres(&unfinished, &password)?,
            Self::Mariadb => self.prepare_mariadb(&unfinished, &password)?,
        }
        Ok(fs::rename(&unfinished, &data)?)
    }

    /// Refuses a folder that the server's user can't pass to. The programs of the server say less clearly what is
    /// wrong.
    fn refuse_unreachable(self, folder: &Path, user: &User) -> Result<()> {
        let above: Vec<&Path> = folder.ancestors().collect();
        for barrier in above.into_iter().rev() {
            let passes = Run::new("test", "/").user(user.uid, user.gid).arg("-x").arg(barrier).outcome()?;
            if !passes.status.success() {
                let barrier = barrier.to_owned();
                return Err(Unreachable { database: self, user: user.name.clone(), barrier }.into());
            }
        }
        Ok(())
    }

    fn prepare_postgres(self, data: &Path, password: &str) -> Result<()> {
        let initdb = self.run(self.program("initdb")?, "/")?;
        initdb
            .args(["--username", NAME, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--pgdata"])
            .arg(data)
            .run()?;
        // Without a server: both are there before anybody can connect.
        let single = self.run(self.program("postgres")?, "/")?;
        let sql = format!("ALTER USER {NAME} PASSWORD '{password}'\nCREATE DATABASE {NAME}\n");
        single.args(["--single", "-D"]).arg(data).arg("postgres").stdin(sql).run()?;
        Ok(fs::write(data.join("pg_hba.conf"), "host all all 127.0.0.1/32 scram-sha-256\n")?)
    }

    fn prepare_mariadb(self, data: &Path, password: &str) -> Result<()> {
        let install = self.run(self.program("mariadb-install-db")?, "/")?;
        install
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
            .arg(format!("--datadir={}", data.display()))
            .run()?;
        let bootstrap = self.run(self.program("mariadbd")?, "/")?;
        let sql = format!(
            "CREATE DATABASE {NAME};\nFLUSH PRIVILEGES;\nDROP USER root@localhost;\n\
             CREATE USER {NAME}@localhost IDENTIFIED BY '{password}';\nGRANT ALL ON *.* TO {NAME}@localhost;\n"
        );
        bootstrap.args(["--no-defaults", "--bootstrap"]).arg(format!("--datadir={}", data.display())).stdin(sql).run()
    }

    /// Issues a certificate for these names and addresses to the server in a folder, which then refuses connections
    /// without TLS. A server that runs has to be started again.
    ///
    /// # Errors
    /// When a file can't be written.
    pub(super) fn encrypt(self, folder: &Path, hosts: &[&str]) -> Result<()> {
        let Pair { cert, key } = Issued::new(folder, hosts)?.pair;
        let access = encrypted_access(folder);
        fs::write(&access, "hostssl all all 127.0.0.1/32 scram-sha-256\n")?;
        [cert, key, access].iter().try_for_each(|file| self.own(file))
    }

    /// The options with which a server takes connections by TLS alone; none, if it has no certificate.
    fn encryption(self, folder: &Path) -> Vec<String> {
        let Pair { cert, key } = Issued::at(folder).pair;
        if !cert.exists() {
            return Vec::new();
        }
        let (cert, key, access) = (cert.display(), key.display(), encrypted_access(folder));
        match self {
            Self::Postgres => vec![
                "-cssl=on".to_owned(),
                format!("-cssl_cert_file={cert}"),
                format!("-cssl_key_file={key}"),
                format!("-chba_file={}", access.display()),
            ],
            Self::Mariadb => vec![
                format!("--ssl-cert={cert}"),
                format!("--ssl-key={key}"),
                "--require-secure-transport=ON".to_owned(),
            ],
        }
    }

    /// The command that runs the server on a port of loopback.
    ///
    /// # Errors
    /// When the server is not installed.
    pub(super) fn command(self, folder: &Path, port: u16) -> Result<Run> {
        let data = self.data(folder);
        let run = match self {
            Self::Postgres => self.run(self.program("postgres")?, &data)?.arg("-D").arg(&data).args([
                "-c".to_owned(),
                format!("port={port}"),
                "-c".to_owned(),
                "listen_addresses=127.0.0.1".to_owned(),
                "-c".to_owned(),
                "unix_socket_directories=".to_owned(),
                "-c".to_owned(),
                format!("max_connections={CONNECTIONS}"),
            ]),
            Self::Mariadb => self.run(self.program("mariadbd")?, &data)?.args([
                "--no-defaults".to_owned(),
                format!("--datadir={}", data.display()),
                "--bind-address=127.0.0.1".to_owned(),
                format!("--port={port}"),
                format!("--socket={}", data.join("socket").display()),
                "--innodb-flush-log-at-trx-commit=1".to_owned(),
                // With a binary log InnoDB shows no commit to readers before it is durable.
                "--log-bin=binlog".to_owned(),
                "--sync-binlog=1".to_owned(),
                // Nobody reads the binary log: only what is being written is kept.
                "--max-binlog-size=64M".to_owned(),
                "--binlog-expire-logs-seconds=3600".to_owned(),
                format!("--max-connections={CONNECTIONS}"),
            ]),
        };
        Ok(run.args(self.encryption(folder)))
    }

    /// Starts the server for somebody who has no cluster, and waits until it can serve. Which process it is stands
    /// in the file `pid` from its first moment on, for whoever comes after a run that was killed.
    ///
    /// # Errors
    /// When the server is not installed, or does not get ready.
    pub fn start(self, folder: &Path, port: u16) -> Result<Process> {
        let (title, log, pid_file) = (self.to_string(), folder.join("log"), folder.join("pid"));
        self.prepare(folder)?;
        let said_before = fs::metadata(&log).map_or(0, |file| file.len());
        let process = launch(&title, &self.command(folder, port)?, &log)?;
        let start = Start { title: &title, log: &log, said_before };
        let ready =
            process.save(&pid_file).and_then(|()| start.wait(|| self.probe(folder, port), || process.is_alive()));
        if ready.is_err() {
            process.kill()?;
        }
        ready.map(|()| process)
    }

    /// Asks the server whether it can serve.
    ///
    /// # Errors
    /// Its answer, if it is no.
    pub(super) fn probe(self, folder: &Path, port: u16) -> Result<()> {
        let run = match self {
            Self::Postgres => Run::new(self.program("pg_isready")?, "/").args(["-q", "-h", "127.0.0.1", "-p"]),
            Self::Mariadb => Run::new(self.program("mariadb-admin")?, "/")
                .args(["--no-defaults", "--connect-timeout=2", "--host=127.0.0.1", "--user", NAME])
                .env("MYSQL_PWD", self.password(folder)?)
                .args(["ping", "--port"]),
        };
        run.arg(port.to_string()).run()
    }

    /// Has the server carry out a statement as the user that owns everything.
    ///
    /// # Errors
    /// What the server says against it.
    pub fn execute(self, folder: &Path, port: u16, statement: &str) -> Result<()> {
        let password = self.password(folder)?;
        let run = match self {
            Self::Postgres => Run::new(self.program("psql")?, "/").env("PGPASSWORD", password).args([
                "--quiet",
                "--no-psqlrc",
                "--dbname",
                NAME,
                "--username",
                NAME,
                "--command",
                statement,
            ]),
            Self::Mariadb => Run::new(self.program("mariadb")?, "/").env("MYSQL_PWD", password).args([
                "--no-defaults",
                "--user",
                NAME,
                "--execute",
                statement,
            ]),
        };
        run.args(["--host", "127.0.0.1", "--port", &port.to_string()]).run()
    }

    /// The connection string of the database that the server is made with, with the password.
    ///
    /// # Errors
    /// When the password can't be read.
    pub fn endpoint(self, folder: &Path, port: u16) -> Result<String> {
        self.endpoint_of(folder, port, NAME)
    }

    /// The connection string of any database on the server, with the password.
    ///
    /// # Errors
    /// When the password can't be read.
    pub fn endpoint_of(self, folder: &Path, port: u16, database: &str) -> Result<String> {
        let scheme = match self {
            Self::Postgres => "postgres",
            Self::Mariadb => "mysql",
        };
        Ok(format!("{scheme}://{NAME}:{}@127.0.0.1:{port}/{database}", self.password(folder)?))
    }

    /// Where the data of a server with that folder is.
    pub fn data(self, folder: &Path) -> PathBuf {
        folder.join(self.value())
    }

    fn password_file(self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.password", self.value()))
    }

    /// The password of the server's user.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn password(self, folder: &Path) -> Result<String> {
        Ok(fs::read_to_string(self.password_file(folder))?)
    }

    /// A program of the server, run as the server's user.
    ///
    /// # Errors
    /// When it is not installed, or there is no such user.
    pub fn tool(self, program: &'static str, folder: impl AsRef<Path>) -> Result<Run> {
        self.run(self.program(program)?, folder)
    }

    /// Gives a file or folder to the server's user.
    ///
    /// # Errors
    /// When there is no such user, or it can't be given.
    pub fn own(self, path: &Path) -> Result<()> {
        let Some(user) = self.user()? else { return Ok(()) };
        nix::unistd::chown(path, Some(user.uid), Some(user.gid))
            .map_err(std::io::Error::from)
            .attempting(|| format!("cannot give {} to the user {}", path.display(), user.name))
    }

    fn run(self, program: PathBuf, folder: impl AsRef<Path>) -> Result<Run> {
        let run = Run::new(program, folder);
        Ok(match self.user()? {
            // Our folder for temporary files may be closed to that user.
            Some(user) => run.user(user.uid, user.gid).env_remove("TMPDIR"),
            None => run,
        })
    }

    /// Who runs the server; `None`: who runs us.
    fn user(self) -> Result<Option<User>> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        let name = match self {
            Self::Postgres => "postgres",
            Self::Mariadb => "mysql",
        };
        let found = User::from_name(name).map_err(std::io::Error::from)?;
        Ok(Some(found.ok_or(NoUser { database: self, user: name })?))
    }

    /// Where a program of the server is: Debian keeps PostgreSQL's out of PATH, those of each version in a folder.
    fn program(self, name: &'static str) -> Result<PathBuf> {
        let mut folders: Vec<PathBuf> = match self {
            Self::Postgres => fs::read_dir("/usr/lib/postgresql").map_or_else(
                |_| Vec::new(),
                |versions| versions.flatten().map(|version| version.path().join("bin")).collect(),
            ),
            Self::Mariadb => Vec::new(),
        };
        folders.sort_by_key(|folder| version_of(folder));
        folders.reverse();
        folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        // It is not in the PATH of everybody.
        folders.push("/usr/sbin".into());
        let found = folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
        let places = match self {
            Self::Postgres => "/usr/lib/postgresql/*/bin, PATH or /usr/sbin",
            Self::Mariadb => "PATH or /usr/sbin",
        };
        Ok(found.ok_or(NotInstalled { database: self, program: name, places })?)
    }
}

/// Who may connect to a PostgreSQL that has a certificate.
fn encrypted_access(folder: &Path) -> PathBuf {
    folder.join("tls.pg_hba.conf")
}

/// 15 of `/usr/lib/postgresql/15/bin`.
fn version_of(folder: &Path) -> Option<u32> {
    folder.parent()?.file_name()?.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cluster::port;

    /// Each server starts from nothing, starts again with its data, and lets nobody in without the password.
    #[test]
    fn a_server_starts_twice() {
        for database in Database::ALL {
            let temp = tempfile::tempdir().unwrap();
            // The server's own user has to pass.
            fs::set_permissions(temp.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            let folder = temp.path();
            fs::create_dir(folder.join(format!("{}.unfinished", database.value()))).unwrap();
            database.prepare(folder).unwrap();
            let port = port::free().unwrap();
            let endpoint = database.endpoint(folder, port).unwrap();
            assert!(endpoint.contains("://sluice:") && endpoint.ends_with(&format!("@127.0.0.1:{port}/sluice")));
            for _ in 0..2 {
                let process = database.start(folder, port).unwrap();
                let run = database.command(folder, port).unwrap();
                assert_eq!(Process::started_as(run.folder(), &run.words()), Some(process.clone()));
                assert_eq!(Process::load(&folder.join("pid")).unwrap(), Some(process.clone()));
                database.execute(folder, port, "CREATE DATABASE another").unwrap();
                database.execute(folder, port, "DROP DATABASE another").unwrap();
                let refused = database.execute(folder, port, "DROP DATABASE another").unwrap_err();
                assert!(refused.to_string().contains("another"), "{refused:?}");
                process.stop(Duration::from_secs(30)).unwrap();
            }
            assert_eq!(database.endpoint(folder, port).unwrap(), endpoint);
        }
    }

    #[test]
    fn a_folder_that_the_server_can_not_pass_is_named() {
        if !geteuid().is_root() {
            return;
        }
        for database in Database::ALL {
            let temp = tempfile::tempdir().unwrap();
            let folder = temp.path().join("data");
            fs::create_dir(&folder).unwrap();
            fs::set_permissions(temp.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
            let error = database.prepare(&folder).unwrap_err().to_string();
            assert!(error.ends_with(&format!("cannot pass {}", temp.path().display())), "{error}");
            assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        }
    }
}
