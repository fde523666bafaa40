//! The only place that starts programs.
//!
//! [`Run`] runs one to its end: in an explicit folder, for as long as it makes progress, with its output shown on
//! failure and optionally kept in a log file. It does not outlive us, whatever ends us. [`Run::spawn`] starts one that
//! does.

mod cause;
mod guardian;
mod patience;
mod supervise;
mod tree;

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};

use nix::unistd::{Gid, Uid};

use crate::error::{Attempt as _, Error, Explain, Result};
pub use cause::advice;
use patience::FACTOR;
pub use patience::Limit;
use supervise::{End, Stream, supervise};

/// Lines of output that a failure shows.
const TAIL: usize = 40;

/// The toolkit itself, as a program to run. Not its path: cargo may have put another build there meanwhile.
pub const THIS: &str = "/proc/self/exe";

/// The variable with the password of the keys that sign a release. No program that we start needs it, so none gets it,
/// unless it is set for that program.
pub const PASSWORD: &str = "SLUICE_SIGN_PASSWORD";

/// A program to run, in an explicit folder.
#[derive(Clone, Debug)]
pub struct Run {
    program: OsString,
    args: Vec<OsString>,
    dir: PathBuf,
    env: Vec<(OsString, OsString)>,
    unset: Vec<OsString>,
    stdin: Vec<u8>,
    log: Option<PathBuf>,
    limit: Limit,
    user: Option<(Uid, Gid)>,
}

/// What a program that ran to its end left behind.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// Everything on stdout.
    pub stdout: String,
    /// Everything on stderr.
    pub stderr: String,
}

/// A program ended with an error.
#[derive(Debug, thiserror::Error)]
#[error("`{command}` in {} failed ({status}){}", dir.display(), shown(tail))]
pub struct Failed {
    /// The command line, as one would type it.
    pub command: String,
    /// Where it ran.
    pub dir: PathBuf,
    /// How it ended.
    pub status: ExitStatus,
    /// The last lines that it printed.
    pub tail: String,
    /// The whole output, if it was kept.
    pub log: Option<PathBuf>,
    /// What to do, if the cause is a known one.
    advice: Option<&'static str>,
}

impl Explain for Failed {
    fn hint(&self) -> Option<String> {
        let log = self.log.as_ref().map(|log| format!("the whole output is in {}", log.display()));
        let lines: Vec<String> = self.advice.map(str::to_owned).into_iter().chain(log).collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}

/// A program hung or its time was up, and it was ended with all that it started.
#[derive(Debug, thiserror::Error)]
#[error("`{command}` in {} was killed: {}{}", dir.display(), limit.observation(), shown(tail))]
pub struct Overdue {
    command: String,
    dir: PathBuf,
    limit: Limit,
    tail: String,
    log: Option<PathBuf>,
}

impl Explain for Overdue {
    fn hint(&self) -> Option<String> {
        let log = self.log.as_ref().map(|log| format!("the whole output is in {}\n", log.display()));
        let next = match self.limit {
            Limit::Silence(_) => {
                "it waited for something that did not come, such as an answer from the network or a lock: see to that, and run the \
                 command again, which goes on where this one was"
            }
            Limit::Clock(_) => "see what it waited for, and run the command again",
        };
        Some(format!("{}{next}\na machine that is only slow gets more time with {FACTOR}=3", log.unwrap_or_default()))
    }
}

/// A program can't be started at all.
#[derive(Debug, thiserror::Error)]
#[error("cannot start `{command}` in {}", dir.display())]
pub struct NotStarted {
    command: String,
    dir: PathBuf,
    #[source]
    cause: std::io::Error,
}

impl Explain for NotStarted {
    fn hint(&self) -> Option<String> {
        self.is_missing().then(|| "`cargo xtask doctor` says what is missing and how to install it".into())
    }
}

impl NotStarted {
    /// There is no such program, rather than one that can't be run.
    pub fn is_missing(&self) -> bool {
        self.cause.kind() == std::io::ErrorKind::NotFound && self.dir.is_dir()
    }
}

fn shown(tail: &str) -> String {
    if tail.is_empty() { String::new() } else { format!(":\n{tail}") }
}

impl Run {
    /// `program` (a path, or a name to look up in PATH), to be run in `dir`.
    pub fn new(program: impl AsRef<OsStr>, dir: impl AsRef<Path>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            dir: dir.as_ref().to_owned(),
            env: Vec::new(),
            unset: vec![PASSWORD.into()],
            stdin: Vec::new(),
            log: None,
            limit: Limit::HUNG,
            user: None,
        }
    }

