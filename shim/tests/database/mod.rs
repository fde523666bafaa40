//! A fresh, empty database for a test: a file, or one on the server that `SLUICE_TEST_DATABASE` names.
//!
//! The variable holds an endpoint, `postgres://user@127.0.0.1:5432/postgres` or `mysql://root@127.0.0.1:3306/mysql`,
//! whose user may make and remove databases. The tests never touch the database that it names. If that server is a
//! pooler, `SLUICE_TEST_DATABASE_DIRECT` names the server behind it, which then makes and removes the databases.
#![allow(clippy::allow_attributes, dead_code, reason = "each program of tests needs a part of it")]

use std::hash::{BuildHasher as _, RandomState};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable as _;
use sluice_shim::endpoint::{Address, Endpoint, Family, Layout};
use tempfile::TempDir;

/// Where to make databases. Without it they are files.
pub(crate) const VARIABLE: &str = "SLUICE_TEST_DATABASE";

/// Who makes them and removes them, if not the same.
const DIRECT: &str = "SLUICE_TEST_DATABASE_DIRECT";

/// How the tables of the databases on servers are divided: `key`, or `resource`; not at all if it says nothing.
const PARTITIONS: &str = "SLUICE_TEST_PARTITIONS";

/// How long it may take until a database that was made is there for those who come through a pooler.
const PATIENCE: Duration = Duration::from_secs(60);

/// The kind of the server under test, if there is one.
pub(crate) fn family() -> Option<Family> {
    match std::env::var(VARIABLE).ok().filter(|url| !url.is_empty())?.parse() {
        Ok(Endpoint::Network(address)) => Some(address.family),
        _ => panic!("{VARIABLE} leads to no server"),
    }
}

/// The same, or `None` after a word about what is missing.
pub(crate) fn family_or_skip() -> Option<Family> {
    let family = family();
    if family.is_none() {
        eprintln!("skipped: {VARIABLE} names no server; `cargo xtask test db` starts some");
    }
    family
}

/// A database that is gone with it.
#[derive(Debug)]
pub(crate) struct Database {
    /// For the file, and for whatever else a test puts beside its database.
    folder: TempDir,
    url: String,
    endpoint: Endpoint,
    made: Option<Made>,
}

impl Database {
    /// One of the kind under test.
    pub(crate) fn new() -> Self {
        match std::env::var(VARIABLE) {
            Ok(server) if !server.is_empty() => Self::on(&server),
            _ => Self::sqlite(),
        }
    }

    /// Some of the kind under test.
    pub(crate) fn several<const N: usize>() -> [Self; N] {
        std::array::from_fn(|_| Self::new())
    }

