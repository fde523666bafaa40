//! Where a database is, or is to be: what is there before it is opened, and what is left if that fails.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::beside;
use crate::engine::{Error, Result};

/// What each SQLite database begins with ("Database File Format", §1.3).
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// A database with what SQLite keeps beside it.
const FILES: [&str; 3] = ["", "-wal", "-shm"];

/// Refuses a path that no database can be at, before anything is made there.
pub(super) fn check(path: &Path) -> Result<()> {
    let shown = path.display();
    let refuse = |why: String| Err(Error::Broken(why));
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            refuse(format!("{shown} is a folder; name a file in it, such as {shown}/state.db"))
        }
        Ok(found) if !found.is_file() => refuse(format!("{shown} is no file; name a file")),
        Ok(found) if found.len() > 0 && !is_cut_off(path) => check_magic(path),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => check_folder(path),
        Err(error) => refuse(format!("cannot look at the database {shown}: {error}")),
    }
}

/// Whether a transaction was cut off that only SQLite can undo (a "hot journal"): the making of a database, since later
/// ones are in the log. Any page may be missing until then, also the first.
pub(super) fn is_cut_off(path: &Path) -> bool {
    fs::metadata(beside(path, "-journal")).is_ok_and(|journal| journal.len() > 0)
}

fn check_folder(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match fs::metadata(folder) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(Error::Broken(format!(
            "cannot make the database {}: {} is no folder",
            path.display(),
            folder.display()
        ))),
        Err(error) => {
            let what = format!("cannot make the database {} in {}: {error}", path.display(), folder.display());
            Err(Error::Broken(format!("{what}; make the folder first, or name another file")))
        }
    }
}

fn check_magic(path: &Path) -> Result<()> {
    let mut begin = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut begin));
    match read {
        Ok(_) if begin == MAGIC => Ok(()),
        Ok(_) => Err(Error::Broken(format!(
            "{} is not a SQLite database; name another file, or move it away to start empty",
            path.display()
        ))),
        Err(error) => Err(super::error::open_error(path, &error)),
    }
}

/// The files that an open makes, which are removed unless they are to be kept. Beside a database that was there already
/// these are none but the lock file: its log may be needed from the first moment on.
pub(super) struct Fresh(Vec<PathBuf>);

impl Fresh {
    /// To be asked by the process that has the lock. `lock`: the lock file, if this process made that too.
    pub(super) fn of(path: &Path, lock: Option<PathBuf>) -> Self {
        let files = FILES.iter().filter(|_| is_missing(path)).map(|suffix| beside(path, suffix));
        Self(files.filter(|file| is_missing(file)).chain(lock).collect())
    }

    pub(super) fn keep(mut self) {
        self.0.clear();
    }
}

/// Whether nothing has that name, not even a dangling link.
pub(super) fn is_missing(file: &Path) -> bool {
    fs::symlink_metadata(file).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

impl Drop for Fresh {
    fn drop(&mut self) {
        for file in &self.0 {
            // Not all of them were made.
            let _ = fs::remove_file(file);
        }
    }
}
