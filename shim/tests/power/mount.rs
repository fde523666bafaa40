//! The disk as a file system (FUSE), which can be cut off, lie and fail.
//!
//! What programs map (SQLite's `-shm`) goes through the system's page cache, as it does on any file system: nothing is
//! opened with `FOPEN_DIRECT_IO`. Writes come here at once: there is no `FUSE_WRITEBACK_CACHE`.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use crate::disk::{Disk, Number};
use crate::random::Random;

/// Nothing changes but through the system, which may remember what it was told.
const FOR_LONG: Duration = Duration::from_secs(3600);

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Faults {
    None,
    /// A sync answers well and does nothing.
    Lies,
    /// One sync in so many fails; from the first on nothing of that file is on the disk that was not before.
    FailingSyncs(u64),
    /// Each sync of the folder fails, and none of a file.
    FailingNames,
    /// There is no room: one call in so many that needs some still finds it, or a part of it.
    Full(u64),
}

struct State {
    disk: Disk,
    faults: Faults,
    random: Random,
    /// How many changes and syncs were carried out.
    calls: u64,
    /// At which of them the power fails.
    cut_at: Option<u64>,
    /// Whether it has failed: nothing is carried out any more, and nobody gets an answer.
    is_cut: bool,
    /// Whether those who wait are told of an error.
    is_over: bool,
    /// How many calls failed on purpose.
    failed: u64,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// For a call that only looks.
    fn look(&self) -> Result<MutexGuard<'_, State>, Errno> {
        let state = self.changed.wait_while(self.lock(), |state| state.is_cut && !state.is_over).unwrap();
        if state.is_over { Err(Errno::EIO) } else { Ok(state) }
    }

    /// For a call that changes or syncs something.
    fn change(&self) -> Result<MutexGuard<'_, State>, Errno> {
        let mut state = self.lock();
        if state.cut_at.is_some_and(|at| state.calls >= at) {
            state.is_cut = true;
            self.changed.notify_all();
        }
        state.calls += 1;
        drop(state);
        self.look()
    }
}

impl State {
    /// Finds room for so many bytes; returns how many there is room for.
    fn room(&mut self, bytes: usize) -> Result<usize, Errno> {
        let Faults::Full(times) = self.faults else { return Ok(bytes) };
        if self.random.once_in(times) {
            return Ok(self.random.within(1..bytes.max(1) as u64 + 1) as usize);
        }
        self.failed += 1;
        Err(Errno::ENOSPC)
    }

    fn fails_to_sync(&mut self) -> bool {
        let fails = matches!(self.faults, Faults::FailingSyncs(times) if self.random.once_in(times));
        self.failed += u64::from(fails);
        fails
    }

    fn attributes(&self, number: Number) -> Result<FileAttr, Errno> {
        let (kind, perm, size) = if number == 1 {
            (FileType::Directory, 0o755, 0)
        } else {
            let file = self.disk.files.get(&number).ok_or(Errno::ENOENT)?;
            (FileType::RegularFile, 0o644, file.seen.len() as u64)
        };
        let time = SystemTime::UNIX_EPOCH;
        let ino = INodeNo(number);
        let nlink = u32::from(number == 1 || self.disk.names.values().any(|named| *named == number));
        let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
        let (blocks, blksize) = (size.div_ceil(512), 4096);
        let (atime, mtime, ctime, crtime) = (time, time, time, time);
        Ok(FileAttr {
            ino,
            size,
            blocks,
            atime,
            mtime,
            ctime,
            crtime,
            kind,
            perm,
            nlink,
            uid,
            gid,
            rdev: 0,
            blksize,
            flags: 0,
        })
    }

    fn find(&self, name: &OsStr) -> Result<Number, Errno> {
        self.disk.names.get(name).copied().ok_or(Errno::ENOENT)
    }
}

struct Files(Arc<Shared>);

/// Answers a call with what came of it.
macro_rules! answer {
    ($reply:ident, $result:expr, $done:pat => $with:expr) => {
        match $result {
            Ok($done) => $with,
            Err(error) => $reply.error(error),
        }
    };
}

