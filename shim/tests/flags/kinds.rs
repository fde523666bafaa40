//! Kinds of flags, each with the values to try.

use super::world::World;

/// What comes of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expect {
    /// It is taken, and the program does what it is for.
    Works,
    /// It ends with the code and says the words, before anything is left behind.
    Refused(i32, &'static str),
}

/// A value with what comes of it. The first of a kind works.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) value: String,
    pub(crate) expect: Expect,
}

fn works(values: &[&str]) -> Vec<Case> {
    values.iter().map(|value| Case { value: (*value).to_owned(), expect: Expect::Works }).collect()
}

fn refused(code: i32, says: &'static str, values: &[&str]) -> Vec<Case> {
    values.iter().map(|value| Case { value: (*value).to_owned(), expect: Expect::Refused(code, says) }).collect()
}

/// What a flag takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Whole numbers: some that are taken, and the range as the error tells it.
    Number(&'static [&'static str], &'static str),
    /// Durations, the shortest as the error tells it.
    Duration(&'static str),
    /// One of some words.
    Word(&'static [&'static str]),
    /// With `=true` or `=false`, or alone.
    Bool,
    /// The same, for databases on servers alone: SQLite refuses true.
    Standby,
    /// For several processes, with `--standby`.
    WithStandby,
    /// Alone.
    Switch,
    /// Any text but none.
    Text,
    /// Text of which only some is right: what is taken, and what is not, with the words.
    Language(&'static str, &'static [(&'static str, i32, &'static str)]),
    /// Levels and modules.
    LogLevel,
    /// A new database, or one that is there.
    Database,
    /// A database that is there.
    ExistingDatabase,
    /// A new database that a store goes to.
    Target,
    /// A file with the password of a database; SQLite has none.
    Password,
    /// A server that holds a copy of a database; SQLite has none.
    Copy,
    /// By what tables are divided; SQLite's are not.
    PartitionBy,
    /// The resources by which they are, several times.
    Partition,
    /// Into how many parts they are.
    Partitions,
    /// URLs to listen at for clients, or for metrics.
    Listen,
    /// URLs for clients.
    Advertise,
    /// Files to read; of PEM, or others.
    Read(&'static str),
    /// A file to write.
    Write,
    /// A folder to write into.
    Folder,
    /// API groups.
    Groups,
    /// What keys begin with, several times.
    Prefixes,
    /// Kinds with their groups.
    Kinds,
    /// Where to import from.
    Source,
    /// Where definitions are, which need not be there.
    MainStore,
}

impl Kind {
    /// What keys begin with.
    pub(crate) const PREFIX: Self =
        Self::Language("/registry/a/", &[("", 2, "--prefix"), ("/registry/a", 2, "does not end in a slash")]);