    /// The cargo that runs us, in `dir`. It does not see which package `cargo run` has started: build scripts that look
    /// at that (ring's) would run again, and all that depends on them, each time cargo is called by us after it was
    /// called by a person.
    pub fn cargo(dir: impl AsRef<Path>) -> Self {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let about_us = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_NAME", "CARGO_CRATE_NAME", "CARGO_PRIMARY_PACKAGE"];
        let names = std::env::vars_os().map(|(name, _)| name);
        let unset = names.filter(|name| about_us.iter().any(|start| name.as_bytes().starts_with(start.as_bytes())));
        let run = Self::new(cargo, dir);
        Self { unset: unset.chain(run.unset.clone()).collect(), ..run }
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// More arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable on top of our own environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Hides a variable of our own environment.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.unset.push(name.as_ref().to_owned());
        self
    }

    /// What the program reads; nothing by default.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Keeps the whole output (stdout and stderr, as they come) in a file, which is replaced. For [`Run::run`].
    pub fn log(mut self, file: impl Into<PathBuf>) -> Self {
        self.log = Some(file.into());
        self
    }

    /// How long it may take; [`Limit::HUNG`] by default. Not for [`Run::spawn`].
    pub fn limit(mut self, limit: Limit) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it as another user, which only root may, without our other groups.
    pub fn user(mut self, user: Uid, group: Gid) -> Self {
        self.user = Some((user, group));
        self
    }

    /// Runs to the end, showing nothing while it succeeds.
    ///
    /// # Errors
    /// [`NotStarted`], [`Failed`] or [`Overdue`] with the last lines of output; file errors of the log.
    pub fn run(&self) -> Result<()> {
        self.watch(|_| ())
    }

    /// Like [`Run::run`]; `line` sees each line of output as it comes, for progress.
    pub fn watch(&self, mut line: impl FnMut(&str)) -> Result<()> {
        let mut log = self.log.as_ref().map(|path| create(path)).transpose()?;
        let mut tail = VecDeque::new();
        let end = self.supervised(|_, bytes| {
            let text = String::from_utf8_lossy(bytes).trim_end().to_owned();
            if let Some(log) = &mut log {
                // The program must not fail because its log can't be written.
                let _ = writeln!(log, "{text}");
            }
            line(&text);
            if tail.len() == TAIL {
                tail.pop_front();
            }
            tail.push_back(text);
        })?;
        self.judge(&end, || Vec::from(tail).join("\n"))
    }

    /// Runs to the end and returns stdout without the last line end.
    ///
    /// # Errors
    /// [`NotStarted`], [`Failed`] or [`Overdue`] with the last lines of stderr.
    pub fn read(&self) -> Result<String> {
        let (end, stdout, stderr) = self.collected()?;
        self.judge(&end, || last_lines(&stderr))?;
        Ok(stdout.trim_end_matches('\n').to_owned())
    }

