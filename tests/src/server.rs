//! A database server of the tests' own, which ends with them, and the databases that they use on it.

use fs_err as fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use sluice_shell::context::Context;
use sluice_shell::error::Result;
use sluice_toolkit::cluster::database::Database;
use sluice_toolkit::cluster::standalone::Standalone;

/// A server. Dropping it ends it.
pub(crate) struct Server {
    server: Standalone,
    made: AtomicUsize,
    /// Two runs at once would share the folder.
    _lock: fs::File,
}

/// A database on a server.
pub(crate) struct Made {
    name: String,
    /// Its connection string.
    pub(crate) endpoint: String,
}

impl Server {
    /// Starts one without any data.
    ///
    /// # Errors
    /// When it is not installed, or does not get ready.
    pub(crate) fn start(shell: &Context, database: Database) -> Result<Self> {
        let name = format!("database-{}", database.value());
        let lock = shell.lock(&name)?;
        let server = Standalone::start(database, &shell.paths.cache().join(name))?;
        Ok(Self { server, made: AtomicUsize::new(0), _lock: lock })
    }

    /// What it is.
    pub(crate) fn database(&self) -> Database {
        self.server.database
    }

    /// The connection string of the database that it is made with.
    pub(crate) fn endpoint(&self) -> String {
        self.server.endpoint.clone()
    }

    /// How many databases were made.
    pub(crate) fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }

    /// Makes an empty database.
    ///
    /// # Errors
    /// When the server refuses.
    pub(crate) fn make(&self) -> Result<Made> {
        let name = format!("test_{}", self.made.fetch_add(1, Ordering::Relaxed));
        self.server.execute(&format!("CREATE DATABASE {name}"))?;
        let endpoint = self.server.endpoint_of(&name)?;
        Ok(Made { name, endpoint })
    }

    /// Removes a database, even if somebody is still connected to it.
    ///
    /// # Errors
    /// When the server refuses.
    pub(crate) fn remove(&self, made: &Made) -> Result<()> {
        let forced = match self.database() {
            Database::Postgres => " WITH (FORCE)",
            Database::Mariadb => "",
        };
        self.server.execute(&format!("DROP DATABASE {}{forced}", made.name))
    }

    /// Ends it and removes its data.
    ///
    /// # Errors
    /// When it does not end, or the data can't be removed.
    pub(crate) fn stop(&self) -> Result<()> {
        self.server.stop()
    }

    /// Does some work while other programs get databases at an address: whoever connects is sent the connection string
    /// of a new one, or why there is none, in one line. The database lives as long as the connection.
    ///
    /// # Errors
    /// When no port can be opened, or a database can't be removed. What the work returns is its own.
    pub(crate) fn hand_out<T>(&self, work: impl FnOnce(SocketAddr) -> T) -> Result<T> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let closed = AtomicBool::new(false);
        thread::scope(|scope| {
            let desk = scope.spawn(|| {
                let mut clients = Vec::new();
                while let Ok((client, _)) = listener.accept()
                    && !closed.load(Ordering::Relaxed)
                {
                    clients.push(scope.spawn(|| self.serve(client)));
                }
                clients.into_iter().try_for_each(|client| joined(client.join()))
            });
            let result = work(address);
            closed.store(true, Ordering::Relaxed);
            // It waits for a client.
            TcpStream::connect(address)?;
            joined(desk.join()).map(|()| result)
        })
    }

    fn serve(&self, mut client: TcpStream) -> Result<()> {
        let made = match self.make() {
            Ok(made) => made,
            Err(error) => return Ok(writeln!(client, "{}", format!("{error:?}").replace('\n', " "))?),
        };
        // A client that is gone already wants nothing any more.
        let _ = writeln!(client, "{}", made.endpoint).and_then(|()| client.read(&mut [0]));
        self.remove(&made)
    }
}

/// A panic of a thread goes on in ours.
fn joined<T>(ended: thread::Result<T>) -> T {
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_database_lives_as_long_as_the_connection_that_asked_for_it() {
        for database in Database::ALL {
            let temp = tempfile::tempdir().unwrap();
            // The server's own user has to pass.
            fs::set_permissions(temp.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
            let server = Server::start(&Context::for_test(temp.path()), database).unwrap();
            let create = |name: &str| server.server.execute(&format!("CREATE DATABASE {name}"));
            let ask = |address| {
                let client = TcpStream::connect(address).unwrap();
                let mut line = String::new();
                BufReader::new(&client).read_line(&mut line).unwrap();
                (client, line)
            };
            let handed_out = server.hand_out(|address| {
                let clients = [ask(address), ask(address)];
                assert!(create("test_0").is_err() && create("test_1").is_err());
                clients.map(|(_, endpoint)| endpoint)
            });
            let mut handed_out = handed_out.unwrap();
            handed_out.sort();
            for (number, endpoint) in handed_out.iter().enumerate() {
                assert!(
                    endpoint.ends_with(&format!("@127.0.0.1:{}/test_{number}\n", server.server.port)),
                    "{endpoint}"
                );
                create(&format!("test_{number}")).unwrap();
            }
            server.stop().unwrap();
        }
    }
}
