//! What a connection with this VFS has committed is in the files, and nothing else is.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

/// A database in WAL mode with a table, whose writer holds few pages in memory.
fn writer(folder: &TempDir) -> Connection {
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

fn add(writer: &Connection, rows: i64) {
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
        INSERT INTO t (filler) SELECT randomblob(900) FROM n";
    assert_eq!(writer.execute(sql, [rows]).expect("it works") as i64, rows);
}

fn rows(connection: &Connection) -> i64 {
    let damage: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it works");
    assert_eq!(damage, "ok");
    connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).expect("it works")
}

/// How many rows there are after the machine has lost the process: the files as they are now, opened with SQLite's own VFS.
fn rows_after_kill(folder: &Path) -> i64 {
    let copy = TempDir::new().expect("it works");
    for name in ["db", "db-wal"] {
        std::fs::copy(folder.join(name), copy.path().join(name)).expect("it works");
    }
    rows(&Connection::open(copy.path().join("db")).expect("it works"))
}

#[test]
fn a_commit_is_in_the_files_whatever_its_size() {
    let folder = TempDir::new().unwrap();
    let writer = writer(&folder);
    let reader = Connection::open(folder.path().join("db")).unwrap();
    let mut expected = 0;
    for size in [1, 10, 2, 1000, 1, 30, 3000, 1] {
        add(&writer, size);
        expected += size;
        assert_eq!(rows_after_kill(folder.path()), expected);
        assert_eq!(rows(&reader), expected);
    }
}

#[test]
fn what_was_not_committed_is_not_there() {
    let folder = TempDir::new().unwrap();
    let writer = writer(&folder);
    add(&writer, 5);
    for size in [1, 3000] {
        writer.execute_batch("BEGIN IMMEDIATE").unwrap();
        // Of the larger one most pages have left the cache for the log by now, and are read from there again.
        add(&writer, size);
        assert_eq!(rows_after_kill(folder.path()), 5);
        assert_eq!(rows(&writer), 5 + size);
        writer.execute_batch("ROLLBACK").unwrap();
        assert_eq!((rows_after_kill(folder.path()), rows(&writer)), (5, 5));
    }
    add(&writer, 1);
    assert_eq!(rows_after_kill(folder.path()), 6);
}

#[test]
fn the_log_begins_afresh_after_a_checkpoint_and_can_be_cut() {
    let folder = TempDir::new().unwrap();
    let writer = writer(&folder);
    let other = Connection::open(folder.path().join("db")).unwrap();
    let mut expected = 0;
    for round in 0..6 {
        add(&writer, 100);
        expected += 100;
        let (connection, mode) = [(&other, "PASSIVE"), (&writer, "PASSIVE"), (&writer, "TRUNCATE")][round % 3];
        let busy: i64 = connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| row.get(0)).unwrap();
        assert_eq!(busy, 0);
        add(&writer, 1);
        expected += 1;
        assert_eq!(rows_after_kill(folder.path()), expected);
    }
    drop((writer, other));
    assert!(!folder.path().join("db-wal").exists(), "the last connection takes the log away");
    assert_eq!(rows(&Connection::open(folder.path().join("db")).unwrap()), expected);
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error() {
    sluice_wal::register().unwrap();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("absent");
    assert!(Connection::open_with_flags_and_vfs(&path, OpenFlags::SQLITE_OPEN_READ_WRITE, sluice_wal::NAME).is_err());
    // A log that is a folder.
    let writer = writer(&folder);
    drop(writer);
    std::fs::create_dir(folder.path().join("db-wal")).unwrap();
    let opened = Connection::open_with_flags_and_vfs(folder.path().join("db"), OpenFlags::default(), sluice_wal::NAME);
    assert!(opened.unwrap().execute("INSERT INTO t (filler) VALUES (x'00')", []).is_err());
}
