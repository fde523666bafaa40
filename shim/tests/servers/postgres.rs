//! A PostgreSQL server of this test program's own.
//!
//! It is started when first asked for, and ends with the program, however that ends: a shell waits for the program's
//! end of a pipe to close.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

#[path = "programs.rs"]
mod programs;

use programs::{NOBODY, is_root};

/// How long it may take to start, on a machine that has much to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts the server, waits until the pipe is closed, stops it, and removes its folder.
const SHELL: &str = r#"
"$1" -D "$2/data" -p "$3" -c listen_addresses=127.0.0.1 -c unix_socket_directories="$2" \
    -c max_connections=200 -c shared_buffers=64MB -c logging_collector=off >"$2/log" 2>&1 &
pid=$!
read -r _
kill -INT $pid
wait $pid
rm -rf "$2"
"#;

/// The server of this program.
pub(crate) struct Server {
    /// Where it listens, on 127.0.0.1.
    pub(crate) port: u16,
    /// Its folder.
    pub(crate) folder: PathBuf,
    _shell: Child,
    /// The pipe that keeps it alive.
    _stdin: ChildStdin,
}

impl Server {
    /// The one server, which is started when this is first called.
    pub(crate) fn get() -> &'static Self {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(Self::start)
    }

    fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("sluice-postgres-").tempdir().unwrap().keep();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        if is_root() {
            std::os::unix::fs::chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let mut init = as_nobody(&programs::postgres("initdb"), &folder);
        init.args(["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"]);
        let made = init.arg(folder.join("data")).output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let port = crate::port::free();
        let mut shell = as_nobody(Path::new("sh"), &folder);
        shell.args(["-c", SHELL, "sh"]).arg(programs::postgres("postgres")).arg(&folder).arg(port.to_string());
        // A group of its own: what ends the tests from the terminal does not end the server before its folder is
        // removed.
        let mut shell = shell.stdin(Stdio::piped()).process_group(0).spawn().unwrap();
        let stdin = shell.stdin.take().unwrap();
        let server = Self { port, folder, _shell: shell, _stdin: stdin };
        let started = Instant::now();
        while !server.is_ready() {
            let log = fs::read_to_string(server.folder.join("log")).unwrap_or_default();
            assert!(started.elapsed() < PATIENCE, "PostgreSQL does not start: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    fn is_ready(&self) -> bool {
        self.psql("postgres", "SELECT 1").is_ok()
    }

    /// A new, empty database; returns its name.
    pub(crate) fn database(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        // Two that are made at once may find the template in use.
        static ONE: Mutex<()> = Mutex::new(());
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let _one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.psql("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0")).unwrap();
        name
    }

    /// Runs statements; returns what they give, columns parted by `|`, or the error.
    pub(crate) fn psql(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut psql = Command::new(programs::postgres("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "postgres", "-f", "-"]);
        psql.args(["-p", &self.port.to_string(), "-d", database]);
        let mut psql = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        psql.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
        let done = psql.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stderr)) }
    }
}

fn as_nobody(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env("TMPDIR", folder).env("LC_ALL", "C");
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}
