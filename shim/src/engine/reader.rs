//! The threads that read the database.
//!
//! Small reads (a key, a status) and large ones (ranges) have threads of their own, so that a list of a million keys
//! does not hold up a get. A thread answers all small reads that wait from one snapshot, and all that want the newest
//! value of a key with one question to the database.
//!
//! A small read of a file takes microseconds, and handing it to a thread and back takes longer. So a store may have a
//! few connections that no thread owns: a task that finds one free reads on the spot. They are fewer than the tasks'
//! own threads, so that a slow disk can't stop all of these.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender};
use tokio::sync::oneshot;

use super::condition::Condition;
use super::metrics::Metrics;
use super::replicas::Replicas;
use super::snapshot::Snapshot;
use super::store::{Reader, Store};
use super::types::{Error, KeyValue, Result, Revision};

/// More reads than this do not wait in a queue; the client is told to come back.
const WAITING_READS: usize = 10_000;
/// How many small reads share a snapshot at most.
const SHARED_READS: usize = 64;

/// A read of any kind.
type Work = Box<dyn FnOnce(Result<Snapshot<'_>>) + Send>;

/// The newest revision, and the newest value of a key, if it has one.
type Newest = (Revision, Option<KeyValue>);

/// What waits for a reader thread.
enum Job {
    /// Who wants the newest value of a key.
    Newest(Bytes, oneshot::Sender<Result<Newest>>),
    /// Anything else.
    Read(Work),
}

/// How many threads read.
#[derive(Debug, Clone, Copy)]
pub struct ReaderThreads {
    /// For single keys.
    pub small: usize,
    /// For ranges; and so many connections there are to each server that holds a copy of the database.
    pub large: usize,
}

impl Default for ReaderThreads {
    fn default() -> Self {
        Self { small: 2, large: 4 }
    }
}

/// How much a read has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    Small,
    Large,
}

/// The reader threads. They end when the pool is dropped.
#[derive(Clone)]
pub(super) struct Readers {
    /// For small reads on the spot.
    free: Arc<[Mutex<Box<dyn Reader>>]>,
    small: Sender<Job>,
    large: Sender<Job>,
    replicas: Replicas,
    condition: Arc<Condition>,
}

impl std::fmt::Debug for Readers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Readers").finish_non_exhaustive()
    }
}

impl Readers {
    /// Opens the connections and starts a thread for each.
    pub(super) fn start(
        store: &Arc<dyn Store>,
        threads: ReaderThreads,
        condition: Arc<Condition>,
        metrics: &Metrics,
    ) -> Result<Self> {
        let ReaderThreads { small, large } = threads;
        let replicas = Replicas::start(store.replicas(), large, metrics)?;
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
        let on_the_spot = store.nature().free_readers;
        let free = (0..on_the_spot).map(|_| store.reader().map(Mutex::new)).collect::<Result<_>>()?;
        let (small, large) = (pool("read-small", small, SHARED_READS)?, pool("read-large", large, 1)?);
        Ok(Self { free, small, large, replicas, condition })
    }

