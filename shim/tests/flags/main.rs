//! Every flag of the binary, as a flag and as a variable, with all kinds of values: refused at the start with a reason,
//! or it works.
//!
//! The flags are clap's own list: one without a row in [`table`] fails.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod full_disk;
mod kinds;
#[path = "../servers/port.rs"]
mod port;
mod program;
mod secrets;
mod table;
mod world;

use std::collections::BTreeSet;
use std::net::TcpListener;

use clap::CommandFactory as _;
use sluice_shim::cli::Cli;

/// The flags that clap knows, each with the commands that it belongs to; arguments without dashes as well.
fn known() -> BTreeSet<(String, String)> {
    fn add(command: &clap::Command, path: &str, known: &mut BTreeSet<(String, String)>) {
        for arg in command.get_arguments().filter(|arg| !["help", "version"].contains(&arg.get_id().as_str())) {
            let name = arg.get_long().map_or_else(|| arg.get_id().to_string(), |long| format!("--{long}"));
            known.insert((path.to_owned(), name));
        }
        for inner in command.get_subcommands() {
            add(inner, format!("{path} {}", inner.get_name()).trim(), known);
        }
    }
    let mut known = BTreeSet::new();
    add(&Cli::command(), "", &mut known);
    known
}

#[test]
fn every_flag_has_a_row() {
    let rows = table::rows().iter().map(|row| (row.command.to_owned(), row.flag.to_owned())).collect();
    assert_eq!(known(), rows, "left: clap's flags, right: those with a row in table.rs");
}

#[test]
fn the_server_refuses_or_works() {
    world::check_all(table::rows().into_iter().filter(|row| row.command.is_empty()).collect());
}

#[test]
fn commands_refuse_or_work() {
    world::check_all(table::rows().into_iter().filter(|row| !row.command.is_empty()).collect());
}

/// Two servers on one database: the second says so, and the first is not disturbed.
#[test]
fn a_second_server_is_refused() {
    let world = world::World::new("");
    let first = program::Serving::start(&mut world.server());
    first.answers();
    let log = program::refused(world.server().env("SLUICE_LISTEN_CLIENT_URLS", "unix://second.sock"), 1);
    assert!(log.contains("another process has the database state.db open"), "{log}");
    assert!(!world.folder().join("second.sock").exists());
    first.answers();
    first.stop();
}

/// A start that waits for a database which does not answer ends at a signal.
#[test]
fn a_start_ends_at_a_signal() {
    let world = world::World::new("");
    let database = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("postgres://sluice@{}/sluice", database.local_addr().unwrap());
    let serving = program::Serving::start(world.server().env("SLUICE_ENDPOINT", endpoint));
    let asked = program::in_time(move || database.accept().unwrap());
    serving.terminated();
    drop(asked);
}

/// A misspelt variable can't be refused, since others may use the prefix, but it is told.
#[test]
fn a_misspelt_variable_is_told() {
    let world = world::World::new("");
    let serving = program::Serving::start(world.server().env("SLUICE_SNAPSHOT_DIRECTORY", "/").env("SLUICE_PORT", "1"));
    let log = serving.stop();
    let told = "SLUICE_SNAPSHOT_DIRECTORY is no variable of sluice-shim; is SLUICE_SNAPSHOT_DIR meant?";
    assert!(log.contains(told) && !log.contains("SLUICE_PORT"), "{log}");
}

/// The variables of a server do not get into the way of a command in the same environment.
#[test]
fn variables_of_the_server_do_not_disturb_commands() {
    let world = world::World::new("fsck");
    let mut command = world.server();
    command.env("SLUICE_ENDPOINT", "sqlite://kept.db").env("SLUICE_GC", "off").env("SLUICE_NAME", "one").arg("fsck");
    assert!(program::done(&mut command).starts_with("sound: "));
}

/// What is not given is not named in an error, and what is given by a flag is not said to be from a variable.
#[test]
fn an_error_names_the_variable_only_if_the_value_is_from_there() {
    let world = world::World::new("");
    let note = "note: --gc-rate has its value from the variable SLUICE_GC_RATE";
    let by_variable = program::refused(world.server().env("SLUICE_GC_RATE", "none"), 2);
    assert!(by_variable.contains(note), "{by_variable}");
    let by_flag = program::refused(world.server().env("SLUICE_GC_RATE", "5").args(["--gc-rate", "none"]), 2);
    assert!(!by_flag.contains("note: "), "{by_flag}");
}
