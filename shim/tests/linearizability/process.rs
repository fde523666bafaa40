//! The real server, or several of them, killed and started again, and with it the server of the database.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sluice_shim::pb::etcdserverpb::RangeRequest;
use sluice_shim::pb::etcdserverpb::kv_client::KvClient;
use tokio::sync::{oneshot, watch};
use tonic::transport::Channel;

use super::backing::Backing;
use super::database::Database;
use super::random::Random;
use super::server::Stop;

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
        let endpoint = Channel::from_shared(format!("http://{}", self.address)).unwrap();
        // Clients leave answers unread; HTTP/2's library gives a connection up on which too many of them wait.
        endpoint.initial_connection_window_size(i32::MAX as u32).connect().await.ok()
    }
}

/// Says which life of a shim it is. Before a kill it says none.
#[derive(Clone)]
pub(crate) struct Lives {
    current: watch::Receiver<Option<Life>>,
    /// How often the database's server, or one of several shims, went and came back: an odd number while it is away.
    outages: Arc<AtomicU64>,
    /// Whether it is one of several, which hand requests on to each other.
    several: bool,
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

    /// Whether the database's server, or another shim, was away at some time since the outages were those.
    pub(crate) fn is_excused(&self, since: u64) -> bool {
        since % 2 == 1 || self.outages() != since
    }

    /// Whether a watch may have ended because another shim was away. The database's server may not end one.
    pub(crate) fn may_end_watches(&self, since: u64) -> bool {
        self.several && self.is_excused(since)
    }
}

/// What was done to shims and to the server of their database, how often.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Strikes {
    /// Shims that were killed with SIGKILL, also while they started.
    pub(crate) kills: u64,
    /// Shims that were ended with SIGTERM.
    pub(crate) stops: u64,
    /// Shims that stood still for a moment (SIGSTOP, then SIGCONT).
    pub(crate) pauses: u64,
    /// Strikes at the server of the database.
    pub(crate) outages: u64,
}

/// Runs shims on a database.
pub(crate) struct Keeper<'a> {
    pub(crate) strikes: Strikes,
    database: &'a Database,
    /// Where the database is, if that is killed too.
    server: Option<&'a mut (dyn Backing + 'static)>,
    outages: Arc<AtomicU64>,
    shims: Vec<Shim>,
}

/// One of them.
struct Shim {
    child: Option<Child>,
    number: u64,
    lives: watch::Sender<Option<Life>>,
}

impl Shim {
    /// Its process, whose life is over for all who look.
    fn leave(&mut self) -> Option<Child> {
        self.lives.send_replace(None);
        self.child.take()
    }
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

impl<'a> Keeper<'a> {
    /// Starts so many shims; several stand by for each other.
    pub(crate) async fn start(
        database: &'a Database,
        server: Option<&'a mut (dyn Backing + 'static)>,
        shims: usize,
    ) -> Self {
        let shim = |_| Shim { child: None, number: 0, lives: watch::Sender::new(None) };
        let none_live = (0..shims).map(shim).collect();
        let mut keeper =
            Self { strikes: Strikes::default(), database, server, outages: Arc::default(), shims: none_live };
        for nth in 0..shims {
            keeper.live(nth).await;
        }
        keeper
    }

    /// The lives of one of the shims.
    pub(crate) fn lives(&self, nth: usize) -> Lives {
        let shim = &self.shims[nth % self.shims.len()];
        Lives { current: shim.lives.subscribe(), outages: Arc::clone(&self.outages), several: self.shims.len() > 1 }
    }

    /// Kills or stops a shim, or the server of its database, or both, and starts again what is gone. Now and then a
    /// shim only stands still for a moment, which nobody may notice but by the time that it takes.
    pub(crate) async fn strike(&mut self, random: &mut Random) {
        if random.once_in(5) {
            let nth = random.within(0..self.shims.len() as u64) as usize;
            return self.pause(nth, random).await;
        }
        if self.shims.len() > 1 {
            return self.kill_one(random).await;
        }
        if self.server.is_none() || random.once_in(3) {
            return self.kill(0, random).await;
        }
        let both = random.once_in(2);
        if both && random.once_in(2) {
            self.end(0);
        }
        let how = if random.once_in(2) { Stop::Kill } else { Stop::AtOnce };
        let away = Duration::from_millis(random.within(0..400));
        let outage = u64::from(self.server.as_ref().is_some_and(|server| server.excuses()));
        self.outages.fetch_add(outage, Ordering::SeqCst);
        self.strikes.outages += u64::from(self.server.is_some());
        self.on_server(|server| server.strike(how));
        // Some calls begin meanwhile.
        tokio::time::sleep(away).await;
        if both {
            self.end(0);
        }
        self.on_server(|server| server.mend());
        self.outages.fetch_add(outage, Ordering::SeqCst);
        if both {
            self.live(0).await;
        }
    }