    /// Runs a read: a small one here if a connection is free, else on a reader thread. Dropping the future leaves it to
    /// finish unheard.
    pub(super) async fn run<T, F>(&self, weight: Weight, read: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Snapshot<'_>) -> Result<T> + Send + 'static,
    {
        let result = self.run_somewhere(weight, read).await;
        self.condition.heed(&result);
        result
    }

    /// Runs a large read on a server that holds a copy of the database, if one is free and not late; else here.
    pub(super) async fn run_anywhere<T, F>(&self, read: F) -> Result<T>
    where
        T: Send + 'static,
        F: Fn(Snapshot<'_>) -> Result<T> + Send + Sync + 'static,
    {
        let read = Arc::new(read);
        if let Some(answer) = self.run_there(Arc::clone(&read)).await {
            return answer;
        }
        self.run(Weight::Large, move |snapshot| read(snapshot)).await
    }

    async fn run_there<T, F>(&self, read: Arc<F>) -> Option<Result<T>>
    where
        T: Send + 'static,
        F: Fn(Snapshot<'_>) -> Result<T> + Send + Sync + 'static,
    {
        let lent = self.replicas.lend()?;
        // All that ask at the same time share one question to the database.
        let stand = self.run(Weight::Small, |snapshot| Ok(snapshot.stand())).await.ok()?;
        tokio::task::spawn_blocking(move || lent.read(stand, &*read)).await.ok()?
    }

    /// Whether the newest values of keys are to be asked for with [`Readers::newest`]: where a question to the database
    /// takes longer than a thread does to take it there.
    pub(super) fn gather(&self) -> bool {
        self.free.is_empty()
    }

    /// The newest value of a key.
    pub(super) async fn newest(&self, key: Bytes) -> Result<Newest> {
        let (reply, answer) = oneshot::channel();
        let result = match ask(&self.small, Job::Newest(key, reply)) {
            Ok(()) => answer.await.map_err(|_| stopped()).and_then(|answer| answer),
            Err(error) => Err(error),
        };
        self.condition.heed(&result);
        result
    }

    async fn run_somewhere<T, F>(&self, weight: Weight, mut read: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Snapshot<'_>) -> Result<T> + Send + 'static,
    {
        if weight == Weight::Small {
            match self.run_here(read) {
                Ok(result) => return result,
                Err(unread) => read = unread,
            }
        }
        let (reply, answer) = oneshot::channel();
        let job = Job::Read(Box::new(move |snapshot| {
            if !reply.is_closed() {
                // Nobody waits for the answer any more: nothing to do.
                let _ = reply.send(snapshot.and_then(read));
            }
        }));
        ask(if weight == Weight::Small { &self.small } else { &self.large }, job)?;
        answer.await.map_err(|_| stopped())?
    }

    /// Gives the read back if all connections are taken.
    fn run_here<T, F>(&self, read: F) -> std::result::Result<Result<T>, F>
    where
        F: FnOnce(Snapshot<'_>) -> Result<T>,
    {
        let Some(mut reader) = self.free.iter().find_map(|reader| reader.try_lock().ok()) else { return Err(read) };
        let result = reader.begin().and_then(|(revision, compact_revision)| {
            read(Snapshot { reader: reader.as_mut(), revision, compact_revision })
        });
        reader.end();
        Ok(result)
    }
}

/// Adds a job to a queue that is not full.
fn ask(queue: &Sender<Job>, job: Job) -> Result<()> {
    if queue.len() >= WAITING_READS {
        return Err(Error::TooManyRequests);
    }
    queue.send(job).map_err(|_| stopped())
}

fn stopped() -> Error {
    Error::Unavailable("the server is stopping".into())
}

fn serve(mut reader: Box<dyn Reader>, jobs: &Receiver<Job>, shared: usize) {
    let (mut reads, mut newest) = (Vec::with_capacity(shared), Vec::with_capacity(shared));
    while let Ok(first) = jobs.recv() {
        // All that share a snapshot wait before it begins: a read that comes later may follow a write that the snapshot
        // lacks.
        for job in std::iter::once(first).chain(jobs.try_iter().take(shared - 1)) {
            match job {
                Job::Newest(key, reply) => newest.push((key, reply)),
                Job::Read(read) => reads.push(read),
            }
        }
        if !newest.is_empty() {
            let keys: Vec<&[u8]> = newest.iter().map(|(key, _)| &key[..]).collect();
            let found = reader.newest(&keys).map(|(revision, kvs)| {
                let by_key: HashMap<Bytes, KeyValue> = kvs.into_iter().map(|kv| (kv.key.clone(), kv)).collect();
                (revision, by_key)
            });
            for (key, reply) in newest.drain(..) {
                let answer = found.as_ref().map(|(revision, kvs)| (*revision, kvs.get(&key).cloned()));
                // Whoever does not wait any more does not matter.
                let _ = reply.send(answer.map_err(Clone::clone));
            }
        }
        if reads.is_empty() {
            continue;
        }
        let begun = reader.begin();
        for read in reads.drain(..) {
            read(begun.clone().map(|(revision, compact_revision)| Snapshot {
                reader: reader.as_mut(),
                revision,
                compact_revision,
            }));
        }
        reader.end();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use futures::FutureExt as _;

    use super::super::bare::Bare;
    use super::*;

    fn readers(store: &Arc<dyn Store>) -> Result<Readers> {
        Readers::start(store, ReaderThreads { small: 1, large: 1 }, Arc::default(), &Metrics::default())
    }

    /// Upstream's TestScaleUpdateWithoutResourceVersionWithConflicts found it: a get right after an update gave the
    /// value before it.
    #[tokio::test]
    async fn a_read_that_comes_during_another_sees_what_was_written_in_between() {
        let revision = Arc::new(AtomicI64::new(1));
        let store: Arc<dyn Store> = Arc::new(Bare { revision: Arc::clone(&revision), ..Bare::default() });
        let mut readers = readers(&store).unwrap();
        // No connection is free, so both go to the one thread.
        readers.free = Arc::new([]);
        let (began, begins) = oneshot::channel();
        let (go, wait) = crossbeam_channel::bounded::<()>(1);
        let slow = readers.run(Weight::Small, move |snapshot| {
            let _ = began.send(());
            let _ = wait.recv();
            Ok(snapshot.revision)
        });
        let after_write = async {
            begins.await.unwrap();
            revision.store(2, Ordering::SeqCst);
            let read = readers.run(Weight::Small, |snapshot| Ok(snapshot.revision));
            tokio::pin!(read);
            // The first poll queues it; then the slow one may end.
            assert!(read.as_mut().now_or_never().is_none());
            go.send(()).unwrap();
            read.await
        };
        let (slow, after_write) = tokio::join!(slow, after_write);
        assert_eq!((slow.unwrap(), after_write.unwrap()), (1, 2));
    }

    #[tokio::test]
    async fn those_that_want_the_newest_of_a_key_share_a_question() {
        let store: Arc<dyn Store> = Arc::new(Bare::default());
        let mut readers = readers(&store).unwrap();
        assert!(!readers.gather());
        readers.free = Arc::new([]);
        assert!(readers.gather());
        let (began, begins) = oneshot::channel();
        let (go, wait) = crossbeam_channel::bounded::<()>(1);
        let slow = readers.run(Weight::Small, move |_| {
            let _ = began.send(());
            let _ = wait.recv();
            Ok(())
        });
        let three = async {
            begins.await.unwrap();
            let mut keys = [&b"a"[..], b"b", b"a", b""].map(|key| Box::pin(readers.newest(key.into())));
            // The first poll queues them; then the slow one may end.
            assert!(keys.iter_mut().all(|key| key.as_mut().now_or_never().is_none()));
            go.send(()).unwrap();
            futures::future::join_all(keys).await
        };
        let (_, answers) = tokio::join!(slow, three);
        let answers = answers.into_iter().map(|answer| answer.unwrap());
        let seen: Vec<_> = answers.map(|(revision, kv)| (revision, kv.map(|kv| kv.key))).collect();
        assert_eq!(seen, [(0, Some("a".into())), (0, Some("b".into())), (0, Some("a".into())), (0, None)]);
    }

    #[tokio::test]
    async fn a_small_read_is_done_on_the_spot_unless_all_connections_are_taken() {
        let revision = Arc::new(AtomicI64::new(1));
        let store: Arc<dyn Store> = Arc::new(Bare { revision: Arc::clone(&revision), ..Bare::default() });
        let readers = readers(&store).unwrap();
        let here = thread::current().id();
        let read = |readers: &Readers| {
            let readers = readers.clone();
            async move { readers.run(Weight::Small, |snapshot| Ok((snapshot.revision, thread::current().id()))).await }
        };
        assert_eq!(read(&readers).await.unwrap(), (1, here));
        revision.store(2, Ordering::SeqCst);
        assert_eq!(read(&readers).await.unwrap(), (2, here));
        let taken: Vec<_> = readers.free.iter().map(|reader| reader.lock().unwrap()).collect();
        let (seen, thread) = read(&readers).await.unwrap();
        assert!(seen == 2 && thread != here);
        drop(taken);
    }
}
