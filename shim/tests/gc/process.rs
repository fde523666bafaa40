//! The real server as a process of its own, and a client of it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pb::kv_client::KvClient;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use sluice_shim::pb::etcdserverpb as pb;
use sluice_shim::pb::mvccpb::{Event, event::EventType};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::database::Database;

/// How long nothing may happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The command that serves a database, at any port.
pub(crate) fn command(database: &Database, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-shim"));
    command
        .env_clear()
        .args(["--endpoint", database.url()])
        .args(["--listen-client-urls", "http://127.0.0.1:0"])
        .args(args)
        .stdin(Stdio::null());
    command
}

/// The exit code of a server that must not serve, and what it says.
pub(crate) fn refused(mut command: Command) -> (Option<i32>, String) {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it serves");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A server that serves. Dropping it kills it.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts it and waits until it serves.
    pub(crate) fn start(database: &Database, args: &[&str]) -> Self {
        let mut command = command(database, args);
        let mut child = command.args(["--log-format", "json"]).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let serving = log.find(|line| line.contains("\"serving\"")).expect("it ended before it served");
        let serving: serde_json::Value = serde_json::from_str(&serving).unwrap();
        let address = serving["clients"].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap();
        // It says more, and must not wait for a reader.
        std::thread::spawn(move || log.for_each(drop));
        Self { child, address }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Bytes of memory that it has, without what is mapped from files.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    pub(crate) async fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel().await)
    }

    /// Watches all keys from a revision on.
    pub(crate) async fn watch(&self, from: i64) -> Watch {
        let (requests, receiver) = tokio::sync::mpsc::channel(1);
        let mut client = WatchClient::new(self.channel().await).max_decoding_message_size(usize::MAX);
        let responses = client.watch(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        let create = pb::WatchCreateRequest {
            key: vec![0].into(),
            range_end: vec![0].into(),
            start_revision: from,
            prev_kv: true,
            ..Default::default()
        };
        let request = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        requests.send(request).await.unwrap();
        Watch { _requests: requests, responses }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A watch of all keys.
pub(crate) struct Watch {
    _requests: tokio::sync::mpsc::Sender<pb::WatchRequest>,
    responses: Streaming<pb::WatchResponse>,
}

impl Watch {
    /// The next events; none when the server is gone. A watch that the server ends is a failure.
    pub(crate) async fn next(&mut self) -> Option<Vec<Event>> {
        let next = tokio::time::timeout(PATIENCE, self.responses.message()).await.expect("nothing happens");
        let response = next.ok()??;
        assert!(!response.canceled, "the server ended the watch: {}", response.cancel_reason);
        Some(response.events)
    }
}

/// Whether an event is a deletion.
pub(crate) fn is_deletion(event: &Event) -> bool {
    event.r#type() == EventType::Delete
}
