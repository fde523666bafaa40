//! A store that leaves its file for another database.
//!
//! The note is a file beside the database, not a row in it: a second process must never commit to the log (see
//! [`sluice_wal`]). Who writes the note holds SQLite's lock for writers meanwhile, without writing anything, and who
//! commits looks for the note while it holds that lock. So no commit comes after the note.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::checkpoint::keep_log_at_close;
use super::error::{at, open_error};
use super::tables::Tables;
use super::{READER_CACHE, beside, configure, connect, log, schema};
use crate::engine::{Error, Forwarding};
use crate::sql::failure::Result;
use crate::sql::session::{Depart, Head, Read};

/// How often to try for the lock that a busy server has nearly always, and the time between.
const TRIES: i32 = 20_000;
const PAUSE: Duration = Duration::from_millis(1);

/// The file that says where the store of a database has moved to, whatever links lead there.
pub(super) fn note_of(path: &Path) -> PathBuf {
    beside(&fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()), ".moved")
}

/// What the file says; `None` if there is none.
pub(super) fn read(note: &Path) -> crate::engine::Result<Option<Forwarding>> {
    match fs::read_to_string(note) {
        Ok(text) => text.parse().map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(open_error(note, &error)),
    }
}

/// Fails if the file is there.
pub(super) fn refuse(note: &Path) -> crate::engine::Result<()> {
    read(note)?.map_or(Ok(()), |note| Err(note.error()))
}

/// A connection that reads beside a server and can keep its writer out. It writes nothing.
pub(super) fn connect_source(path: &Path) -> crate::engine::Result<Connection> {
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let failed = |error| at(path, error);
    // A log is left to who serves the file, but files that are made for this connection go with it.
    let has_log = fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0);
    keep_log_at_close(&connection, has_log).map_err(failed)?;
    log::check(&connection, path)?;
    configure(&connection, READER_CACHE).map_err(failed)?;
    // SQLite's own pauses grow so long that a busy server would never be found at rest.
    connection.busy_handler(Some(wait)).map_err(failed)?;
    schema::check(&connection, path)?;
    Ok(connection)
}

fn wait(tries: i32) -> bool {
    std::thread::sleep(PAUSE);
    tries < TRIES
}

fn path(connection: &Connection) -> PathBuf {
    note_of(connection.path().map_or(Path::new(""), Path::new))
}

impl<C: Deref<Target = Connection> + Send> Depart for Tables<C> {
    fn note(&mut self) -> Result<Option<String>> {
        Ok(read(&path(&self.connection))?.map(|note| note.to_string()))
    }

    fn hold(&mut self) -> Result<Head> {
        self.end();
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        self.head()
    }

    fn leave(&mut self, note: &str) -> Result<()> {
        let path = path(&self.connection);
        write(&path, note).map_err(|error| {
            let path = path.display();
            // Renamed or not: a power loss may take back the one or the other.
            Error::Unknown(format!("the note {path} that the store has moved may not be on the disk: {error}"))
        })?;
        self.end();
        Ok(())
    }
}

/// Writes a file that is there as a whole or not at all.
fn write(path: &Path, note: &str) -> std::io::Result<()> {
    let new = beside(path, ".new");
    let mut file = File::create(&new)?;
    writeln!(file, "{note}")?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
