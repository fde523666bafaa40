//! The threads that read the database.
//!
//! Small reads (a key, a status) and large ones (ranges) have threads of their own, so that a list of a million keys does not hold up a get. A
//! thread answers all small reads that wait from one snapshot.

use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender};
use tokio::sync::oneshot;

use super::store::{Reader, Store};
use super::types::{Error, Result, Revision};

/// How many small reads share a snapshot at most.
const SHARED_READS: usize = 64;

/// A snapshot to read from.
pub(super) struct Snapshot<'a> {
    pub(super) reader: &'a mut dyn Reader,
    pub(super) revision: Revision,
    pub(super) compact_revision: Revision,
}

impl Snapshot<'_> {
    /// The revision to read at for a request: the newest for 0. Errors on one that was compacted or lies in the future.
    pub(super) fn at(&self, requested: Revision) -> Result<Revision> {
        match requested {
            ..=0 => Ok(self.revision),
            future if future > self.revision => Err(Error::FutureRevision),
            old if old < self.compact_revision => Err(Error::Compacted { compact_revision: self.compact_revision }),
            revision => Ok(revision),
        }
    }
}

type Job = Box<dyn FnOnce(Result<Snapshot<'_>>) + Send>;

/// How much a read has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    Small,
    Large,
}

/// The reader threads. They end when the pool is dropped.
#[derive(Clone)]
pub(super) struct Readers {
    small: Sender<Job>,
    large: Sender<Job>,
}

impl std::fmt::Debug for Readers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readers").finish_non_exhaustive()
    }
}

impl Readers {
    /// Opens the connections and starts a thread for each.
    pub(super) fn start(store: &Arc<dyn Store>, small: usize, large: usize) -> Result<Self> {
        let pool = |name: &str, threads: usize, shared: usize| -> Result<Sender<Job>> {
            let (sender, jobs) = crossbeam_channel::unbounded();
            for number in 0..threads {
                let (reader, jobs) = (store.reader()?, jobs.clone());
                thread::Builder::new()
                    .name(format!("{name}-{number}"))
                    .spawn(move || serve(reader, &jobs, shared))
                    .map_err(|error| Error::Broken(format!("cannot start a reader thread: {error}")))?;
            }
            Ok(sender)
        };
        Ok(Self { small: pool("read-small", small, SHARED_READS)?, large: pool("read-large", large, 1)? })
    }

    /// Runs a read on a reader thread. Dropping the future leaves it to finish unheard.
    pub(super) async fn run<T, F>(&self, weight: Weight, read: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Snapshot<'_>) -> Result<T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |snapshot| {
            if !reply.is_closed() {
                // Nobody waits for the answer any more: nothing to do.
                let _ = reply.send(snapshot.and_then(read));
            }
        });
        let queue = if weight == Weight::Small { &self.small } else { &self.large };
        queue.send(job).map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

fn stopped() -> Error {
    Error::Unavailable("the server is stopping".into())
}

fn serve(mut reader: Box<dyn Reader>, jobs: &Receiver<Job>, shared: usize) {
    while let Ok(first) = jobs.recv() {
        let begun = reader.begin();
        for job in std::iter::once(first).chain(jobs.try_iter().take(shared - 1)) {
            job(begun.clone().map(|(revision, compact_revision)| Snapshot {
                reader: reader.as_mut(),
                revision,
                compact_revision,
            }));
        }
        reader.end();
    }
}
