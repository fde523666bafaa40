//! The only place that starts programs.
//!
//! [`Run`] runs one to its end: in an explicit folder, with its output shown on failure and optionally kept in a log file.
//! [`Run::spawn`] starts one that outlives us.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread;

use crate::error::{Attempt as _, Error, Explain, Result};

/// Lines of output that a failure shows.
const TAIL: usize = 40;

/// The toolkit itself, as a program to run. Not its path: cargo may have put another build there meanwhile.
pub(crate) const THIS: &str = "/proc/self/exe";

/// A program to run, in an explicit folder.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    program: OsString,
    args: Vec<OsString>,
    dir: PathBuf,
    env: Vec<(OsString, OsString)>,
    unset: Vec<OsString>,
    stdin: Vec<u8>,
    log: Option<PathBuf>,
}

/// What a program that ran to its end left behind.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// Everything on stdout.
    pub(crate) stdout: String,
    /// Everything on stderr.
    pub(crate) stderr: String,
}

/// A program ended with an error.
#[derive(Debug, thiserror::Error)]
#[error("`{command}` in {} failed ({status}){}", dir.display(), shown(tail))]
pub(crate) struct Failed {
    /// The command line, as one would type it.
    pub(crate) command: String,
    /// Where it ran.
    pub(crate) dir: PathBuf,
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// The last lines that it printed.
    pub(crate) tail: String,
    /// The whole output, if it was kept.
    pub(crate) log: Option<PathBuf>,
}

impl Explain for Failed {
    fn hint(&self) -> Option<String> {
        self.log.as_ref().map(|log| format!("the whole output is in {}", log.display()))
    }
}

/// A program can't be started at all.
#[derive(Debug, thiserror::Error)]
#[error("cannot start `{command}` in {}", dir.display())]
pub(crate) struct NotStarted {
    command: String,
    dir: PathBuf,
    #[source]
    cause: std::io::Error,
}

impl Explain for NotStarted {
    fn hint(&self) -> Option<String> {
        let missing = self.cause.kind() == std::io::ErrorKind::NotFound && self.dir.is_dir();
        missing.then(|| "`cargo xtask doctor` says what is missing and how to install it".into())
    }
}

fn shown(tail: &str) -> String {
    if tail.is_empty() { String::new() } else { format!(":\n{tail}") }
}

impl Run {
    /// `program` (a path, or a name to look up in PATH), to be run in `dir`.
    pub(crate) fn new(program: impl AsRef<OsStr>, dir: impl AsRef<Path>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            dir: dir.as_ref().to_owned(),
            env: Vec::new(),
            unset: Vec::new(),
            stdin: Vec::new(),
            log: None,
        }
    }

    /// One more argument.
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// More arguments.
    pub(crate) fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable on top of our own environment.
    pub(crate) fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Hides a variable of our own environment.
    pub(crate) fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.unset.push(name.as_ref().to_owned());
        self
    }

    /// What the program reads; nothing by default.
    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Keeps the whole output (stdout and stderr, as they come) in a file, which is replaced. For [`Run::run`].
    pub(crate) fn log(mut self, file: impl Into<PathBuf>) -> Self {
        self.log = Some(file.into());
        self
    }

    /// Runs to the end, showing nothing while it succeeds.
    ///
    /// # Errors
    /// [`NotStarted`], [`Failed`] with the last lines of output; file errors of the log.
    pub(crate) fn run(&self) -> Result<()> {
        self.watch(|_| ())
    }

    /// Like [`Run::run`]; `line` sees each line of output as it comes, for progress.
    pub(crate) fn watch(&self, line: impl FnMut(&str) + Send) -> Result<()> {
        let log = self.log.as_ref().map(|path| create(path)).transpose()?;
        let mut child = self.start(Stdio::piped(), Stdio::piped())?;
        let sink = Mutex::new(Sink { log, tail: VecDeque::new(), line });
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let status = thread::scope(|scope| {
            scope.spawn(|| stdout.map(|pipe| drain(pipe, &sink)));
            scope.spawn(|| stderr.map(|pipe| drain(pipe, &sink)));
            self.feed(&mut child);
            child.wait()
        })?;
        if status.success() {
            return Ok(());
        }
        let tail = sink.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).tail;
        Err(self.failed(status, Vec::from(tail).join("\n")).into())
    }

    /// Runs to the end and returns stdout without the last line end.
    ///
    /// # Errors
    /// [`NotStarted`], [`Failed`] with the last lines of stderr.
    pub(crate) fn read(&self) -> Result<String> {
        let outcome = self.outcome()?;
        if outcome.status.success() {
            return Ok(outcome.stdout.trim_end_matches('\n').to_owned());
        }
        let lines: Vec<&str> = outcome.stderr.lines().collect();
        Err(self.failed(outcome.status, lines[lines.len().saturating_sub(TAIL)..].join("\n")).into())
    }

    /// Runs to the end and returns everything, whether it succeeded or not.
    ///
    /// # Errors
    /// [`NotStarted`].
    pub(crate) fn outcome(&self) -> Result<Outcome> {
        let mut child = self.start(Stdio::piped(), Stdio::piped())?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (status, stdout, stderr) = thread::scope(|scope| {
            let stdout = scope.spawn(|| all(stdout));
            let stderr = scope.spawn(|| all(stderr));
            self.feed(&mut child);
            (child.wait(), stdout.join().unwrap_or_default(), stderr.join().unwrap_or_default())
        });
        Ok(Outcome { status: status?, stdout, stderr })
    }

    /// Starts a daemon: its own process group (Ctrl-C does not reach it), no stdin, all output appended to `log`. It goes on
    /// when we end. The caller keeps the pid; dropping the [`Child`] does not stop it, but only [`Child::wait`] or
    /// [`Child::try_wait`] reaps it while we live.
    ///
    /// # Errors
    /// [`NotStarted`]; file errors of the log.
    pub(crate) fn spawn(&self, log: &Path) -> Result<Child> {
        if let Some(folder) = log.parent() {
            fs_err::create_dir_all(folder)?;
        }
        let file = fs_err::OpenOptions::new().create(true).append(true).open(log)?.into_parts().0;
        let mut command = self.command(Stdio::from(file.try_clone()?), Stdio::from(file))?;
        command.stdin(Stdio::null()).process_group(0);
        command.spawn().map_err(|cause| self.not_started(cause))
    }

    /// The command line, as one would type it.
    pub(crate) fn display(&self) -> String {
        let word = |text: &OsStr| {
            let text = text.to_string_lossy();
            let plain = !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_=+./:,@%^".contains(&byte));
            if plain { text.into_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
        };
        let words = std::iter::once(&self.program).chain(&self.args);
        words.map(|part| word(part)).collect::<Vec<_>>().join(" ")
    }

    fn start(&self, stdout: Stdio, stderr: Stdio) -> Result<Child> {
        let stdin = if self.stdin.is_empty() { Stdio::null() } else { Stdio::piped() };
        let mut command = self.command(stdout, stderr)?;
        command.stdin(stdin).spawn().map_err(|cause| self.not_started(cause))
    }

    #[expect(clippy::disallowed_types, reason = "this is the wrapper")]
    fn command(&self, stdout: Stdio, stderr: Stdio) -> Result<std::process::Command> {
        let shell = xshell::Shell::new().map_err(anyhow::Error::from)?;
        shell.change_dir(&self.dir);
        let mut cmd = shell.cmd(&self.program).args(&self.args);
        for (name, value) in &self.env {
            cmd = cmd.env(name, value);
        }
        for name in &self.unset {
            cmd = cmd.env_remove(name);
        }
        let mut command = std::process::Command::from(cmd);
        command.stdout(stdout).stderr(stderr);
        Ok(command)
    }

    /// A program that stops reading early decides by its exit code whether that is an error.
    fn feed(&self, child: &mut Child) {
        if let Some(mut pipe) = child.stdin.take() {
            let _ = pipe.write_all(&self.stdin);
        }
    }

    fn failed(&self, status: ExitStatus, tail: String) -> Failed {
        Failed { command: self.display(), dir: self.dir.clone(), status, tail, log: self.log.clone() }
    }

    fn not_started(&self, cause: std::io::Error) -> Error {
        NotStarted { command: self.display(), dir: self.dir.clone(), cause }.into()
    }
}

