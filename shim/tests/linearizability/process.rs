//! The real server, killed and started again, and with it the server of its database.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tonic::transport::Channel;

use super::database::Database;
use super::random::Random;
use super::server::{Server, Stop};

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
pub(crate) struct Lives {
    current: watch::Receiver<Option<Life>>,
    /// How often the database's server went and came back: an odd number while it is away.
    outages: Arc<AtomicU64>,
}

impl Lives {
    /// The current life, or the next one.
    pub(crate) async fn current(&mut self) -> Life {
        let life = tokio::time::timeout(DEADLINE, self.current.wait_for(Option::is_some)).await;
        life.expect("the server did not come back").unwrap().unwrap()
    }

    /// Whether a kill can be the reason for what went wrong in that life.
    pub(crate) fn is_over(&self, life: Life) -> bool {
        *self.current.borrow() != Some(life)
    }

    /// The outages so far, for [`Self::is_excused`].
    pub(crate) fn outages(&self) -> u64 {
        self.outages.load(Ordering::SeqCst)
    }

    /// Whether the database's server was away at some time since the outages were those.
    pub(crate) fn is_excused(&self, since: u64) -> bool {
        since % 2 == 1 || self.outages() != since
    }
}

/// Runs the server on a database.
pub(crate) struct Keeper<'a> {
    database: &'a Database,
    /// Where the database is, if that is killed too.
    server: Option<&'a mut Server>,
    outages: Arc<AtomicU64>,
    child: Option<Child>,
    number: u64,
    lives: watch::Sender<Option<Life>>,
}

impl<'a> Keeper<'a> {
    pub(crate) async fn start(database: &'a Database, server: Option<&'a mut Server>) -> Self {
        let (outages, lives) = (Arc::default(), watch::Sender::new(None));
        let mut keeper = Self { database, server, outages, child: None, number: 0, lives };
        keeper.live().await;
        keeper
    }

    pub(crate) fn lives(&self) -> Lives {
        Lives { current: self.lives.subscribe(), outages: Arc::clone(&self.outages) }
    }

    /// Kills the process, or the server of its database, or both, and starts again what was killed.
    pub(crate) async fn strike(&mut self, random: &mut Random) {
        if self.server.is_none() || random.once_in(3) {
            return self.kill(random).await;
        }
        let both = random.once_in(2);
        if both && random.once_in(2) {
            self.end();
        }
        let how = if random.once_in(2) { Stop::Kill } else { Stop::AtOnce };
        let away = Duration::from_millis(random.within(0..400));
        self.outages.fetch_add(1, Ordering::SeqCst);
        self.on_server(|server| server.stop(how));
        // Some calls begin meanwhile.
        tokio::time::sleep(away).await;
        if both {
            self.end();
        }
        self.on_server(Server::run);
        self.outages.fetch_add(1, Ordering::SeqCst);
        if both {
            self.live().await;
        }
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

    fn on_server(&mut self, work: impl FnOnce(&mut Server)) {
        if let Some(server) = &mut self.server {
            work(server);
        }
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