    /// Like [`Run::read`]; `line` sees each line of stderr as it comes, for progress.
    pub fn read_with(&self, mut line: impl FnMut(&str)) -> Result<String> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let end = self.supervised(|stream, bytes| match stream {
            Stream::Stdout => stdout.extend_from_slice(bytes),
            Stream::Stderr => {
                line(String::from_utf8_lossy(bytes).trim_end());
                stderr.extend_from_slice(bytes);
            }
        })?;
        self.judge(&end, || last_lines(&String::from_utf8_lossy(&stderr)))?;
        Ok(String::from_utf8_lossy(&stdout).trim_end_matches('\n').to_owned())
    }

    /// Becomes the program: it gets our process, streams, terminal and [`PASSWORD`]. Returns if it can't be started.
    pub fn replace(mut self) -> Error {
        self.unset.retain(|name| name != PASSWORD);
        match self.command(Stdio::inherit(), Stdio::inherit()) {
            Ok(mut command) => self.not_started(command.stdin(Stdio::inherit()).exec()),
            Err(error) => error,
        }
    }

    /// Runs to the end and returns everything, whether it succeeded or not.
    ///
    /// # Errors
    /// [`NotStarted`], [`Overdue`].
    pub fn outcome(&self) -> Result<Outcome> {
        match self.collected()? {
            (End::Itself(status), stdout, stderr) => Ok(Outcome { status, stdout, stderr }),
            (End::Overdue, _, stderr) => Err(self.overdue(last_lines(&stderr)).into()),
        }
    }

    fn collected(&self) -> Result<(End, String, String)> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let end = self.supervised(|stream, bytes| match stream {
            Stream::Stdout => stdout.extend_from_slice(bytes),
            Stream::Stderr => stderr.extend_from_slice(bytes),
        })?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((end, text(&stdout), text(&stderr)))
    }

    fn supervised(&self, line: impl FnMut(Stream, &[u8])) -> Result<End> {
        supervise(|| self.start(), self.stdin.clone(), self.limit.here(), line)
    }

    fn judge(&self, end: &End, tail: impl FnOnce() -> String) -> Result<()> {
        match end {
            End::Itself(status) if status.success() => Ok(()),
            End::Itself(status) => Err(self.failed(*status, tail()).into()),
            End::Overdue => Err(self.overdue(tail()).into()),
        }
    }

    /// Starts a daemon: its own process group (Ctrl-C does not reach it), no stdin, all output appended to `log`. It
    /// goes on when we end. The caller keeps the pid; dropping the [`Child`] does not stop it, but only [`Child::wait`]
    /// or [`Child::try_wait`] reaps it while we live.
    ///
    /// # Errors
    /// [`NotStarted`]; file errors of the log.
    pub fn spawn(&self, log: &Path) -> Result<Child> {
        if let Some(folder) = log.parent() {
            fs_err::create_dir_all(folder)?;
        }
        let file = fs_err::OpenOptions::new().create(true).append(true).open(log)?.into_parts().0;
        let mut command = self.command(Stdio::from(file.try_clone()?), Stdio::from(file))?;
        command.stdin(Stdio::null()).process_group(0);
        command.spawn().map_err(|cause| self.not_started(cause))
    }

    /// The folder that it runs in.
    pub fn folder(&self) -> &Path {
        &self.dir
    }

    /// The words of the command line, as the program gets them.
    pub fn words(&self) -> Vec<Vec<u8>> {
        let words = std::iter::once(&self.program).chain(&self.args);
        words.map(|word| word.as_encoded_bytes().to_owned()).collect()
    }

    /// The command line, as one would type it.
    pub fn display(&self) -> String {
        let word = |text: &OsStr| {
            let text = text.to_string_lossy();
            let plain = !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_=+./:,@%^".contains(&byte));
            if plain { text.into_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
        };
        let words = std::iter::once(&self.program).chain(&self.args);
        words.map(|part| word(part)).collect::<Vec<_>>().join(" ")
    }

    fn start(&self) -> Result<Child> {
        let stdin = if self.stdin.is_empty() { Stdio::null() } else { Stdio::piped() };
        let mut command = self.command(Stdio::piped(), Stdio::piped())?;
        command.stdin(stdin).process_group(0).spawn().map_err(|cause| self.not_started(cause))
    }

    #[expect(clippy::disallowed_types, reason = "this is the wrapper")]
    fn command(&self, stdout: Stdio, stderr: Stdio) -> Result<std::process::Command> {
        let shell = xshell::Shell::new().map_err(anyhow::Error::from)?;
        shell.change_dir(&self.dir);
        let mut cmd = shell.cmd(&self.program).args(&self.args);
        // What is set is for the program, also where the same name of our own environment is hidden.
        for name in &self.unset {
            cmd = cmd.env_remove(name);
        }
        for (name, value) in &self.env {
            cmd = cmd.env(name, value);
        }
        let mut command = std::process::Command::from(cmd);
        command.stdout(stdout).stderr(stderr);
        if let Some((user, group)) = self.user {
            command.uid(user.as_raw()).gid(group.as_raw());
        }
        Ok(command)
    }

    fn failed(&self, status: ExitStatus, tail: String) -> Failed {
        let advice = cause::advice_about(&self.program, self.args.first(), &format!("{tail}\n{status}"));
        Failed { command: self.display(), dir: self.dir.clone(), status, tail, log: self.log.clone(), advice }
    }

    fn overdue(&self, tail: String) -> Overdue {
        let limit = self.limit.here();
        Overdue { command: self.display(), dir: self.dir.clone(), limit, tail, log: self.log.clone() }
    }

    fn not_started(&self, cause: std::io::Error) -> Error {
        NotStarted { command: self.display(), dir: self.dir.clone(), cause }.into()
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}

fn create(path: &Path) -> Result<fs_err::File> {
    if let Some(folder) = path.parent() {
        fs_err::create_dir_all(folder)?;
    }
    fs_err::File::create(path).attempting(|| "cannot write the log")
}

/// A path as a word for a shell.
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = !text.is_empty() && text.chars().all(|letter| letter.is_alphanumeric() || "/._-+:@=".contains(letter));
    if plain { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests;
