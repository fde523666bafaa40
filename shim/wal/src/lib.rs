//! A SQLite VFS that writes what a commit adds to the write-ahead log at once.
//!
//! SQLite writes each page of a commit to the log with two calls, one for its 24 bytes of header and one for the page
//! (`walWriteOneFrame` in wal.c): at several hundred pages a commit that is a fifth of the processor time of a write.
//! Here they are gathered and written before the log is synced, read, measured or cut, or when 128 KiB have come
//! together. All else is SQLite's own VFS for this system.
//!
//! That is as safe as writing at once, if
//! - the connection has `synchronous=FULL` or `EXTRA`: then the log is synced before the header of the wal-index is
//!   changed, which is when others look at these bytes (`sqlite3WalFrames`, `walIndexWriteHdr`); the connection's own
//!   reads write them first. With less others would read what is not there;
//! - no other connection commits, with whatever VFS: what a transaction left behind that was rolled back may be written
//!   after its lock is given back;
//! - `psow` is not switched off: SQLite would sync before it fills the sector up.
//!
//! A commit that could not be written (a full disk) is given up as a whole: what was gathered of it never turns up in
//! the file.
//!
//! [`commit_unsynced`] is for what need not outlive a crash of the system. What it wrote stands in the log before the
//! commits that follow: once a sync has failed the system may have given up either, so nothing more may be committed
//! until the log has been written anew.
//!
//! The database's file has some bytes that SQLite does not use ([`RESERVED`]). A connection with this VFS reads them as
//! zeros and never writes them, so that they can hold what is true of this file alone, and not of what SQLite copies:
//! [`read_reserved`], [`write_reserved`].

mod database;
mod gathered;

use std::ffi::{CStr, c_int, c_void};
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

pub use database::{RESERVED, read_reserved, write_reserved};
use gathered::{Gathered, Taken};
use rusqlite::{Connection, Transaction, ffi};

/// Calls a method of the real file of a log.
macro_rules! forward {
    ($method:ident($file:expr $(, $argument:expr)*)) => {{
        // SAFETY: SQLite calls our methods with a file that `open` has opened, whose real file has methods.
        unsafe {
            let real = real($file);
            match (*(*real).pMethods).$method {
                Some(method) => method(real $(, $argument)*),
                None => ffi::SQLITE_IOERR,
            }
        }
    }};
}

/// The name to open a database with, for instance by `Connection::open_with_flags_and_vfs`.
pub const NAME: &CStr = c"sluice-wal";

/// SQLite's own VFS, registered for ever.
struct Real(*mut ffi::sqlite3_vfs);

// SAFETY: SQLite calls a VFS from any thread; the pointer is only read.
unsafe impl Send for Real {}
// SAFETY: as above.
unsafe impl Sync for Real {}

static REAL: OnceLock<Result<Real, c_int>> = OnceLock::new();

/// Makes [`NAME`] known to SQLite; does nothing the second time.
///
/// # Errors
/// SQLite's code, if it has no VFS for this system or no memory.
pub fn register() -> Result<(), c_int> {
    match REAL.get_or_init(add) {
        Ok(_) => Ok(()),
        Err(code) => Err(*code),
    }
}

fn add() -> Result<Real, c_int> {
    // SAFETY: null asks for the default VFS.
    let real = unsafe { ffi::sqlite3_vfs_find(std::ptr::null()) };
    if real.is_null() {
        return Err(ffi::SQLITE_ERROR);
    }
    // SAFETY: it is a VFS, which stays registered. The copy's methods are the real ones, which work with any VFS that
    // has its `pAppData`.
    let copy = unsafe { *real };
    let ours = Box::leak(Box::new(ffi::sqlite3_vfs {
        pNext: null_mut(),
        zName: NAME.as_ptr(),
        szOsFile: copy.szOsFile + size_of::<Log>() as c_int,
        xOpen: Some(open),
        ..copy
    }));
    // SAFETY: `ours` lives for ever and is not the default.
    match unsafe { ffi::sqlite3_vfs_register(ours, 0) } {
        ffi::SQLITE_OK => Ok(Real(real)),
        code => Err(code),
    }
}

