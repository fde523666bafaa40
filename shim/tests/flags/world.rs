//! A folder with what flags may name, and how a row of the table is tried in it.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use clap::CommandFactory as _;
use sluice_shim::cli::Cli;
use tempfile::TempDir;

use super::kinds::{Case, Expect, Kind};
use super::program::{self, Serving};
use super::table::Row;

/// How many rows are tried at a time.
const WORKERS: usize = 4;

/// A folder, with a port that is taken.
pub(crate) struct World {
    folder: TempDir,
    taken: TcpListener,
    source: Option<Source>,
}

/// A server to import from.
struct Source {
    /// Killed with the world.
    _serving: Serving,
    plain: String,
    tls: String,
}

impl World {
    /// Makes what the command needs; none is the server.
    pub(crate) fn new(command: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("folder")).unwrap();
        std::fs::write(at("text.txt"), "This is a text, and nothing else.\n".repeat(100)).unwrap();
        std::fs::write(at("empty"), "").unwrap();
        let other = rusqlite::Connection::open(at("other.db")).unwrap();
        other.execute_batch("CREATE TABLE other (id INTEGER)").unwrap();
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        std::fs::write(at("cert.pem"), pair.cert.pem()).unwrap();
        std::fs::write(at("key.pem"), pair.signing_key.serialize_pem()).unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut world = Self { folder, taken, source: None };
        if !command.is_empty() {
            world.keep_a_database();
        }
        if command == "import" {
            world.source = Some(world.start_source());
        }
        world
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A URL at which something else listens.
    pub(crate) fn taken_url(&self) -> String {
        format!("http://{}", self.taken.local_addr().unwrap())
    }

    /// Where to import from.
    pub(crate) fn source(&self) -> String {
        self.source.as_ref().unwrap().plain.clone()
    }

    /// The server, configured by variables alone: flags win over them.
    pub(crate) fn server(&self) -> Command {
        let mut command = program::shim();
        command.current_dir(self.folder());
        command.env("SLUICE_ENDPOINT", "sqlite://state.db").env("SLUICE_LISTEN_CLIENT_URLS", "unix://client.sock");
        command
    }

    fn keep_a_database(&self) {
        Serving::start(self.server().env("SLUICE_ENDPOINT", "sqlite://kept.db")).stop();
        let export = ["export", "--endpoint", "sqlite://kept.db", "--to", "kept.snapshot"];
        program::done(program::shim().current_dir(self.folder()).args(export));
        std::fs::copy(self.folder().join("kept.db"), self.folder().join("kept.copy")).unwrap();
    }

    fn start_source(&self) -> Source {
        let urls = "unix://client.sock,http://127.0.0.1:0,https://127.0.0.1:0";
        let mut server = self.server();
        server.args(["--endpoint=sqlite://kept.db", "--listen-client-urls", urls]);
        let serving = Serving::start(server.args(["--cert-file=cert.pem", "--key-file=key.pem"]));
        serving.answers();
        let clients = serving.client_urls();
        Source { _serving: serving, plain: clients[1].clone(), tls: clients[2].clone() }
    }

    /// The command with all that it needs but the flag of the row.
    fn base(&self, row: &Row) -> Command {
        if row.command.is_empty() {
            let mut server = self.server();
            server.args(row.with);
            return server;
        }
        if row.command == "move-group" {
            // It may have gone with the case before.
            std::fs::copy(self.folder().join("kept.copy"), self.folder().join("kept.db")).unwrap();
        }
        let mut command = program::shim();
        command.current_dir(self.folder()).args(row.command.split(' '));
        let from = self.source.as_ref().map_or("", |source| {
            let uses_tls = row.with.iter().chain([&row.flag]).any(|flag| flag.starts_with("--cacert"));
            if uses_tls { &source.tls } else { &source.plain }
        });
        let needed: &[(&str, &str)] = match row.command {
            "restore" => &[("--from", "kept.snapshot"), ("--endpoint", "sqlite://new.db")],
            "import" => &[("--from-etcd", from), ("--endpoint", "sqlite://new.db")],
            "export" => &[("--endpoint", "sqlite://kept.db"), ("--to", "new.snapshot")],
            "move-group" => {
                &[("--endpoint", "sqlite://kept.db"), ("target", "sqlite://new.db"), ("--prefix", "/registry/a/")]
            }
            "migrate-to" => &[("--endpoint", "sqlite://kept.db"), ("target", "sqlite://new.db")],
            "explain" => {
                &[("--endpoint", "sqlite://kept.db"), ("--prefix", "/registry/a/"), ("--selector", "color=green")]
            }
            "partition" if !row.with.is_empty() => &[("--endpoint", "sqlite://kept.db")],
            "partition" => &[("--endpoint", "sqlite://kept.db"), ("--partition-by", "none")],
            "gc explain" => &[("--endpoint", "sqlite://kept.db"), ("key", "/registry/a/b")],
            _ => &[("--endpoint", "sqlite://kept.db")],
        };
        for (flag, value) in needed.iter().filter(|(flag, _)| *flag != row.flag) {
            command.args(flag.starts_with("--").then_some(flag)).arg(value);
        }
        command.args(row.with);
        command
    }

