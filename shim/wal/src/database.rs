//! The database's own file, with some bytes that SQLite never sees.
//!
//! A file that SQLite's VFS has opened gets other methods, which differ from the real ones in two: what is read of the
//! reserved bytes is zeros, and what is written over them is left out. All else, also what they keep, is the real
//! file's.

use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::sync::OnceLock;

use rusqlite::{Connection, ffi};

use crate::{checked, file};

/// Where the bytes are: "reserved for expansion" (<https://sqlite.org/fileformat2.html#the_database_header>). SQLite
/// writes zeros to them and does not look at them.
pub const RESERVED: Range<usize> = 72..92;

/// The methods of SQLite's files, and ours.
struct Methods {
    real: *const ffi::sqlite3_io_methods,
    ours: ffi::sqlite3_io_methods,
}

// SAFETY: the real methods are a constant of SQLite; both are only read.
unsafe impl Send for Methods {}
// SAFETY: as above.
unsafe impl Sync for Methods {}

static METHODS: OnceLock<Methods> = OnceLock::new();

/// Gives a file our methods.
///
/// # Safety
/// The real VFS has opened the file, and only this thread has it.
pub(crate) unsafe fn adopt(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: by the contract; an open file has methods, which are a constant.
    let (real, copy) = unsafe { ((*file).pMethods, *(*file).pMethods) };
    let ours = ffi::sqlite3_io_methods { xRead: Some(read), xWrite: Some(write), ..copy };
    let methods = METHODS.get_or_init(|| Methods { real, ours });
    if !std::ptr::eq(methods.real, real) {
        // SQLite has others for files without locks, which nobody asks for.
        // SAFETY: the file is open, and is not used again.
        unsafe { copy.xClose.map(|close| close(file)) };
        // SAFETY: as above; without methods SQLite does not close it once more.
        unsafe { (*file).pMethods = std::ptr::null() };
        return ffi::SQLITE_CANTOPEN;
    }
    // SAFETY: by the contract; the methods live for ever.
    unsafe { (*file).pMethods = &raw const methods.ours };
    ffi::SQLITE_OK
}

/// The real methods of a file that has ours, or its own.
///
/// # Safety
/// The file is open.
unsafe fn real(file: *mut ffi::sqlite3_file) -> Option<&'static ffi::sqlite3_io_methods> {
    // SAFETY: by the contract; methods are constants.
    let methods = unsafe { (*file).pMethods };
    let real = METHODS.get().filter(|known| std::ptr::eq(methods, &raw const known.ours)).map(|known| known.real);
    // SAFETY: as above; null for a file that is not open.
    unsafe { real.unwrap_or(methods).as_ref() }
}

unsafe extern "C" fn read(file: *mut ffi::sqlite3_file, to: *mut c_void, bytes: c_int, offset: i64) -> c_int {
    // SAFETY: SQLite calls our methods with a file that `adopt` has given them.
    let Some(real) = unsafe { real(file) }.and_then(|methods| methods.xRead) else { return ffi::SQLITE_IOERR };
    // SAFETY: SQLite's own arguments.
    let code = unsafe { real(file, to, bytes, offset) };
    if let (ffi::SQLITE_OK | ffi::SQLITE_IOERR_SHORT_READ, Some(reserved)) = (code, reserved(bytes, offset)) {
        // SAFETY: within the room that SQLite gave, all of which is written (with zeros, where the file is short).
        unsafe { to.cast::<u8>().add(reserved.start).write_bytes(0, reserved.len()) };
    }
    code
}

unsafe extern "C" fn write(file: *mut ffi::sqlite3_file, from: *const c_void, bytes: c_int, offset: i64) -> c_int {
    // SAFETY: SQLite calls our methods with a file that `adopt` has given them.
    let Some(real) = unsafe { real(file) }.and_then(|methods| methods.xWrite) else { return ffi::SQLITE_IOERR };
    let part = |part: Range<usize>| {
        if part.is_empty() {
            return ffi::SQLITE_OK;
        }
        let (length, at) = (part.len() as c_int, offset + part.start as i64);
        // SAFETY: SQLite's own arguments, or a part of them.
        unsafe { real(file, from.cast::<u8>().add(part.start).cast(), length, at) }
    };
    let Ok(length) = usize::try_from(bytes) else { return ffi::SQLITE_MISUSE };
    match reserved(bytes, offset) {
        None => part(0..length),
        Some(reserved) => match part(0..reserved.start) {
            ffi::SQLITE_OK => part(reserved.end..length),
            code => code,
        },
    }
}

/// Which of so many bytes at a place in the file are reserved.
fn reserved(bytes: c_int, offset: i64) -> Option<Range<usize>> {
    let (length, offset) = (usize::try_from(bytes).ok()?, usize::try_from(offset).ok()?);
    let within = |at: usize| at.saturating_sub(offset).min(length);
    let range = within(RESERVED.start)..within(RESERVED.end);
    (!range.is_empty()).then_some(range)
}

/// Reads the reserved bytes; zeros if the file is shorter.
///
/// # Errors
/// SQLite's, if the file can't be read.
pub fn read_reserved(connection: &Connection) -> rusqlite::Result<[u8; RESERVED.end - RESERVED.start]> {
    let database = file(connection, ffi::SQLITE_FCNTL_FILE_POINTER)?;
    let mut bytes = [0; RESERVED.end - RESERVED.start];
    // SAFETY: the file is open as long as the connection, or null for a database in memory.
    let methods = if database.is_null() { None } else { unsafe { real(database) } };
    let Some(read) = methods.and_then(|methods| methods.xRead) else { return Ok(bytes) };
    // SAFETY: the file's own method, by the one thread that has the connection, with room for so many bytes.
    match unsafe { read(database, bytes.as_mut_ptr().cast(), bytes.len() as c_int, RESERVED.start as i64) } {
        ffi::SQLITE_IOERR_SHORT_READ => Ok([0; RESERVED.end - RESERVED.start]),
        code => checked(code).map(|()| bytes),
    }
}

/// Writes the reserved bytes at once; [`crate::sync_database`] brings them to the disk.
///
/// # Errors
/// SQLite's, if the file can't be written.
pub fn write_reserved(connection: &Connection, bytes: &[u8; RESERVED.end - RESERVED.start]) -> rusqlite::Result<()> {
    let database = file(connection, ffi::SQLITE_FCNTL_FILE_POINTER)?;
    // SAFETY: the file is open as long as the connection, or null for a database in memory.
    let methods = if database.is_null() { None } else { unsafe { real(database) } };
    let Some(write) = methods.and_then(|methods| methods.xWrite) else { return Ok(()) };
    // SAFETY: the file's own method, by the one thread that has the connection, with so many bytes.
    checked(unsafe { write(database, bytes.as_ptr().cast(), bytes.len() as c_int, RESERVED.start as i64) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_of_a_piece_that_is_reserved() {
        let table = [
            ((4096, 0), Some(72..92)),
            ((100, 0), Some(72..92)),
            ((80, 0), Some(72..80)),
            ((72, 0), None),
            ((16, 24), None),
            ((16, 80), Some(0..12)),
            ((4, 74), Some(0..4)),
            ((16, 92), None),
            ((4096, 4096), None),
        ];
        for ((bytes, offset), expected) in table {
            assert_eq!(reserved(bytes, offset), expected, "{bytes} at {offset}");
        }
    }
}
