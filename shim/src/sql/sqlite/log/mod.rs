//! Whether the log beside the database is the one that the database needs.
//!
//! SQLite takes a file without its log for a database: what was in the log is not there then, and nothing says so. So
//! the file of the database has a [`Mark`] in the bytes of its header that SQLite leaves alone: which log it needs, by
//! salt, and how many frames of it at least; or that it is whole without that log. The mark is not part of what SQLite
//! stores: the connections that commit and copy ([`sluice_wal`]) neither see nor overwrite it, and no backup through
//! SQLite gets it. A start, fsck and whatever else reads the database compare it with the log *before* SQLite looks at
//! either.
//!
//! The order of things makes sure that no process that is killed, and no system that crashes, leaves a mark that is
//! wrong:
//!
//! - **Before the first commit** to a log ([`Guarded::ready`]) page 1 alone is committed, and the mark then says that
//!   this log must be there. Only then comes the commit that somebody waits for. So a lost log is noticed from the
//!   first acknowledged write on; a commit itself costs a comparison in memory.
//! - **A log begins afresh** only when all of the one before is in the database and synced. Its salt is the next one
//!   then, and a mark that still names the one before accepts it, with or without frames: nothing of it was
//!   acknowledged. It is marked before anything is.
//! - **A checkpoint that came to its end** by the writer itself makes the file whole, and the mark says so. The log may
//!   be cut then; the mark is synced before.
//! - **A checkpoint that came not so far** is followed by another commit of page 1, so that this page is always among
//!   what is not copied yet. Why: the mark must go when somebody else brings all of the log to the database, for
//!   instance the sqlite3 shell after a kill, which then removes the log. It copies page 1, with zeros for the mark.
//!   The mark's number of frames goes up, since without these the file is a mixture of old and new pages.
//! - **A clean stop** copies all, marks the file as whole, and cuts the log. A whole file beside a log of another salt
//!   is not this log's: it was put there (or the log was left there), and SQLite would apply it.
//! - **A new log whose salt can't be told beforehand** (SQLite draws it by lot when there is no file) is preceded by no
//!   mark at all, for a moment.
//!
//! What is not noticed: a log that lost its end beyond what the mark names (to notice that, each commit would have to
//! write the database's file as well); a log that is removed under a running server, until that server ends; and
//! whatever happens while there is no mark, as in a database of an older version before its first start here.

mod file;
mod mark;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::ErrorKind;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use rusqlite::hooks::Wal;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use self::file::{Header, OnDisk, committed, header};
use self::mark::{Fit, Mark};
use super::checkpoint::{keep_log_at_close, passive, truncate};
use super::error::{at, failed, open_error};
use super::upgrade::VERSION;
use super::{WRITER_CACHE, beside, configure, schema};
use crate::clock::WallTime;
use crate::engine::{Error, Result};
use crate::object::time::format_rfc3339;

/// How often two files that change meanwhile are compared.
const ATTEMPTS: u32 = 1000;

/// The connection that commits, which keeps the mark right. Dropping it makes the database whole, as far as no reader
/// is in the way.
#[derive(Debug)]
pub(super) struct Guarded {
    connection: Connection,
    /// The log that the mark says is needed; `None` if the file is whole.
    marked: Option<[u8; 8]>,
    /// What the mark was when there was no log; it holds again if there was none until the end.
    left: Option<Mark>,
    /// Whether the log of this process was marked once, so that the next salt is known.
    begun: bool,
    /// How many frames the log had after the last commit, or still has to copy after a checkpoint.
    frames: Arc<AtomicI64>,
}

impl Deref for Guarded {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Guarded {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SQLite takes the log away with the last connection, and must not unless the mark knows. Where it can't be
        // done (a full disk), the log stays and is read at the next start.
        if self.settle().is_ok_and(|whole| whole) {
            let _ = keep_log_at_close(&self.connection, false);
        }
    }
}

