//! The note that says where the store of a file has moved to.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use super::beside;
use super::error::open_error;
use crate::engine::{Forwarding, Result};

/// The file that says where the store of a database has moved to, whatever links lead there.
pub(super) fn of(path: &Path) -> PathBuf {
    beside(&fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()), ".moved")
}

/// What the file says; `None` if there is none.
pub(super) fn read(note: &Path) -> Result<Option<Forwarding>> {
    match fs::read_to_string(note) {
        Ok(text) => text.parse().map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(open_error(note, &error)),
    }
}

/// Fails if the file is there.
pub(super) fn refuse(note: &Path) -> Result<()> {
    read(note)?.map_or(Ok(()), |note| Err(note.error()))
}

/// Writes a file that is there as a whole or not at all.
pub(super) fn write(path: &Path, note: &str) -> std::io::Result<()> {
    let new = beside(path, ".new");
    let mut file = File::create(&new)?;
    writeln!(file, "{note}")?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
