//! A password is nowhere to be seen: not of a database that is not there, and not of one that is.

mod served;

use std::os::unix::fs::PermissionsExt as _;

use super::program;
use super::world::World;

const PASSWORD: &str = "hunter2";

/// What is said of a password in the URL.
const WARNING: &str = "every user of this machine can see the password in --endpoint";

/// Everything that opens a database; without words it is the server.
const COMMANDS: [&str; 11] = [
    "",
    "restore --from kept.snapshot",
    "import --from-etcd http://127.0.0.1:1",
    "export --to new.snapshot",
    "fsck",
    "accept-rollback",
    "migrate-to sqlite://new.db",
    "move-group sqlite://new.db --prefix /registry/a/",
    "explain --prefix /registry/a/ --selector color=green",
    "gc status",
    "gc explain /registry/a/b",
];

/// A way to give the password: its name, arguments, variables.
type Way<'a> = (&'a str, &'a [&'a str], &'a [(&'a str, &'a str)]);

/// Runs it with all that makes it say more, to its refusal; returns what it said.
fn said(world: &World, words: &str, args: &[&str], variables: &[(&str, &str)]) -> String {
    let mut command = program::shim();
    command.current_dir(world.folder()).env("RUST_BACKTRACE", "1").env("SLUICE_LOG_LEVEL", "trace");
    command.args(words.split(' ').filter(|word| !word.is_empty())).args(args).envs(variables.iter().copied());
    program::refused(&mut command, 1)
}

#[test]
fn no_password_is_shown() {
    // With a snapshot to restore from.
    let world = World::new("restore");
    std::fs::write(world.folder().join("password"), PASSWORD).unwrap();
    let pgpass = world.folder().join("pgpass");
    std::fs::write(&pgpass, format!("*:*:*:*:{PASSWORD}")).unwrap();
    std::fs::set_permissions(&pgpass, std::fs::Permissions::from_mode(0o600)).unwrap();
    let endpoint = ["--endpoint", "postgres://me@127.0.0.1:1/x"];
    let file = [&endpoint[..], &["--endpoint-password-file", "password"]].concat();
    let url = format!("postgres://me:{PASSWORD}@127.0.0.1:1/x");
    let ways: [Way<'_>; 5] = [
        ("the URL", &["--endpoint", &url], &[]),
        ("the URL's variable", &[], &[("SLUICE_ENDPOINT", &url)]),
        ("a file", &file, &[]),
        ("a variable", &endpoint, &[("SLUICE_ENDPOINT_PASSWORD", PASSWORD)]),
        ("PostgreSQL's file", &endpoint, &[("PGPASSFILE", "pgpass")]),
    ];
    for words in COMMANDS {
        for (way, args, variables) in ways {
            let said = said(&world, words, args, variables);
            assert!(!said.contains(PASSWORD), "{words:?}, password in {way}: {said}");
            // Only what stands on the command line is seen by others.
            let warnings = said.matches(WARNING).count();
            assert_eq!(warnings, usize::from(way == "the URL"), "{words:?}, password in {way}: {said}");
        }
    }
}

/// The password of the database that a store goes to.
#[test]
fn no_password_of_a_target_is_shown() {
    let world = World::new("migrate-to");
    std::fs::write(world.folder().join("password"), PASSWORD).unwrap();
    let source = ["--endpoint", "sqlite://kept.db"];
    let (target, url) = ("mysql://me@127.0.0.1:1/x", format!("mysql://me:{PASSWORD}@127.0.0.1:1/x"));
    let ways: [Way<'_>; 4] = [
        ("the URL", &[&url], &[]),
        ("the URL's variable", &[], &[("SLUICE_TARGET", &url)]),
        ("a file", &[target, "--target-password-file", "password"], &[]),
        ("a variable", &[target], &[("SLUICE_TARGET_PASSWORD", PASSWORD)]),
    ];
    for (way, args, variables) in ways {
        let said = said(&world, "migrate-to", &[&source[..], args].concat(), variables);
        assert!(said.contains("127.0.0.1:1") && !said.contains(PASSWORD), "password in {way}: {said}");
        assert_eq!(said.matches("every user of this machine").count(), usize::from(way == "the URL"), "{way}: {said}");
    }
    let missing = [&source[..], &[target, "--target-password-file", "missing"]].concat();
    let said = said(&world, "migrate-to", &missing, &[]);
    assert!(said.contains("error: --target-password-file missing can't be used: No such file"), "{said}");
}

/// The password of a server that holds a copy.
#[test]
fn no_password_of_a_read_endpoint_is_shown() {
    let world = World::new("");
    let endpoint = ["--endpoint", "mysql://me@127.0.0.1:1/x"];
    let url = format!("mysql://me:{PASSWORD}@127.0.0.1:1/x");
    let flag = [&endpoint[..], &["--read-endpoint", &url]].concat();
    let ways: [Way<'_>; 2] = [("the URL", &flag, &[]), ("its variable", &endpoint, &[("SLUICE_READ_ENDPOINT", &url)])];
    for (way, args, variables) in ways {
        let said = said(&world, "", args, variables);
        assert!(!said.contains(PASSWORD), "password in {way}: {said}");
        let warnings = said.matches("can see the password in --read-endpoint").count();
        assert_eq!(warnings, usize::from(way == "the URL"), "{way}: {said}");
    }
}

#[test]
fn a_password_file_that_is_missing_is_told_at_once() {
    let world = World::new("");
    let missing = ["--endpoint", "mysql://me@127.0.0.1:1/x", "--endpoint-password-file", "missing"];
    for words in COMMANDS {
        let said = said(&world, words, &missing, &[]);
        let expected = "error: --endpoint-password-file missing can't be used: No such file or directory (os error 2)\n\
                        hint: name a file that holds the password";
        assert!(said.contains(expected), "{words:?}: {said}");
    }
}

/// The variable without a flag is no misspelling of one with a flag.
#[test]
fn the_variable_for_the_password_is_known() {
    let world = World::new("");
    let mut server = world.server();
    let log = program::Serving::start(server.env("SLUICE_ENDPOINT_PASSWORD", PASSWORD)).stop();
    assert!(!log.contains("is no variable") && !log.contains(PASSWORD), "{log}");
}