impl Guarded {
    /// Compares mark and log, and makes sure that the file has our tables. Fails if the log is not the one that the
    /// file needs.
    pub(super) fn new(connection: Connection, path: &Path) -> Result<Self> {
        keep_log_at_close(&connection, true).map_err(|error| at(path, error))?;
        let mark = Mark::read(&connection).map_err(|error| at(path, error))?;
        check(&connection, path)?;
        let log = log_of(&connection, path);
        super::write_log_anew(&log)?;
        // After the comparison, since it makes SQLite look at the log; before the hook, which SQLite's own limit for
        // checkpoints would replace.
        configure(&connection, WRITER_CACHE).map_err(|error| at(path, error))?;
        let mut guarded = Self { connection, marked: None, left: None, begun: false, frames: Arc::default() };
        let now = guarded.frames();
        guarded
            .connection
            .wal_hook(Some(move |_: &mut Wal, frames: i32| {
                now.store(frames.into(), Ordering::Relaxed);
                Ok(())
            }))
            .map_err(|error| at(path, error))?;
        guarded.take_over(mark, &log, path)?;
        schema::prepare(&mut guarded.connection, path)?;
        Ok(guarded)
    }

    /// Goes on with what the last process left.
    fn take_over(&mut self, mark: Option<Mark>, log: &Path, path: &Path) -> Result<()> {
        let Some(mark) = mark else { return Ok(()) };
        let begun = match header(log).map_err(|error| open_error(log, &error))? {
            OnDisk::Log(header) => committed(log, &header, 1).map_err(|error| open_error(log, &error))? > 0,
            OnDisk::Missing | OnDisk::Empty => false,
        };
        if begun && mark.frames > 0 {
            self.marked = Some(mark.salt);
        } else {
            // There is nothing in the log, and the salt of the next one is drawn by lot.
            self.forget().map_err(|error| at(path, error))?;
            self.left = Some(mark);
        }
        Ok(())
    }

    /// How many frames the log had after the last commit.
    pub(super) fn frames(&self) -> Arc<AtomicI64> {
        Arc::clone(&self.frames)
    }

    /// Makes sure that the mark names the log. Needed before a commit, and once more before it is acknowledged, since
    /// it may have begun the log afresh.
    pub(super) fn ready(&mut self) -> rusqlite::Result<()> {
        let salt = sluice_wal::log_salt(&self.connection)?;
        if self.marked.is_some() && self.marked == salt {
            return Ok(());
        }
        if self.marked.is_none() && !(self.begun && salt.is_some()) {
            self.forget()?;
        }
        // Writes page 1, though nothing in it changes.
        self.connection.pragma_update(None, "user_version", VERSION)?;
        self.name()
    }

    /// Says in the mark that the log as it is now must be there.
    fn name(&mut self) -> rusqlite::Result<()> {
        if let Some(salt) = sluice_wal::log_salt(&self.connection)? {
            if !self.begun {
                sync_names(&self.connection)?;
            }
            // None would say that the file is whole.
            self.mark(salt, self.frames.load(Ordering::Relaxed).max(1))?;
            sluice_wal::sync_database(&self.connection)?;
            (self.marked, self.begun) = (Some(salt), true);
        }
        Ok(())
    }

    /// The salt of the log as it is now.
    pub(super) fn log(&self) -> rusqlite::Result<Option<[u8; 8]>> {
        sluice_wal::log_salt(&self.connection)
    }

    /// After a checkpoint of another connection, or one that did not come to the end of the log: so many frames of the
    /// log that had this salt when the checkpoint began are in the database. Another log may have begun since.
    pub(super) fn copied(&mut self, frames: i64, of: Option<[u8; 8]>) -> rusqlite::Result<()> {
        let salt = sluice_wal::log_salt(&self.connection)?;
        let Some(salt) = self.marked.filter(|marked| Some(*marked) == salt) else {
            return if self.marked.is_some() { self.ready() } else { Ok(()) };
        };
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
        sluice_wal::commit_unsynced(transaction)?;
        if sluice_wal::log_salt(&self.connection)? != Some(salt) {
            // The log began afresh, which is synced always.
            return self.name();
        }
        if of == Some(salt) { self.mark(salt, frames.max(1)) } else { Ok(()) }
    }

