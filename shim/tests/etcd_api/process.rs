use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Command, Stdio};

use super::database::Database;
use super::server::Client;
use tonic::transport::Channel;

/// The binary, without the variables of whoever runs the test.
fn shim() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-shim"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// A server in a process of its own.
pub(crate) struct Process {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    address: String,
}

impl Process {
    /// Serves a database.
    pub(crate) fn start(database: &Database) -> Self {
        Self::start_with(database, &[])
    }

    /// The same with more variables.
    pub(crate) fn start_with(database: &Database, variables: &[(&str, &str)]) -> Self {
        let mut child = shim()
            .envs(variables.iter().copied())
            .env("SLUICE_ENDPOINT", database.url())
            .env("SLUICE_LISTEN_CLIENT_URLS", "http://127.0.0.1:0")
            .env("SLUICE_LOG_FORMAT", "json")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let serving = log.find_map(|line| line.ok().filter(|line| line.contains("\"serving\"")));
        let serving: serde_json::Value = serde_json::from_str(&serving.expect("it ended before it served")).unwrap();
        let address = serving["clients"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
        Self { child, log, address }
    }

    /// Ends it with SIGTERM, and waits until it has.
    pub(crate) fn stop(mut self) {
        assert!(Command::new("kill").arg(self.child.id().to_string()).status().unwrap().success());
        assert!(self.log.any(|line| line.unwrap().contains("\"stopped\"")));
        assert!(self.child.wait().unwrap().success());
    }

    pub(crate) async fn connect(&self) -> Client {
        let channel = Channel::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap();
        Client::new(channel)
    }
}

/// It is killed with SIGKILL.
impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn errors_come_with_a_hint_and_a_code() {
    let table: [(&[&str], &str, i32); 6] = [
        (&[], "error: no database is given\nhint: use --endpoint sqlite:///", 2),
        (
            &["--endpoint", "mysql://me:secret@db"],
            "error: the mysql endpoint names no database\nhint: use --endpoint",
            2,
        ),
        (
            &["--endpoint", "mysql://me:secret@127.0.0.1:1/x"],
            "error: --endpoint: open mysql://me@127.0.0.1:1/x\nCaused by: the database at 127.0.0.1:1 can't be used",
            1,
        ),
        (
            &["--endpoint", "postgres://me:secret@127.0.0.1:1/x"],
            "error: --endpoint: open postgres://me@127.0.0.1:1/x\nCaused by: cannot connect to the database at 127.0.0.1:1",
            1,
        ),
        (
            &["--endpoint", "sqlite:///does/not/exist.db"],
            "error: --endpoint: open sqlite:///does/not/exist.db\nCaused by: ",
            1,
        ),
        (&["--watch-progress-notify-interval", "5"], "error: invalid value '5' for '--watch-progress", 2),
    ];
    for (args, expected, code) in table {
        let output = shim().args(args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(expected), "{args:?}: {text}");
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        assert!(output.stdout.is_empty() && !text.contains("secret"), "{args:?}");
    }
}

#[test]
fn version() {
    let output = shim().arg("--version").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with(concat!("sluice-shim ", env!("CARGO_PKG_VERSION"), " (commit ")), "{text}");
}

/// Configured by variables alone, as in a container; ends well on SIGTERM.
#[test]
fn variables_and_signals() {
    let database = Database::new();
    let process = Process::start(&database);
    let mut stream = TcpStream::connect(&process.address).unwrap();
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("ok\n"), "{answer}");

    process.stop();
}
