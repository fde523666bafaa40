//! SQLite's result codes as the engine's errors.

use std::path::Path;

use rusqlite::ErrorCode;
use rusqlite::ffi::SQLITE_IOERR_FSYNC;

use crate::engine::Error;

/// What went wrong in a statement. Ends the process if the disk did not keep what was written.
///
/// The system may have given these pages up, and reports it once (fsync(2), `EIO`); a second try would seem to succeed without them. If they were of the
/// database, the next checkpoint would let go of the log, which still has them; if of the log, commits would be acknowledged behind a hole.
/// The next start reads what is there: all that was acknowledged.
pub(super) fn failed(error: rusqlite::Error) -> Error {
    if error.sqlite_error().is_some_and(|error| error.extended_code == SQLITE_IOERR_FSYNC) {
        tracing::error!(%error, "the disk did not keep what was written; the process ends, and its next start goes on with what was acknowledged");
        std::process::exit(1);
    }
    let text = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            Error::NoSpace("the disk of the database is full; writes go on when there is space again".into())
        }
        Some(ErrorCode::ReadOnly) => Error::Broken(format!("the database is read-only: {text}")),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Error::Damaged(format!("the database is damaged: {text}; restore it from a backup"))
        }
        _ => Error::Unavailable(format!("the database failed: {text}")),
    }
}

/// The same when a file is opened: then its path matters most.
pub(super) fn at(path: &Path, error: rusqlite::Error) -> Error {
    let path = path.display();
    let text = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            Error::NoSpace(format!("cannot open the database {path}: its disk is full; free some space"))
        }
        Some(ErrorCode::ReadOnly) => Error::Broken(format!(
            "cannot write the database {path}: it is read-only; make the file and its folder writable for this user"
        )),
        Some(ErrorCode::CannotOpen) => Error::Broken(format!(
            "cannot open the database {path}: {text}; its folder must exist and be writable for this user"
        )),
        Some(ErrorCode::NotADatabase) => {
            Error::Broken(format!("{path} is not a SQLite database; name another file, or move it away to start empty"))
        }
        Some(ErrorCode::DatabaseCorrupt) => {
            Error::Broken(format!("the database {path} is damaged: {text}; restore it from a backup"))
        }
        _ => Error::Unavailable(format!("cannot open the database {path}: {text}")),
    }
}

/// A file that can't be opened.
pub(super) fn open_error(path: &Path, error: &std::io::Error) -> Error {
    let hint = match error.kind() {
        std::io::ErrorKind::NotFound => "; its folder must exist",
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            "; make its folder writable for this user"
        }
        std::io::ErrorKind::StorageFull => "; free some space",
        _ => "",
    };
    Error::Broken(format!("cannot open {}: {error}{hint}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs itself again, as a process that may end.
    #[test]
    fn a_failed_sync_ends_the_process() {
        const CHILD: &str = "SLUICE_TEST_FAILED_SYNC";
        let failure = |code| rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        if std::env::var_os(CHILD).is_some() {
            failed(failure(SQLITE_IOERR_FSYNC));
            return;
        }
        let this = "sql::sqlite::error::tests::a_failed_sync_ends_the_process";
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let output = child.args([this, "--exact"]).env(CHILD, "").output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(!String::from_utf8_lossy(&output.stdout).contains("test result"), "the test itself ended: {output:?}");
        assert!(matches!(failed(failure(rusqlite::ffi::SQLITE_IOERR_WRITE)), Error::Unavailable(_)));
    }
}
