//! The database that both test files write.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

/// A database in WAL mode with a table, whose writer holds few pages in memory.
pub(crate) fn writer(folder: &TempDir) -> Connection {
    sluice_wal::register().expect("SQLite has a VFS");
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let writer =
        Connection::open_with_flags_and_vfs(folder.path().join("db"), flags, sluice_wal::NAME).expect("it works");
    let settings =
        "PRAGMA journal_mode = wal; PRAGMA synchronous = full; PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = 10;
        CREATE TABLE t (id INTEGER PRIMARY KEY, filler BLOB) STRICT;";
    writer.execute_batch(settings).expect("it works");
    writer
}

/// Adds rows of 900 bytes.
pub(crate) fn add(writer: &Connection, rows: i64) {
    try_add(writer, rows).expect("there is room");
}

pub(crate) fn try_add(writer: &Connection, rows: i64) -> rusqlite::Result<usize> {
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
        INSERT INTO t (filler) SELECT randomblob(900) FROM n";
    writer.execute(sql, [rows])
}

/// How many rows the connection sees, in a database that is whole.
pub(crate) fn rows(connection: &Connection) -> i64 {
    let damage: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it works");
    assert_eq!(damage, "ok");
    connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("it works")
}

/// How many rows there are after the machine has lost the process: the files as they are now, opened with SQLite's own
/// VFS.
pub(crate) fn rows_after_kill(folder: &Path) -> i64 {
    let copy = TempDir::new().expect("it works");
    for name in ["db", "db-wal"] {
        std::fs::copy(folder.join(name), copy.path().join(name)).expect("it works");
    }
    rows(&Connection::open(copy.path().join("db")).expect("it works"))
}