/// Commits: what was changed is in the log's file, where other connections see it, but not on the disk before somebody
/// syncs that file (or the next checkpoint does). Until then a crash of the system may lose it, together with all later
/// commits; it never damages the database.
///
/// Of a connection without this VFS the commit is synced as ever.
///
/// # Errors
/// Those of a commit.
pub fn commit_unsynced(transaction: Transaction<'_>) -> rusqlite::Result<()> {
    let Some(log) = log(&transaction)? else { return transaction.commit() };
    // SAFETY: it is open as long as the connection, which this thread alone uses.
    unsafe { (*log).deferred = true };
    let committed = transaction.commit();
    // SAFETY: as above.
    unsafe { (*log).deferred = false };
    committed
}

/// How long the connection's syncs of the log took since this was last asked; `None` if there were none, or without
/// this VFS.
///
/// # Errors
/// Those of SQLite, if the connection has no log.
pub fn take_sync_time(connection: &Connection) -> rusqlite::Result<Option<Duration>> {
    // SAFETY: the log is open as long as the connection, which this thread alone uses.
    Ok(log(connection)?.and_then(|log| unsafe { (*log).syncing.take() }))
}

/// The log of a connection with this VFS.
fn log(connection: &Connection) -> rusqlite::Result<Option<*mut Log>> {
    let log = file(connection, ffi::SQLITE_FCNTL_JOURNAL_POINTER)?;
    // SAFETY: an open file has methods; one with ours is a `Log`.
    let ours = unsafe { log.as_ref() }.is_some_and(|log| std::ptr::eq(log.pMethods, &METHODS));
    Ok(ours.then_some(log.cast()))
}

/// Brings what was written to the main database's file to the disk; what is in the log only is not touched.
///
/// A checkpoint does this itself only if nothing was committed since it began (`walCheckpoint` in wal.c): under load
/// all that checkpoints have written is left to the one that ends them.
///
/// # Errors
/// `SQLITE_IOERR_FSYNC`, if the disk fails. The system may have given the pages up then, and a second try would not
/// notice (fsync(2), `EIO`).
pub fn sync_database(connection: &Connection) -> rusqlite::Result<()> {
    let database = file(connection, ffi::SQLITE_FCNTL_FILE_POINTER)?;
    // SAFETY: an open file has methods; one that is not (a database in memory) has none.
    let methods = unsafe { database.as_ref().and_then(|file| file.pMethods.as_ref()) };
    let Some(sync) = methods.and_then(|methods| methods.xSync) else { return Ok(()) };
    // SAFETY: the file's own method, by the one thread that has the connection.
    checked(unsafe { sync(database, ffi::SQLITE_SYNC_NORMAL) })
}

/// The salt of the log that the connection commits to: another one each time the log begins afresh. `None` if there is
/// no log with a header, or the connection is without this VFS.
///
/// # Errors
/// Those of reading the log.
pub fn log_salt(connection: &Connection) -> rusqlite::Result<Option<[u8; 8]>> {
    let Some(open) = log(connection)? else { return Ok(None) };
    // SAFETY: it is open as long as the connection, which this thread alone uses.
    let salt = unsafe { &mut (*open).salt };
    let file: *mut ffi::sqlite3_file = open.cast();
    if salt.is_none() {
        let (mut header, mut size) = ([0_u8; HEADER], 0);
        checked(forward!(xFileSize(file, &raw mut size)))?;
        if size >= HEADER as i64 {
            checked(forward!(xRead(file, header.as_mut_ptr().cast(), HEADER as c_int, 0)))?;
            *salt = salt_in(&header);
        }
    }
    Ok(*salt)
}

/// The salt in the header of a log (<https://sqlite.org/fileformat2.html#the_write_ahead_log>).
fn salt_in(header: &[u8]) -> Option<[u8; 8]> {
    header.get(SALT)?.try_into().ok()
}

/// A file of the main database, by the control that asks for it.
fn file(connection: &Connection, which: c_int) -> rusqlite::Result<*mut ffi::sqlite3_file> {
    let mut file: *mut ffi::sqlite3_file = null_mut();
    // SAFETY: the connection is open, and this thread alone uses it; these controls write a pointer to a file, which
    // lives as long as the connection.
    let code =
        unsafe { ffi::sqlite3_file_control(connection.handle(), c"main".as_ptr(), which, (&raw mut file).cast()) };
    checked(code).map(|()| file)
}

