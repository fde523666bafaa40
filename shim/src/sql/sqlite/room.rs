//! Whether a file can grow beside a database.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use super::beside;

/// As much as SQLite makes the smallest of its files.
static PROBE: [u8; 32 << 10] = [0; 32 << 10];

/// Why no file can be made or grow beside the database, if so: a full disk, a quota, the limit of a file's size. SQLite
/// does not pass on the system's reason.
pub(super) fn full(path: &Path) -> Option<io::Error> {
    let probe = beside(path, &format!(".probe-{}", std::process::id()));
    let mut file = match File::create_new(&probe) {
        Ok(file) => file,
        Err(error) => return Some(error).filter(is_full),
    };
    let written = file.write_all(&PROBE).and_then(|()| file.sync_data());
    // It is empty or ours.
    let _ = fs::remove_file(&probe);
    written.err().filter(is_full)
}

pub(super) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