    /// Kills one of several shims and starts it again. The outage is over when each of them answers.
    async fn kill_one(&mut self, random: &mut Random) {
        let nth = random.within(0..self.shims.len() as u64) as usize;
        self.outages.fetch_add(1, Ordering::SeqCst);
        if random.once_in(3) {
            self.end(nth);
            // The others get along without it.
            tokio::time::sleep(Duration::from_millis(random.within(0..1000))).await;
        }
        self.kill(nth, random).await;
        for nth in 0..self.shims.len() {
            let life = self.lives(nth).current().await;
            let channel = life.connect().await.expect("a living shim refused a connection");
            let request = RangeRequest { key: b"/"[..].into(), ..RangeRequest::default() };
            let mut client = KvClient::new(channel);
            let answers = async {
                while client.range(request.clone()).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(DEADLINE, answers).await.expect("a shim does not answer");
        }
        self.outages.fetch_add(1, Ordering::SeqCst);
    }

    /// Kills a shim with SIGKILL, or stops it well, and starts it again; now and then it dies while it starts, too.
    async fn kill(&mut self, nth: usize, random: &mut Random) {
        if random.once_in(4) {
            self.stop(nth).await;
        } else {
            self.end(nth);
        }
        while random.once_in(4) {
            drop(self.spawn(nth));
            tokio::time::sleep(Duration::from_millis(random.within(0..60))).await;
            self.end(nth);
        }
        self.live(nth).await;
    }

    fn on_server(&mut self, work: impl FnOnce(&mut dyn Backing)) {
        if let Some(server) = &mut self.server {
            work(*server);
        }
    }

    fn end(&mut self, nth: usize) {
        if let Some(mut child) = self.shims[nth].leave() {
            self.strikes.kills += 1;
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Ends a shim with SIGTERM.
    async fn stop(&mut self, nth: usize) {
        let Some(mut child) = self.shims[nth].leave() else { return };
        self.strikes.stops += 1;
        signal(&child, Signal::SIGTERM);
        let ended = async {
            while child.try_wait().unwrap().is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(DEADLINE, ended).await.is_err() {
            child.kill().unwrap();
            panic!("a shim does not end on SIGTERM");
        }
    }

    /// Has a shim stand still for less than the time after which another one takes its place.
    async fn pause(&mut self, nth: usize, random: &mut Random) {
        let Some(child) = &self.shims[nth].child else { return };
        self.strikes.pauses += 1;
        signal(child, Signal::SIGSTOP);
        tokio::time::sleep(Duration::from_millis(random.within(0..500))).await;
        signal(child, Signal::SIGCONT);
    }

    async fn live(&mut self, nth: usize) {
        let serving = self.spawn(nth);
        let address = tokio::time::timeout(DEADLINE, serving).await;
        let address = address.expect("it did not start in time").expect("it ended before it served");
        let shim = &mut self.shims[nth];
        shim.number += 1;
        shim.lives.send_replace(Some(Life { number: shim.number, address }));
    }

    /// Starts a shim; the address comes when it answers.
    fn spawn(&mut self, nth: usize) -> oneshot::Receiver<SocketAddr> {
        let copy = self.server.as_ref().and_then(|server| server.copy_of(self.database.url()));
        let mut child = Command::new(env!("CARGO_BIN_EXE_sluice-shim"))
            .env_clear()
            .args(["--endpoint", self.database.url()])
            .args(["--listen-client-urls", "http://127.0.0.1:0", "--log-format", "json"])
            .args((self.shims.len() > 1).then_some("--standby"))
            .args(copy.map(|url| format!("--read-endpoint={url}")))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (sender, receiver) = oneshot::channel();
        self.shims[nth].child = Some(child);
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
        (0..self.shims.len()).for_each(|nth| self.end(nth));
    }
}