impl Filesystem for Files {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = || {
            let state = self.0.look()?;
            state.attributes(state.find(name)?)
        };
        answer!(reply, found(), found => reply.entry(&FOR_LONG, &found, Generation(0)));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let found = self.0.look().and_then(|state| state.attributes(ino.0));
        answer!(reply, found, found => reply.attr(&FOR_LONG, &found));
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = || {
            let Some(size) = size else { return self.0.look()?.attributes(ino.0) };
            let mut state = self.0.change()?;
            let file = state.disk.files.get(&ino.0).ok_or(Errno::ENOENT)?;
            if size as usize > file.seen.len() {
                state.room(1)?;
            }
            if let Some(file) = state.disk.files.get_mut(&ino.0) {
                file.cut(size as usize);
            }
            state.attributes(ino.0)
        };
        answer!(reply, set(), found => reply.attr(&FOR_LONG, &found));
    }

    fn create(&self, _: &Request, _: INodeNo, name: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        let made = || {
            let mut state = self.0.change()?;
            state.room(1)?;
            let number = state.disk.make(name);
            state.attributes(number)
        };
        let open = FopenFlags::FOPEN_KEEP_CACHE;
        answer!(reply, made(), made => reply.created(&FOR_LONG, &made, Generation(0), FileHandle(0), open));
    }

    fn unlink(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let removed = || {
            let mut state = self.0.change()?;
            state.find(name)?;
            state.disk.rename(vec![(name.to_owned(), None)]);
            Ok(())
        };
        answer!(reply, removed(), () => reply.ok());
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        name: &OsStr,
        _: INodeNo,
        to: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let renamed = || {
            let mut state = self.0.change()?;
            if !flags.is_empty() {
                return Err(Errno::EINVAL);
            }
            let number = state.find(name)?;
            state.disk.rename(vec![(name.to_owned(), None), (to.to_owned(), Some(number))]);
            Ok(())
        };
        answer!(reply, renamed(), () => reply.ok());
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let there = self.0.look().and_then(|state| state.attributes(ino.0));
        answer!(reply, there, _ => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE));
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = || {
            let state = self.0.look()?;
            let file = state.disk.files.get(&ino.0).ok_or(Errno::ENOENT)?;
            let from = (offset as usize).min(file.seen.len());
            Ok(file.seen[from..(from + size as usize).min(file.seen.len())].to_owned())
        };
        answer!(reply, read(), bytes => reply.data(&bytes));
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written = || {
            let mut state = self.0.change()?;
            let (at, length) = (offset as usize, state.disk.files.get(&ino.0).ok_or(Errno::ENOENT)?.seen.len());
            let grows = (at + bytes.len()).saturating_sub(length.max(at));
            let fits = if grows > 0 { bytes.len() - grows + state.room(grows)? } else { bytes.len() };
            if let Some(file) = state.disk.files.get_mut(&ino.0) {
                file.write(at, &bytes[..fits]);
            }
            Ok(fits as u32)
        };
        answer!(reply, written(), written => reply.written(written));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let synced = || {
            let mut guard = self.0.change()?;
            let fails = guard.fails_to_sync();
            let state = &mut *guard;
            let file = state.disk.files.get_mut(&ino.0).ok_or(Errno::ENOENT)?;
            if fails {
                file.lose(&mut state.random);
                return Err(Errno::EIO);
            }
            if state.faults != Faults::Lies {
                file.sync();
            }
            Ok(())
        };
        answer!(reply, synced(), () => reply.ok());
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let synced = || {
            let mut state = self.0.change()?;
            if state.faults == Faults::FailingNames || state.fails_to_sync() {
                return Err(Errno::EIO);
            }
            if state.faults != Faults::Lies {
                state.disk.sync_names();
            }
            Ok(())
        };
        answer!(reply, synced(), () => reply.ok());
    }

    fn readdir(&self, _: &Request, _: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let names = self.0.look().map(|state| state.disk.names.clone());
        answer!(reply, names, names => {
            for (at, (name, number)) in names.iter().enumerate().skip(offset as usize) {
                if reply.add(INodeNo(*number), at as u64 + 1, FileType::RegularFile, name) {
                    break;
                }
            }
            reply.ok();
        });
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(1 << 24, 1 << 23, 1 << 23, 1 << 16, 1 << 16, 4096, 255, 4096);
    }
}

/// A mounted disk. It is taken away when this is dropped.
pub(crate) struct Mount {
    shared: Arc<Shared>,
    session: Option<BackgroundSession>,
}

/// Why nothing can be mounted on this machine.
pub(crate) fn is_missing() -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    match Mount::try_new(Disk::default(), Faults::None, Random::new(0, 0), folder.path()) {
        Ok(_) => None,
        Err(error) => Some(format!("no file system can be mounted (FUSE, /dev/fuse): {error}")),
    }
}

impl Mount {
    pub(crate) fn new(disk: Disk, faults: Faults, random: Random, at: &Path) -> Self {
        Self::try_new(disk, faults, random, at).unwrap()
    }

    fn try_new(disk: Disk, faults: Faults, random: Random, at: &Path) -> io::Result<Self> {
        let state = State { disk, faults, random, calls: 0, cut_at: None, is_cut: false, is_over: false, failed: 0 };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("sluice-power".into()), MountOption::NoAtime];
        let session = fuser::spawn_mount(Files(Arc::clone(&shared)), at, &config)?;
        Ok(Self { shared, session: Some(session) })
    }

    /// Has the power fail after so many more changes and syncs.
    pub(crate) fn cut_after(&self, calls: u64) {
        let mut state = self.shared.lock();
        state.cut_at = Some(state.calls + calls);
    }

    /// Whether the power has failed.
    pub(crate) fn is_cut(&self) -> bool {
        self.shared.lock().is_cut
    }

    /// How many calls failed on purpose.
    pub(crate) fn failed(&self) -> u64 {
        self.shared.lock().failed
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.shared.lock().faults = faults;
    }

    /// Has the power fail now, unless it has.
    pub(crate) fn cut(&self) {
        self.shared.lock().is_cut = true;
    }

    /// Takes the file system away, and returns the disk. Nobody uses it any more.
    pub(crate) fn take(&mut self) -> Disk {
        self.unmount();
        std::mem::take(&mut self.shared.lock().disk)
    }

    /// Tells those who wait for an answer of an error.
    pub(crate) fn release(&self) {
        self.shared.lock().is_over = true;
        self.shared.changed.notify_all();
    }

    fn unmount(&mut self) {
        let Some(session) = self.session.take() else { return };
        self.release();
        if let Err(error) = unmount(session) {
            panic!("the file system can't be taken away: {error}");
        }
    }
}

fn unmount(session: BackgroundSession) -> io::Result<()> {
    match session.umount_and_join() {
        // What the thread is told that waits for the next call.
        Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => Ok(()),
        ended => ended,
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.release();
        if let Some(session) = self.session.take() {
            let ended = unmount(session);
            // The first failure says more.
            assert!(std::thread::panicking() || ended.is_ok(), "{ended:?}");
        }
    }
}
