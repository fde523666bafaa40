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
        limit_files(RLIM_INFINITY);
        assert_eq!(database::rows(&writer), 5);
        assert_eq!(database::rows_after_kill(folder.path()), 5, "{rows} rows in {room} bytes");
    }
    database::add(&writer, 1000);
    assert_eq!((database::rows(&writer), database::rows_after_kill(folder.path())), (1005, 1005));
}
