//! The real program on a disk that may be cut off.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sluice_shim::endpoint::Endpoint;
use tokio::sync::watch;
use tonic::transport::Channel;

/// Nothing that goes on takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(1);

/// The database in a folder, as `--endpoint`.
pub(crate) fn endpoint(folder: &Path, name: &str) -> String {
    Endpoint::Sqlite(folder.join(name)).to_string()
}

pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-shim"));
    command.env_clear().args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A process. Dropping it kills it.
pub(crate) struct Shim {
    child: Child,
    /// What it said so far.
    said: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
    address: watch::Receiver<Option<String>>,
}

impl Shim {
    pub(crate) fn start(endpoint: &str) -> Self {
        let mut command = command(&["--endpoint", endpoint, "--listen-client-urls", "http://127.0.0.1:0"]);
        let mut child = command.args(["--log-format", "json", "--gc-rate", "2000"]).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (sender, address) = watch::channel(None);
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&said);
        let reader = std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                let entry: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
                if let Some(address) = entry["clients"].as_str() {
                    sender.send_replace(Some(address.to_owned()));
                }
                heard.lock().unwrap().push(line);
            }
        });
        Self { child, said, reader: Some(reader), address }
    }

    /// Waits until it serves; `None` if something else comes first.
    pub(crate) async fn serves(&mut self, or: impl Fn() -> bool) -> Option<Channel> {
        let start = Instant::now();
        loop {
            if or() || self.ended().is_some() {
                return None;
            }
            let address = self.address.borrow().clone();
            if let Some(address) = address {
                return Channel::from_shared(address).unwrap().connect().await.ok();
            }
            assert!(start.elapsed() < PATIENCE, "it does not start: {}", self.said());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Its exit code, if it has ended by itself. Then all that it said is known.
    pub(crate) fn ended(&mut self) -> Option<Option<i32>> {
        let status = self.child.try_wait().unwrap()?;
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        Some(status.code())
    }

    /// Asks for a clean stop.
    pub(crate) fn terminate(&self) {
        let id = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
    }

    /// Asks for a clean stop, and waits for the end, whatever its reason is.
    pub(crate) async fn stop(mut self) -> Option<i32> {
        self.terminate();
        self.wait(|| false).await.unwrap()
    }

    /// Waits until it ends by itself; `None` if something else comes first.
    pub(crate) async fn wait(&mut self, or: impl Fn() -> bool) -> Option<Option<i32>> {
        let start = Instant::now();
        loop {
            if let Some(code) = self.ended() {
                return Some(code);
            }
            if or() {
                return None;
            }
            assert!(start.elapsed() < PATIENCE, "it does not end: {}", self.said());
            tokio::time::sleep(LOOK).await;
        }
    }

    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }

    /// Kills it. It ends at once, or when those who wait for the disk are told of an error.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a command says, and whether it succeeded.
pub(crate) fn outcome(output: &Output) -> (bool, String) {
    let said = [&output.stdout[..], &output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// Whether a database that nobody serves is sound.
pub(crate) fn fsck(endpoint: &str) -> (bool, String) {
    let (done, said) = outcome(&command(&["fsck", "--endpoint", endpoint]).output().unwrap());
    (done && said.contains("sound: "), said)
}