    /// A SQLite file, for a test that is about the file.
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let endpoint = Endpoint::Sqlite(folder.path().join("state.db"));
        Self { folder, url: endpoint.to_string(), endpoint, made: None }
    }

    /// One on the server that the URL leads to.
    pub(crate) fn on(server: &str) -> Self {
        let name = format!("sluice_test_{:016x}", RandomState::new().hash_one(0));
        let direct = std::env::var(DIRECT).ok().filter(|direct| !direct.is_empty());
        let Endpoint::Network(admin) = direct.as_deref().unwrap_or(server).parse().unwrap() else {
            panic!("{VARIABLE} leads to no server")
        };
        let url = with_database(server, &name);
        let made = Made::new(*admin, name);
        let database =
            Self { folder: tempfile::tempdir().unwrap(), endpoint: url.parse().unwrap(), url, made: Some(made) };
        if direct.is_some() {
            database.wait();
        }
        if let Some(layout) = layout() {
            database.divide(layout);
        }
        database
    }

    /// Makes the tables; a server takes them as they are.
    fn divide(&self, layout: Layout) {
        let Endpoint::Network(address) = &self.endpoint else { return };
        let address = Address { layout: Some(layout), accepts_loss: true, ..(**address).clone() };
        drop(sluice_shim::sql::open(&Endpoint::Network(Box::new(address)), Arc::default()).unwrap());
    }

    /// Waits until it is there for those who come through a pooler that also asks a standby.
    fn wait(&self) {
        let (Endpoint::Network(address), start) = (&self.endpoint, Instant::now()) else { return };
        while let Err(error) = execute(address, "SELECT 1") {
            assert!(start.elapsed() < PATIENCE, "{address}: {error}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// What to give as `--endpoint`; with a password, if the server wants one.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A folder of the test's own. A SQLite database is in it, as `state.db`.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The file of a database that was asked for as [`Database::sqlite`].
    pub(crate) fn file(&self) -> &Path {
        match &self.endpoint {
            Endpoint::Sqlite(path) => path,
            Endpoint::Network(_) => panic!("{} is no file", self.endpoint),
        }
    }

    /// Has the server carry out a statement in a database that is no file.
    pub(crate) fn execute(&self, statement: &str) {
        self.try_session(&[statement]).unwrap();
    }

    /// The same with several statements, one after the other on one connection; returns the rows that they give.
    pub(crate) fn try_session(&self, statements: &[&str]) -> Result<Vec<Vec<String>>, String> {
        self.try_session_with(statements, &mut |_| {})
    }

    /// The same; `after` is told of each statement that was carried out.
    pub(crate) fn try_session_with(
        &self,
        statements: &[&str],
        after: &mut (dyn FnMut(&str) + Send),
    ) -> Result<Vec<Vec<String>>, String> {
        match &self.endpoint {
            Endpoint::Sqlite(path) => panic!("{} is a file", path.display()),
            Endpoint::Network(address) => ask(address, statements, after),
        }
    }

    /// Leaves the database and the folder to whoever looks into what went wrong; returns the folder.
    pub(crate) fn keep(self) -> PathBuf {
        let _made = ManuallyDrop::new(self.made);
        self.folder.keep()
    }
}

/// How tables are to be divided.
fn layout() -> Option<Layout> {
    match &std::env::var(PARTITIONS).unwrap_or_default()[..] {
        "" => None,
        "key" => Some(Layout::Hashed(4)),
        // Between the keys of the tests.
        "resource" => {
            let bounds = ["/", "/registry/", "/registry/pods/", "/registry/pods0", "/registry/t", "a", "b", "k", "m"];
            Some(Layout::Ranges(bounds.map(Into::into).to_vec()))
        }
        other => panic!("{PARTITIONS}: {other:?} is neither key nor resource"),
    }
}

/// The URL, which is an endpoint, with another database in it.
fn with_database(url: &str, name: &str) -> String {
    let authority = url.find("://").map_or(0, |at| at + 3);
    let path = url[authority..].find('/').map_or(url.len(), |at| authority + at);
    let query = url.find('?').map_or("", |at| &url[at..]);
    format!("{}/{name}{query}", &url[..path])
}

/// A database on a server.
#[derive(Debug)]
struct Made {
    admin: Address,
    name: String,
}

impl Made {
    fn new(admin: Address, name: String) -> Self {
        execute(&admin, &format!("CREATE DATABASE {name}")).unwrap();
        Self { admin, name }
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // A panic here would hide the one that a failed test ends with.
        // A server that was stopped hard may not have let go of its connections yet.
        let forced = if self.admin.family == Family::Postgres { " WITH (FORCE)" } else { "" };
        if let Err(error) = execute(&self.admin, &format!("DROP DATABASE {}{forced}", self.name)) {
            eprintln!("the database {} is left: {error}", self.name);
        }
    }
}

/// Has a server carry out a statement.
fn execute(admin: &Address, statement: &str) -> Result<(), String> {
    ask(admin, &[statement], &mut |_| {}).map(drop)
}

/// The same on the server that the URL leads to; returns the rows that it gives.
pub(crate) fn query_at(url: &str, statement: &str) -> Result<Vec<Vec<String>>, String> {
    let Endpoint::Network(address) = url.parse().unwrap() else { panic!("{url} leads to no server") };
    ask(&address, &[statement], &mut |_| {})
}

/// Has a server carry out statements on one connection; returns the rows that they give.
fn ask(admin: &Address, statements: &[&str], after: &mut (dyn FnMut(&str) + Send)) -> Result<Vec<Vec<String>>, String> {
    match admin.family {
        Family::Postgres => {
            std::thread::scope(|scope| scope.spawn(|| on_postgres(admin, statements, after)).join().unwrap())
        }
        Family::MySql => on_mysql(admin, statements, after).map_err(|error| error.to_string()),
    }
}

fn on_mysql(
    admin: &Address,
    statements: &[&str],
    after: &mut (dyn FnMut(&str) + Send),
) -> mysql::Result<Vec<Vec<String>>> {
    let host = &admin.hosts[0];
    let password = admin.password(host).unwrap();
    let options = mysql::OptsBuilder::new()
        .ip_or_hostname(Some(&*host.name))
        .tcp_port(host.port)
        .user(admin.user.clone())
        .db_name(Some(&admin.database))
        .pass(password.as_ref().map(|password| password.reveal()))
        .prefer_socket(false);
    let (mut connection, mut rows) = (mysql::Conn::new(options)?, Vec::new());
    for statement in statements {
        let mut found = connection.query_iter(statement)?;
        while let Some(set) = found.iter() {
            for row in set {
                let text = |value| mysql::from_value::<Option<String>>(value).unwrap_or_default();
                rows.push(row?.unwrap().into_iter().map(text).collect());
            }
        }
        drop(found);
        after(statement);
    }
    Ok(rows)
}

fn on_postgres(
    admin: &Address,
    statements: &[&str],
    after: &mut (dyn FnMut(&str) + Send),
) -> Result<Vec<Vec<String>>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let host = &admin.hosts[0];
    let mut config = tokio_postgres::Config::new();
    config.host(&host.name).port(host.port).dbname(&admin.database);
    if let Some(user) = &admin.user {
        config.user(user);
    }
    if let Some(password) = admin.password(host).unwrap() {
        config.password(password.reveal());
    }
    let run = async {
        let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
        let connection = tokio::spawn(connection);
        let mut rows = Vec::new();
        for statement in statements {
            for message in client.simple_query(statement).await? {
                if let tokio_postgres::SimpleQueryMessage::Row(row) = message {
                    let text = |column| row.get(column).unwrap_or_default().to_owned();
                    rows.push((0..row.len()).map(text).collect());
                }
            }
            after(statement);
        }
        drop(client);
        connection.await.unwrap()?;
        Ok(rows)
    };
    runtime.block_on(run).map_err(|error: tokio_postgres::Error| format!("{error:?}"))
}

#[test]
fn a_made_database_has_the_url_of_its_server() {
    let table = [
        ("postgres://me:p@a:1,b/postgres", "postgres://me:p@a:1,b/new"),
        ("mysql://root@[::1]:1/mysql?sslmode=disable", "mysql://root@[::1]:1/new?sslmode=disable"),
        ("mysql://a/x?sslrootcert=/ca.pem", "mysql://a/new?sslrootcert=/ca.pem"),
    ];
    for (server, expected) in table {
        assert_eq!(with_database(server, "new"), expected);
    }
}
