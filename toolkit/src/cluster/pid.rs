//! Who a process is, beyond its number: a number is given to another process one day, and that one must not be killed.

use std::path::Path;
use std::time::{Duration, Instant};

use fs_err as fs;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use sluice_shell::error::{Attempt as _, Error, Result};

/// How long a condition is left alone before it is looked at again.
pub const POLL: Duration = Duration::from_millis(20);

/// One run of a program on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The process number.
    pub pid: i32,
    /// When it started, in clock ticks since the machine booted (`/proc/PID/stat`, field 22).
    started: u64,
    /// Which boot that was.
    boot: String,
}

impl Process {
    /// The process that has this number now; none if there isn't any.
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, started: Stat::read(pid)?.started, boot: boot_id() })
    }

    /// The process in `folder` that was started with exactly these words.
    pub(crate) fn started_as(folder: &Path, words: &[Vec<u8>]) -> Option<Self> {
        let folder = fs::canonicalize(folder).ok()?;
        let line: Vec<u8> = words.iter().flat_map(|word| word.iter().copied().chain([0])).collect();
        fs::read_dir("/proc").ok()?.filter_map(Result::ok).find_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let same = fs::read(entry.path().join("cmdline")).ok()? == line;
            let there = same && fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == folder);
            Self::of(pid).filter(|process| there && process.is_alive())
        })
    }

    /// What a pid file says; none if it is missing. A file that a crash cut short counts as missing.
    ///
    /// # Errors
    /// When the file exists and can't be read.
    pub fn load(path: &Path) -> Result<Option<Self>> {
        match fs::read(path) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the pid file.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        Ok(fs::write(path, serde_json::to_vec(self)?)?)
    }

    /// Whether this very process still runs. One that ended and wasn't waited for yet does not run.
    pub fn is_alive(&self) -> bool {
        // If it is a child of ours, this lets the kernel forget it; if it isn't, the error says nothing.
        let _ = waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG));
        match Stat::read(self.pid) {
            Some(stat) => !stat.ended && stat.started == self.started && boot_id() == self.boot,
            None => false,
        }
    }

    /// Resident memory in bytes; none if the process is gone.
    pub fn resident_bytes(&self) -> Option<u64> {
        if !self.is_alive() {
            return None;
        }
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024)
    }

    /// Asks the process to end, waits for `grace`, then kills it. Fine if it has ended already.
    ///
    /// # Errors
    /// When the process can't be signalled (it belongs to someone else) or outlives SIGKILL.
    pub fn stop(&self, grace: Duration) -> Result<()> {
        if !self.signal(Signal::SIGTERM)? || self.wait_end(grace) {
            return Ok(());
        }
        self.kill()
    }

    /// Ends the process at once, as a crash would.
    ///
    /// # Errors
    /// As [`Process::stop`].
    pub fn kill(&self) -> Result<()> {
        if !self.signal(Signal::SIGKILL)? || self.wait_end(Duration::from_secs(10)) {
            return Ok(());
        }
        Err(Error::input(format!("process {} is still there 10 s after SIGKILL", self.pid)))
    }

    /// Waits until the process has ended; false when it still runs after `limit`.
    pub(crate) fn wait_end(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.is_alive() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(POLL);
        }
        true
    }

    /// Sends a signal; false if the process is gone.
    fn signal(&self, signal: Signal) -> Result<bool> {
        if !self.is_alive() {
            return Ok(false);
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) => Ok(true),
            Err(nix::errno::Errno::ESRCH) => Ok(false),
            Err(error) => {
                Err(std::io::Error::from(error)).attempting(|| format!("cannot send {signal} to process {}", self.pid))
            }
        }
    }
}

struct Stat {
    started: u64,
    ended: bool,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        let stat = Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
        // The first thread of a killed process can be gone while others still hold its ports and files.
        let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
        Some(Self { ended: stat.ended && threads <= 1, ..stat })
    }

    /// proc_pid_stat(5). The second field is the program's name in brackets, and may hold spaces and brackets itself.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?;
        let started = fields.nth(18)?.parse().ok()?;
        Some(Self { started, ended: matches!(state, "Z" | "X" | "x") })
    }
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_shell::process::Run;

    fn me() -> Process {
        Process::of(i32::try_from(std::process::id()).unwrap()).unwrap()
    }

    #[test]
    fn the_name_may_hold_anything() {
        let stat = Stat::parse("7 (a) b (c)) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 0 0").unwrap();
        assert_eq!((stat.started, stat.ended), (4242, false));
        assert!(Stat::parse("7 (x) Z 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 0 0").unwrap().ended);
        assert!(Stat::parse("7 (x) S 1").is_none());
    }

    #[test]
    fn a_recycled_number_is_another_process() {
        assert!(me().is_alive());
        assert!(me().resident_bytes().unwrap() > 0);
        let before = Process { started: me().started - 1, ..me() };
        assert!(!before.is_alive());
        let other_boot = Process { boot: "0".into(), ..me() };
        assert!(!other_boot.is_alive());
        // Would end this test run if the identity were not looked at.
        before.stop(Duration::ZERO).unwrap();
        other_boot.kill().unwrap();
    }

    #[test]
    fn a_process_without_a_pid_file_is_found_by_its_command_and_folder() {
        let (temp, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let run = Run::new("/bin/sleep", temp.path()).arg("1000");
        let mut child = run.spawn(&temp.path().join("log")).unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let found = |folder: &Path, run: &Run| Process::started_as(folder, &run.words()).map(|process| process.pid);
        // The new process is a copy of this one until it has become the program.
        let deadline = Instant::now() + Duration::from_secs(30);
        while found(temp.path(), &run).is_none() && Instant::now() < deadline {
            std::thread::sleep(POLL);
        }
        let (mine, elsewhere) = (found(temp.path(), &run), found(other.path(), &run));
        let otherwise = found(temp.path(), &run.clone().arg("1"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((mine, elsewhere, otherwise), (Some(pid), None, None));
        assert_eq!(found(temp.path(), &run), None);
    }

    #[test]
    fn a_pid_file_survives_being_cut_short() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("x.pid");
        assert_eq!(Process::load(&path).unwrap(), None);
        me().save(&path).unwrap();
        assert_eq!(Process::load(&path).unwrap(), Some(me()));
        let text = fs::read(&path).unwrap();
        fs::write(&path, &text[..text.len() / 2]).unwrap();
        assert_eq!(Process::load(&path).unwrap(), None);
    }
}