    /// What is in the folder.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for folder in [self.folder().to_owned(), self.folder().join("folder")] {
            for entry in std::fs::read_dir(&folder).unwrap() {
                names.insert(entry.unwrap().path().strip_prefix(self.folder()).unwrap().display().to_string());
            }
        }
        names
    }

    fn try_value(&self, row: &Row, case: &Case, variable: Option<&str>) {
        let mut command = self.base(row);
        match variable {
            Some(variable) => command.env(variable, &case.value),
            None if !row.flag.starts_with("--") => command.arg(&case.value),
            None if matches!(row.kind, Kind::Number(..) | Kind::Duration(_)) => command.args([row.flag, &case.value]),
            None => command.arg(format!("{}={}", row.flag, case.value)),
        };
        let is_unset = variable.is_some() && case.value.is_empty();
        let is_needed = matches!(row.kind, Kind::Database | Kind::ExistingDatabase);
        let unset_is_another_matter = row.flag == "--listen-client-urls"
            || row.command == "partition" && row.flag == "--partition-by"
            || !row.with.is_empty();
        if is_unset && unset_is_another_matter {
            // It is missing beside the others, which is clap's to tell; or the default is a port that may be taken; or
            // there is no default.
            return;
        }
        let before = self.names();
        match case.expect {
            Expect::Refused(code, says) if !is_unset || is_needed => {
                let said = program::refused(&mut command, code);
                for word in [row.flag.trim_start_matches("key"), says] {
                    assert!(said.contains(word), "{command:?} does not say {word:?}: {said}");
                }
                let by = variable.filter(|_| !is_unset);
                assert!(by.is_none_or(|variable| said.contains(variable)), "{command:?} does not say {by:?}: {said}");
                let odd = ["secret", "panicked"].iter().find(|word| said.contains(**word));
                assert_eq!(odd, None, "{command:?}: {said}");
                assert_eq!(self.names(), before, "{command:?} left something behind");
            }
            _ => self.works(row, &mut command, is_unset),
        }
        for name in self.names().difference(&before) {
            std::fs::remove_file(self.folder().join(name)).unwrap();
        }
    }

    fn works(&self, row: &Row, command: &mut Command, is_unset: bool) {
        if !row.command.is_empty() {
            assert!(!program::done(command).is_empty(), "{command:?}");
            return;
        }
        let serving = Serving::start(command);
        let serving = if row.flag == "--listen-client-urls" { serving.at_logged_address() } else { serving };
        if row.flag == "--listen-metrics-urls" && !is_unset {
            serving.metrics_answer();
        }
        serving.stop();
    }

    /// Once too often, and almost right.
    fn try_spellings(&self, row: &Row, good: &str) {
        let before = self.names();
        let given = if matches!(row.kind, Kind::Switch) { row.flag.to_owned() } else { format!("{}={good}", row.flag) };
        let is_list = matches!(
            row.kind,
            Kind::Listen | Kind::Advertise | Kind::Groups | Kind::Kinds | Kind::Copy | Kind::Prefixes | Kind::Partition
        );
        if !is_list {
            let said = program::refused(self.base(row).args([&given, &given]), 2);
            assert!(said.contains(row.flag) && said.contains("cannot be used multiple times"), "{said}");
        }
        let misspelt = format!("{}x", row.flag);
        let said = program::refused(self.base(row).arg(&misspelt), 2);
        assert!(said.contains(&format!("unexpected argument '{misspelt}'")), "{said}");
        assert_eq!(self.names(), before, "{row:?} left something behind");
    }

    fn check(&self, row: &Row) {
        let variable = variable_of(row);
        let cases = row.kind.cases(self);
        for case in &cases {
            self.try_value(row, case, None);
            if let Some(variable) = &variable {
                self.try_value(row, case, Some(variable));
            }
        }
        if row.flag.starts_with("--") {
            self.try_spellings(row, cases.first().map_or("", |case| &case.value));
        }
        if matches!(row.kind, Kind::Switch) {
            self.works(row, self.base(row).arg(row.flag), false);
        }
    }
}

/// The variable that the flag has beside it.
fn variable_of(row: &Row) -> Option<String> {
    let mut command = Cli::command();
    for name in row.command.split(' ').filter(|name| !name.is_empty()) {
        command = command.find_subcommand(name).unwrap().clone();
    }
    let arg = command.get_arguments().find(|arg| arg.get_long().is_some_and(|long| row.flag == format!("--{long}")));
    arg.and_then(|arg| arg.get_env()?.to_str().map(ToOwned::to_owned))
}

/// Tries rows, several at a time, each in a world of its own. Tells all that is wrong.
pub(crate) fn check_all(rows: Vec<Row>) {
    let queue = Mutex::new(rows);
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let work = || {
        while let Some(row) = next() {
            World::new(row.command).check(&row);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        let failed = workers.into_iter().map(std::thread::ScopedJoinHandle::join).filter(Result::is_err).count();
        assert_eq!(failed, 0, "rows failed, as said above");
    });
}
