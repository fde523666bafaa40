//! SQLite's result codes as the engine's errors.

use std::path::Path;

use rusqlite::ErrorCode;

use crate::engine::Error;

/// What went wrong in a statement.
pub(super) fn failed(error: rusqlite::Error) -> Error {
    let text = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            Error::NoSpace("the disk of the database is full; writes go on when there is space again".into())
        }
        Some(ErrorCode::ReadOnly) => Error::Broken(format!("the database is read-only: {text}")),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Error::Broken(format!("the database is damaged: {text}; restore it from a backup"))
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
