//! A store that leaves its file for another database.
//!
//! The note is a file beside the database, not a row in it: a second process must never commit to the log (see
//! [`sluice_wal`]). The process that writes the note holds SQLite's lock for writers meanwhile, without writing to the
//! database. A commit looks for the note while it holds that lock. So no commit comes after the note.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::checkpoint::keep_log_at_close;
use super::error::at;
use super::note;
use super::tables::Tables;
use super::{READER_CACHE, beside, configure, connect, log, schema};
use crate::engine::Error;
use crate::sql::failure::Result;
use crate::sql::session::{Depart, Head, Read};

/// How often to try for the lock that a busy server has nearly always, and the time between.
const TRIES: i32 = 20_000;
const PAUSE: Duration = Duration::from_millis(1);

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
    note::of(connection.path().map_or(Path::new(""), Path::new))
}

impl<C: Deref<Target = Connection> + Send> Depart for Tables<C> {
    fn note(&mut self) -> Result<Option<String>> {
        Ok(note::read(&path(&self.connection))?.map(|note| note.to_string()))
    }

    fn hold(&mut self) -> Result<Head> {
        self.end();
        self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        self.head()
    }

    fn leave(&mut self, note: &str) -> Result<()> {
        let path = path(&self.connection);
        note::write(&path, note).map_err(|error| {
            let path = path.display();
            // Renamed or not: a power loss may take back the one or the other.
            Error::Unknown(format!("the note {path} that the store has moved may not be on the disk: {error}"))
        })?;
        self.end();
        Ok(())
    }
}
