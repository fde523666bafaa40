use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn inputs(digest: &str) -> Inputs {
    Inputs { digest: digest.to_owned(), platform: Platform::host().unwrap(), compiler: "go1.26.10".to_owned() }
}

/// A program that prints `text`.
fn script(path: &Path, text: &str) -> Result<()> {
    fs_err::write(path, format!("#!/bin/sh\ncat <<'END'\n{text}\nEND\n"))?;
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn job<'a>(shell: &'a Context, minor: &'a Minor, release_flags: bool) -> Job<'a> {
    Job {
        shell,
        minor,
        tree: shell.paths.root(),
        head: "0123456789012345678901234567890123456789",
        go: "go version go1.26.10 linux/amd64".to_owned(),
        version: "v1.37.2+sluice.3",
        epoch: 1_793_102_464,
        options: Options { release_flags, platform: Platform::host().unwrap() },
        folder: shell.paths.root().to_owned(),
        announced: &[],
    }
}

#[test]
fn the_stamp_is_upstreams() {
    let (folder, minor) = (tempfile::tempdir().unwrap(), "v1.37".parse().unwrap());
    let shell = Context::for_test(folder.path());
    insta::assert_snapshot!(kubernetes::ldflags(&job(&shell, &minor, true), Program::Kubelet).replace(" -X", "\n-X"));
}

#[test]
fn a_program_is_made_again_when_its_inputs_or_its_file_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program");
    let made = std::cell::Cell::new(0);
    let make = |digest: &str| {
        let build = |to: &Path| {
            made.set(made.get() + 1);
            script(to, "1.0")
        };
        make(&path, &inputs(digest), build, |_| Ok("1.0".into())).unwrap();
        made.get()
    };
    assert_eq!(make("a"), 1);
    assert_eq!(make("a"), 1, "nothing changed");
    assert_eq!(make("b"), 2, "other inputs");
    script(&path, "2.0").unwrap();
    assert_eq!(make("b"), 3, "the file was replaced");
    fs_err::remove_file(&path).unwrap();
    assert_eq!(make("b"), 4, "the file is gone");
    fs_err::write(folder.path().join(".stamps/program.json"), "{").unwrap();
    assert_eq!(make("b"), 5, "the stamp is unreadable");
}

#[test]
fn a_failed_build_keeps_the_program_that_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program");
    make(&path, &inputs("a"), |to| script(to, "old"), |_| Ok("old".into())).unwrap();
    make(&path, &inputs("b"), |_| Err(Error::input("no")), |_| Ok("new".into())).unwrap_err();
    make(&path, &inputs("b"), |to| script(to, "new"), |_| Err(Error::input("it does not run"))).unwrap_err();
    assert!(fs_err::read_to_string(&path).unwrap().contains("old"));
}

#[test]
fn digests_tell_lists_apart() {
    assert_ne!(stamp::digest(["ab", "c"]), stamp::digest(["a", "bc"]));
    assert_ne!(stamp::digest(["ab"]), stamp::digest(["ab", ""]));
}

