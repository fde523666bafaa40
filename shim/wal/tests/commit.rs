//! What a connection with this VFS has committed is in the files, and nothing else is.

use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

mod database;
use database::{add, rows, rows_after_kill, writer};

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

/// Linux since 6.5 counts the pages of a file that are not on the disk: cachestat(2), which no crate wraps yet.
#[cfg(target_os = "linux")]
#[test]
fn the_database_can_be_synced_while_commits_go_on() {
    // Not the system's folder for such, which may be in memory.
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (writer, path) = (writer(&folder), folder.path().join("db"));
    let other = Connection::open(&path).unwrap();
    other.pragma_update(None, "synchronous", "full").unwrap();
    add(&writer, 1000);
    // A reader of an older state keeps the checkpoint from its end, as a commit meanwhile does.
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT * FROM t LIMIT 1").unwrap();
    add(&writer, 1);
    let copied: i64 = other.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(2)).unwrap();
    let Some(left) = unsynced_pages(&path) else { return };
    assert!(copied > 200 && left > 200, "{copied} copied, {left} not synced: SQLite itself left them");
    sluice_wal::sync_database(&other).unwrap();
    assert_eq!(unsynced_pages(&path), Some(0));
}

#[cfg(target_os = "linux")]
#[test]
fn a_commit_can_be_left_unsynced() {
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (mut writer, log) = (writer(&folder), folder.path().join("db-wal"));
    let reader = Connection::open(folder.path().join("db")).unwrap();
    let mut expected = 0;
    for round in 0..3 {
        let transaction = writer.transaction().unwrap();
        add(&transaction, 100);
        sluice_wal::commit_unsynced(transaction).unwrap();
        expected += 100;
        let Some(left) = unsynced_pages(&log) else { return };
        assert!(left > 20, "round {round}: {left}");
        assert_eq!((rows_after_kill(folder.path()), rows(&reader)), (expected, expected));
        if round == 1 {
            // The log begins afresh in the next round.
            writer.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
        } else {
            add(&writer, 1);
            expected += 1;
        }
        assert_eq!(unsynced_pages(&log), Some(0), "the next commit or checkpoint syncs all of it");
    }
}

#[test]
fn the_time_of_syncs_is_told_once() {
    let folder = TempDir::new().unwrap();
    let mut writer = writer(&folder);
    sluice_wal::take_sync_time(&writer).unwrap();
    assert_eq!(sluice_wal::take_sync_time(&writer).unwrap(), None);
    add(&writer, 1);
    assert!(sluice_wal::take_sync_time(&writer).unwrap().is_some_and(|time| !time.is_zero()));
    assert_eq!(sluice_wal::take_sync_time(&writer).unwrap(), None);
    let transaction = writer.transaction().unwrap();
    add(&transaction, 1);
    sluice_wal::commit_unsynced(transaction).unwrap();
    assert_eq!(sluice_wal::take_sync_time(&writer).unwrap(), None, "there was none");
    let other = Connection::open(folder.path().join("db")).unwrap();
    assert_eq!(rows(&other), 2);
    assert_eq!(sluice_wal::take_sync_time(&other).unwrap(), None, "without the VFS nobody knows");
}

/// `None` where the system can't tell.
#[cfg(target_os = "linux")]
fn unsynced_pages(path: &std::path::Path) -> Option<u64> {
    use std::os::fd::AsRawFd;
    const CACHESTAT: libc::c_long = 451;
    // Closing it would give back SQLite's locks on the file: fcntl(2).
    let file = std::mem::ManuallyDrop::new(std::fs::File::open(path).expect("it is there"));
    let (all, mut counted) = ([0_u64; 2], [0_u64; 5]);
    // SAFETY: the call reads a range of two numbers and writes five: cached, dirty, writeback, evicted, recently
    // evicted.
    let result = unsafe { libc::syscall(CACHESTAT, file.as_raw_fd(), all.as_ptr(), counted.as_mut_ptr(), 0) };
    (result == 0).then(|| counted[1] + counted[2])
}