    /// After a checkpoint by this connection that came to the end of the log.
    pub(super) fn whole(&mut self) -> rusqlite::Result<()> {
        match (sluice_wal::log_salt(&self.connection)?, self.left) {
            (Some(salt), _) => self.mark(salt, 0)?,
            (None, Some(mark)) if !self.begun => Mark { frames: 0, ..mark }.write(&self.connection)?,
            (None, _) => {}
        }
        self.marked = None;
        Ok(())
    }

    /// Copies all of the log, says so in the mark and gives back the file of the log. False if a reader is in the way.
    pub(super) fn settle(&mut self) -> Result<bool> {
        let log = self.log().map_err(failed)?;
        let progress = passive(&self.connection)?;
        if !progress.is_whole() {
            self.copied(progress.copied, log).map_err(failed)?;
            return Ok(false);
        }
        self.whole().and_then(|()| sluice_wal::sync_database(&self.connection)).map_err(failed)?;
        truncate(&self.connection)?;
        Ok(true)
    }

    /// Takes the mark away, for certain.
    fn forget(&self) -> rusqlite::Result<()> {
        if Mark::read(&self.connection)?.is_some() {
            Mark::clear(&self.connection)?;
            sluice_wal::sync_database(&self.connection)?;
        }
        Ok(())
    }

    fn mark(&self, salt: [u8; 8], frames: i64) -> rusqlite::Result<()> {
        let seconds = u32::try_from(WallTime::now().seconds()).unwrap_or(u32::MAX);
        Mark { salt, frames: u32::try_from(frames).unwrap_or(0), seconds }.write(&self.connection)
    }
}

/// Where SQLite has the log of the database, also if its path leads over a link.
fn log_of(connection: &Connection, path: &Path) -> PathBuf {
    beside(connection.path().filter(|path| !path.is_empty()).map_or(path, Path::new), "-wal")
}

/// Makes sure that the names of the database and its log are on the disk. SQLite syncs their folder too, but does not
/// look at what came of that (`unixSync` in os_unix.c).
fn sync_names(connection: &Connection) -> rusqlite::Result<()> {
    let folder = connection.path().and_then(|path| Path::new(path).parent());
    // A folder that may not be read, or a file system that syncs none, is nothing to end for.
    let Some(Ok(folder)) = folder.map(File::open) else { return Ok(()) };
    match folder.sync_all() {
        Err(error) if error.kind() != ErrorKind::InvalidInput => {
            let failed = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC);
            Err(rusqlite::Error::SqliteFailure(failed, Some(format!("the folder can't be synced: {error}"))))
        }
        _ => Ok(()),
    }
}

/// What is wrong with a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Missing,
    Empty,
    /// It is of another database, or of this one at another time.
    Other,
    /// It has fewer frames than are needed.
    Short(u32),
    /// It is of another database or time, and the file is whole without it.
    Stray,
}

fn compare(mark: &Mark, log: &Path) -> std::io::Result<Option<Wrong>> {
    let committed = |header: &Header, enough| committed(log, header, enough);
    let wrong = match (header(log)?, mark.frames) {
        (OnDisk::Log(header), 0) => {
            (mark.fit(header.salt) == Fit::Other && committed(&header, 1)? > 0).then_some(Wrong::Stray)
        }
        (_, 0) => None,
        (OnDisk::Missing, _) => Some(Wrong::Missing),
        (OnDisk::Empty, _) => Some(Wrong::Empty),
        (OnDisk::Log(header), needed) => match mark.fit(header.salt) {
            Fit::Next => None,
            Fit::Other => Some(Wrong::Other),
            Fit::Same => Some(committed(&header, needed)?).filter(|found| *found < needed).map(Wrong::Short),
        },
    };
    Ok(wrong)
}

