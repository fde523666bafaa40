//! What `cargo xtask build-images --push` refuses before it builds anything.

use std::os::unix::fs::PermissionsExt as _;

use super::workspace::Workspace;

const DEFINITION: &str = r#"
description = "A test"
licenses = "Apache-2.0"

[run]
command = ["/run"]
workdir = "/"

[[layer]]
[[layer.file]]
path = "/run"
mode = 0o755
from = { text = "nothing" }

[[variant]]
suffix = ""
user = "65532:65532"
"#;

/// A workspace with an image, in which `docker-credential-mine` is a script.
fn workspace(helper: &str) -> Workspace {
    let workspace = Workspace::new();
    workspace.write("images/test.toml", DEFINITION);
    workspace.write("images/layers/none.toml", "file = []");
    let script = workspace.path("bin/docker-credential-mine");
    workspace.write("bin/docker-credential-mine", format!("#!/bin/sh\n{helper}\n"));
    fs_err::set_permissions(script, std::fs::Permissions::from_mode(0o755)).unwrap();
    workspace.write("docker/config.json", r#"{"credHelpers": {"r.example.com": "mine"}}"#);
    workspace
}

/// What the command says, which must be that the input is wrong.
fn refused(workspace: &Workspace, args: &[&str]) -> String {
    let path = format!("{}:/usr/bin:/bin", workspace.path("bin").display());
    let mut command = workspace.command(&[&["build-images"], args].concat());
    command.env("PATH", path).env("DOCKER_CONFIG", workspace.path("docker")).env_remove("REGISTRY_AUTH_FILE");
    let output = command.env("XDG_RUNTIME_DIR", workspace.path("run")).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    text.replace(workspace.path("").to_str().unwrap(), "[ROOT]/")
}

#[test]
fn flags_that_make_no_sense_are_refused() {
    let workspace = workspace("exit 1");
    for (args, expected) in [
        (&["--insecure-loopback"][..], "--registry-ca and --insecure-loopback are for --push"),
        (&["--tag", "v1"], "--push <REGISTRY/PATH>"),
        (&["--push", "r.example.com/x", "--insecure-loopback"], "only for a registry on this machine"),
        (&["--push", "r.example.com/Upper"], "it must be lower-case words"),
        (&["--push", "r.example.com/x", "--tag", "v1+2"], "tag \"v1+2\" is not valid"),
        (&["--push", "127.0.0.1:1/x", "--registry-ca", "none.pem"], "none.pem"),
    ] {
        let text = refused(&workspace, args);
        assert!(text.contains(expected), "{args:?}: {text}");
    }
}

#[test]
fn a_credential_helper_that_fails_is_named_with_what_it_says() {
    let file = "[ROOT]/docker/config.json";
    for (helper, expected) in [
        ("echo the keyring is locked; exit 3", "failed: exit status: 3 the keyring is locked"),
        ("echo hello", "failed: its answer is not JSON"),
        // It is asked for this registry, and its answer is understood.
        (
            r#"read name; printf '{"Username": "<token>", "Secret": "%s"}' "$name""#,
            "[ROOT]/docker/config.json has an identity token for r.example.com",
        ),
    ] {
        let text = refused(&workspace(helper), &["--push", "r.example.com/x"]);
        assert!(text.contains(expected) && text.contains(file), "{text}");
        assert!(!text.contains("hello"), "what may be a password is shown: {text}");
    }
}

#[test]
fn a_helper_that_knows_nothing_leaves_the_word_to_the_file() {
    let workspace = workspace("echo credentials not found in native keychain; exit 1");
    let both = r#"{"credsStore": "mine", "auths": {"r.example.com": {"auth": "no base64!"}}}"#;
    workspace.write("docker/config.json", both);
    let text = refused(&workspace, &["--push", "r.example.com/x"]);
    assert!(text.contains("its entry for r.example.com: Unable to decode credential"), "{text}");
}
