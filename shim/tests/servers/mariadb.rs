//! MariaDB for tests.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use mysql::prelude::Queryable as _;
use mysql::{Conn, OptsBuilder};

use super::{Server, with, words};

/// A folder with the programs of the MariaDB to test, as its developers pack it; without it those in `PATH`.
const MARIADB: &str = "SLUICE_TEST_MARIADB";

/// A program of MariaDB, with what makes it find its libraries.
fn program(name: &str, folder_of_it: &str) -> Vec<OsString> {
    if let Some(folder) = folder() {
        let (program, base) = (folder.join(folder_of_it).join(name), with("--basedir=", &folder));
        return words([&"env", &with("LD_LIBRARY_PATH=", &folder.join("libs")), &program, &"--no-defaults", &base]);
    }
    let found = Command::new("sh").args(["-c", &format!("command -v {name}")]).output().unwrap();
    assert!(
        found.status.success(),
        "the program {name} is missing; apt-get install -y --no-install-recommends mariadb-server"
    );
    words([&name, &"--no-defaults"])
}

fn folder() -> Option<PathBuf> {
    std::env::var_os(MARIADB).filter(|folder| !folder.is_empty()).map(PathBuf::from)
}

/// What makes the data of a server.
pub(super) fn make(folder: &Path) -> Vec<OsString> {
    let (data, rest) = (with("--datadir=", &folder.join("data")), with("--tmpdir=", folder));
    let settings = words([&data, &rest, &"--auth-root-authentication-method=normal", &"--skip-test-db"]);
    [program("mariadb-install-db", "scripts"), settings].concat()
}

/// The server.
pub(super) fn serve(own: &Path, port: u16) -> Vec<OsString> {
    let (data, temporary) = (with("--datadir=", &own.join("data")), with("--tmpdir=", own));
    let (socket, port) = (with("--socket=", &own.join("socket")), format!("--port={port}"));
    let messages = folder().map(|folder| with("--lc-messages-dir=", &folder.join("share")));
    let place = words([&data, &temporary, &socket, &port, &"--bind-address=127.0.0.1"]);
    let settings = words([&"--innodb-flush-log-at-trx-commit=1", &"--max-connections=200", &"--skip-ssl"]);
    [program("mariadbd", "bin"), messages.into_iter().collect(), place, settings].concat()
}

/// A connection that may do everything, to a server on this machine.
pub(crate) fn connect(port: u16) -> mysql::Result<Conn> {
    let options = OptsBuilder::new().ip_or_hostname(Some("127.0.0.1")).tcp_port(port).user(Some("root"));
    Conn::new(options.prefer_socket(false))
}

/// Runs statements; returns the rows that they give.
pub(super) fn query(port: u16, statements: &str) -> mysql::Result<Vec<Vec<String>>> {
    let (mut connection, mut rows) = (connect(port)?, Vec::new());
    let mut found = connection.query_iter(statements)?;
    while let Some(set) = found.iter() {
        for row in set {
            let text = |value| mysql::from_value::<Option<String>>(value).unwrap_or_default();
            rows.push(row?.unwrap().into_iter().map(text).collect());
        }
    }
    Ok(rows)
}

impl Server {
    /// A connection to a MariaDB that may do everything.
    pub(crate) fn root(&self) -> Conn {
        connect(self.port).unwrap()
    }
}