fn checked(code: c_int) -> rusqlite::Result<()> {
    if code == ffi::SQLITE_OK { Ok(()) } else { Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)) }
}

/// The bytes of a log's header, and where the salt stands in them.
const HEADER: usize = 32;
const SALT: std::ops::Range<usize> = 16..24;

/// An open log. SQLite gives us the room for it; the real file stands right behind.
#[repr(C)]
struct Log {
    /// First, as SQLite wants it.
    base: ffi::sqlite3_file,
    gathered: *mut Gathered,
    /// Whether a commit is under way that somebody else syncs.
    deferred: bool,
    /// Whether the log begins afresh, by a header that is not on the disk yet. It must be there before any of the
    /// commits that follow: else these could be on the disk behind the old header, and be taken for commits of then
    /// (`sqlite3WalFrames`, which syncs it by itself).
    afresh: bool,
    /// How long the syncs took that nobody asked for yet.
    syncing: Option<Duration>,
    /// The salt of its header, as far as it was read or written.
    salt: Option<[u8; 8]>,
}

/// The real file of a log.
///
/// # Safety
/// `file` points to room for a [`Log`] and a real file behind it.
unsafe fn real(file: *mut ffi::sqlite3_file) -> *mut ffi::sqlite3_file {
    // SAFETY: by the contract it is within the room, aligned as `Log` is: both begin with a pointer.
    unsafe { file.cast::<Log>().add(1).cast() }
}

unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    let Some(Ok(Real(vfs))) = REAL.get() else { return ffi::SQLITE_CANTOPEN };
    // SAFETY: the real VFS lives for ever.
    let Some(real_open) = (unsafe { (**vfs).xOpen }) else { return ffi::SQLITE_CANTOPEN };
    if flags & ffi::SQLITE_OPEN_WAL == 0 {
        // SAFETY: SQLite's own arguments; the room is larger than it need be.
        let code = unsafe { real_open(*vfs, name, file, flags, out) };
        if code == ffi::SQLITE_OK && flags & ffi::SQLITE_OPEN_MAIN_DB != 0 {
            // SAFETY: it was opened just now, and nobody else has it yet.
            return unsafe { database::adopt(file) };
        }
        return code;
    }
    // SAFETY: the room is as large as `szOsFile` says. A file whose opening failed has no methods, so nobody closes it
    // but we.
    unsafe {
        (*file).pMethods = std::ptr::null();
        let real = real(file);
        (*real).pMethods = std::ptr::null();
        let code = real_open(*vfs, name, real, flags, out);
        if code == ffi::SQLITE_OK {
            let gathered = Box::into_raw(Box::default());
            file.cast::<Log>().write(Log {
                base: ffi::sqlite3_file { pMethods: &METHODS },
                gathered,
                deferred: false,
                afresh: false,
                syncing: None,
                salt: None,
            });
        } else if let Some(methods) = (*real).pMethods.as_ref()
            && let Some(close) = methods.xClose
        {
            close(real);
        }
        code
    }
}

/// Version 1: shared memory and mapped pages are asked of the database's file, never of the log.
static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

/// What a log has gathered.
///
/// # Safety
/// `file` is a log that [`open`] has opened and [`close`] has not closed. SQLite uses a file by one thread at a time.
unsafe fn gathered<'a>(file: *mut ffi::sqlite3_file) -> &'a mut Gathered {
    // SAFETY: by the contract; the box is freed by `close` alone.
    unsafe { &mut *(*file.cast::<Log>()).gathered }
}

/// Writes what a log has gathered.
///
/// # Safety
/// As for [`gathered`].
unsafe fn flush(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: by the contract.
    let gathered = unsafe { gathered(file) };
    gathered.flush(|bytes, offset| forward!(xWrite(file, bytes.as_ptr().cast(), bytes.len() as c_int, offset)))
}

/// Flushes, then does what follows.
macro_rules! flushed {
    ($file:expr, $then:expr) => {
        // SAFETY: SQLite calls our methods with a file that `open` has opened.
        match unsafe { flush($file) } {
            ffi::SQLITE_OK => $then,
            code => code,
        }
    };
}

