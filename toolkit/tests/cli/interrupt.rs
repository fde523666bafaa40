//! Ctrl-C and SIGTERM in the middle of something.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::workspace::Workspace;

/// A go command that never ends, with a program of its own that ignores the request to end.
const GO: &str = "#!/bin/sh\nsh -c 'trap \"\" TERM; echo $$ > \"$PIDS/inner\"; while :; do sleep 1000; done' &\n\
                  echo $$ > \"$PIDS/outer\"; wait\n";

fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn pid(file: &Path) -> Option<String> {
    let text = fs_err::read_to_string(file).ok()?;
    text.strip_suffix('\n').map(str::to_owned)
}

fn is_gone(pid: &str) -> bool {
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}

/// Sends `signal` to a toolkit whose go command is at work. Returns its exit code, and the numbers of go and of its
/// program.
fn send(workspace: &Workspace, signal: Signal) -> (Option<i32>, [String; 2]) {
    workspace.write("bin/go", GO);
    fs_err::set_permissions(workspace.path("bin/go"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", workspace.path("bin").display(), std::env::var("PATH").unwrap());
    let mut command = workspace.command(&["source", "--pin", "v1.37.2"]);
    command.env("PATH", path).env("PIDS", workspace.path("")).stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    let pids = ["outer", "inner"].map(|name| until("go starts", || pid(&workspace.path(name))));
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
    (child.wait().unwrap().code(), pids)
}

#[test]
fn programs_do_not_outlive_an_interruption() {
    let workspace = Workspace::new();
    let (code, pids) = send(&workspace, Signal::SIGTERM);
    assert_eq!(code, Some(130));
    for pid in pids {
        until("go ends with us", || is_gone(&pid).then_some(()));
    }
}

#[test]
fn programs_do_not_outlive_a_toolkit_that_is_killed() {
    let workspace = Workspace::new();
    let (_, pids) = send(&workspace, Signal::SIGKILL);
    for pid in pids {
        until("go ends with us", || is_gone(&pid).then_some(()));
    }
}
