//! A server of the test's own, which can be stopped and started again. It ends with the program, however that ends.
#![allow(clippy::allow_attributes, dead_code, reason = "each program of tests needs a part of it")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sluice_shim::endpoint::Family;

use crate::database::query_at;

#[path = "programs.rs"]
mod programs;

use programs::NOBODY;
pub(crate) use programs::is_root;

/// How long a server may take to start, on a machine that has much to do.
const START: Duration = Duration::from_secs(90);

/// Runs what comes behind its first argument, with its output in that file, until it has ended and the input is at its
/// end or says `keep`. Says which process it is. Unless it is to keep that, it unmounts the file system of the data.
const SHELL: &str = r#"
log=$1; shift
"$@" >>"$log" 2>&1 </dev/null &
echo $!
read -r word || true
kill -9 $! 2>/dev/null
wait $!
[ -z "$MOUNTED" ] || [ "$word" = keep ] || umount -l "$MOUNTED"
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
    pub(crate) port: u16,
    pub(crate) folder: PathBuf,
    options: Vec<String>,
    /// A file system of its own, to be unmounted behind it.
    mounted: Option<PathBuf>,
    running: Option<(Child, ChildStdin, u32)>,
    _guard: tempfile::TempDir,
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
        server.own(&data);
        server.mounted = Some(data);
        server.filled()
    }

    /// A node of a cluster, with options of its program, which has no data and is not started.
    pub(crate) fn of_cluster(family: Family, options: Vec<String>) -> Self {
        let mut server = Self::bare(family, &[]);
        server.options = options;
        server
    }

    /// Makes its data and starts it.
    fn filled(self) -> Self {
        let mut server = self;
        server.fill();
        server.run();
        server
    }

    /// Makes its data.
    pub(crate) fn fill(&self) {
        let data = self.folder.join("data");
        let made = match self.family {
            Family::Postgres => self
                .command("initdb")
                .args(["-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-D"])
                .arg(&data)
                .arg(format!("--waldir={}", self.folder.join("wal").display()))
                .output(),
            Family::MySql => self
                .command("mariadb-install-db")
                .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
                .args([format!("--datadir={}", data.display()), format!("--tmpdir={}", self.folder.display())])
                .output(),
        };
        let made = made.unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    /// Makes the folder of its data alone: others will send it what is to be in there.
    pub(crate) fn fill_not(&self) {
        let data = self.folder.join("data");
        fs::create_dir(&data).unwrap();
        self.own(&data);
    }

    /// One without data.
    fn bare(family: Family, options: &[&str]) -> Self {
        let guard = tempfile::Builder::new().prefix("own-server").tempdir().unwrap();
        let folder = guard.path().to_owned();
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let port = crate::port::free();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        let server = Self { family, port, folder, options, mounted: None, running: None, _guard: guard };
        server.own(&server.folder);
        server
    }

    /// A PostgreSQL that follows another one; what it does not ask for, it does not get.
    pub(crate) fn standby_of(primary: &Self, name: &str) -> Self {
        let mut server = Self::bare(Family::Postgres, &[]);
        let data = server.folder.join("data");
        let taken = server
            .command("pg_basebackup")
            .args(["-h", "127.0.0.1", "-U", "postgres", "-R", "-X", "stream", "-c", "fast", "-D"])
            .arg(&data)
            .args(["-d", &format!("port={} application_name={name}", primary.port)])
            .output()
            .unwrap();
        assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
        server.run();
        server
    }

    /// A new one that others can follow.
    pub(crate) fn primary(family: Family) -> Self {
        match family {
            Family::Postgres => Self::start(family, &[]),
            Family::MySql => Self::start(family, &["--log-bin", "--server-id=1"]),
        }
    }

    /// One that follows another one, has all that it had, and takes no writes.
    pub(crate) fn replica_of(primary: &Self, name: &str) -> Self {
        if primary.family == Family::Postgres {
            return Self::standby_of(primary, name);
        }
        let mut server = Self::bare(primary.family, &["--log-bin", "--read-only", "--log-slave-updates"]);
        server.options.push(format!("--server-id={}", server.port));
        let server = server.filled();
        server.set(&format!(
            "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={}, MASTER_USER='root', MASTER_USE_GTID=slave_pos",
            primary.port
        ));
        server.set("START SLAVE");
        server.catch_up(primary);
        server
    }

    /// Waits until it has all that the one has which it follows.
    pub(crate) fn catch_up(&self, primary: &Self) {
        let at = |sql| primary.set(sql)[0][0].clone();
        let reached = match self.family {
            Family::Postgres => format!("SELECT pg_last_wal_replay_lsn() >= '{}'", at("SELECT pg_current_wal_lsn()")),
            Family::MySql => format!("SELECT 0 = MASTER_GTID_WAIT('{}', 60)", at("SELECT @@gtid_binlog_pos")),
        };
        let until = Instant::now() + START;
        while !["t", "1"].contains(&&*self.set(&reached)[0][0]) {
            assert!(Instant::now() < until, "it does not catch up: {reached}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Lets it fall behind the one that it follows, or catch up again.
    pub(crate) fn follow(&self, follows: bool) {
        self.set(match (self.family, follows) {
            (Family::Postgres, true) => "SELECT pg_wal_replay_resume()",
            (Family::Postgres, false) => "SELECT pg_wal_replay_pause()",
            (Family::MySql, true) => "START SLAVE",
            (Family::MySql, false) => "STOP SLAVE",
        });
    }

    /// Its program as the one who runs it.
    fn command(&self, program: &str) -> Command {
        let path = match self.family {
            Family::Postgres => programs::postgres(program),
            Family::MySql => PathBuf::from(program),
        };
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"), "--clear-groups".to_owned()]);
            command.arg(path);
            command
        } else {
            Command::new(path)
        };
        command.current_dir(&self.folder).env("LC_ALL", "C").stdin(Stdio::null());
        command
    }

    fn own(&self, path: &Path) {
        if is_root() {
            std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
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
        self.run_with(&[]);
    }

    /// The same with more options, this one time.
    pub(crate) fn run_with(&mut self, more: &[String]) {
        let started = Instant::now();
        // Of one that was killed some processes may still have its memory.
        while !self.try_run(started, more) {
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Runs its program until it ends by itself; returns what it said.
    pub(crate) fn says(&self, more: &[&str]) -> String {
        let mut program = self.program();
        let said = program.args(&self.options).args(more).output().unwrap();
        String::from_utf8_lossy(&said.stderr).into_owned()
    }

    /// The command that runs it.
    fn program(&self) -> Command {
        let data = self.folder.join("data");
        match self.family {
            Family::Postgres => {
                let mut command = self.command("postgres");
                command.arg("-D").arg(data).args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
                command.args(["-c", "unix_socket_directories=", "-c", "shared_buffers=32MB"]);
                command
            }
            Family::MySql => {
                let mut command = self.command("mariadbd");
                command.arg("--no-defaults").arg(format!("--datadir={}", data.display()));
                command.args(["--bind-address=127.0.0.1", "--innodb-flush-log-at-trx-commit=1"]);
                command.arg(format!("--tmpdir={}", self.folder.display()));
                command.args([format!("--port={}", self.port), format!("--socket={}/socket", self.folder.display())]);
                command
            }
        }
    }

    fn try_run(&mut self, started: Instant, more: &[String]) -> bool {
        let (inner, log) = (self.program(), self.folder.join("log"));
        let mut shell = Command::new("sh");
        shell.args(["-c", SHELL, "sh"]).arg(&log).arg(inner.get_program()).args(inner.get_args());
        shell.args(&self.options).args(more);
        shell.current_dir(&self.folder).env("LC_ALL", "C");
        shell.env("MOUNTED", self.mounted.as_deref().unwrap_or(Path::new("")));
        let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = shell.stdin.take().unwrap();
        let mut said = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(shell.stdout.take().unwrap()), &mut said).unwrap();
        let pid = said.trim().parse().unwrap();
        self.running = Some((shell, input, pid));
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

    /// Ends all of its processes at one moment, as the end of its machine does. Those of PostgreSQL outlive their
    /// killed parent by a moment otherwise, in which they show commits that still wait for a synchronous standby.
    pub(crate) fn stop_with_its_machine(&mut self) {
        let (_, _, pid) = self.running.as_ref().expect("it does not run");
        let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let children: Vec<_> = listed.split_whitespace().map(|child| Pid::from_raw(child.parse().unwrap())).collect();
        // One may have ended meanwhile.
        let send = |signal| children.iter().for_each(|child| _ = kill(*child, signal));
        send(Signal::SIGSTOP);
        self.stop(Stop::Kill);
        send(Signal::SIGKILL);
    }

    /// Sends it a signal while it runs.
    pub(crate) fn signal(&self, signal: Signal) {
        let (_, _, pid) = self.running.as_ref().expect("it does not run");
        kill(Pid::from_raw((*pid).try_into().unwrap()), signal).unwrap();
    }

    /// Whether it has not ended by itself.
    pub(crate) fn lives(&self) -> bool {
        self.running.as_ref().is_some_and(|(_, _, pid)| Self::is_alive(*pid))
    }

    fn is_alive(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}/exe")).exists()
    }

    /// Has it carry out statements; returns what they give.
    pub(crate) fn query(&self, statements: &str) -> Result<Vec<Vec<String>>, String> {
        query_at(&self.url(), statements)
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
            // Its folder is removed behind it.
            let _ = shell.wait();
        }
    }
}