unsafe extern "C" fn write(file: *mut ffi::sqlite3_file, from: *const c_void, bytes: c_int, offset: i64) -> c_int {
    let Ok(length) = usize::try_from(bytes) else { return ffi::SQLITE_MISUSE };
    // SAFETY: SQLite's own arguments: so many bytes to read.
    let new = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), length) };
    if offset == 0 {
        let log = file.cast::<Log>();
        // SAFETY: a file that `open` has opened, used by one thread at a time.
        unsafe { ((*log).afresh, (*log).salt) = (true, salt_in(new)) };
    }
    // SAFETY: a file that `open` has opened; the borrow ends with the call.
    let take = || unsafe { gathered(file) }.take(new, offset);
    match take() {
        Taken::Yes => ffi::SQLITE_OK,
        Taken::Lost => ffi::SQLITE_IOERR_WRITE,
        Taken::Flush => flushed!(
            file,
            match take() {
                Taken::Yes => ffi::SQLITE_OK,
                // More than can be gathered: never a page.
                Taken::Flush => forward!(xWrite(file, from, bytes, offset)),
                Taken::Lost => ffi::SQLITE_IOERR_WRITE,
            }
        ),
    }
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    let written = flushed!(file, ffi::SQLITE_OK);
    // SAFETY: `open` made it of a box, and SQLite does not use a file that it has closed.
    drop(unsafe { Box::from_raw((*file.cast::<Log>()).gathered) });
    match forward!(xClose(file)) {
        ffi::SQLITE_OK => written,
        code => code,
    }
}

unsafe extern "C" fn read(file: *mut ffi::sqlite3_file, to: *mut c_void, bytes: c_int, offset: i64) -> c_int {
    // SAFETY: a file that `open` has opened.
    if unsafe { flush(file) } != ffi::SQLITE_OK {
        // Not "full": SQLite could undo the statement alone, and go on with a transaction that has lost pages
        // (`sqlite3VdbeHalt`).
        return ffi::SQLITE_IOERR_WRITE;
    }
    // SAFETY: as above.
    if unsafe { gathered(file) }.is_lost(offset + i64::from(bytes)) {
        return ffi::SQLITE_IOERR_READ;
    }
    forward!(xRead(file, to, bytes, offset))
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: i64) -> c_int {
    // SAFETY: a file that `open` has opened.
    unsafe { gathered(file) }.cut(size);
    if size < HEADER as i64 {
        // SAFETY: as above, used by one thread at a time.
        unsafe { (*file.cast::<Log>()).salt = None };
    }
    flushed!(file, forward!(xTruncate(file, size)))
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    let log = file.cast::<Log>();
    // SAFETY: a file that `open` has opened, used by one thread at a time.
    let deferred = unsafe { (*log).deferred && !(*log).afresh };
    let code = flushed!(file, if deferred { ffi::SQLITE_OK } else { timed_sync(file, flags) });
    if code == ffi::SQLITE_OK {
        // SAFETY: as above.
        unsafe { (*log).afresh = false };
    }
    code
}

/// Syncs a log that [`open`] has opened.
fn timed_sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    let started = Instant::now();
    let code = forward!(xSync(file, flags));
    // SAFETY: a file that `open` has opened, used by one thread at a time.
    let syncing = unsafe { &mut (*file.cast::<Log>()).syncing };
    *syncing = Some(syncing.unwrap_or_default() + started.elapsed());
    code
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, size: *mut i64) -> c_int {
    flushed!(file, forward!(xFileSize(file, size)))
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    forward!(xLock(file, level))
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    forward!(xUnlock(file, level))
}

unsafe extern "C" fn check_reserved_lock(file: *mut ffi::sqlite3_file, locked: *mut c_int) -> c_int {
    forward!(xCheckReservedLock(file, locked))
}

unsafe extern "C" fn file_control(file: *mut ffi::sqlite3_file, verb: c_int, argument: *mut c_void) -> c_int {
    forward!(xFileControl(file, verb, argument))
}

unsafe extern "C" fn sector_size(file: *mut ffi::sqlite3_file) -> c_int {
    forward!(xSectorSize(file))
}

unsafe extern "C" fn device_characteristics(file: *mut ffi::sqlite3_file) -> c_int {
    forward!(xDeviceCharacteristics(file))
}
