//! Programs that fail, hang, and leave others behind.

use std::time::{Duration, Instant};

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
    let replaced = sh("echo $HOME").env_remove("HOME").env("HOME", "/other").env_remove("HOME");
    assert_eq!(replaced.read().unwrap(), "/other", "a hidden variable that is set is set");
    sh("echo kept").log(&log).run().unwrap();
    assert_eq!(fs_err::read_to_string(&log).unwrap(), "kept\n");
}

#[test]
fn no_program_gets_the_password_of_the_keys() {
    if std::env::var_os(PASSWORD).is_some() {
        assert_eq!(sh("echo -$SLUICE_SIGN_PASSWORD").read().unwrap(), "-");
        return;
    }
    let test = ["--exact", "process::tests::no_program_gets_the_password_of_the_keys"];
    let run = Run::new(std::env::current_exe().unwrap(), "/").args(test).env(PASSWORD, "open sesame");
    assert!(run.read().unwrap().contains("1 passed"));
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

const SHORT: Duration = Duration::from_millis(300);

fn overdue(result: Result<()>, script: &str) -> String {
    let error = result.unwrap_err();
    assert!(error.downcast_ref::<Overdue>().is_some(), "{script}: {error:?}");
    format!("{error:?}")
}

#[test]
fn what_hangs_is_killed_with_all_that_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    // The inner shells ignore the request to end, and hold the output open. One is in a group of its own.
    let inner = |name: &str| format!("sh -c 'trap \"\" TERM; echo $$ >{}; while :; do sleep 1000; done'", path(name));
    let script = format!("echo begun; {} & setsid {} & wait", inner("in"), inner("out"));
    let text = overdue(sh(&script).log(path("log")).limit(Limit::Silence(SHORT)).run(), &script);
    for part in ["while :; do sleep 1000", "killed: no output and no processor time for 0.3 s", "begun", "/log", FACTOR]
    {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    for name in ["in", "out"] {
        wait_until_gone(fs_err::read_to_string(path(name)).unwrap().trim());
    }
}

#[test]
fn the_limit_holds_however_the_output_is_used() {
    let silent = ["sleep 1000", "exec >&- 2>&-; sleep 1000", "sleep 1000 & exit 0"];
    let cases = silent.map(|script| (script, Limit::Silence(SHORT)));
    for (script, limit) in cases.into_iter().chain([("yes", Limit::Clock(SHORT)), ("sleep 1000", Limit::Clock(SHORT))])
    {
        let limited = sh(script).limit(limit);
        overdue(limited.run(), script);
        overdue(limited.outcome().map(drop), script);
        // More than a pipe holds, to a program that does not read it.
        overdue(limited.stdin(vec![b'x'; 1 << 20]).read().map(drop), script);
    }
}

/// Runs a script that works in silence until the file `$DONE` is there, three times as long as the limit.
fn works(script: &str) {
    let limit = Duration::from_secs(1);
    let dir = tempfile::tempdir().unwrap();
    let (begun, done) = (dir.path().join("begun"), dir.path().join("done"));
    let run = sh(script).env("BEGUN", &begun).env("DONE", &done).limit(Limit::Silence(limit));
    std::thread::scope(|scope| {
        let program = scope.spawn(move || run.run());
        let mut since = None;
        while !program.is_finished() && since.is_none_or(|since: Instant| since.elapsed() < 3 * limit) {
            since = since.or_else(|| begun.exists().then(Instant::now));
            std::thread::sleep(Duration::from_millis(5));
        }
        fs_err::write(&done, "").unwrap();
        program.join().unwrap().unwrap();
    });
}

#[test]
fn what_computes_in_silence_does_not_hang() {
    works("echo >$BEGUN; while [ ! -e $DONE ]; do :; done");
}

#[test]
fn what_has_a_grandchild_at_work_does_not_hang() {
    works("sh -c 'setsid -w sh -c \"echo >$BEGUN; while [ ! -e $DONE ]; do :; done\"; exit 0'");
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
fn a_failure_with_a_known_cause_says_what_to_do() {
    let error = sh("echo 'link: write /tmp/x: no space left on device' >&2; exit 1").run().unwrap_err();
    assert!(format!("{error:?}").contains("hint: the disk is full"), "{error:?}");
}

#[test]
fn a_path_is_one_word_for_a_shell() {
    assert_eq!(quoted(Path::new("/a/b-c_1.x")), "/a/b-c_1.x");
    assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
}