/// Compares mark and log of a database that a server may have open: what is wrong counts only if neither changed
/// meanwhile.
fn examine(connection: &Connection, path: &Path) -> Result<Option<(Mark, Wrong)>> {
    let log = log_of(connection, path);
    let mark = || Mark::read(connection).map_err(|error| at(path, error));
    let header = || header(&log).map_err(|error| open_error(&log, &error));
    let mut found = None;
    for _ in 0..ATTEMPTS {
        let Some(before) = mark()? else { return Ok(None) };
        let head = header()?;
        let Some(wrong) = compare(&before, &log).map_err(|error| open_error(&log, &error))? else { return Ok(None) };
        found = Some((before, wrong));
        if mark()? == Some(before) && header()? == head {
            break;
        }
    }
    Ok(found)
}

/// Fails if the log is not the one that the file needs. To be asked before anything is read.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<()> {
    match examine(connection, path)? {
        None => Ok(()),
        Some((mark, wrong)) => Err(Error::Broken(told(connection, path, mark, wrong))),
    }
}

fn told(connection: &Connection, path: &Path, mark: Mark, wrong: Wrong) -> String {
    let (log, since) = (log_of(connection, path), format_rfc3339(mark.seconds.into()).unwrap_or_default());
    let (path, log) = (path.display(), log.display());
    let what = match wrong {
        Wrong::Stray => {
            return format!(
                "the log {log} is not the log of the database beside it, which was whole without a log at {since}: \
                 one of the two files is of another time or another database. Bring the two together that belong \
                 together; if the database is the right one, `sluice-shim fsck --accept-lost-log` sets the log aside"
            );
        }
        Wrong::Missing => "is missing".to_owned(),
        Wrong::Empty => "is empty, or begins with what is no log".to_owned(),
        Wrong::Other => "is of another database, or of this one at another time".to_owned(),
        Wrong::Short(found) => format!("was cut off or damaged: of the first {} frames {found} are left", mark.frames),
    };
    let (known, back) = match revision(connection) {
        Some(revision) => (format!(" (revision {revision})"), format!("revisions go back to {revision}")),
        None => (String::new(), "revisions go back".to_owned()),
    };
    format!(
        "the database {path} needs its log {log}, which {what}. The log holds what was written since \
         {since}{known}. Bring the log back to its place, or restore a backup. If the log is lost, `sluice-shim fsck \
         --accept-lost-log` goes on without it: {back}, and what was written since is gone"
    )
}

/// The revision of the file alone; `None` if that is not to be read.
fn revision(connection: &Connection) -> Option<i64> {
    let path: String = connection.path()?.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let alone = Connection::open_with_flags(format!("file:{path}?immutable=1"), flags).ok()?;
    alone.query_row("SELECT revision FROM meta", [], |row| row.get(0)).ok()
}

/// Goes on without the log that the file needs, or with which it does not go together. Says what was done; `None` if
/// nothing is wrong.
pub(super) fn accept_lost(connection: &Connection, path: &Path) -> Result<Option<String>> {
    let Some((mark, wrong)) = examine(connection, path)? else { return Ok(None) };
    let (log, revision) = (log_of(connection, path), revision(connection));
    let aside = if wrong == Wrong::Missing { None } else { Some(set_aside(&log)?) };
    Mark::clear(connection).and_then(|()| sluice_wal::sync_database(connection)).map_err(|error| at(path, error))?;
    let aside = aside.map_or(String::new(), |aside| format!("; the log is {} now", aside.display()));
    if wrong == Wrong::Stray {
        return Ok(Some(format!("the database goes on without the log that was not its own{aside}")));
    }
    let since = format_rfc3339(mark.seconds.into()).unwrap_or_default();
    let revision = revision.map_or("an earlier one".to_owned(), |revision| revision.to_string());
    Ok(Some(format!(
        "what was written since {since} is lost, and the revision goes back to {revision}: all clients must list \
         anew{aside}"
    )))
}

/// Gives a log a name under which nobody finds it.
fn set_aside(log: &Path) -> Result<PathBuf> {
    let free = |name: &PathBuf| !name.exists();
    let aside = (1..).map(|number| beside(log, &format!(".lost-{number}"))).find(free).unwrap_or_default();
    std::fs::rename(log, &aside).map_err(|error| open_error(log, &error))?;
    Ok(aside)
}
