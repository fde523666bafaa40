//! SQLite: one file, one process.
//!
//! One connection writes; the others read snapshots beside it (WAL). A commit is synced before it is acknowledged
//! (`synchronous=FULL`). A lock file keeps a second process out, so that `SQLITE_BUSY` can't happen.

mod audit;
mod checkpoint;
mod clock;
mod commit;
#[cfg(test)]
mod commit_tests;
mod depart;
mod derived;
mod error;
mod field_index;
mod find;
mod gc_schema;
mod graph;
mod graph_write;
mod hiding;
mod log;
mod long;
mod note;
mod place;
mod probe;
mod read;
mod room;
mod row;
mod schema;
mod store;
mod tables;
mod task;
mod upgrade;

use std::ffi::CStr;
use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub(super) use audit::audit;
use rusqlite::{Connection, OpenFlags};

use self::commit::Changing;
use self::error::{at, open_error};
use self::log::Guarded;
use self::tables::Tables;
use procfs::LockType;

use crate::clock::{StoreClock, Ticker};
use crate::engine::instance::{Instance, Part};
use crate::engine::metrics::Metrics;
use crate::engine::store::{Nature, Portion, Reader, Store, Writer};
use crate::engine::{Error, Result};
use crate::sql::Opened;
use crate::sql::reader::SqlReader;
use crate::sql::session::Reading;
use crate::sql::turn::Turn;
use crate::sql::writer::SqlWriter;

/// KiB of pages that the writer and a reader keep.
const WRITER_CACHE: i64 = 32 << 10;
const READER_CACHE: i64 = 4 << 10;
/// How long to wait while another of our connections recovers or restarts the WAL: moments.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a step of a compaction may take: all writes wait meanwhile, so not much longer than a commit does.
const STEP: Duration = Duration::from_micros(500);
/// How long a row may be, with room for what is beside the value (sqlite3.h: `SQLITE_MAX_LENGTH`).
const LONGEST: usize = 1_000_000_000 - (1 << 20);
/// A page, in bytes: SQLite's usual size. A file of one page has no tables, which take one each: its making was cut
/// off.
const PAGE: u64 = 4096;
/// SQLite's own way to the file system.
const SYSTEM: &CStr = c"unix";
/// Statements that a connection keeps compiled.
const STATEMENTS: usize = 128;

/// A SQLite database.
#[derive(Debug)]
pub struct Sqlite {
    path: PathBuf,
    opened: Opened,
    metrics: Arc<Metrics>,
    clock: StoreClock,
    /// Until the writer takes it.
    writer: Mutex<Option<(Guarded, File)>>,
}

impl Sqlite {
    /// Opens the file, creating it or migrating it if need be. The ticker drives its clock on from where it was. A file
    /// whose store has moved is refused, unless it is only to be read.
    pub fn open(path: &Path, metrics: Arc<Metrics>, ticker: Arc<dyn Ticker>, opened: Opened) -> Result<Self> {
        let ((connection, clock), lock) = alone(path, || {
            if opened == Opened::ToServe {
                note::refuse(&note::of(path))?;
            }
            let connection = Guarded::new(connect_writer(path)?, path)?;
            let clock = StoreClock::from(clock::kept(&connection).map_err(|error| at(path, error))?, ticker);
            Ok((connection, clock))
        })?;
        metrics.database.leads_to("SQLite", rusqlite::version());
        Ok(Self { path: path.to_owned(), opened, metrics, clock, writer: Mutex::new(Some((connection, lock))) })
    }
}

/// What a database in a file is like.
pub(super) fn nature() -> Nature {
    // Half as many as there are threads for tasks.
    let free_readers = std::thread::available_parallelism().map_or(1, |threads| (threads.get() / 2).max(1));
    let portion = Portion { least: 8, hold: Duration::from_millis(8) };
    Nature { free_readers, gather: Duration::ZERO, portion, key_limit: None, values_limit: Some(LONGEST) }
}

impl Store for Sqlite {
    fn nature(&self) -> Nature {
        nature()
    }

    fn writer(&self) -> Result<Box<dyn Writer>> {
        let taken = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (connection, lock) = taken.ok_or_else(|| Error::Broken("the database has one writer only".into()))?;
        let (clock, metrics) = (self.clock.clone(), Arc::clone(&self.metrics));
        let changing = Changing::new(connection, lock, &self.path, clock.clone())?;
        let session = Tables::serving(changing, Arc::clone(&metrics), &self.path);
        Ok(Box::new(SqlWriter::new(Box::new(session), clock, metrics, Turn::fixed(STEP))))
    }

    fn clock(&self) -> StoreClock {
        self.clock.clone()
    }

