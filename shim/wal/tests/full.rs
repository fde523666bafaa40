//! A disk without room: what failed does not turn up later. By itself in this file, since the limit is the process's.

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};
use rusqlite::Connection;
use tempfile::TempDir;

mod database;

/// Lets no file grow beyond so many bytes.
fn limit_files(bytes: u64) {
    let (_, hard) = getrlimit(Resource::RLIMIT_FSIZE).expect("it can be read");
    setrlimit(Resource::RLIMIT_FSIZE, bytes, hard).expect("it can be lowered");
}

fn log_size(folder: &TempDir) -> u64 {
    std::fs::metadata(folder.path().join("db-wal")).expect("there is a log").len()
}

#[test]
fn a_commit_that_found_no_room_is_nowhere() {
    // SAFETY: to ignore a signal needs no handler; writing then fails instead.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }.unwrap();
    let folder = TempDir::new().unwrap();
    let writer: Connection = database::writer(&folder);
    database::add(&writer, 5);
    for (rows, room) in [(1, 100), (1, 0), (400, 100), (3000, 300_000)] {
        limit_files(log_size(&folder) + room);
        writer.execute_batch("BEGIN IMMEDIATE").unwrap();
        let added = database::try_add(&writer, rows).and_then(|_| writer.execute_batch("COMMIT"));
        assert!(added.is_err(), "{rows} rows in {room} bytes");
        if !writer.is_autocommit() {
            writer.execute_batch("ROLLBACK").unwrap();
        }
        if room == 0 {
            let busy: i64 = writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
            assert_eq!((busy, log_size(&folder)), (0, 0), "what frees room needs none");
        }
        limit_files(RLIM_INFINITY);
        assert_eq!(database::rows(&writer), 5);
        assert_eq!(database::rows_after_kill(folder.path()), 5, "{rows} rows in {room} bytes");
    }
    a_transaction_that_has_lost_pages_cannot_commit(&folder, &writer);
    database::add(&writer, 1000);
    assert_eq!((database::rows(&writer), database::rows_after_kill(folder.path())), (1005, 1005));
}

fn a_transaction_that_has_lost_pages_cannot_commit(folder: &TempDir, writer: &Connection) {
    let try_all = |sql: &str| writer.execute_batch(sql);
    try_all("BEGIN IMMEDIATE").expect("nobody else writes");
    database::add(writer, 300);
    limit_files(log_size(folder) + 100);
    let all = try_all("UPDATE t SET filler = randomblob(901)");
    limit_files(RLIM_INFINITY);
    assert!(all.is_err());
    // SQLite has rolled back, and then there is nothing to commit, or it must not.
    let early = try_all("UPDATE t SET filler = randomblob(901) WHERE id < 8");
    assert!(early.and_then(|()| try_all("COMMIT")).is_err());
    if !writer.is_autocommit() {
        try_all("ROLLBACK").expect("nothing was committed");
    }
    assert_eq!((database::rows(writer), database::rows_after_kill(folder.path())), (5, 5));
}