    pub(crate) fn cases(self, world: &World) -> Vec<Case> {
        match self {
            Self::Number(good, range) => [
                works(good),
                refused(
                    2,
                    range,
                    &["", "-1", "-9223372036854775809", "18446744073709551616", "1.5", "many", "0x10", "1k"],
                ),
            ]
            .concat(),
            Self::Duration(form) => [
                works(&["1m30s", "1ms", "2562047h", "1.5h"]),
                refused(2, form, &["", "5", "-5s", "-1", "soon", "5 s", "999us"]),
                refused(2, "at most 2562047h", &["2562048h", "99999999999999999999s"]),
                if form.contains("needs 0") { works(&["0", "0s"]) } else { refused(2, form, &["0", "0s"]) },
            ]
            .concat(),
            Self::Word(words) => [works(words), refused(2, "possible values", &["", "1", "none", "On"])].concat(),
            Self::Bool => [works(&["true", "false"]), refused(2, "true", &["", "1", "yes", "flase"])].concat(),
            Self::Standby => [
                works(&["false"]),
                refused(2, "a SQLite file has one process", &["true"]),
                refused(2, "true", &["", "1", "yes"]),
            ]
            .concat(),
            Self::WithStandby => [
                works(&["false"]),
                refused(2, "there are no other processes", &["true"]),
                refused(2, "true", &["", "1", "yes"]),
            ]
            .concat(),
            Self::Switch => vec![],
            Self::Text => [works(&["one", "two words", "-"]), refused(2, "a value is required", &[""])].concat(),
            Self::Language(good, bad) => {
                let bad = bad.iter().flat_map(|(value, code, says)| refused(*code, says, &[value]));
                works(&[good]).into_iter().chain(bad).collect()
            }
            Self::LogLevel => log_levels(),
            Self::Database => databases(world),
            Self::ExistingDatabase => existing_databases(),
            Self::Target => targets(),
            Self::Password => [
                refused(2, "a SQLite database has no password", &["text.txt", "missing"]),
                refused(2, "a value is required", &[""]),
            ]
            .concat(),
            Self::Copy => [
                refused(2, "a SQLite file has no copies on servers", &["postgres://me@db/x", "sqlite://a.db"]),
                refused(2, "--read-endpoint: the endpoint is not a URL", &["db"]),
                refused(2, "--read-endpoint: no database is given", &[""]),
            ]
            .concat(),
            Self::PartitionBy => [
                works(&["none"]),
                refused(2, "a SQLite file has no partitions", &["key"]),
                refused(2, "no resource is named", &["resource"]),
                refused(2, "possible values", &["", "1", "keys", "Key"]),
            ]
            .concat(),
            Self::Partition => [
                refused(2, "a SQLite file has no partitions", &["/registry/pods/"]),
                refused(2, "is no prefix of keys that ends in a slash", &["", "/", "/registry/pods", "/a b/", "/a'/"]),
            ]
            .concat(),
            Self::Partitions => [
                refused(2, "nothing is divided by key", &["8", "2", "64"]),
                refused(2, "from 2 to 64", &["", "0", "1", "65", "-1", "many"]),
            ]
            .concat(),
            Self::Listen => listen(world),
            Self::Advertise => advertise(),
            Self::Read(good) => [
                works(&[good]),
                refused(2, "a value is required", &[""]),
                refused(1, "No such file", &["missing.pem"]),
                refused(1, "", &["folder", "text.txt", "empty"]),
            ]
            .concat(),
            Self::Write => [
                works(&["written"]),
                refused(2, "a value is required", &[""]),
                refused(1, "", &["missing/file", "folder", "text.txt/file", "/sys/sluice-file"]),
            ]
            .concat(),
            Self::Folder => [
                works(&["folder", "."]),
                refused(2, "a value is required", &[""]),
                refused(1, "No such file", &["missing"]),
                refused(1, "it is no folder", &["text.txt"]),
                refused(1, "can't be used", &["/sys"]),
            ]
            .concat(),
            Self::Prefixes => Self::PREFIX.cases(world),
            Self::Groups => [
                works(&["apps,stable.example.com", ",", ""]),
                refused(2, "is no API group", &["Apps", "apps/v1", "*", "a b"]),
            ]
            .concat(),
            Self::Kinds => [
                works(&["stable.example.com/Shirt,/Event", ",", ""]),
                refused(2, "is no group/Kind", &["Event", "apps/v1/Event", "*", "apps/event"]),
            ]
            .concat(),
            Self::MainStore => [
                works(&["http://127.0.0.1:1"]),
                refused(2, "begins neither with http", &["", "127.0.0.1:2379", "sqlite://state.db", "unix://a"]),
                refused(2, "https needs --definitions-cacert", &["https://127.0.0.1:1"]),
            ]
            .concat(),
            Self::Source => [
                works(&[&world.source()]),
                refused(2, "begins neither with http", &["", "127.0.0.1:2379", "sqlite://state.db", "unix://a"]),
                refused(2, "https needs --cacert", &["https://127.0.0.1:1"]),
                refused(1, "connect to", &["http://127.0.0.1:1"]),
            ]
            .concat(),
        }
    }
}

fn log_levels() -> Vec<Case> {
    [
        works(&["info", "error", "off", "TRACE", "warn,sluice_shim::sql=debug", "sluice_shim=debug,h2=info"]),
        refused(2, "did you mean warn?", &["warning"]),
        refused(2, "the levels are off, error, warn, info, debug, trace", &["", "nonsense", "3", "-1", "info,"]),
        refused(2, "is no module that logs", &["sluice_shim::slq=debug", "sluise=debug"]),
    ]
    .concat()
}

/// What can't be a database at all.
fn no_databases() -> Vec<Case> {
    [
        refused(2, "in memory", &["sqlite://:memory:"]),
        refused(
            2,
            "--endpoint sqlite:///",
            &["state.db", "sqlite://", "sqlite://folder/", "sqlit://a.db", "http://127.0.0.1:1"],
        ),
        refused(
            1,
            "127.0.0.1:1",
            &["postgres://me:secret@127.0.0.1:1/x", "mysql://me:secret@127.0.0.1:1,[::1]:1/x?sslmode=require"],
        ),
        refused(
            2,
            "use --endpoint postgres://user@host:5432/database",
            &["postgres://me:secret@/x", "postgres://me@db"],
        ),
        refused(2, "did you mean sslmode?", &["mysql://me:secret@db/x?ssl-mode=verify-full"]),
        refused(2, "has no options", &["sqlite://state.db?mode=ro"]),
    ]
    .concat()
}

