//! Programs that fail, hang, and leave others behind.

use std::time::Instant;

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

/// Whether a process is there and at work.
fn runs(pid: &str) -> bool {
    let stat = fs_err::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn wait_until_gone(pid: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while runs(pid) {
        assert!(Instant::now() < deadline, "process {pid} still runs");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn limited(script: &str) -> Run {
    sh(script).limit(Limit::Of(Duration::from_millis(300)))
}

#[test]
fn what_hangs_is_killed_with_all_that_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    // The inner shell ignores the request to end, and holds the output open.
    let inner = format!("sh -c 'trap \"\" TERM; echo $$ >{}; echo begun; while :; do sleep 1000; done'", pid.display());
    let log = dir.path().join("log");
    let error = limited(&format!("{inner} & wait")).log(&log).run().unwrap_err();
    assert!(error.downcast_ref::<Overdue>().is_some(), "{error:?}");
    let text = format!("{error:?}");
    for part in ["while :; do sleep 1000", "did not end within 0.3 s and was killed", "begun", "/log", FACTOR] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    wait_until_gone(fs_err::read_to_string(&pid).unwrap().trim());
}

#[test]
fn the_limit_holds_however_the_output_is_used() {
    for script in ["sleep 1000", "exec >&- 2>&-; sleep 1000", "sleep 1000 & exit 0", "yes"] {
        let overdue = |result: Result<()>| {
            let error = result.unwrap_err();
            assert!(error.downcast_ref::<Overdue>().is_some(), "{script}: {error:?}");
        };
        overdue(limited(script).run());
        overdue(limited(script).outcome().map(drop));
        // More than a pipe holds, to a program that does not read it.
        overdue(limited(script).stdin(vec![b'x'; 1 << 20]).read().map(drop));
    }
}

#[test]
fn a_program_that_is_done_in_time_is_not_overdue() {
    assert_eq!(sh("echo done").read().unwrap(), "done");
    let daemon = "setsid sleep 3 >/dev/null 2>&1 </dev/null & echo $!";
    let pid = sh(daemon).read().unwrap();
    assert!(runs(&pid), "a program with a session of its own was ended with the one that started it");
    wait_until_gone(&pid);
}

#[test]
fn the_factor_of_the_environment() {
    let limit = Limit::Of(Duration::from_secs(2));
    let cases = [(1.0, 2.0), (2.5, 5.0), (0.0, 2.0), (-1.0, 2.0), (f64::NAN, 2.0), (f64::INFINITY, 2.0), (1e300, 3e9)];
    for (factor, seconds) in cases {
        assert_eq!(limit.times(factor), Duration::from_secs_f64(seconds), "{factor}");
    }
}
