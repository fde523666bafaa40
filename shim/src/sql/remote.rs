//! What all databases on servers have in common.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::failure::{Failure, Result};
use super::turn::Turn;
use crate::endpoint::Address;
use crate::engine::store::{Nature, Portion};
use crate::engine::{Error, Revision};

/// The longest key, in bytes: an entry of an index holds one beside a value.
pub(super) const LONGEST_KEY: usize = 1536;
/// How long a portion of the collector may take, all writes waiting meanwhile. Two round trips and a flush are most of
/// that.
const HOLD: Duration = Duration::from_millis(20);
/// How long a step of a compaction may take.
pub(super) const TURN: Turn = Turn::new(Duration::from_millis(3)..=HOLD);
/// How long a commit may wait for more requests.
const GATHER: Duration = Duration::from_micros(500);
/// How often the process that serves the store tells that it is there.
pub(super) const BEAT: Duration = Duration::from_secs(2);
/// How long that process may be silent and still be taken to serve the store, in milliseconds.
pub(super) const SILENCE: i64 = 10_000;
/// How long a server that holds a copy of the database may take for an answer, or to be connected: others can answer.
pub(super) const OF_COPY: Duration = Duration::from_secs(2);
/// After which time a process that does not serve is forgotten, in milliseconds.
pub(super) const FORGOTTEN: i64 = 3_600_000;
/// Who serves a database that a store has left: nobody. Where else the address of the process is, there is the note.
pub(super) const MOVED: i64 = -1;

/// What they are like: all that they do takes some round trips, whatever it does. `values_limit`: how many bytes of
/// values one write may have.
pub(super) const fn nature(values_limit: usize) -> Nature {
    Nature {
        free_readers: 0,
        gather: GATHER,
        portion: Portion { least: 64, hold: HOLD },
        key_limit: Some(LONGEST_KEY),
        values_limit: Some(values_limit),
    }
}

/// Does something that takes long, on a connection of its own, while this process goes on telling that it is there.
/// Telling may fail for a while, as long as no other process serves the store.
pub(super) fn beside(
    every: Duration,
    work: impl FnOnce() -> Result<()> + Send,
    mut tell: impl FnMut() -> Result<()>,
) -> Result<()> {
    thread::scope(|scope| {
        let (working, ended) = mpsc::channel::<()>();
        let worker = scope.spawn(move || {
            let _working = working;
            work()
        });
        let mut told = Ok(());
        while told.is_ok() && ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
            told = match tell() {
                Err(failure @ Failure::Final(_)) => Err(failure),
                _ => Ok(()),
            };
        }
        let done = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        told.and(done)
    })
}

/// What the database says of the process that serves it.
#[derive(Debug)]
pub(super) struct Serving {
    /// The number of the process; 0 if none serves, [`MOVED`] if the store has moved.
    pub(super) owner: i64,
    /// When it last said that it is there, and what time it is, both by the server's clock.
    pub(super) seen_at: i64,
    pub(super) now: i64,
    /// Where it is, as [`place`] says.
    pub(super) place: String,
    /// Whether its connection is there, as far as the server tells.
    pub(super) connected: bool,
}

impl Serving {
    /// Whether the process is there, or was a moment ago.
    pub(super) fn is_there(&self) -> bool {
        self.owner > 0 && self.connected && self.now.saturating_sub(self.seen_at) < SILENCE
    }
}

/// Where this process is: the URL at which others reach it, if they are to, and its number.
pub(super) fn place(url: Option<&str>) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let process = format!("process {} on {}", std::process::id(), host.trim());
    match url {
        Some(url) => format!("{url} ({process})"),
        None => process,
    }
}

/// Why none of several hosts can be used: what is wrong with each that may be right again, else with the first.
pub(super) fn none_of(failures: &[Failure]) -> Failure {
    let mut texts = Vec::new();
    for failure in failures {
        if let Failure::Again(error) | Failure::Lost(error) = failure {
            let text = if let Error::Unavailable(text) = error { text.clone() } else { error.to_string() };
            texts.push(text);
        }
    }
    if !texts.is_empty() {
        return Failure::Lost(Error::Unavailable(texts.join("; ")));
    }
    let none = || Failure::Final(Error::Broken("the endpoint names no host".into()));
    failures.first().cloned().unwrap_or_else(none)
}

/// How to reach a server that holds a copy of the database.
pub(super) fn of_copy(address: &Address) -> Address {
    let mut address = address.clone();
    let timeout = &mut address.options.connect_timeout;
    *timeout = OF_COPY.min(*timeout);
    address
}

/// What is wrong with a server that is to hold a copy of the database that this process serves, and does not.
pub(super) fn no_copy() -> Failure {
    Failure::Lost(Error::Unavailable(
        "the server lacks what this process wrote when it began to serve: it is late, or holds another database".into(),
    ))
}

