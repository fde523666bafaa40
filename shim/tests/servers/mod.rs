//! A server of the tests' own, which can be stopped and started again. It ends with the program, however that ends, and
//! its folder with it.
#![allow(clippy::allow_attributes, dead_code, reason = "each program of tests needs a part of it")]

pub(crate) mod mariadb;
pub(crate) mod postgres;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use sluice_shim::endpoint::Family;

/// How long a server may take to start, on a machine that has much to do.
const START: Duration = Duration::from_secs(120);

/// Who owns nothing. PostgreSQL refuses to run as root.
const NOBODY: u32 = 65534;

/// Runs the command behind the first three arguments, until the command has ended and the input is at its end or says
/// `keep`. Prints the number of the process, and writes the command's output into the folder of the first argument. At
/// the end of the input the script ends the server with the signal of the second argument, unmounts the file system
/// that the third argument names, if any, and removes the folder.
const SHELL: &str = r#"
folder=$1 signal=$2 mounted=$3; shift 3
"$@" >>"$folder/log" 2>&1 </dev/null &
echo $!
read -r word || true
[ "$word" = keep ] && signal=KILL
kill -s "$signal" $! 2>/dev/null
wait $!
[ "$word" = keep ] && exit
[ -z "$mounted" ] || umount -l "$mounted"
rm -rf "$folder"
"#;

/// How to stop a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// As an operating system that has no memory left does.
    Kill,
    /// As an administrator in a hurry does: without waiting for anybody.
    AtOnce,
    /// Well.
    Clean,
}

/// A server in a folder.
pub(crate) struct Server {
    family: Family,
    /// Where it listens, on 127.0.0.1.
    pub(crate) port: u16,
    pub(crate) folder: PathBuf,
    options: Vec<String>,
    /// A file system of its own, to be unmounted behind it.
    mounted: Option<PathBuf>,
    running: Option<(Child, ChildStdin, u32)>,
}

/// Whether the tests run as root.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

impl Server {
    /// A new one, with options of its program.
    pub(crate) fn start(family: Family, options: &[&str]) -> Self {
        Self::bare(family, options).filled()
    }