struct Sink<F> {
    log: Option<fs_err::File>,
    tail: VecDeque<String>,
    line: F,
}

fn drain<F: FnMut(&str)>(pipe: impl Read, sink: &Mutex<Sink<F>>) {
    let mut pipe = BufReader::new(pipe);
    let mut bytes = Vec::new();
    while matches!(pipe.read_until(b'\n', &mut bytes), Ok(count) if count > 0) {
        let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        let mut sink = sink.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(log) = &mut sink.log {
            // The program must not fail because its log can't be written.
            let _ = writeln!(log, "{text}");
        }
        (sink.line)(&text);
        if sink.tail.len() == TAIL {
            sink.tail.pop_front();
        }
        sink.tail.push_back(text);
        bytes.clear();
    }
}

fn all(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        let _ = pipe.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn create(path: &Path) -> Result<fs_err::File> {
    if let Some(folder) = path.parent() {
        fs_err::create_dir_all(folder)?;
    }
    fs_err::File::create(path).attempting(|| "cannot write the log")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Run {
        Run::new("sh", "/").args(["-c", script])
    }

    #[test]
    fn a_failure_shows_command_folder_status_and_output() {
        let error = sh("echo out; echo err >&2; exit 3").run().unwrap_err();
        let failed = error.downcast_ref::<Failed>().unwrap();
        assert_eq!(failed.status.code(), Some(3));
        assert!(failed.tail.contains("out") && failed.tail.contains("err"));
        assert!(error.to_string().starts_with("`sh -c 'echo out; echo err >&2; exit 3'` in / failed"), "{error}");
    }

    #[test]
    fn output_input_environment_and_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("new/run.log");
        assert_eq!(sh("cat; echo $A-$HOME").stdin("in ").env("A", "1").env_remove("HOME").read().unwrap(), "in 1-");
        sh("echo kept").log(&log).run().unwrap();
        assert_eq!(fs_err::read_to_string(&log).unwrap(), "kept\n");
    }

    #[test]
    fn a_missing_program_names_doctor() {
        let error = Run::new("no-such-program", "/").run().unwrap_err();
        assert!(format!("{error:?}").contains("cargo xtask doctor"), "{error:?}");
    }

    #[test]
    fn a_daemon_is_its_own_group_and_logs() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("daemon.log");
        let mut child = sh("ps -o pgid= -p $$ || cut -d' ' -f5 /proc/$$/stat").spawn(&log).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(fs_err::read_to_string(&log).unwrap().trim(), child.id().to_string());
    }
}
