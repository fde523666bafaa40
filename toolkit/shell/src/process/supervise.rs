//! Watches over one program: passes its output on, and ends it with all that it started when it hangs or its time is
//! up.
//!
//! Each program leads a process group of its own. So a test that hangs is ended together with the servers that it
//! started; but Ctrl-C in the terminal does not reach it, so we pass the interruption on.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::guardian;
use super::patience::{Limit, Patience};
use super::tree::{self, Stat, Tree};
use crate::error::Result;
use crate::interrupt;

/// How long a program that was asked to end may take to do so.
const GRACE: Duration = Duration::from_secs(5);
/// Lines that may wait to be looked at, per stream.
const WAITING: usize = 256;
/// How often we look whether a program has ended.
const LOOK: Duration = Duration::from_millis(10);

/// Where a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// How a program ended.
#[derive(Debug)]
pub(super) enum End {
    /// By itself.
    Itself(ExitStatus),
    /// It had reached its limit, and was ended.
    Overdue,
}

/// The groups of the programs that run now, by the number of their leader.
static GROUPS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

fn groups() -> MutexGuard<'static, BTreeSet<i32>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A program and its group, which is ended when this is dropped before the program was waited for.
struct Group {
    child: Child,
    leader: i32,
    ended: bool,
}

impl Group {
    /// `start` must make the child the leader of a new group.
    fn start(start: impl FnOnce() -> Result<Child>) -> Result<Self> {
        interrupt::before_the_end(end_all)?;
        // Under the lock, so that an interruption finds every program that was started.
        let mut groups = groups();
        guardian::ready();
        let child = start()?;
        let leader = i32::try_from(child.id()).map_err(anyhow::Error::from)?;
        groups.insert(leader);
        guardian::add(leader);
        Ok(Self { child, leader, ended: false })
    }

    /// Waits for the program; `None` when `is_over` says so while it is still at work.
    fn wait(&mut self, mut is_over: impl FnMut() -> bool) -> std::io::Result<Option<ExitStatus>> {
        loop {
            let status = self.child.try_wait()?;
            self.ended = status.is_some();
            if self.ended || is_over() {
                return Ok(status);
            }
            thread::sleep(LOOK);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.ended {
            end(self.leader);
            let _ = self.child.wait();
        }
        groups().remove(&self.leader);
        guardian::remove(self.leader);
    }
}

/// Ends a group and what it started in other groups: asks first, since a program that runs others (we among them) wants
/// to end those, then insists.
fn end(leader: i32) {
    let group = Pid::from_raw(leader);
    let deadline = Instant::now() + GRACE;
    let all = Stat::all();
    let others: Vec<&Stat> = tree::members(&all, leader).into_iter().filter(|stat| stat.group != leader).collect();
    // The leader stays a zombie until it is waited for, so the number can't be somebody else's.
    let _ = killpg(group, Signal::SIGTERM);
    while Instant::now() < deadline && is_at_work(leader) {
        thread::sleep(LOOK);
    }
    let _ = killpg(group, Signal::SIGKILL);
    for Stat { pid, started, .. } in others {
        if Stat::of(*pid).is_some_and(|now| now.started == *started) {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
    }
}

/// Whether a process of the group still runs. The leader itself may have ended long ago.
fn is_at_work(leader: i32) -> bool {
    Stat::all().iter().any(|stat| stat.group == leader && !stat.ended)
}

/// When we are interrupted ourselves. The lock stays: nobody starts another program, or reports that one failed, until
/// we have ended.
fn end_all() {
    let groups = groups();
    for leader in groups.iter() {
        let _ = killpg(Pid::from_raw(*leader), Signal::SIGTERM);
    }
    for leader in groups.iter() {
        end(*leader);
    }
    std::mem::forget(groups);
}

/// Runs the program that `start` starts, as the leader of a new group and with all streams piped, to its end or to the
/// limit. `line` gets each line of output with its line end, if it has one.
pub(super) fn supervise(
    start: impl FnOnce() -> Result<Child>,
    input: Vec<u8>,
    limit: Limit,
    mut line: impl FnMut(Stream, &[u8]),
) -> Result<End> {
    let mut patience = Patience::new(limit, Instant::now());
    let mut group = Group::start(start)?;
    let mut tree = Tree::new(group.leader);
    let lines = pipes(&mut group.child, input);
    loop {
        match lines.recv_timeout(patience.pause(Instant::now())) {
            Ok((stream, bytes)) => {
                patience.heard(&bytes);
                line(stream, &bytes);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                let ended = group.wait(|| patience.is_over(Instant::now(), || tree.look()))?;
                return Ok(ended.map_or(End::Overdue, End::Itself));
            }
        }
        if patience.is_over(Instant::now(), || tree.look()) {
            break;
        }
    }
    drop(group);
    // What it said last is what one wants to read. But a program that left the group may hold the pipe open and go on.
    let last = (0..2 * WAITING).map_while(|_| lines.recv_timeout(LOOK).ok());
    last.for_each(|(stream, bytes)| line(stream, &bytes));
    Ok(End::Overdue)
}

/// Threads that feed stdin and read the output. They hold nothing of ours: one that a stray process keeps waiting harms
/// nobody.
fn pipes(child: &mut Child, input: Vec<u8>) -> Receiver<(Stream, Vec<u8>)> {
    let (sender, receiver) = mpsc::sync_channel(WAITING);
    if let Some(mut pipe) = child.stdin.take() {
        // A program that stops reading early decides by its exit code whether that is an error.
        thread::spawn(move || pipe.write_all(&input));
    }
    if let Some(pipe) = child.stdout.take() {
        let sender = sender.clone();
        thread::spawn(move || pass_on(Stream::Stdout, pipe, &sender));
    }
    if let Some(pipe) = child.stderr.take() {
        thread::spawn(move || pass_on(Stream::Stderr, pipe, &sender));
    }
    receiver
}

fn pass_on(stream: Stream, pipe: impl Read, sender: &SyncSender<(Stream, Vec<u8>)>) {
    let mut pipe = BufReader::new(pipe);
    loop {
        let mut bytes = Vec::new();
        match pipe.read_until(b'\n', &mut bytes) {
            Ok(count) if count > 0 && sender.send((stream, bytes)).is_ok() => {}
            _ => return,
        }
    }
}
