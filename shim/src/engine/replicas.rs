//! Servers that hold copies of the database, and answer reads of ranges.
//!
//! A copy may be late, so a read says how far the database is ([`Stand`]), and is answered as of that moment. A copy
//! that does not get there soon leaves the answer to the database itself, and so does one where anything goes wrong. So
//! a copy that is late, stuck or gone costs time, never truth.
//!
//! After a failover a server may follow the primary of before, and have a commit that nobody acknowledged. Its number
//! ([`Reader::batch`]) is lower than that of the commit that got the same revision on the new primary. Up to the last
//! acknowledged commit both are the same; an answer as of that is right.
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
use super::snapshot::{Snapshot, Stand};
use super::store::{self, Reader};
use super::types::{Error, Result, Revision};

/// How long a read waits for a copy that is late, and how often it looks.
const WAIT: Duration = Duration::from_millis(20);
const LOOK: Duration = Duration::from_millis(2);
/// How long a server is left alone after it was late, or could not be reached: at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

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
    /// Reads the database as it was when it stood there, if the copy has got there and nothing goes wrong.
    pub(super) fn read<T>(mut self, stand: Stand, read: &dyn Fn(Snapshot<'_>) -> Result<T>) -> Option<Result<T>> {
        let mut reader = self.reader.take()?;
        let until = Instant::now() + WAIT;
        let done = loop {
            match reader.begin() {
                Ok((revision, compact_revision)) => {
                    self.server.revision.set(revision);
                    if has(&stand, &Stand { revision, compact_revision, batch: reader.batch() }) {
                        let Stand { revision, compact_revision: least, .. } = stand;
                        let compact_revision = compact_revision.max(least);
                        break read(Snapshot { reader: reader.as_mut(), revision, compact_revision });
                    }
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
            // These are answers, and any other error is the server's.
            Err(error) if !matches!(error, Error::Compacted { .. } | Error::FutureRevision) => {
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

/// Whether a copy has all that the database had, and still tells it from what came later.
fn has(stand: &Stand, copy: &Stand) -> bool {
    copy.revision >= stand.revision && copy.batch >= stand.batch && copy.compact_revision <= stand.revision
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

#[cfg(test)]
mod tests {
    use super::super::bare::Bare;
    use super::*;

    /// Revision, revision of the last compaction, number of the last commit.
    fn stand((revision, compact_revision, batch): (i64, i64, i64)) -> Stand {
        Stand { revision, compact_revision, batch }
    }

    /// A connection to a copy, and all that are free.
    fn lent(copy: Stand) -> (Lent, Replicas) {
        let Stand { revision, compact_revision, batch } = copy;
        let bare = Bare { revision: Arc::new(revision.into()), compact_revision, batch };
        let open = move || Ok(Box::new(bare.clone()) as Box<dyn Reader>);
        let replica = store::Replica { name: "copy".into(), open: Box::new(open) };
        let replicas = Replicas::start(vec![replica], 1, &Metrics::default()).unwrap();
        loop {
            if let Some(lent) = replicas.lend() {
                return (lent, replicas);
            }
            thread::yield_now();
        }
    }

    /// Asks a copy; returns the revisions as of which it answers.
    fn asked(copy: Stand, stand: Stand) -> Option<(Revision, Revision)> {
        let (lent, replicas) = lent(copy);
        let answer = lent.read(stand, &|snapshot| Ok((snapshot.revision, snapshot.compact_revision)));
        assert!(answer.is_none() || replicas.lend().is_some(), "the connection is not given back");
        answer.map(|answer| answer.unwrap())
    }

    #[test]
    fn a_copy_answers_as_of_what_the_database_had() {
        let database = stand((7, 3, 20));
        let table = [
            ("the same", (7, 3, 20), Some((7, 3))),
            ("more writes", (9, 3, 22), Some((7, 3))),
            ("a commit without a revision more", (7, 3, 21), Some((7, 3))),
            ("a compaction less, which is a commit", (7, 0, 19), None),
            ("more writes and a compaction of what the database has", (9, 8, 23), None),
            ("a write less", (6, 3, 19), None),
            ("the same revision, of the primary that was before", (7, 3, 19), None),
            ("a higher revision, of the primary that was before", (8, 3, 19), None),
        ];
        for (what, copy, expected) in table {
            assert_eq!(asked(stand(copy), database), expected, "{what}");
        }
    }

    #[test]
    fn a_revision_that_is_not_there_is_no_fault_of_the_copy() {
        for error in [Error::FutureRevision, Error::Compacted { compact_revision: 3 }] {
            let (lent, replicas) = lent(stand((7, 3, 20)));
            let answer = lent.read(stand((7, 3, 20)), &|_| Err::<(), _>(error.clone()));
            assert_eq!(answer, Some(Err(error)));
            assert!(replicas.lend().is_some(), "the connection is not given back");
        }
        let (lent, _) = lent(stand((7, 3, 20)));
        assert!(lent.read(stand((7, 3, 20)), &|_| Err::<(), _>(Error::Unavailable("gone".into()))).is_none());
    }
}