    /// The same with its data on a file system of that size. What PostgreSQL writes first, its log, is elsewhere.
    pub(crate) fn start_on_small_disk(family: Family, options: &[&str], size: &str) -> Self {
        let mut server = Self::bare(family, options);
        let data = server.folder.join("data");
        fs::create_dir(&data).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "faults"]).arg(&data);
        assert!(mount.status().unwrap().success(), "{mount:?}");
        server.mounted = Some(data.clone());
        own(&data);
        server.filled()
    }

    /// A PostgreSQL that follows another one; what it does not ask for, it does not get.
    pub(crate) fn standby_of(primary: &Self, name: &str) -> Self {
        let mut server = Self::bare(Family::Postgres, &[]);
        server.carry_out(&postgres::copy(&server.folder, primary.port, name));
        server.run();
        server
    }

    /// One without data.
    fn bare(family: Family, options: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("sluice-server-").tempdir().unwrap().keep();
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        own(&folder);
        Self { family, port, folder, options, mounted: None, running: None }
    }

    /// Makes its data and starts it.
    fn filled(mut self) -> Self {
        self.carry_out(&match self.family {
            Family::Postgres => postgres::make(&self.folder),
            Family::MySql => mariadb::make(&self.folder),
        });
        self.run();
        self
    }

    /// Runs a program to its end, as the user who runs the server.
    fn carry_out(&self, words: &[OsString]) {
        let words = as_nobody(words);
        let mut command = Command::new(&words[0]);
        let done = self.within(command.args(&words[1..])).stdin(Stdio::null()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(done.status.success(), "{words:?}: {}{}", text(&done.stdout), text(&done.stderr));
    }

    fn within<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.current_dir(&self.folder).env("TMPDIR", &self.folder).env("LC_ALL", "C")
    }

    /// Where it is, for whoever may do everything.
    pub(crate) fn url(&self) -> String {
        match self.family {
            Family::Postgres => format!("postgres://postgres@127.0.0.1:{}/postgres", self.port),
            Family::MySql => format!("mysql://root@127.0.0.1:{}/mysql", self.port),
        }
    }

    /// Starts it; waits until it answers.
    pub(crate) fn run(&mut self) {
        let started = Instant::now();
        // Of one that was killed some processes may still have its memory.
        while !self.try_run(started) {
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn try_run(&mut self, started: Instant) -> bool {
        let (words, end) = match self.family {
            Family::Postgres => (postgres::serve(&self.folder, self.port), "QUIT"),
            Family::MySql => (mariadb::serve(&self.folder, self.port), "KILL"),
        };
        let mounted = self.mounted.as_deref().unwrap_or(Path::new(""));
        let mut shell = Command::new("sh");
        self.within(&mut shell).args(["-c", SHELL, "sh"]).arg(&self.folder).arg(end).arg(mounted);
        shell.args(as_nobody(&words)).args(&self.options);
        // A group of its own: Ctrl-C ends the tests, and not the shell before the shell has removed the folder.
        let mut shell = shell.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = shell.stdin.take().unwrap();
        let mut said = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(shell.stdout.take().unwrap()), &mut said).unwrap();
        let pid = said.trim().parse().unwrap();
        self.running = Some((shell, input, pid));
        let log = self.folder.join("log");
        let said = || fs::read_to_string(&log).unwrap_or_default();
        while self.query("SELECT 1").is_err() {
            assert!(started.elapsed() < START, "it does not start: {}", said());
            if !Self::is_alive(pid) {
                self.stop(Stop::Kill);
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }

    /// Stops it; waits until it has ended.
    pub(crate) fn stop(&mut self, how: Stop) {
        let Some((mut shell, mut input, pid)) = self.running.take() else { return };
        let signal = match (how, self.family) {
            (Stop::Kill, _) | (Stop::AtOnce, Family::MySql) => "KILL",
            (Stop::AtOnce, Family::Postgres) => "QUIT",
            (Stop::Clean, Family::Postgres) => "INT",
            (Stop::Clean, Family::MySql) => "TERM",
        };
        let killed = Command::new("kill").args(["-s", signal, &pid.to_string()]).output().unwrap();
        // It may have ended by itself.
        assert!(killed.status.success() || !Self::is_alive(pid), "{killed:?}");
        let until = Instant::now() + START;
        while Self::is_alive(pid) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::io::Write::write_all(&mut input, b"keep\n").unwrap();
        shell.wait().unwrap();
    }

    /// Whether it has not ended by itself.
    pub(crate) fn lives(&self) -> bool {
        self.running.as_ref().is_some_and(|(_, _, pid)| Self::is_alive(*pid))
    }

    fn is_alive(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}/exe")).exists()
    }

    /// Has it carry out statements; returns the rows that they give.
    pub(crate) fn query(&self, statements: &str) -> Result<Vec<Vec<String>>, String> {
        match self.family {
            Family::Postgres => {
                let rows = postgres::psql(self.port, "postgres", statements)?;
                Ok(rows.lines().map(|row| row.split('|').map(str::to_owned).collect()).collect())
            }
            Family::MySql => mariadb::query(self.port, statements).map_err(|error| error.to_string()),
        }
    }

    /// The same, which succeeds.
    pub(crate) fn set(&self, statements: &str) -> Vec<Vec<String>> {
        self.query(statements).unwrap_or_else(|error| panic!("{statements}: {error}"))
    }

    /// Makes a standby the primary.
    pub(crate) fn promote(&self) {
        self.set("SELECT pg_promote(true, 60)");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some((mut shell, input, _)) = self.running.take() {
            drop(input);
            // It removes the folder.
            let _ = shell.wait();
            return;
        }
        if let Some(mounted) = &self.mounted {
            let _ = Command::new("umount").arg("-l").arg(mounted).status();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Gives a path to whom the servers run as.
fn own(path: &Path) {
    if is_root() {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

/// A command for a user who is not root.
fn as_nobody(words: &[OsString]) -> Vec<OsString> {
    let user = [format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()];
    let other = ["setpriv".to_owned()].into_iter().chain(user).map(OsString::from);
    other.take(if is_root() { 4 } else { 0 }).chain(words.iter().cloned()).collect()
}

/// The words of a command.
fn words<const N: usize>(words: [&dyn AsRef<OsStr>; N]) -> Vec<OsString> {
    words.map(|word| word.as_ref().to_owned()).into()
}

/// An option with a path in it.
fn with(option: &str, path: &Path) -> OsString {
    let mut word = OsString::from(option);
    word.push(path);
    word
}
