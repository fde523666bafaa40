//! Copies the write-ahead log into the database, beside the writer.
//!
//! A thread with a connection of its own copies most of the log while commits go on, and syncs what it copied. Little
//! was written meanwhile. The writer copies that rest between two commits, so that nothing is left and its next commit
//! starts the log afresh. With the thread alone the log would never be empty under load. With the writer alone all
//! requests would wait for the copy of the whole log.

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::error::failed;
use super::{BUSY_TIMEOUT, READER_CACHE, configure, connect_writer, error};
use crate::engine::{Error, Result};

/// The log is copied when it has so many pages, or so many while nothing else is to do. A page that was changed often
/// is copied once: with 8,192 instead a create took a fifth more processor time, a put and a deletion a third.
const PAGES: i64 = 32_768;
const PAGES_IDLE: i64 = 1024;
/// The writer copies the rest when it is no more than this, or after so many rounds of the thread.
const REST: i64 = 512;
const ROUNDS: u32 = 4;

/// How far a checkpoint came, in pages of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    /// In the log when it began.
    pub(super) log: i64,
    /// Of these, copied.
    pub(super) copied: i64,
}

impl Progress {
    /// Whether nothing was left.
    pub(super) fn is_whole(self) -> bool {
        self.copied >= self.log
    }
}

/// What was done between two commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copied {
    Nothing,
    /// The thread copied so many pages of the log; commits may have been added meanwhile.
    Beside(i64),
    /// The writer copied.
    Here(Progress),
}

/// What the writer has to do between two commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Nothing,
    /// Wake the thread.
    Start,
    /// Copy the rest.
    Finish,
}

/// The decisions; no thread and no database in here.
#[derive(Debug)]
struct Course {
    running: bool,
    rounds: u32,
    /// The number of pages at which to begin next.
    due: i64,
}

impl Course {
    fn new() -> Self {
        Self { running: false, rounds: 0, due: PAGES }
    }

    /// When the thread does not run.
    fn begin(&mut self, pages: i64, idle: bool) -> Step {
        if pages < PAGES {
            // The log began afresh.
            self.due = PAGES;
        }
        if pages >= self.due || (idle && pages >= PAGES_IDLE && self.due == PAGES) {
            self.rounds = 0;
            self.start()
        } else {
            Step::Nothing
        }
    }

    /// When the thread has ended a round. `pages`: what the log has now.
    fn after_round(&mut self, progress: Progress, pages: i64) -> Step {
        self.running = false;
        if progress.copied < progress.log {
            // A reader needs the rest. Try again when it is worth it.
            self.due = pages + PAGES;
            Step::Nothing
        } else if pages - progress.copied <= REST || self.rounds >= ROUNDS {
            Step::Finish
        } else {
            self.start()
        }
    }

    fn finished(&mut self, progress: Progress) {
        self.due = if progress.copied < progress.log { progress.log + PAGES } else { PAGES };
    }

    fn start(&mut self) -> Step {
        self.running = true;
        self.rounds += 1;
        Step::Start
    }
}

/// The thread, and where it stands.
pub(super) struct Checkpoints {
    course: Course,
    /// `None` once it is to end.
    wake: Option<Sender<()>>,
    results: Receiver<Result<Progress>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    /// Starts the thread.
    pub(super) fn start(path: &Path) -> Result<Self> {
        let connection = connect_writer(path)?;
        keep_log_at_close(&connection, true).map_err(|error| error::at(path, error))?;
        configure(&connection, READER_CACHE).map_err(|error| error::at(path, error))?;
        connection.pragma_update(None, "synchronous", "full").map_err(|error| error::at(path, error))?;
        let ((wake, woken), (sender, results)) = (crossbeam_channel::bounded(1), crossbeam_channel::bounded(1));
        let run = move || {
            while woken.recv().is_ok() {
                if sender.send(round(&connection)).is_err() {
                    break;
                }
            }
        };
        let thread = thread::Builder::new()
            .name("checkpoint".into())
            .spawn(run)
            .map_err(|error| Error::Broken(format!("cannot start the checkpoint thread: {error}")))?;
        Ok(Self { course: Course::new(), wake: Some(wake), results, thread: Some(thread) })
    }

    /// Does what is due; `writer` is the connection of the writer, `log` how many pages its log has. Returns what was
    /// copied.
    pub(super) fn step(&mut self, writer: &Connection, log: &AtomicI64, idle: bool) -> Result<Copied> {
        let pages = log.load(Ordering::Relaxed);
        let mut copied = Copied::Nothing;
        let step = if self.course.running {
            match self.results.try_recv() {
                Ok(progress) => {
                    copied = progress.as_ref().map_or(copied, |progress| Copied::Beside(progress.copied));
                    self.after(progress, pages)?
                }
                Err(TryRecvError::Empty) => return Ok(copied),
                Err(TryRecvError::Disconnected) => return Err(stopped()),
            }
        } else {
            self.course.begin(pages, idle)
        };
        match step {
            Step::Nothing => {}
            Step::Start => self.wake.as_ref().ok_or_else(stopped)?.send(()).map_err(|_| stopped())?,
            Step::Finish => {
                let progress = passive(writer)?;
                self.course.finished(progress);
                log.store(progress.log - progress.copied, Ordering::Relaxed);
                copied = Copied::Here(progress);
            }
        }
        Ok(copied)
    }

