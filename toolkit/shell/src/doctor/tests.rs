use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;

/// A machine with these programs (name, what it prints) and files.
fn machine(root: &Path, programs: &[(&str, &str)], files: &[&str]) -> Machine {
    let bin = root.join("path");
    fs_err::create_dir_all(&bin).unwrap();
    for (name, prints) in programs {
        let file = bin.join(name);
        fs_err::write(&file, format!("#!/bin/sh\necho '{prints}'\n")).unwrap();
        fs_err::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    for file in files {
        let file = root.join(file.trim_start_matches('/'));
        fs_err::create_dir_all(file.parent().unwrap()).unwrap();
        fs_err::write(file, "").unwrap();
    }
    Machine { path: bin.into(), root: root.to_owned(), superuser: true }
}

fn report(machine: &Machine, purposes: &[Purpose]) -> String {
    let text = render(&look(machine, &needs::all("1.26.10"), purposes));
    text.replace(machine.root.to_str().unwrap(), "[ROOT]")
}

#[test]
fn an_empty_machine() {
    let root = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(report(&machine(root.path(), &[], &[]), &Purpose::ALL));
}

/// The commands add the foreign packages, and unpack what can't be installed.
#[test]
fn an_empty_machine_and_another_platform() {
    let root = tempfile::tempdir().unwrap();
    let other = Platform::ALL.into_iter().find(|platform| !platform.is_host()).unwrap();
    let needs = needs::cross(other, Path::new("/workspace/.sluice/debian/arm64"));
    let machine = machine(root.path(), &[], &[]);
    insta::assert_snapshot!(render(&look(&machine, &needs, &[Purpose::Images, Purpose::Test])));
    let findings = look(&machine, &needs, &[Purpose::Build]);
    let commands: Vec<Option<String>> = findings.into_iter().map(|finding| finding.install).collect();
    insta::assert_debug_snapshot!(commands);
}

#[test]
fn old_and_new_versions() {
    let root = tempfile::tempdir().unwrap();
    let programs =
        [("go", "go version go1.19.8 linux/amd64"), ("rustc", "rustc 1.96.0-nightly (abc 2026-01-01)"), ("gcc", "")];
    let files = ["/usr/include/stdlib.h", "/etc/ssl/certs/ca-certificates.crt"];
    insta::assert_snapshot!(report(&machine(root.path(), &programs, &files), &[Purpose::Build]));
}

#[test]
fn nothing_missing() {
    let root = tempfile::tempdir().unwrap();
    let programs =
        ["git", "faketime", "skopeo", "docker-registry", "umoci", "minisign", "openssl", "shellcheck", "zstd", "pip3"];
    let programs = programs.map(|name| (name, ""));
    let machine = machine(root.path(), &programs, &[]);
    insta::assert_snapshot!(report(&machine, &[Purpose::Test]));
    assert!(verdict(look(&machine, &needs::all("1.26.10"), &[Purpose::Test])).is_ok());
}

#[test]
fn missing_things_are_the_inputs_fault_and_name_one_command() {
    let root = tempfile::tempdir().unwrap();
    let error = verdict(look(&machine(root.path(), &[], &[]), &needs::all("1.26.10"), &[Purpose::Test])).unwrap_err();
    assert_eq!(error.fault(), crate::error::Fault::Input);
    insta::assert_snapshot!(console::strip_ansi_codes(&format!("{error:?}")));
}

#[test]
fn only_root_on_debian_can_install() {
    let root = tempfile::tempdir().unwrap();
    let mut machine = machine(root.path(), &[("apt-get", "")], &["/etc/debian_version"]);
    assert!(machine.can_install());
    machine.superuser = false;
    assert!(!machine.can_install());
}