/// The newest revision that this process has seen of its database, on whichever connection and server.
#[derive(Debug, Default)]
pub(super) struct Seen(AtomicI64);

impl Seen {
    /// What it is. To be asked before the database is: others may see more meanwhile.
    pub(super) fn newest(&self) -> Revision {
        self.0.load(Ordering::SeqCst)
    }

    /// Notes at which revision a server is. `newest`: what had been seen before the server was asked. A server that is
    /// behind that lacks commits which were acknowledged; maybe another one has them. Only a store that begins to be
    /// loaded is at 0.
    pub(super) fn note(&self, revision: Revision, newest: Revision) -> Result<()> {
        self.0.fetch_max(revision, Ordering::SeqCst);
        if revision == 0 || revision >= newest {
            return Ok(());
        }
        Err(Failure::Lost(Error::Unavailable(format!(
            "the database is at revision {revision}, but it was at {newest} before: it lacks commits that were \
             acknowledged, as a standby does that was promoted too early; connect to a server that has them, or \
             accept that they are lost, with sluice-shim accept-rollback"
        ))))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    use futures::future::BoxFuture;

    use super::*;
    use crate::clock::Ticker;
    use crate::engine::store::{Changes, Footprint};

    /// The clock of a machine that sleeps.
    #[derive(Debug)]
    struct Asleep;

    impl Ticker for Asleep {
        fn elapsed(&self) -> Duration {
            Duration::ZERO
        }

        fn sleep_until(&self, _: Duration) -> BoxFuture<'static, ()> {
            Box::pin(std::future::pending())
        }
    }

    /// Leases end by it, and so they do when this machine slept, when the server's clock was set, or when another
    /// server has the database.
    #[test]
    fn the_clock_of_a_store_goes_by_the_servers() {
        for endpoint in crate::sql::on_servers().into_iter().take(2) {
            let store = crate::sql::open_by(&endpoint, Arc::default(), Arc::new(Asleep)).unwrap();
            let (clock, mut reader, mut writer) = (store.clock(), store.reader().unwrap(), store.writer().unwrap());
            let goes_on = |ask: &mut dyn FnMut() -> crate::engine::Result<()>| {
                let before = clock.now();
                (0..1000).any(|_| {
                    ask().unwrap();
                    clock.now() > before
                })
            };
            assert!(goes_on(&mut || reader.begin().map(|_| reader.end())), "reads of {endpoint}");
            let mut commit = || writer.commit(&Footprint::default(), &mut |_| Ok(Changes::default())).map(drop);
            assert!(goes_on(&mut commit), "commits of {endpoint}");
        }
    }

    #[test]
    fn a_process_tells_that_it_is_there_while_something_takes_long() {
        let (told, heard) = channel();
        let long = move || {
            for _ in 0..3 {
                heard.recv_timeout(Duration::from_secs(60)).unwrap();
            }
            Ok(())
        };
        let again = || Failure::Again(Error::Unavailable("locked".into()));
        let every = Duration::from_millis(1);
        beside(every, long, || told.send(()).map_or(Ok(()), |()| Err(again()))).unwrap();
        assert!(matches!(beside(every, || Err(again()), || Ok(())), Err(Failure::Again(_))));
    }

    #[test]
    fn a_process_that_serves_no_more_says_so_when_the_work_has_ended() {
        let (told, heard) = channel();
        let long = move || {
            heard.recv_timeout(Duration::from_secs(60)).unwrap();
            Ok(())
        };
        let replaced = |()| Err(Failure::Final(Error::Replaced("by another".into())));
        let done = beside(Duration::from_millis(1), long, || told.send(()).map_or(Ok(()), replaced));
        assert!(matches!(done, Err(Failure::Final(Error::Replaced(_)))), "{done:?}");
    }

    #[test]
    fn of_several_hosts_all_are_told_that_may_be_right_again() {
        fn told(failures: &[Failure]) -> (bool, String) {
            (matches!(none_of(failures), Failure::Lost(_)), Error::from(none_of(failures)).to_string())
        }
        let lost = |text: &str| Failure::Lost(Error::Unavailable(text.into()));
        let wrong = |text: &str| Failure::Final(Error::Broken(text.into()));
        assert_eq!(told(&[lost("a"), wrong("b"), lost("c")]), (true, Error::Unavailable("a; c".into()).to_string()));
        assert_eq!(told(&[wrong("a"), wrong("b")]), (false, Error::Broken("a".into()).to_string()));
    }

    #[test]
    fn a_snapshot_that_another_thread_was_ahead_of_is_no_way_back() {
        let seen = Seen::default();
        let before = seen.newest();
        seen.note(8, before).unwrap();
        seen.note(7, before).unwrap();
        assert!(matches!(seen.note(7, seen.newest()), Err(Failure::Lost(_))));
        seen.note(0, seen.newest()).unwrap();
    }
}
