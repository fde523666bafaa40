//! Connections, tables, and who serves.
use super::super::connection::Connection;
use super::super::testing::{address, database, root, start};
use super::super::text::{Bytes, Packet};
use super::super::*;
use crate::sql::failure::Failure;
use mysql::prelude::Queryable as _;
use proptest::prelude::*;
use std::sync::Mutex;

/// The text of a failure that no other try mends.
pub(super) fn refusal<T>(result: Result<T>) -> String {
    match result {
        Err(Failure::Final(error)) => error.to_string(),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it was not refused"),
    }
}

#[test]
fn bytes_come_back_as_they_were() {
    let connection = Mutex::new(Connection::open(database(), Arc::default()).unwrap());
    let pieces: Vec<&[u8]> = vec![
        b"'",
        b"\\",
        b"\\'",
        b"\0",
        b"\x1a",
        b"\n",
        b";",
        b"-- ",
        b"/*",
        b"%",
        b"_",
        b"\"",
        b"x'",
        b"\xbf\x27",
        b"\xff",
        b"a",
        "\u{e9}\u{1F600}".as_bytes(),
    ];
    let hostile = proptest::sample::select(pieces);
    let hostile = proptest::collection::vec(hostile, 0..20).prop_map(|parts| parts.concat());
    let bytes = prop_oneof![proptest::collection::vec(any::<u8>(), 0..200), hostile];
    connection
        .lock()
        .unwrap()
        .run(&Packet::of("table", "CREATE TABLE t (id INT PRIMARY KEY, b VARBINARY(1000))"))
        .unwrap();
    proptest!(|(all in proptest::collection::vec(bytes, 1..20))| {
        let mut connection = connection.lock().unwrap();
        let mut packet = Packet::of("empty", "DELETE FROM t");
        for (id, bytes) in all.iter().enumerate() {
            packet.add("insert", format_args!("INSERT INTO t VALUES ({id}, {})", Bytes(bytes)));
        }
        connection.run(&packet).unwrap();
        let stored = connection.all("select", "SELECT b FROM t ORDER BY id", row::Cells::bytes).unwrap();
        prop_assert_eq!(&stored, &all);
        for bytes in &all {
            let equal = connection.number("compare", format_args!("SELECT COUNT(*) FROM t WHERE b = {0} AND HEX(b) = HEX({0})", Bytes(bytes))).unwrap();
            prop_assert_eq!(equal, all.iter().filter(|other| *other == bytes).count() as i64);
        }
    });
}

