//! Against a real server.

mod defragment;
mod history;
mod model;
mod partition;
mod plans;
mod pooler;
mod select;
mod tls;

use super::server::Server;
use super::*;
use crate::endpoint::Endpoint;
use crate::endpoint::Layout;
use crate::engine::Error;
use crate::sql::session::{Commit as _, Read as _};

/// An empty database of one's own.
pub(in crate::sql) fn database() -> Address {
    address(&Server::get().database())
}

fn address(database: &str) -> Address {
    address_as("postgres", database)
}

fn address_as(user: &str, database: &str) -> Address {
    match format!("postgres://{user}@127.0.0.1:{}/{database}", Server::get().port).parse().unwrap() {
        Endpoint::Network(address) => *address,
        Endpoint::Sqlite(_) => unreachable!(),
    }
}

fn opened(address: &Address) -> Result<(Session, StoreTime)> {
    open(address, Arc::default(), Some(PATIENCE), Opened::ToServe)
}

/// Why a database can't be opened.
fn refusal(address: &Address) -> String {
    match opened(address) {
        Ok(_) => panic!("{address} was opened"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_fresh_database_gets_its_tables_and_a_later_start_finds_them() {
    let address = address(&Server::get().database());
    let (mut session, now) = opened(&address).unwrap();
    assert!(now.millis() > 1_700_000_000_000, "the server's clock: {now:?}");
    let head = session.snapshot().unwrap();
    assert_eq!((head.revision, head.compact_revision, head.batch), (1, 0, 0));
    let cluster = session.status(head).unwrap().cluster_id;
    drop(session);
    let (mut session, _) = opened(&address).unwrap();
    let head = session.snapshot().unwrap();
    assert_eq!(session.status(head).unwrap().cluster_id, cluster);
}

#[test]
fn a_read_that_could_not_begin_is_not_in_the_way_of_the_next() {
    let name = Server::get().database();
    let (mut session, _) = opened(&address(&name)).unwrap();
    let rename = |from, to| Server::get().psql(&name, &format!("ALTER TABLE {from} RENAME TO {to}")).unwrap();
    session.snapshot().unwrap();
    session.end();
    rename("meta", "other");
    session.snapshot().unwrap_err();
    rename("other", "meta");
    assert_eq!(session.snapshot().unwrap().revision, 1);
}

#[test]
fn of_two_that_start_at_once_one_makes_the_tables() {
    let address = address(&Server::get().database());
    let database = || Database::new(&address, random(), Arc::default(), None).unwrap();
    let made: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| schema::prepare(&mut database().connect().unwrap(), 7, &Default::default())))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(made.iter().all(|made| made.is_ok()), "{made:?}");
}

#[test]
fn a_second_process_is_refused_while_the_first_tells_that_it_is_there() {
    let name = Server::get().database();
    let (first, _) = opened(&address(&name)).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let refused = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                Server::get().psql(&name, "UPDATE meta SET seen_at = seen_at + 1").unwrap();
            }
        });
        let refused = refusal(&address(&name));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        refused
    });
    let place = format!("another sluice-shim serves this database: process {} on ", std::process::id());
    assert!(refused.starts_with(&place), "{refused}");
    drop(first);
    opened(&address(&name)).unwrap();
}

/// A server that was started anew gives the numbers of connections to others.
#[test]
fn a_connection_that_began_since_is_not_that_of_the_process_before() {
    let name = Server::get().database();
    drop(opened(&address(&name)).unwrap());
    let other = open_link(&name);
    let set = |seen_at: &str| {
        let sql = format!(
            "UPDATE meta SET owner = 7, backend = (SELECT pid FROM pg_stat_activity WHERE datname = '{name}'
             AND application_name = 'sluice-shim' ORDER BY backend_start DESC LIMIT 1), seen_at = {seen_at}"
        );
        Server::get().psql(&name, &sql).unwrap();
    };
    let now = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    for (seen_at, connected) in [(now.to_owned(), "t"), (format!("{now} - 3600000"), "f")] {
        set(&seen_at);
        let sql = format!("SELECT {} FROM meta", start::CONNECTED);
        assert_eq!(Server::get().psql(&name, &sql).unwrap(), connected, "seen at {seen_at}");
    }
    drop(other);
}

/// A connection that is none of a process that serves.
fn open_link(name: &str) -> link::Link {
    Database::new(&address(name), 0, Arc::default(), None).unwrap().connect().unwrap()
}