    fn reader(&self) -> Result<Box<dyn Reader>> {
        let connection = connect(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        configure(&connection, READER_CACHE).map_err(|error| at(&self.path, error))?;
        let (connection, metrics) = (Box::new(connection), Arc::clone(&self.metrics));
        let session = match self.opened {
            Opened::ToServe => Tables::serving(connection, metrics, &self.path),
            Opened::ToRead => Tables::new(connection, metrics),
        };
        Ok(Box::new(SqlReader::new(Box::new(session), Arc::clone(&self.metrics))))
    }
}

/// Writes what the last process left in the log once more, and syncs it, before anything is added.
///
/// After a failed sync it may be whole in memory only, where the system takes it for written (fsync(2), `EIO`): what is
/// committed behind it would be lost in a crash of the system.
fn write_log_anew(name: &Path) -> Result<()> {
    let log = match File::options().read(true).write(true).open(name) {
        Ok(log) => log,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(open_error(name, &error)),
    };
    rewrite(&log).map_err(|error| {
        let advice = "see the system's log for errors of the disk, or restore a backup";
        Error::Broken(format!("cannot write the log {} anew: {error}; {advice}", name.display()))
    })
}

fn rewrite(file: &File) -> std::io::Result<()> {
    let (mut buffer, mut offset) = (vec![0; 1 << 20], 0);
    loop {
        let read = file.read_at(&mut buffer, offset)?;
        if read == 0 {
            return file.sync_data();
        }
        file.write_all_at(&buffer[..read], offset)?;
        offset += read as u64;
    }
}

/// Goes on without the log that the database needs; says what was done, or `None` if nothing is wrong with the log. No
/// server has the database open.
pub(super) fn accept_lost_log(path: &Path) -> Result<Option<String>> {
    let _lock = lock(path, &beside(path, ".lock"))?;
    log::accept_lost(&connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?, path)
}

/// A connection that only reads, maybe beside a server: it takes no lock and writes nothing.
pub(super) fn beside_server(path: &Path) -> Result<Tables<Box<Connection>>> {
    Ok(Tables::new(Box::new(connect_reader(path)?), Arc::default()))
}

/// A connection to the file that a store is to leave, maybe beside a server.
pub(super) fn source(path: &Path) -> Result<Box<dyn Reading>> {
    Ok(Box::new(Tables::new(Box::new(depart::connect_source(path)?), Arc::default())))
}

/// Whether there is a database at a path that one can be at. Nothing is made there; what was cut off while a database
/// was made is undone. Fails if a server has it open, as far as that is seen without a trace.
pub(super) fn is_there(path: &Path) -> Result<bool> {
    place::check(path)?;
    note::refuse(&note::of(path))?;
    let name = beside(path, ".lock");
    if !place::is_missing(&name) {
        lock(path, &name)?;
    }
    if place::is_cut_off(path) && !place::is_missing(path) {
        // Which a connection that only reads can't.
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let undone = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
        undone.map_err(|error| at(path, error))?;
    }
    Ok(std::fs::metadata(path).is_ok_and(|file| file.len() > PAGE))
}

/// A connection that only reads, maybe beside a server.
fn connect_reader(path: &Path) -> Result<Connection> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    log::check(&connection, path)?;
    configure(&connection, READER_CACHE).map_err(|error| at(path, error))?;
    schema::check(&connection, path)?;
    Ok(connection)
}

/// The file whose name is the database's with something behind it.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Opens a database that no other process has open. If that fails, no file is left that was not there before, but what
/// a database that was there needs.
fn alone<T>(path: &Path, open: impl FnOnce() -> Result<T>) -> Result<(T, File)> {
    place::check(path)?;
    let name = beside(path, ".lock");
    let lock_file = Some(name.clone()).filter(|name| place::is_missing(name));
    let lock = lock(path, &name)?;
    // After the lock was taken: until then another process may have made a database. Dropped before the lock.
    let fresh = place::Fresh::of(path, lock_file);
    let opened = open()?;
    fresh.keep();
    Ok((opened, lock))
}

/// Takes the lock that keeps other processes out. The system gives it back when the process ends, however it ends.
fn lock(path: &Path, name: &Path) -> Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(name)
        .map_err(|error| open_error(name, &error))?;
    let other = || {
        Error::Broken(format!(
            "another process has the database {} open; a SQLite file serves one sluice-shim",
            path.display()
        ))
    };
    file.try_lock().map_err(|error| match error {
        std::fs::TryLockError::WouldBlock => other(),
        std::fs::TryLockError::Error(error) => open_error(name, &error),
    })?;
    // A process that could not open the database may have removed it since.
    let (ours, named) = (file.metadata(), std::fs::metadata(name));
    let is_there = ours.and_then(|ours| Ok(ours.ino() == named?.ino())).unwrap_or(false);
    if is_there { Ok(file) } else { Err(other()) }
}

/// The process that has the file open, if one has: a file has one at most. What the system says of the lock is read;
/// to try the lock would be in the way of a process that starts.
pub(super) fn instances(path: &Path) -> Result<Vec<Instance>> {
    let name = beside(path, ".lock");
    let Ok(file) = std::fs::metadata(&name) else { return Ok(Vec::new()) };
    let locks = procfs::locks().map_err(|error| Error::Unavailable(format!("can't read /proc/locks: {error}")))?;
    let ours = locks.into_iter().filter(|lock| lock.inode == file.ino() && lock.lock_type == LockType::FLock);
    let process = |lock: procfs::Lock| match lock.pid {
        Some(process) if process > 0 => format!("process {process}"),
        // Of another container.
        _ => "a process".to_owned(),
    };
    let instance = |place| Instance { place, name: None, version: None, part: Part::Serves, silent: Duration::ZERO };
    Ok(ours.map(process).map(instance).collect())
}

/// The connection that commits, or copies the log. What it writes to the log it writes at once, which needs
/// `synchronous=FULL` (see [`sluice_wal`]).
fn connect_writer(path: &Path) -> Result<Connection> {
    sluice_wal::register().map_err(|code| Error::Broken(format!("SQLite can't be set up: error {code}")))?;
    connect_by(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE, sluice_wal::NAME)
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection> {
    connect_by(path, flags, SYSTEM)
}

fn connect_by(path: &Path, flags: OpenFlags, vfs: &CStr) -> Result<Connection> {
    // A connection never leaves its thread, so it needs no mutex of its own.
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags_and_vfs(path, flags, vfs).map_err(|error| at(path, error))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

fn configure(connection: &Connection, cache_kib: i64) -> rusqlite::Result<()> {
    connection.pragma_update(None, "cache_size", -cache_kib)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    // A checkpoint is our own business: see Commit::tidy.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.busy_timeout(BUSY_TIMEOUT)
}
