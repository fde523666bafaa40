//! `cargo xtask patch`.

use std::path::PathBuf;

use super::proxy;
use super::source::pinned;
use super::workspace::Workspace;

const PINS: &str = "patches/v1.37/source.toml";
const PATCH: &str = "patches/v1.37/cmd-german.patch";

/// The tiny Kubernetes v1.37.2 with one patch of its second golden line.
fn patched() -> Workspace {
    let workspace = pinned();
    workspace.write("patches/v1.37/series", "");
    workspace.stdout(&["patch", "apply"]);
    let tree = PathBuf::from(workspace.stdout(&["source"]).trim_end());
    fs_err::write(tree.join("cmd/golden.test"), "one\r\nzwei\r\n").unwrap();
    workspace.stdout(&["patch", "new", "cmd: German"]);
    workspace
}

/// Exit code, stdout and stderr.
fn run(workspace: &Workspace, args: &[&str]) -> (Option<i32>, String, String) {
    let output = workspace.command(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn read(workspace: &Workspace, name: &str) -> String {
    fs_err::read_to_string(workspace.path(name)).unwrap()
}

/// As `cd "$(cargo xtask patch apply)"` takes it; what is said to a person is elsewhere.
#[test]
fn stdout_is_data_and_no_sentence() {
    let workspace = patched();
    workspace.stdout(&["patch", "refresh"]);
    let tree = workspace.stdout(&["source"]);
    for (verb, data) in [("apply", tree.as_str()), ("refresh", "")] {
        let (code, printed, text) = run(&workspace, &["patch", verb]);
        assert_eq!((code, printed.as_str()), (Some(0), data), "{verb}: {text}");
    }
    let applied = PathBuf::from(tree.trim_end());
    assert!(read(&workspace, PATCH).contains("zwei") && applied.join("cmd/golden.test").is_file());
}

#[test]
fn a_point_release_takes_pins_and_patches_together() {
    let workspace = patched();
    proxy::version(&workspace, "37.3", b"zero\r\none\r\ntwo\r\n");
    let (pins, patch) = (read(&workspace, PINS), read(&workspace, PATCH));
    workspace.write(PINS, pins.replace("revision = 1", "revision = 4"));

    let (code, _, text) = run(&workspace, &["source", "--pin", "v1.37.3"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("the patches of v1.37 are for v1.37.2") && text.contains("rebase --to v1.37.3"), "{text}");

    let table = workspace.stdout(&["patch", "rebase", "--to", "v1.37.3"]);
    assert!(table.contains("cmd-german.patch  merged") || table.contains("cmd-german.patch  moved"), "{table}");
    let now = read(&workspace, PINS);
    assert!(now.contains("version = \"v1.37.3\"") && now.contains("revision = 1") && now.contains("v0.37.3"), "{now}");
    assert_ne!(read(&workspace, PATCH), patch);
    let (_, _, text) = run(&workspace, &["patch", "apply"]);
    assert!(text.contains("1 patches already applied"), "{text}");
    let (code, _, text) = run(&workspace, &["patch", "rebase", "--to", "v1.37.3"]);
    assert!(code == Some(1) && text.contains("the patches of v1.37 are for v1.37.3 already"), "{text}");
}

#[test]
fn the_old_pins_stay_until_a_point_release_is_done() {
    let workspace = patched();
    proxy::version(&workspace, "37.3", b"one\r\n2\r\n");
    let (pins, patch) = (read(&workspace, PINS), read(&workspace, PATCH));
    let rebase = ["patch", "rebase", "--to", "v1.37.3"];
    let stop = |workspace: &Workspace| {
        let (code, _, text) = run(workspace, &rebase);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("cmd-german.patch conflicts with upstream in:"), "{text}");
        assert_eq!((read(workspace, PINS), read(workspace, PATCH)), (pins.clone(), patch.clone()));
        let (_, tree) = text.split_once("resolve the conflicts in ").unwrap();
        PathBuf::from(tree.split_once(" (no").unwrap().0)
    };
    stop(&workspace);
    let (_, data, ended) = run(&workspace, &["patch", "rebase", "--to", "v1.37.3", "--abort"]);
    assert!(data.is_empty() && ended.contains("the rebase is ended"), "{data}{ended}");
    assert_eq!((read(&workspace, PINS), read(&workspace, PATCH)), (pins.clone(), patch.clone()));

    let tree = stop(&workspace);
    // The old version is at work as before.
    workspace.stdout(&["patch", "apply"]);
    fs_err::write(tree.join("cmd/golden.test"), "one\r\nZwei\r\n").unwrap();
    let table = workspace.stdout(&[&rebase[..], &["--accept", "cmd-german.patch"]].concat());
    assert!(table.contains("cmd-german.patch  resolved"), "{table}");
    assert!(read(&workspace, PINS).contains("v1.37.3") && read(&workspace, PATCH).contains("+Zwei"));
    assert!(workspace.path("patches/v1.37/resolutions/v1.37/cmd-german.patch").is_file());
    assert!(!workspace.path(".sluice/rebase/v1.37.3.toml").exists());
}

#[test]
fn drift_says_by_its_exit_code_whether_a_rebase_would_conflict_and_writes_nothing() {
    let workspace = patched();
    let before = super::workspace::files(&workspace.path(".sluice/trees"));
    proxy::list(&workspace, "v1.37.2\n");
    let (code, data, text) = run(&workspace, &["patch", "drift", "--to", "newest"]);
    assert!(code == Some(0) && data.is_empty() && text.contains("v1.37.2 is the newest"), "{data}{text}");

    proxy::version(&workspace, "37.3", b"one\r\n2\r\n");
    proxy::version(&workspace, "37.4", b"one\r\ntwo\r\n");
    proxy::list(&workspace, "v1.37.2\nv1.37.3\nv1.38.0-rc.0\n");
    let (code, text, error) = run(&workspace, &["patch", "drift", "--to", "newest"]);
    assert_eq!(code, Some(1), "{text}{error}");
    assert!(
        text.contains("cmd-german.patch  conflict  cmd/golden.test") && text.contains("line 2: upstream"),
        "{text}"
    );
    assert!(error.contains("v1.37.2 → v1.37.3: 1 of 1 patches would conflict"), "{error}");

    let (code, text, error) = run(&workspace, &["patch", "drift", "--to", "v1.37.4", "--json"]);
    assert_eq!(code, Some(0), "{text}{error}");
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["versions"][0]["patches"][0]["how"], "as it was");
    let (code, _, error) = run(&workspace, &["patch", "drift", "--to", "v1.38"]);
    assert!(code == Some(1) && error.contains("name a version of it"), "{error}");
    assert_eq!(super::workspace::files(&workspace.path(".sluice/trees")), before);
}
