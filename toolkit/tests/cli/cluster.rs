//! `up`, `status` and `down` with wrong inputs, and after something was killed. The programs of the cluster are
//! stand-ins.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use super::source::pinned;
use super::workspace::Workspace;

/// Programs in `bin/`; the store ends as soon as it is started, as the shim does with a database that it does not know.
fn with_programs() -> Workspace {
    let workspace = pinned();
    let store = "#!/bin/sh\necho \"error: there is no database for $SLUICE_ENDPOINT\" >&2\nexit 1\n";
    for (name, text) in
        [("sluice-shim", store), ("kube-apiserver", "#!/bin/sh\n"), ("kube-controller-manager", "#!/bin/sh\n")]
    {
        program(&workspace, &format!("bin/{name}"), text);
    }
    workspace
}

fn program(workspace: &Workspace, name: &str, text: &str) {
    workspace.write(name, text);
    fs_err::set_permissions(workspace.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Ports and process numbers are others each time.
macro_rules! snapshot {
    ($name:expr, $text:expr) => {
        insta::with_settings!({ filters => [
            (r"cli-[0-9a-f]+ \(process \d+\)", "[THIS]"),
            (r"\b\d{4,5}\b", "[PORT]"),
            (r" +\[ROOT\]", " [ROOT]"),
        ] }, {
            insta::assert_snapshot!($name, $text);
        });
    };
}

#[test]
fn up_refuses_what_it_can_not_do_before_it_builds_anything() {
    let workspace = with_programs();
    let wrong: [(&str, &[&str]); 7] = [
        ("unsupported_minor", &["--k8s", "v1.12"]),
        ("no_minor", &["--k8s", "1.37"]),
        ("no_connection", &["--backend", "nonsense"]),
        ("backend_of_others", &["--store", "etcd", "--backend", "sqlite:///x.db"]),
        ("folder_is_a_file", &["--dir", "patches/contract.toml/cluster"]),
        ("no_programs", &["--bin", "home"]),
        ("argument_in_pieces", &["--bin", "bin", "--apiserver-arg", "v=4"]),
    ];
    for (name, args) in wrong {
        snapshot!(format!("up_{name}"), workspace.xtask(&[&["up"], args].concat()));
    }
    snapshot!("up_no_patches", workspace.xtask(&["up"]));
    workspace.write("mine/data/thesis.txt", "years of work");
    snapshot!("up_folder_of_somebody", workspace.xtask(&["up", "--dir", "mine", "--bin", "bin"]));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    snapshot!("up_port_taken", workspace.xtask(&["up", "--port", &port]));
    assert!(!workspace.path(".sluice/cluster").exists() && !workspace.path(".sluice/trees").exists());
}

#[test]
fn there_is_no_cluster() {
    let workspace = pinned();
    snapshot!("no_cluster_status", workspace.xtask(&["status"]));
    snapshot!("no_cluster_down", workspace.xtask(&["down", "--dir", "elsewhere"]));
    assert!(!workspace.path("elsewhere").exists());
}

#[test]
fn a_store_that_ends_is_quoted_and_what_it_left_can_be_looked_at_and_removed() {
    let workspace = with_programs();
    let up = ["up", "--bin", "bin", "--backend", "nosuch://x", "--apiserver-arg=--v=4"];
    snapshot!("store_ends", workspace.xtask(&up));
    snapshot!("dead_status", workspace.xtask(&["status"]));
    snapshot!("dead_down", workspace.xtask(&["down"]));
    assert!(!workspace.path(".sluice/cluster").exists());
}

#[test]
fn a_stopped_cluster_does_not_start_without_its_objects() {
    let workspace = with_programs();
    let up = |flags: &[&str]| workspace.xtask(&[&["up", "--bin", "bin"], flags].concat());
    let starts = |text: &str| text.contains("there is no database for");
    assert!(starts(&up(&[])) && starts(&up(&["--backend", "nosuch://x"])), "nothing was stored yet");
    let refused = up(&[]);
    assert!(refused.contains("keeps its objects in the database that `--backend` named; a SQLite file"), "{refused}");
    workspace.xtask(&["down"]);
    assert!(starts(&up(&[])));
    workspace.write(".sluice/cluster/data/sluice.db", "objects");
    for flags in [["--database", "postgres"], ["--store", "etcd"]] {
        let refused = up(&flags);
        assert!(refused.contains("keeps its objects in a SQLite file in its folder; "), "{refused}");
        assert!(
            refused.contains("without `--database` and `--backend`") && refused.contains("down --dir"),
            "{refused}"
        );
    }
    assert!(starts(&up(&[])) && starts(&up(&["--backend", "nosuch://x"])), "whoever names a database knows it");
}

#[test]
fn what_an_up_left_that_was_killed_early_is_taken_up_or_removed() {
    let workspace = with_programs();
    let killed = || {
        for file in ["lock", "run/x", "pki.unfinished/ca.key", "cluster.json.unfinished"] {
            workspace.write(&format!(".sluice/cluster/{file}"), "");
        }
    };
    killed();
    snapshot!("killed_down", workspace.xtask(&["down"]));
    assert!(!workspace.path(".sluice/cluster").exists());
    killed();
    let text = workspace.xtask(&["up", "--bin", "bin"]);
    assert!(text.contains("there is no database for sqlite://"), "{text}");
}

#[test]
fn of_two_ups_the_second_waits_and_says_for_whom() {
    let workspace = with_programs();
    workspace.write(".sluice/locks/up", "`cargo xtask up` (process 7)\n");
    let lock = fs_err::File::open(workspace.path(".sluice/locks/up")).unwrap();
    lock.file().lock().unwrap();
    let mut second = workspace.command(&["up", "--bin", "bin"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(second.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "wait for `cargo xtask up` (process 7) …");
    drop(lock);
    assert!(lines.next().unwrap().starts_with("wait for `cargo xtask up` (process 7): it has ended"));
    assert!(lines.any(|line| line.contains("there is no database for sqlite://")));
    assert_eq!(second.wait().unwrap().code(), Some(1));
}

#[test]
fn a_compiler_that_is_missing_or_old_is_named_before_anything_is_downloaded() {
    let workspace = pinned();
    workspace.write("patches/v1.37/series", "");
    let path = workspace.path("path");
    let up = || {
        let output = workspace.command(&["up"]).env("PATH", &path).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let text = up();
    assert!(text.contains("missing on this machine: go (not in PATH)") && text.contains("install with"), "{text}");
    program(&workspace, "path/go", "#!/bin/sh\necho go version go1.19.8 linux/amd64\n");
    let text = up();
    assert!(text.contains("go (1.19.8, older than 1.26)") && text.contains("https://go.dev/dl/"), "{text}");
    assert!(!workspace.path(".sluice/trees").exists());
}