    /// Whether the thread copies.
    pub(super) fn is_running(&self) -> bool {
        self.course.running
    }

    /// Waits until the thread is at rest.
    pub(super) fn wait(&mut self) -> Result<()> {
        if self.course.running {
            let progress = self.results.recv().map_err(|_| stopped())?;
            self.course.running = false;
            progress?;
        }
        Ok(())
    }

    /// Ends the thread and closes its connection.
    pub(super) fn stop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // Fails only if it panicked, which it has reported itself.
            let _ = thread.join();
        }
    }

    fn after(&mut self, progress: Result<Progress>, pages: i64) -> Result<Step> {
        // An error (a full disk) must not leave it running for ever.
        self.course.running = false;
        Ok(self.course.after_round(progress?, pages))
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.stop();
    }
}

fn stopped() -> Error {
    Error::Broken("the checkpoint thread has stopped".into())
}

/// Copies what is in the log now, and syncs it: SQLite does not while commits go on, and then the writer would sync all
/// of it.
fn round(connection: &Connection) -> Result<Progress> {
    let progress = passive(connection)?;
    sluice_wal::sync_database(connection).map_err(failed)?;
    Ok(progress)
}

/// Whether SQLite leaves the log alone when the last connection closes.
pub(super) fn keep_log_at_close(connection: &Connection, keep: bool) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep).map(|_| ())
}

/// Copies what no reader is in the way of.
pub(super) fn passive(connection: &Connection) -> Result<Progress> {
    checkpoint(connection, "PASSIVE")
}

/// Gives back the file of the log, as far as no reader needs it.
pub(super) fn truncate(connection: &Connection) -> Result<()> {
    checkpoint(connection, "TRUNCATE").map(|_| ())
}

/// Never waits for readers: what they still need is left for the next time.
fn checkpoint(connection: &Connection, mode: &str) -> Result<Progress> {
    let sql = format!("PRAGMA wal_checkpoint({mode})");
    let patience = connection.busy_timeout(Duration::ZERO);
    let done = patience.and_then(|()| {
        connection.query_row(&sql, [], |row| {
            let (log, copied): (i64, i64) = (row.get(1)?, row.get(2)?);
            Ok(Progress { log, copied })
        })
    });
    connection.busy_timeout(BUSY_TIMEOUT).and(done).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(pages: i64) -> Progress {
        Progress { log: pages, copied: pages }
    }

    #[test]
    fn the_writer_copies_a_small_rest() {
        let mut course = Course::new();
        assert_eq!(course.begin(PAGES - 1, false), Step::Nothing);
        assert_eq!(course.begin(PAGES, false), Step::Start);
        assert_eq!(course.after_round(whole(PAGES), PAGES + REST + 1), Step::Start);
        assert_eq!(course.after_round(whole(PAGES + REST + 1), PAGES + REST + 2), Step::Finish);
        course.finished(whole(PAGES + REST + 2));
        assert_eq!(course.begin(7, false), Step::Nothing);
        assert_eq!(course.begin(PAGES, false), Step::Start);
    }

    #[test]
    fn a_log_that_grows_as_fast_as_it_is_copied_is_finished_all_the_same() {
        let mut course = Course::new();
        let mut pages = PAGES;
        assert_eq!(course.begin(pages, false), Step::Start);
        for _ in 1..ROUNDS {
            let copied = whole(pages);
            pages *= 2;
            assert_eq!(course.after_round(copied, pages), Step::Start);
        }
        assert_eq!(course.after_round(whole(pages), pages * 2), Step::Finish);
    }

    #[test]
    fn a_reader_in_the_way_is_not_asked_after_each_commit() {
        let mut course = Course::new();
        assert_eq!(course.begin(PAGES, false), Step::Start);
        assert_eq!(course.after_round(Progress { log: PAGES, copied: 10 }, PAGES + 5), Step::Nothing);
        assert_eq!(course.begin(PAGES + 6, true), Step::Nothing);
        assert_eq!(course.begin(2 * PAGES + 5, false), Step::Start);
        assert_eq!(course.after_round(whole(2 * PAGES + 5), 2 * PAGES + 5), Step::Finish);
    }

    #[test]
    fn an_idle_database_keeps_a_short_log() {
        let mut course = Course::new();
        assert_eq!(course.begin(PAGES_IDLE, false), Step::Nothing);
        assert_eq!(course.begin(PAGES_IDLE, true), Step::Start);
    }
}
