//! The bytes of the database's file that SQLite does not use belong to this file alone.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use rusqlite::Connection;
use tempfile::TempDir;

mod database;
use database::{add, rows, rows_after_kill, try_add, writer};

/// Page 1 is changed, and copied into the database's file.
fn copy_page_1(connection: &Connection, version: i64) {
    connection.pragma_update(None, "user_version", version).unwrap();
    let busy: i64 = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(0)).unwrap();
    assert_eq!(busy, 0);
}

fn in_file(folder: &TempDir) -> Vec<u8> {
    let copy = folder.path().join("copy");
    std::fs::copy(folder.path().join("db"), &copy).unwrap();
    std::fs::read(copy).unwrap()[sluice_wal::RESERVED].to_vec()
}

#[test]
fn what_they_hold_stays_in_the_file_and_is_copied_nowhere() {
    let folder = TempDir::new().unwrap();
    let writer = writer(&folder);
    assert_eq!(sluice_wal::read_reserved(&writer).unwrap(), [0; 20]);
    copy_page_1(&writer, 1);
    sluice_wal::write_reserved(&writer, &[7; 20]).unwrap();
    // Of another connection, which reads the page anew.
    let other = Connection::open_with_flags_and_vfs(folder.path().join("db"), Default::default(), sluice_wal::NAME);
    for (version, connection) in [(2, &writer), (3, &other.unwrap())] {
        copy_page_1(connection, version);
        assert_eq!(in_file(&folder), [7; 20]);
        assert_eq!(sluice_wal::read_reserved(connection).unwrap(), [7; 20]);
    }
    let log = std::fs::read(folder.path().join("db-wal")).unwrap();
    assert!(!log.windows(20).any(|bytes| bytes == [7; 20]), "SQLite has seen them");
    // SQLite's own VFS reads the page from the log, and takes it for what it is.
    writer.pragma_update(None, "user_version", 4).unwrap();
    let foreign = Connection::open(folder.path().join("db")).unwrap();
    foreign.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
    assert_eq!(in_file(&folder), [0; 20]);
    assert_eq!((rows(&foreign), rows_after_kill(folder.path())), (0, 0));
}

#[test]
fn a_log_that_begins_afresh_has_the_next_salt() {
    let folder = TempDir::new().unwrap();
    let writer = writer(&folder);
    let salt = || sluice_wal::log_salt(&writer).unwrap();
    let first = salt().expect("it was written");
    add(&writer, 10);
    assert_eq!(salt(), Some(first));
    copy_page_1(&writer, 1);
    try_add(&writer, 1).unwrap();
    let second = salt().unwrap();
    let number = |salt: [u8; 8]| u32::from_be_bytes(salt[..4].try_into().unwrap());
    assert_eq!(number(second), number(first).wrapping_add(1));
    assert_eq!(std::fs::read(folder.path().join("db-wal")).unwrap()[16..24], second);
    writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    assert_eq!(salt(), None);
    let other = Connection::open(folder.path().join("db")).unwrap();
    assert_eq!(sluice_wal::log_salt(&other).unwrap(), None, "it has not this VFS");
}
