//! Servers that hold copies of the database, and answer reads of ranges.
//!
//! A copy may be late, so a read says what it must not lack ([`Floor`]). If the snapshot of a copy does not reach that
//! in a moment, or anything goes wrong there, the database itself is read. So a copy that is late, stuck or gone costs
//! time, never truth.
//!
//! A thread for each server opens the connections to it, and tries each one before a request gets it. A request takes a
//! connection that is free now; if there is none, it reads the database itself.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use super::metrics::{Metrics, ReplicaOutcome};
use super::snapshot::Snapshot;
use super::store::{self, Reader};
use super::types::{Error, Result, Revision};

/// How long a read waits for a copy that is late, and how often it looks.
const WAIT: Duration = Duration::from_millis(20);
const LOOK: Duration = Duration::from_millis(2);
/// How long a server is left alone after it was late, or could not be reached: at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// What a snapshot must not lack to answer a read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Floor {
    pub(super) revision: Revision,
    /// What is older than this is compacted, whatever the copy still has.
    pub(super) compact_revision: Revision,
}

/// The servers. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Replicas {
    servers: Arc<[Arc<Server>]>,
}

/// One of them.
struct Server {
    name: String,
    /// Connections that nobody uses. The last one was used last.
    idle: Mutex<Vec<Box<dyn Reader>>>,
    rest: Mutex<Rest>,
    /// Asks for one more connection.
    wanted: Sender<()>,
    revision: Gauge,
    answered: Counter,
    late: Counter,
    failed: Counter,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

/// How long a server is left alone.
#[derive(Debug)]
struct Rest {
    until: Instant,
    pause: Duration,
}

/// A connection that a request has until it is dropped.
pub(super) struct Lent {
    server: Arc<Server>,
    /// Away if it is of no use any more.
    reader: Option<Box<dyn Reader>>,
}

impl Replicas {
    /// Has so many connections to each server opened.
    pub(super) fn start(servers: Vec<store::Replica>, connections: usize, metrics: &Metrics) -> Result<Self> {
        let start = |replica: store::Replica| {
            let (wanted, orders) = crossbeam_channel::unbounded();
            for _ in 0..connections {
                // The receiver is there.
                let _ = wanted.send(());
            }
            let count = |outcome| metrics.replica_reads(&replica.name, outcome);
            let server = Arc::new(Server {
                idle: Mutex::default(),
                rest: Mutex::new(Rest { until: Instant::now(), pause: PAUSES.0 }),
                wanted,
                revision: metrics.replica_revision(&replica.name),
                answered: count(ReplicaOutcome::Answered),
                late: count(ReplicaOutcome::Late),
                failed: count(ReplicaOutcome::Failed),
                name: replica.name.clone(),
            });
            let weak = Arc::downgrade(&server);
            thread::Builder::new()
                .name("replica".into())
                .spawn(move || look_after(&weak, &replica, &orders))
                .map_err(|error| Error::Broken(format!("cannot start a thread for a read endpoint: {error}")))?;
            Ok(server)
        };
        Ok(Self { servers: servers.into_iter().map(start).collect::<Result<_>>()? })
    }

    /// A connection that is free now, to the server with the most of them: the one that has the least to do.
    pub(super) fn lend(&self) -> Option<Lent> {
        let rested = self.servers.iter().filter(|server| server.rest().until <= Instant::now());
        let server = rested.max_by_key(|server| server.idle().len())?;
        let reader = server.idle().pop()?;
        Some(Lent { server: Arc::clone(server), reader: Some(reader) })
    }
}

impl Lent {
    /// Reads, if the copy has all that is needed and nothing goes wrong.
    pub(super) fn read<T>(mut self, floor: Floor, read: &dyn Fn(Snapshot<'_>) -> Result<T>) -> Option<Result<T>> {
        let mut reader = self.reader.take()?;
        let until = Instant::now() + WAIT;
        let done = loop {
            match reader.begin() {
                Ok((revision, compact_revision)) if revision >= floor.revision => {
                    self.server.revision.set(revision);
                    let compact_revision = compact_revision.max(floor.compact_revision);
                    break read(Snapshot { reader: reader.as_mut(), revision, compact_revision });
                }
                Ok((revision, _)) => {
                    self.server.revision.set(revision);
                    reader.end();
                    if Instant::now() >= until {
                        self.reader = Some(reader);
                        self.server.late.inc();
                        self.server.leave_alone();
                        return None;
                    }
                    thread::sleep(LOOK);
                }
                Err(error) => break Err(error),
            }
        };
        match done {
            // That is an answer, and any other error is the server's.
            Err(error) if !matches!(error, Error::Compacted { .. }) => {
                tracing::debug!(endpoint = self.server.name, %error, "a read failed; the database itself is read");
                self.server.failed.inc();
                self.server.distrust();
                None
            }
            answer => {
                reader.end();
                self.reader = Some(reader);
                self.server.answered.inc();
                self.server.rest().pause = PAUSES.0;
                Some(answer)
            }
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        match self.reader.take() {
            Some(reader) => self.server.idle().push(reader),
            None => self.server.want(1),
        }
    }
}

impl Server {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Box<dyn Reader>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rest(&self) -> std::sync::MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn want(&self, connections: usize) {
        for _ in 0..connections {
            // Nobody hears it after the end of the thread, which is that of the engine.
            let _ = self.wanted.send(());
        }
    }

    /// Gives it time to catch up.
    fn leave_alone(&self) {
        let mut rest = self.rest();
        rest.until = Instant::now() + rest.pause;
        rest.pause = (rest.pause * 2).min(PAUSES.1);
    }

    /// Gives all connections up that nobody uses: what one of them met, the others are likely to meet.
    fn distrust(&self) {
        let gone = std::mem::take(&mut *self.idle());
        self.want(gone.len());
    }
}

/// Opens the connections to a server that are wanted, until the server is dropped.
fn look_after(server: &Weak<Server>, replica: &store::Replica, orders: &Receiver<()>) {
    let mut was_well = None;
    while orders.recv().is_ok() {
        let mut pause = PAUSES.0;
        loop {
            let opened = open(replica);
            let Some(server) = server.upgrade() else { return };
            match opened {
                Ok((reader, revision)) => {
                    if was_well.replace(true) != Some(true) {
                        tracing::info!(endpoint = replica.name, revision, "the read endpoint takes reads");
                    }
                    server.revision.set(revision);
                    server.idle().push(reader);
                    break;
                }
                Err(error) => {
                    if was_well.replace(false) != Some(false) {
                        let endpoint = &replica.name;
                        tracing::warn!(endpoint, %error, "the read endpoint can't be used now; reads go elsewhere");
                    }
                }
            }
            drop(server);
            thread::sleep(pause);
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

/// A connection that was tried.
fn open(replica: &store::Replica) -> Result<(Box<dyn Reader>, Revision)> {
    let mut reader = (replica.open)()?;
    let (revision, _) = reader.begin()?;
    reader.end();
    Ok((reader, revision))
}