#[test]
fn an_unstamped_program_is_refused() {
    let (folder, minor) = (tempfile::tempdir().unwrap(), "v1.37".parse().unwrap());
    let shell = Context::for_test(folder.path());
    let (job, path) = (job(&shell, &minor, false), folder.path().join("program"));
    for (program, text, ok) in [
        (Program::KubeApiserver, "Kubernetes v1.37.2+sluice.3", true),
        (Program::KubeApiserver, "Kubernetes v0.0.0-master+$Format:%H$", false),
        (Program::Kubectl, r#"{"clientVersion": {"gitVersion": "v1.37.2+sluice.3"}}"#, true),
        (Program::Kubectl, r#"{"clientVersion": {"gitVersion": "v1.37.2"}}"#, false),
    ] {
        script(&path, text).unwrap();
        assert_eq!(kubernetes::reported(&job, program, &path).is_ok(), ok, "{text}");
    }
}

#[test]
fn versions_of_tools() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program");
    for (program, text, expected) in [
        (Program::Etcd, "etcd Version: 3.7.3\nGit SHA: Not provided\nGo Version: go1.26.8", Some("3.7.3")),
        (Program::Etcdctl, "etcdctl version: 3.7.3\nAPI version: 3.7", Some("3.7.3")),
        (Program::Kine, "kine version v0.17.5 (HEAD)", Some("0.17.5")),
        (Program::Promtool, "promtool, version v0.316.0 (branch: , revision: unknown)", Some("0.316.0")),
        (Program::Jsonnet, "Jsonnet commandline interpreter (Go implementation) v0.22.0", Some("0.22.0")),
        (Program::Actionlint, "v1.7.12\ninstalled by building from source", Some("1.7.12")),
        (Program::Cosign, "  ____\n / 3  |\ncosign: A tool\n\nGitVersion:    v3.1.3\nGitCommit: 1", Some("3.1.3")),
        (Program::ImageCopy, "image-copy: go.podman.io/image/v5 v5.42.1", Some("5.42.1")),
        (Program::KmsPlugin, "kms-plugin: k8s.io/kms v0.37.2", Some("0.37.2")),
        (Program::Helm, "v4.3.1", Some("4.3.1")),
        (Program::VclusterCli, "vcluster version 0.30.0", Some("0.30.0")),
        (Program::SluiceShim, "sluice-shim 0.1.0", Some("0.1.0")),
        (Program::SluiceShim, "", None),
    ] {
        script(&path, text).unwrap();
        assert_eq!(tools::reported(program, &path).ok().as_deref(), expected, "{text}");
    }
}

#[test]
fn tools_are_not_kubernetes() {
    let folder = tempfile::tempdir().unwrap();
    let error = build_tools(&Context::for_test(folder.path()), &[Program::Kubectl]).unwrap_err();
    assert_eq!(error.fault(), sluice_shell::error::Fault::Input);
}

/// A static program of the other platform that holds `text`.
fn foreign_program(path: &Path, text: &str) -> Platform {
    let other = Platform::ALL.into_iter().find(|platform| !platform.is_host()).unwrap();
    let machine = if other == Platform::Arm64 { 183 } else { 62 };
    fs_err::write(path, [crate::images::program(machine, 1), text.as_bytes().to_vec()].concat()).unwrap();
    other
}

#[test]
fn a_program_of_another_platform_holds_its_version() {
    let (folder, minor) = (tempfile::tempdir().unwrap(), "v1.37".parse().unwrap());
    let shell = Context::for_test(folder.path());
    let path = folder.path().join("program");
    let mut job = job(&shell, &minor, false);
    for (program, text, ok) in [
        (Program::KubeApiserver, "a v1.37.2+sluice.3 b", true),
        (Program::KubeApiserver, "v1.37.2-sluice.3", false),
        (Program::KubeLogRunner, "", true),
    ] {
        job.options.platform = foreign_program(&path, text);
        assert_eq!(kubernetes::reported(&job, program, &path).is_ok(), ok, "{text}");
    }
    fs_err::copy(std::env::current_exe().unwrap(), &path).unwrap();
    assert!(kubernetes::reported(&job, Program::KubeLogRunner, &path).is_err(), "of this machine's platform");
}

#[test]
fn tools_for_tests_are_built_for_this_machine_alone() {
    let folder = tempfile::tempdir().unwrap();
    let other = foreign_program(&folder.path().join("program"), "");
    let error = build_tools_for(&Context::for_test(folder.path()), other, &[Program::Etcdctl]).unwrap_err();
    assert_eq!(error.to_string(), format!("etcdctl is for tests on this machine: it is not built for {other}"));
}

#[test]
fn another_go_than_upstreams_is_told() {
    let shell = Context::for_test(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap());
    let minor: Minor = Minor::DEFAULT.parse().unwrap();
    let upstream = Pins::load(&shell, &minor).unwrap().kubernetes.go;
    assert_eq!(OtherGo::find(&shell, &minor, &upstream).unwrap(), None);
    let other = OtherGo::find(&shell, &minor, "1.26.0").unwrap().unwrap();
    let text = format!("Go 1.26.0 compiled this; upstream releases this version with Go {upstream}");
    assert_eq!(other.to_string(), text);
    assert_eq!(golang::release("go version go1.26.8 linux/amd64"), "go1.26.8");
}