fn databases(world: &World) -> Vec<Case> {
    [
        works(&["sqlite://new.db", &format!("sqlite://{}", world.folder().join("absolute.db").display())]),
        refused(2, "--endpoint", &[""]),
        no_databases(),
        refused(1, "make the folder first", &["sqlite://missing/a.db"]),
        refused(1, "is a folder; name a file in it", &["sqlite://folder"]),
        refused(1, "is no file", &["sqlite:///dev/null"]),
        refused(1, "is not a SQLite database", &["sqlite://text.txt"]),
        refused(1, "of another program", &["sqlite://other.db"]),
        refused(1, "", &["sqlite:///sys/a.db", "sqlite://text.txt/a.db"]),
    ]
    .concat()
}

fn existing_databases() -> Vec<Case> {
    [
        works(&["sqlite://kept.db"]),
        refused(2, "--endpoint", &[""]),
        no_databases(),
        refused(
            1,
            "there is no database",
            &["sqlite://missing.db", "sqlite://missing/a.db", "sqlite://folder", "sqlite:///dev/null"],
        ),
        refused(1, "", &["sqlite://text.txt", "sqlite://other.db"]),
    ]
    .concat()
}

fn targets() -> Vec<Case> {
    [
        works(&["sqlite://new.db", "sqlite://folder/new.db"]),
        refused(2, "in memory", &["sqlite://:memory:"]),
        refused(2, "TARGET sqlite:///", &["", "state.db", "sqlite://folder/", "sqlit://a.db", "http://127.0.0.1:1"]),
        refused(1, "127.0.0.1:1", &["postgres://me:secret@127.0.0.1:1/x", "mysql://me:secret@127.0.0.1:1/x"]),
        refused(2, "TARGET postgres://user@host:5432/database", &["postgres://me:secret@/x"]),
        refused(2, "did you mean sslmode?", &["mysql://me:secret@db/x?ssl-mode=verify-full"]),
        refused(1, "make the folder first", &["sqlite://missing/a.db"]),
        refused(1, "is a folder; name a file in it", &["sqlite://folder"]),
        refused(1, "is not a SQLite database", &["sqlite://text.txt"]),
        refused(1, "is not a database of sluice-shim", &["sqlite://other.db"]),
        refused(1, "the target is the database that the store is in", &["sqlite://kept.db"]),
        refused(1, "", &["sqlite:///sys/a.db", "sqlite://text.txt/a.db", "sqlite:///dev/null"]),
    ]
    .concat()
}

fn no_urls() -> Vec<Case> {
    [
        refused(2, "not a URL", &["", "127.0.0.1:2379", "localhost", "-1"]),
        refused(2, "needs a host and a port", &["http://127.0.0.1", "http://127.0.0.1:port", "http://127.0.0.1:65536"]),
        refused(2, "is only host and port", &["http://127.0.0.1:0/path", "http://127.0.0.1:0?a=b"]),
        refused(2, "has a user in it", &["http://me:pass@127.0.0.1:0"]),
        refused(2, "stands in brackets", &["http://::1:0"]),
        refused(2, "is no IPv6 address", &["http://[::g]:0"]),
        refused(2, "names no host", &["http://:2379"]),
        refused(2, "is none of http, https, unix, unixs", &["tcp://127.0.0.1:0", "htp://127.0.0.1:0"]),
        refused(2, "names no file", &["unix://", "unixs:///run/"]),
    ]
    .concat()
}

fn listen(world: &World) -> Vec<Case> {
    let mut good = vec!["http://127.0.0.1:0", "http://localhost:0", "http://127.0.0.1:0,http://127.0.0.1:0"];
    good.extend(std::net::TcpListener::bind("[::1]:0").map(|_| "http://[::1]:0"));
    [
        works(&good),
        no_urls(),
        refused(2, "needs a certificate", &["https://127.0.0.1:0", "unixs://new.sock"]),
        refused(2, "is given twice", &["unix://new.sock,unix://new.sock"]),
        refused(1, "another process listens there", &[&world.taken_url()]),
        refused(1, "no such address", &["http://203.0.113.1:2379"]),
        refused(1, "is no socket", &["unix://text.txt", "unix://folder"]),
        refused(1, "must exist", &["unix://missing/new.sock"]),
        refused(1, "listen at", &["unix:///sys/new.sock", &format!("unix://{}", "long".repeat(40))]),
    ]
    .concat()
}

fn advertise() -> Vec<Case> {
    let good = ["http://one.example.com:2379,https://[::1]:2379", "unix:///run/sluice.sock"];
    [works(&good), no_urls()].concat()
}
