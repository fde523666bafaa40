//! The real server, killed and started again.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tonic::transport::Channel;

use super::database::Database;
use super::random::Random;

/// Nothing that is alive takes longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// One life of the server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Life {
    pub(crate) number: u64,
    address: SocketAddr,
}

impl Life {
    /// A new connection, if it still lives.
    pub(crate) async fn connect(self) -> Option<Channel> {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect().await.ok()
    }
}

/// Says which life it is. Before a kill it says none.
#[derive(Clone)]
pub(crate) struct Lives(watch::Receiver<Option<Life>>);

impl Lives {
    /// The current life, or the next one.
    pub(crate) async fn current(&mut self) -> Life {
        let life = tokio::time::timeout(DEADLINE, self.0.wait_for(Option::is_some)).await;
        life.expect("the server did not come back").unwrap().unwrap()
    }

    /// Whether a kill can be the reason for what went wrong in that life.
    pub(crate) fn is_over(&self, life: Life) -> bool {
        *self.0.borrow() != Some(life)
    }
}

/// Runs the server on a database.
pub(crate) struct Keeper<'a> {
    database: &'a Database,
    child: Option<Child>,
    number: u64,
    lives: watch::Sender<Option<Life>>,
}

impl<'a> Keeper<'a> {
    pub(crate) async fn start(database: &'a Database) -> Self {
        let mut keeper = Self { database, child: None, number: 0, lives: watch::Sender::new(None) };
        keeper.live().await;
        keeper
    }

    pub(crate) fn lives(&self) -> Lives {
        Lives(self.lives.subscribe())
    }

    /// Kills the server with SIGKILL and starts it again; now and then it dies while it starts, too.
    pub(crate) async fn kill(&mut self, random: &mut Random) {
        self.end();
        while random.once_in(4) {
            drop(self.spawn());
            tokio::time::sleep(Duration::from_millis(random.within(0..60))).await;
            self.end();
        }
        self.live().await;
    }

    fn end(&mut self) {
        self.lives.send_replace(None);
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    async fn live(&mut self) {
        let serving = self.spawn();
        let address = tokio::time::timeout(DEADLINE, serving).await;
        let address = address.expect("it did not start in time").expect("it ended before it served");
        self.number += 1;
        self.lives.send_replace(Some(Life { number: self.number, address }));
    }

    /// Starts the process; the address comes when it serves.
    fn spawn(&mut self) -> oneshot::Receiver<SocketAddr> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sluice-shim"))
            .env_clear()
            .args(["--endpoint", self.database.url()])
            .args(["--listen-client-urls", "http://127.0.0.1:0", "--log-format", "json"])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (sender, receiver) = oneshot::channel();
        self.child = Some(child);
        std::thread::spawn(move || {
            let mut sender = Some(sender);
            for line in log.lines().map_while(Result::ok) {
                let entry: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
                let address = entry["clients"].as_str().and_then(|url| url.strip_prefix("http://")?.parse().ok());
                match (address, sender.take()) {
                    (Some(address), Some(waiting)) => drop(waiting.send(address)),
                    (None, waiting) => sender = waiting,
                    (Some(_), None) => {}
                }
                if entry["level"] == "ERROR" || entry.is_null() {
                    eprintln!("{line}");
                }
            }
        });
        receiver
    }
}

impl Drop for Keeper<'_> {
    fn drop(&mut self) {
        self.end();
    }
}
