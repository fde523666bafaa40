//! PostgreSQL for tests.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use sluice_shim::endpoint::Family;

use super::{Server, with, words};

/// A folder with the programs of the PostgreSQL to test; without it the newest that Debian has installed.
const POSTGRES: &str = "SLUICE_TEST_POSTGRES";

/// A program of PostgreSQL: of the folder to test if it is there, else of Debian's newest version.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    folders.sort();
    folders.extend(std::env::var_os(POSTGRES).filter(|folder| !folder.is_empty()).map(PathBuf::from));
    let found = folders.iter().rev().map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "PostgreSQL has no {name} here: apt-get install -y --no-install-recommends postgresql-15, or name the folder of \
             its programs with {POSTGRES}"
        )
    })
}

/// What makes the data of a server.
pub(super) fn make(folder: &Path) -> Vec<OsString> {
    let (data, log) = (folder.join("data"), with("--waldir=", &folder.join("wal")));
    let settings = ["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"].map(OsString::from);
    [words([&program("initdb"), &"-D", &data, &log]), settings.into()].concat()
}

/// What makes the data of a standby.
pub(super) fn copy(folder: &Path, primary: u16, name: &str) -> Vec<OsString> {
    let (data, from) = (folder.join("data"), format!("port={primary} application_name={name}"));
    let how = ["-h", "127.0.0.1", "-U", "postgres", "-R", "-X", "stream", "-c", "fast"].map(OsString::from);
    [words([&program("pg_basebackup"), &"-D", &data, &"-d", &from]), how.into()].concat()
}

/// The server.
pub(super) fn serve(folder: &Path, port: u16) -> Vec<OsString> {
    let (data, sockets) = (folder.join("data"), with("unix_socket_directories=", folder));
    let settings = ["listen_addresses=127.0.0.1", "max_connections=200", "shared_buffers=64MB"];
    let settings = settings.into_iter().flat_map(|setting| ["-c", setting]).map(OsString::from).collect();
    [words([&program("postgres"), &"-D", &data, &"-p", &port.to_string(), &"-c", &sockets]), settings].concat()
}

/// Runs statements; returns what they give, columns parted by `|`, or the error.
pub(super) fn psql(port: u16, database: &str, sql: &str) -> Result<String, String> {
    let mut psql = Command::new(program("psql"));
    psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "postgres", "-f", "-"]);
    psql.args(["-p", &port.to_string(), "-d", database]);
    let mut psql = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Without a server it does not read them.
    let _ = psql.stdin.take().unwrap().write_all(sql.as_bytes());
    let done = psql.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stderr)) }
}

impl Server {
    /// The PostgreSQL of all tests of this program, which is started when this is first called.
    pub(crate) fn postgres() -> &'static Self {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(|| Self::start(Family::Postgres, &[]))
    }

    /// A new, empty database of a PostgreSQL; returns its name.
    pub(crate) fn database(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        // Two that are made at once may find the template in use.
        static ONE: Mutex<()> = Mutex::new(());
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.psql("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0")).unwrap();
        name
    }

    /// Runs statements in a database of a PostgreSQL; returns what they give, columns parted by `|`, or the error.
    pub(crate) fn psql(&self, database: &str, sql: &str) -> Result<String, String> {
        psql(self.port, database, sql)
    }
}
