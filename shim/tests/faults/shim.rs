//! The real program on a database.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use sluice_shim::endpoint::Endpoint;
use sluice_shim::pb::etcdserverpb as pb;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::transport::{self, Channel};

use crate::ledger::in_time;

/// A process, which is killed with it.
pub(crate) struct Shim {
    child: Child,
    address: String,
}

impl Shim {
    pub(crate) fn start(endpoint: &Endpoint) -> Self {
        Self::start_with(endpoint, &["--listen-client-urls", "http://127.0.0.1:0"])
    }

    /// The same with flags that say where it listens, and more.
    pub(crate) fn start_with(endpoint: &Endpoint, flags: &[&str]) -> Self {
        let Endpoint::Network(address) = endpoint else { panic!("{endpoint} is a file") };
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-shim"));
        command.env_clear().args(flags).args(["--log-format", "json"]);
        command.args(["--endpoint", &endpoint.to_string()]).stdin(Stdio::null()).stderr(Stdio::piped());
        if let Some(password) = address.password(&address.hosts[0]).unwrap() {
            command.env("SLUICE_ENDPOINT_PASSWORD", password.reveal());
        }
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let serves = |line: &String| {
            let entry: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            entry["clients"].as_str()?.split(',').find_map(|url| url.strip_prefix("http://")).map(str::to_owned)
        };
        let address = log.by_ref().find_map(|line| serves(&line)).expect("it ended before it served");
        // The pipe must not fill.
        std::thread::spawn(move || log.for_each(drop));
        Self { child, address }
    }

    /// Where to connect to. Many small answers may wait at once.
    pub(crate) fn endpoint(&self) -> transport::Endpoint {
        let endpoint = Channel::from_shared(format!("http://{}", self.address)).unwrap();
        endpoint.initial_connection_window_size(i32::MAX as u32)
    }

    pub(crate) async fn connect(&self) -> Channel {
        self.endpoint().connect().await.unwrap()
    }

    /// The answer to a plain HTTP GET, headers included.
    pub(crate) async fn get(&self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let mut stream = tokio::net::TcpStream::connect(&self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        in_time(path, stream.read_to_string(&mut answer)).await.unwrap();
        answer
    }

    /// How many bytes of memory it has.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() << 10
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        nix::sys::signal::kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Waits until it ends; returns its exit code, if it was not killed.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        let ended = async {
            while self.lives() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        in_time("the end of a process", ended).await;
        self.child.wait().unwrap().code()
    }

    /// Whether it is still there.
    pub(crate) fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn put(key: &str, value: impl Into<bytes::Bytes>) -> pb::PutRequest {
    pb::PutRequest { key: key.to_owned().into(), value: value.into(), ..Default::default() }
}