#[test]
fn tables_are_made_once_by_all_who_start() {
    let address = database();
    let prepared: Vec<_> = std::thread::scope(|scope| {
        let one = || tables::prepare(&mut Connection::open(address.clone(), Arc::default()).unwrap());
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for prepared in prepared {
        prepared.unwrap();
    }
    let mut connection = Connection::open(address, Arc::default()).unwrap();
    tables::check(&mut connection).unwrap();
    settings::check_privileges(&mut connection).unwrap();
    assert_eq!(connection.number("meta", "SELECT revision * 10 + compact_revision FROM meta").unwrap(), 10);
    // Killed in the middle: what is missing is made.
    connection.run(&Packet::of("x", "DROP TABLE gc_tombstone, store")).unwrap();
    tables::prepare(&mut connection).unwrap();
    tables::check(&mut connection).unwrap();
    assert_eq!(connection.number("x", "SELECT COUNT(*) FROM gc_tombstone").unwrap(), 0);
    connection.run(&Packet::of("x", "UPDATE store SET version = 7")).unwrap();
    assert!(refusal(tables::prepare(&mut connection)).contains("schema version 7"));
    connection.run(&Packet::of("x", "DROP TABLE store; CREATE TABLE store (id INT, goods INT)")).unwrap();
    assert!(refusal(tables::prepare(&mut connection)).contains("of another program"));
}

#[test]
fn a_database_without_tables_is_not_ours() {
    let mut connection = Connection::open(database(), Arc::default()).unwrap();
    assert!(refusal(tables::check(&mut connection)).contains("has no tables of sluice-shim"));
}

#[test]
fn one_process_serves_a_store() {
    let address = database();
    let [mut first, mut second] = [(); 2].map(|()| Connection::open(address.clone(), Arc::default()).unwrap());
    tables::prepare(&mut first).unwrap();
    serving::begin(&mut first, 1).unwrap();
    let alive = std::thread::spawn({
        let mut first = first;
        move || {
            // A process that lives says so.
            for _ in 0..200 {
                first.run(&Packet::of("live", serving::go_on(1))).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            first
        }
    });
    let refused = refusal(serving::begin(&mut second, 2));
    assert!(
        refused.contains("another sluice-shim serves this database: ")
            && refused.contains(&format!("process {}", std::process::id())),
        "{refused}"
    );
    let mut first = alive.join().unwrap();
    // A killed one is known by its connection.
    first.run(&Packet::of("live", serving::go_on(1))).unwrap();
    drop(first);
    serving::begin(&mut second, 2).unwrap();
    second.run(&Packet::of("end", serving::end(2))).unwrap();
    let mut third = Connection::open(address, Arc::default()).unwrap();
    serving::begin(&mut third, 3).unwrap();
    assert_eq!(third.number("owner", "SELECT owner FROM meta").unwrap(), 3);
}

/// Without the right `PROCESS` a user is not shown the processes of others.
#[test]
fn a_process_that_serves_as_another_user_is_there() {
    let address = database();
    let mut first = Connection::open(address.clone(), Arc::default()).unwrap();
    tables::prepare(&mut first).unwrap();
    serving::begin(&mut first, 1).unwrap();
    if first.server().unwrap().engine != engine::Engine::MariaDb {
        // The others say nothing of connections.
        return;
    }
    let name = first.first("name", "SELECT DATABASE()", |cells| cells.text()).unwrap().unwrap();
    let mut root = root();
    for host in ["localhost", "127.0.0.1"] {
        root.query_drop(format!("CREATE USER backup@'{host}'")).unwrap();
        root.query_drop(format!("GRANT ALL ON `{name}`.* TO backup@'{host}'")).unwrap();
    }
    let mut second = Connection::open(self::address(&format!("backup@127.0.0.1:PORT/{name}")), Arc::default()).unwrap();
    assert!(serving::look(&mut second).unwrap().connected);
    assert!(serving::try_begin(&mut second, 2).unwrap().is_some());
    drop(first);
    let begun = std::time::Instant::now();
    while serving::look(&mut second).unwrap().connected {
        assert!(begun.elapsed() < std::time::Duration::from_secs(9), "only its silence tells that it is gone");
    }
    assert!(serving::try_begin(&mut second, 2).unwrap().is_none());
}

#[test]
fn what_is_wrong_with_a_login_is_told_with_its_remedy() {
    let mut root = root();
    root.query_drop("CREATE OR REPLACE USER nobody@localhost IDENTIFIED BY 'hunter2'").unwrap();
    let table = [
        ("nobody:hunter3@127.0.0.1:PORT/x", "refuses the user \"nobody\""),
        ("nobody:hunter2@127.0.0.1:PORT/mysql", "GRANT ALL ON `mysql`.* TO the user"),
        ("root@127.0.0.1:PORT/missing", "CREATE DATABASE `missing`"),
        ("root@127.0.0.1:PORT/mysql?sslmode=require", "does not encrypt"),
    ];
    for (rest, expected) in table {
        let refused = refusal(Connection::open(address(rest), Arc::default()));
        assert!(refused.contains(expected) && !refused.contains("hunter"), "{rest}: {refused}");
    }
    let Err(Failure::Lost(error)) = Connection::open(address("root@127.0.0.1:1/x"), Arc::default()) else {
        panic!("there is a server at port 1")
    };
    assert!(error.to_string().contains("127.0.0.1:1 can't be used"), "{error}");
}

/// Numbers of connections begin anew with a server: what has the number of one that served is another connection.
#[test]
fn who_served_before_the_server_was_started_is_not_waited_for() {
    let server = start("");
    let mut root = server.root();
    root.query_drop("CREATE DATABASE d").unwrap();
    let address = format!("root@127.0.0.1:{}/d", server.port);
    let mut connection = Connection::open(self::address(&address), Arc::default()).unwrap();
    tables::prepare(&mut connection).unwrap();
    let served = |seen_at: &str| {
        let set = "UPDATE meta SET owner = 7, address = 'elsewhere', backend";
        let mut other = server.root();
        other.query_drop("USE d").unwrap();
        other.query_drop(format!("{set} = {}, seen_at = {seen_at}", root.connection_id())).unwrap();
    };
    let now = serving::NOW;
    served(now);
    let other = serving::try_begin(&mut connection, 1).unwrap();
    assert!(other.is_some(), "its connection is there");
    let up = "(SELECT variable_value FROM information_schema.global_status WHERE variable_name = 'UPTIME')";
    served(&format!("{now} - 1000 * ({up} + 2)"));
    assert!(serving::try_begin(&mut connection, 1).unwrap().is_none(), "it was there before the server was");
}
