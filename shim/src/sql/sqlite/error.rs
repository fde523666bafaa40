//! SQLite's result codes as the engine's errors.

use std::path::Path;

use rusqlite::ErrorCode;
use rusqlite::ffi::{
    SQLITE_IOERR_DELETE, SQLITE_IOERR_DELETE_NOENT, SQLITE_IOERR_DIR_FSYNC, SQLITE_IOERR_FSYNC, SQLITE_IOERR_LOCK,
    SQLITE_IOERR_RDLOCK, SQLITE_IOERR_READ, SQLITE_IOERR_SHMLOCK, SQLITE_IOERR_SHMMAP, SQLITE_IOERR_SHMOPEN,
    SQLITE_IOERR_SHMSIZE, SQLITE_IOERR_SHORT_READ, SQLITE_IOERR_TRUNCATE, SQLITE_IOERR_UNLOCK, SQLITE_IOERR_WRITE,
};

use crate::engine::Error;
use crate::sql::failure::Failure;

/// What went wrong in a commit or a checkpoint. Ends the process if the disk did not keep what was written.
///
/// The system may have given these pages up, and reports it once (fsync(2), `EIO`); a second try would seem to succeed
/// without them. If they were of the database, the next checkpoint would let go of the log, which still has them; if of
/// the log, commits would be acknowledged behind a hole. The next start reads what is there: all that was acknowledged.
pub(super) fn failed(error: rusqlite::Error) -> Error {
    if error.sqlite_error().is_some_and(|error| error.extended_code == SQLITE_IOERR_FSYNC) {
        let end = "the process ends, and its next start goes on with what was acknowledged";
        tracing::error!(%error, "the disk did not keep what was written; {end}");
        std::process::exit(1);
    }
    engine_error(&error)
}

impl From<rusqlite::Error> for Failure {
    /// One process has the file open, so that a second try has no better chance.
    fn from(error: rusqlite::Error) -> Self {
        Self::Final(engine_error(&error))
    }
}

/// Why a file can't be brought to this version.
#[derive(Debug)]
pub(super) enum Failed {
    /// What SQLite says.
    File(rusqlite::Error),
    /// What is wrong with the store in it.
    Store(Error),
}

/// What becomes of making or upgrading a file.
pub(super) type Made<T> = std::result::Result<T, Failed>;

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Self::File(error)
    }
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Self {
        Self::Store(failure.into())
    }
}

fn engine_error(error: &rusqlite::Error) -> Error {
    let text = explained(error);
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => no_space("the database or its log"),
        // SQLite says so only of the other files (os_unix.c, `unixShmMap`).
        _ if error.sqlite_error().is_some_and(|error| error.extended_code == SQLITE_IOERR_SHMSIZE) => {
            no_space("the file with -shm behind the database's name")
        }
        Some(ErrorCode::ReadOnly) => Error::Broken(format!("the database is read-only: {text}")),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Error::Damaged(format!("the database is damaged: {text}; restore it from a backup"))
        }
        _ => Error::Unavailable(format!("the database failed: {text}")),
    }
}

fn no_space(file: &str) -> Error {
    let what = format!("the disk of the database is full: {file} can't grow");
    Error::NoSpace(format!("{what}; free some space there, and writes go on without a restart"))
}

/// The same when a file is opened: then its path matters most.
pub(super) fn at(path: &Path, error: rusqlite::Error) -> Error {
    let code = error.sqlite_error_code();
    // What a full disk is to SQLite depends on the file that found no room.
    let may_be_full = matches!(code, Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure | ErrorCode::CannotOpen));
    if may_be_full && let Some(full) = super::room::full(path) {
        return no_room(path, &full);
    }
    let text = explained(&error);
    let path = path.display();
    match code {
        Some(ErrorCode::DiskFull) => {
            Error::NoSpace(format!("cannot open the database {path}: its disk is full; free some space"))
        }
        Some(ErrorCode::ReadOnly) => Error::Broken(format!(
            "cannot write the database {path}: it is read-only; make the file and its folder writable for this user"
        )),
        Some(ErrorCode::CannotOpen) => Error::Broken(format!(
            "cannot open the database {path}: {text}; its folder must exist, and this user must be able to write both"
        )),
        Some(ErrorCode::NotADatabase) => {
            Error::Broken(format!("{path} is not a SQLite database; name another file, or move it away to start empty"))
        }
        Some(ErrorCode::DatabaseCorrupt) => {
            Error::Broken(format!("the database {path} is damaged: {text}; restore it from a backup"))
        }
        Some(ErrorCode::SystemIoFailure) => Error::Unavailable(format!(
            "cannot open the database {path}: {text}; see the system's log for errors of the disk"
        )),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Unavailable(format!(
            "cannot open the database {path}: {text}; another program has it open: stop that, or wait until it is done"
        )),
        _ => Error::Unavailable(format!("cannot open the database {path}: {text}")),
    }
}

fn no_room(path: &Path, error: &std::io::Error) -> Error {
    let path = path.display();
    Error::NoSpace(format!(
        "cannot open the database {path}: no file can be made or grow beside it (it needs {path}-wal and {path}-shm): \
         {error}; free some space there"
    ))
}

/// SQLite's text, with what it was doing.
fn explained(error: &rusqlite::Error) -> String {
    let doing = match error.sqlite_error().map(|error| error.extended_code) {
        Some(SQLITE_IOERR_READ | SQLITE_IOERR_SHORT_READ) => "reading",
        Some(SQLITE_IOERR_WRITE) => "writing",
        Some(SQLITE_IOERR_FSYNC | SQLITE_IOERR_DIR_FSYNC) => "syncing",
        Some(SQLITE_IOERR_TRUNCATE) => "making a file shorter or longer",
        Some(SQLITE_IOERR_LOCK | SQLITE_IOERR_UNLOCK | SQLITE_IOERR_RDLOCK) => "locking",
        Some(SQLITE_IOERR_DELETE | SQLITE_IOERR_DELETE_NOENT) => "removing a file beside it",
        Some(SQLITE_IOERR_SHMOPEN | SQLITE_IOERR_SHMSIZE | SQLITE_IOERR_SHMLOCK | SQLITE_IOERR_SHMMAP) => {
            "using the file of that name with -shm behind it"
        }
        _ => return error.to_string(),
    };
    format!("{error} while {doing}")
}

/// A file that can't be opened.
pub(super) fn open_error(path: &Path, error: &std::io::Error) -> Error {
    let shown = path.display();
    if super::room::is_full(error) {
        return Error::NoSpace(format!("cannot make {shown}: {error}; free some space there"));
    }
    let hint = match error.kind() {
        std::io::ErrorKind::NotFound => "; its folder must exist",
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
            "; make the file and its folder writable for this user"
        }
        _ => "",
    };
    Error::Broken(format!("cannot open {shown}: {error}{hint}"))
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
