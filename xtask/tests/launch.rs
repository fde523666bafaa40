//! What `cargo xtask` says before and while the rest is built, with a cargo that only pretends.

#![expect(clippy::unwrap_used, reason = "a test fails where it can't go on")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The toolkit that the pretended cargo builds: says how it was called, and ends with 7.
const TOOLKIT: &str = "#!/bin/sh\nprintf '[%s]' \"$@\"\necho problem >&2\nexit 7\n";

/// A workspace with a cargo of its own.
struct Workspace(tempfile::TempDir);

impl Workspace {
    /// `cargo` is what cargo does, as a shell script; `$TOOLKIT` is the program.
    fn new(cargo: &str) -> Self {
        let workspace = Self(tempfile::tempdir().unwrap());
        fs_err::create_dir(workspace.path("patches")).unwrap();
        fs_err::write(workspace.path("patches/contract.toml"), "").unwrap();
        workspace.program("toolkit", TOOLKIT);
        workspace.program("cargo", &format!("#!/bin/sh\necho \"$@\" > \"$ASKED\"\n{cargo}"));
        workspace
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn program(&self, name: &str, script: &str) {
        fs_err::write(self.path(name), script).unwrap();
        fs_err::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[expect(clippy::disallowed_types, reason = "the wrapper is part of what is tested")]
    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_xtask"));
        command
            .args(args)
            .current_dir(self.0.path())
            .env_remove("CARGO_MANIFEST_DIR")
            .env("CARGO", self.path("cargo"))
            .env("TOOLKIT", self.path("toolkit"))
            .env("ASKED", self.path("asked"))
            .env("CI", "1")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    fn xtask(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const MESSAGES: &str = r#"
echo '{"reason":"compiler-artifact","target":{"name":"clap"},"executable":null}'
echo "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"sluice-toolkit\"},\"executable\":\"$TOOLKIT\"}"
echo '{"reason":"build-finished","success":true}'
"#;

#[test]
fn what_is_up_to_date_runs_without_a_word_of_ours() {
    let workspace = Workspace::new(&format!("echo '    Finished `dev` profile' >&2\n{MESSAGES}"));
    let output = workspace.xtask(&["up", "--", "--json", "a b", "--help"]);
    assert_eq!(text(&output.stdout), "[up][--][--json][a b][--help]");
    assert_eq!(text(&output.stderr), "problem\n");
    assert_eq!(output.status.code(), Some(7));
    let asked = fs_err::read_to_string(workspace.path("asked")).unwrap();
    assert!(asked.starts_with("build --package sluice-toolkit "), "{asked}");
}

#[test]
fn what_is_compiled_is_said_on_stderr() {
    let cargo = format!("echo '   Compiling clap v4.6.9' >&2\necho 'warning: unused' >&2\n{MESSAGES}");
    let output = Workspace::new(&cargo).xtask(&["source", "--json"]);
    let stderr = text(&output.stderr);
    assert!(stderr.starts_with("compile the toolkit"), "{stderr}");
    assert!(stderr.contains("\nwarning: unused\n") && stderr.contains(": 1 crate ("), "{stderr}");
    assert_eq!(text(&output.stdout), "[source][--json]");
}

#[test]
fn a_toolkit_that_does_not_compile_is_our_fault() {
    let cargo = "echo '   Compiling x v1.0.0' >&2; echo 'error[E0432]: unresolved import' >&2; exit 101";
    let output = Workspace::new(cargo).xtask(&["up"]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert_eq!(stderr.matches("error[E0432]: unresolved import").count(), 1, "{stderr}");
    assert!(stderr.contains("error: cargo can't build sluice-toolkit"), "{stderr}");
}

#[test]
fn an_interruption_ends_the_compilation() {
    let workspace = Workspace::new("echo $$ > \"$ASKED.new\"; mv \"$ASKED.new\" \"$ASKED.pid\"; exec sleep 1000");
    let mut child = workspace.command(&["up"]).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !workspace.path("asked.pid").exists() {
        assert!(Instant::now() < deadline, "cargo is not started");
        std::thread::sleep(Duration::from_millis(10));
    }
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let cargo = fs_err::read_to_string(workspace.path("asked.pid")).unwrap();
    let stat = fs_err::read_to_string(format!("/proc/{}/stat", cargo.trim_end())).unwrap_or_default();
    assert!(stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('Z')), "{stat}");
}

/// Build scripts that look at these would run again.
#[test]
fn cargo_does_not_see_that_cargo_runs_us() {
    let workspace = Workspace::new("env > \"$ASKED.env\"; exit 1");
    let mut command = workspace.command(&["up"]);
    let package = [("CARGO_MANIFEST_DIR", workspace.path("patches")), ("CARGO_PKG_NAME", "xtask".into())];
    command.envs(package).env("CARGO_TARGET_DIR", "kept").output().unwrap();
    let env = fs_err::read_to_string(workspace.path("asked.env")).unwrap();
    let of_cargo: Vec<&str> = env.lines().filter(|line| line.starts_with("CARGO_")).collect();
    assert!(of_cargo.contains(&"CARGO_TARGET_DIR=kept"), "{of_cargo:?}");
    let seen = |name: &str| of_cargo.iter().any(|line| line.starts_with(name));
    assert!(!seen("CARGO_MANIFEST_") && !seen("CARGO_PKG_"), "{of_cargo:?}");
}

#[test]
fn the_tests_are_built_for_the_tests_only() {
    let workspace = Workspace::new("exit 1");
    for (verb, package) in [("test", "sluice-tests"), ("build-images", "sluice-toolkit")] {
        workspace.xtask(&[verb]);
        let asked = fs_err::read_to_string(workspace.path("asked")).unwrap();
        assert!(asked.contains(&format!("--package {package} ")), "{asked}");
    }
}

#[test]
fn nothing_is_built_to_say_what_is_wrong_with_the_command_line() {
    let workspace = Workspace::new("exit 1");
    for (args, code, said) in [
        (&["--help"][..], 0, "Build the container images"),
        (&["upp"], 1, "tip: a similar subcommand exists: 'up'"),
        (&["doctor", "--nosuch"], 1, "unexpected argument '--nosuch'"),
        (&["doctor", "--help"], 0, "Install missing Debian packages"),
        (&[], 1, "Usage: cargo xtask <COMMAND>"),
    ] {
        let output = workspace.xtask(args);
        let all = text(&output.stdout) + &text(&output.stderr);
        assert!(all.contains(said), "{args:?}: {all}");
        assert_eq!(output.status.code(), Some(code), "{args:?}: {all}");
    }
    assert!(!workspace.path("asked").exists());
}

#[test]
fn doctor_reports_as_json() {
    let workspace = Workspace::new("exit 1");
    fs_err::create_dir(workspace.path("patches/v1.37")).unwrap();
    fs_err::write(workspace.path("patches/v1.37/source.toml"), "[kubernetes]\ngo = \"1.26.10\"\n").unwrap();
    let output = workspace.xtask(&["doctor", "--json", "--for", "build"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["schema"], &report["needs"][0]["name"]), (&1.into(), &"go".into()));
    assert!(!workspace.path("asked").exists());
}