#[test]
fn a_setting_that_will_not_do_is_named_with_what_to_do() {
    let server = Server::get();
    let with = |sql: &str| {
        let name = server.database();
        server.psql(&name, &sql.replace("DB", &name)).unwrap();
        name
    };
    let all = "GRANT ALL ON SCHEMA public TO";
    server.psql("postgres", "CREATE ROLE guest LOGIN; CREATE ROLE reader LOGIN; CREATE ROLE lost LOGIN").unwrap();
    let table = [
        ("postgres", with("ALTER DATABASE DB SET synchronous_commit = off"), "set synchronous_commit = on, or accept"),
        (
            "postgres",
            with("ALTER DATABASE DB SET default_transaction_read_only = on"),
            "default_transaction_read_only = off",
        ),
        ("postgres", with("CREATE TABLE lease (id int)"), "has tables of another program"),
        ("postgres", "missing".to_owned(), "make it: CREATE DATABASE \"missing\""),
        ("nobody", with(""), "check the user \"nobody\" and the password"),
        ("guest", with("REVOKE ALL ON SCHEMA public FROM public, guest"), "no schema that the user \"guest\" can use"),
        ("lost", with("GRANT USAGE ON SCHEMA public TO lost"), "GRANT CREATE ON SCHEMA \"public\" TO \"lost\""),
    ];
    for (user, database, expected) in table {
        let refused = refusal(&address_as(user, &database));
        assert!(refused.contains(expected), "{user} at {database}: {refused}");
        // Nothing is kept where nothing is served.
        let refused = super::keep_pair(&address_as(user, &database), "a pair").unwrap_err().to_string();
        assert!(refused.contains(expected), "{user} at {database}, for a pair: {refused}");
    }
    let name = with(&format!("{all} reader"));
    drop(opened(&address(&name)).unwrap());
    let refused = refusal(&address_as("reader", &name));
    assert!(
        refused.contains("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA \"public\" TO \"reader\""),
        "{refused}"
    );
    server.psql(&name, "UPDATE store SET version = 99").unwrap();
    assert!(refusal(&address(&name)).contains("schema version 99, this sluice-shim knows version 1"));
    let name = with("ALTER DATABASE DB SET synchronous_commit = off");
    let unsafe_too = Address { accepts_loss: true, ..address(&name) };
    open(&unsafe_too, Arc::default(), Some(PATIENCE), Opened::ToServe).unwrap();
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let mut address = address("x");
    address.hosts[0].port = 1;
    let Err(Error::Unavailable(text)) = opened(&address) else { panic!("it was opened") };
    assert!(text.starts_with("cannot connect to the database at 127.0.0.1:1: "), "{text}");
}

#[test]
fn the_host_that_is_there_is_found() {
    let mut address = address(&Server::get().database());
    let mut gone = address.hosts[0].clone();
    gone.port = 1;
    address.hosts.insert(0, gone);
    opened(&address).unwrap();
}

#[test]
fn an_error_of_a_statement_ends_the_transaction_and_shows_no_value() {
    let name = Server::get().database();
    let (mut session, _) = opened(&address(&name)).unwrap();
    session.snapshot().unwrap();
    let secret: &[u8] = b"hunter2";
    let asks = [
        link::Ask::new("first", "SELECT 1", vec![]),
        link::Ask::new("bad", "SELECT convert_from($1, 'UTF8')::int", vec![row::blob(&secret)]),
        link::Ask::new("behind", "SELECT 1", vec![]),
        link::Ask::commit(),
    ];
    let failure = session.all(&asks).unwrap_err();
    let crate::sql::failure::Failure::Final(error) = failure else { panic!("{failure:?}") };
    assert_eq!(error.to_string(), "the database answered the statement \"bad\" with error 22P02");
    session.snapshot().unwrap();
}

#[test]
fn a_connection_that_ended_is_made_anew() {
    let name = Server::get().database();
    let (mut session, _) = opened(&address(&name)).unwrap();
    session.snapshot().unwrap();
    session.end();
    let end = format!(
        "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = '{name}'
        AND pid <> pg_backend_pid()"
    );
    assert_eq!(Server::get().psql(&name, &end).unwrap(), "1");
    session.snapshot().unwrap();
    Server::get().psql(&name, &end).unwrap();
    let failure = session.count(&crate::engine::KeyRange::default()).unwrap_err();
    assert!(matches!(failure, crate::sql::failure::Failure::Lost(_)), "{failure:?}");
    session.snapshot().unwrap();
}
