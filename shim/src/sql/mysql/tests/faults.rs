//! Connections that are cut, servers that are set up wrong.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::super::connection::Connection;
use super::super::testing::{address, database, root, start};
use super::super::text::Packet;
use super::super::{Tables, keep_pair};
use super::connection::refusal;
use super::store::next;
use crate::clock::StoreTime;
use crate::endpoint::Address;
use crate::engine::store::{Footprint, Lease};
use crate::sql::failure::Failure;
use crate::sql::session::{Commit as _, Delta, NewHead, Read as _};
use mysql::prelude::Queryable as _;

/// What a proxy does with the next message that has a COMMIT in it.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Cut {
    Nothing,
    /// It does not reach the server.
    Message,
    /// It does, but the answer does not come.
    Answer,
}

/// Stands between us and a server; returns its port.
fn proxy(to: u16, cut: Arc<AtomicU8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), TcpStream::connect(("127.0.0.1", to)).unwrap());
            let (answers, asker) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            let silent = Arc::new(Mutex::new(false));
            let is_silent = Arc::clone(&silent);
            std::thread::spawn(move || pump(answers, asker, |_| !*is_silent.lock().unwrap()));
            let cut = Arc::clone(&cut);
            std::thread::spawn(move || {
                pump(client, server, |message| {
                    if !message.windows(6).any(|part| part == b"COMMIT") {
                        return true;
                    }
                    let what = cut.swap(Cut::Nothing as u8, Ordering::SeqCst);
                    *silent.lock().unwrap() = what == Cut::Answer as u8;
                    what != Cut::Message as u8
                });
            });
        }
    });
    port
}

/// Hands on what comes until that is to end.
fn pump(mut from: TcpStream, mut to: TcpStream, mut goes_on: impl FnMut(&[u8]) -> bool) {
    let mut buffer = vec![0; 1 << 20];
    while let Ok(read) = from.read(&mut buffer) {
        if read == 0 || !goes_on(&buffer[..read]) || to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    // The other side may be gone already.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

fn try_lease(tables: &mut Tables, id: i64) -> (Result<bool, Failure>, NewHead) {
    let begun = tables.begin(&Footprint::default()).unwrap();
    let (head, lease) = (next(&begun), Lease { id, ttl: 1, expires_at: StoreTime::from_millis(1) });
    let delta = Delta { leases: vec![(id, Some(&lease))], ..Delta::default() };
    (tables.apply(&delta, Some(&head)), head)
}

#[test]
fn the_next_transaction_tells_what_became_of_one_that_was_cut() {
    let direct = database();
    let cut = Arc::new(AtomicU8::new(0));
    let port = proxy(direct.hosts[0].port, Arc::clone(&cut));
    let url = format!("root@127.0.0.1:{port}/{}?sslmode=disable", direct.database);
    let mut tables = Tables::serve(address(&url), Arc::default()).unwrap();
    let (first, _) = try_lease(&mut tables, 1);
    first.unwrap();
    for (what, happened) in [(Cut::Message, false), (Cut::Answer, true)] {
        cut.store(what as u8, Ordering::SeqCst);
        let (result, head) = try_lease(&mut tables, 2);
        assert!(matches!(result, Err(Failure::Unknown(_))), "{result:?}");
        tables.rollback();
        tables.reconnect().unwrap();
        let begun = tables.begin(&Footprint::default()).unwrap();
        assert_eq!((begun.head.batch == head.batch, begun.head.revision == head.revision), (happened, happened));
        tables.rollback();
        assert_eq!(tables.lease(2).unwrap().is_some(), happened);
    }
}

#[test]
fn a_connection_that_the_server_ended_is_opened_anew() {
    let address = database();
    let mut tables = Tables::serve(address.clone(), Arc::default()).unwrap();
    let kill = |tables: &mut Tables| {
        let id = tables.connection.number("id", "SELECT CONNECTION_ID()").unwrap();
        root().query_drop(format!("KILL {id}")).unwrap();
    };
    // Between two reads nobody notices.
    let mut reader = Tables::read(address, Arc::default()).unwrap();
    let head = reader.snapshot().unwrap();
    reader.end();
    kill(&mut reader);
    assert_eq!(reader.snapshot().unwrap().revision, head.revision);
    kill(&mut reader);
    assert!(matches!(reader.lease(1), Err(Failure::Lost(_))));
    assert_eq!(reader.snapshot().unwrap().revision, head.revision);
    // A transaction is lost, and nothing of it has happened.
    tables.begin(&Footprint::default()).unwrap();
    kill(&mut tables);
    assert!(matches!(
        tables.apply(&Delta { leases: vec![(1, None)], ..Delta::default() }, None),
        Err(Failure::Lost(_))
    ));
    tables.rollback();
    tables.reconnect().unwrap();
    assert_eq!(tables.begin(&Footprint::default()).unwrap().head.revision, head.revision);
}

#[test]
fn a_deadlock_and_a_lock_that_is_not_got_are_tried_again() {
    let address = database();
    let mut tables = Tables::serve(address.clone(), Arc::default()).unwrap();
    let mut other = Connection::open(address.clone(), Arc::default()).unwrap();
    let run = |connection: &mut Connection, sql: &str| connection.run(&super::super::text::Packet::of("other", sql));
    run(&mut other, "BEGIN; SELECT * FROM meta FOR UPDATE").unwrap();
    run(&mut tables.connection, "SET SESSION innodb_lock_wait_timeout = 0").unwrap();
    assert!(matches!(tables.begin(&Footprint::default()), Err(Failure::Again(_))));
    tables.rollback();
    run(&mut other, "ROLLBACK").unwrap();
    tables.begin(&Footprint::default()).unwrap();
    run(&mut other, "SET SESSION innodb_lock_wait_timeout = 50; BEGIN; INSERT INTO lease VALUES (7, 1, 1)").unwrap();
    let waits = std::thread::spawn(move || {
        let waited = run(&mut other, "UPDATE meta SET seen_at = 0");
        (waited, other)
    });
    let blocked = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'
        AND trx_query = 'UPDATE meta SET seen_at = 0'";
    let mut root = root();
    while root.query_first::<i64, _>(blocked).unwrap() != Some(1) {
        assert!(!waits.is_finished(), "{:?}", waits.join().unwrap().0);
        // InnoDB answers from what it answered last, until nobody has asked for a tenth of a second.
        std::thread::sleep(Duration::from_millis(150));
    }
    run(&mut tables.connection, "SET SESSION innodb_lock_wait_timeout = 50").unwrap();
    let lease = Lease { id: 7, ttl: 1, expires_at: StoreTime::from_millis(1) };
    let delta = Delta { leases: vec![(7, Some(&lease))], ..Delta::default() };
    let ours = tables.apply(&delta, None);
    let (theirs, _) = waits.join().unwrap();
    let is_again = |result: bool, failure: Option<&Failure>| !result && matches!(failure, Some(Failure::Again(_)));
    let given_up = [is_again(ours.is_ok(), ours.as_ref().err()), is_again(theirs.is_ok(), theirs.as_ref().err())];
    assert_eq!(given_up.iter().filter(|one| **one).count(), 1, "{ours:?} {theirs:?}");
}

#[test]
fn a_server_that_can_not_serve_is_refused_with_the_setting_and_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(&certificates(folder.path()));
    server.set("CREATE DATABASE x");
    let at = |query: &str| address(&format!("root@127.0.0.1:{}/x{query}", server.port));
    let serve = |accepts_loss| Tables::serve(Arc::new(Address { accepts_loss, ..(*at("")).clone() }), Arc::default());
    drop(serve(false).unwrap());
    server.set("SET GLOBAL max_allowed_packet = 1048576");
    let refused = refusal(serve(false));
    assert!(
        refused.contains("max_allowed_packet is 1048576") && refused.contains("SET GLOBAL max_allowed_packet="),
        "{refused}"
    );
    server.set("SET GLOBAL max_allowed_packet = 16777216");
    server.set("SET GLOBAL innodb_flush_log_at_trx_commit = 2");
    let refused = refusal(serve(false));
    assert!(
        refused.contains("innodb_flush_log_at_trx_commit is 2") && refused.contains("--allow-unsafe-database"),
        "{refused}"
    );
    // Nothing is kept where nothing is served.
    let refused = keep_pair(&at(""), "a pair").unwrap_err().to_string();
    assert!(refused.contains("innodb_flush_log_at_trx_commit is 2"), "{refused}");
    drop(serve(true).unwrap());
    server.set("SET GLOBAL innodb_flush_log_at_trx_commit = 1");
    server.set("CREATE USER weak@localhost; GRANT SELECT, UPDATE, INSERT ON x.* TO weak@localhost");
    let weak = address(&format!("weak@127.0.0.1:{}/x", server.port));
    let refused = refusal(Tables::serve(weak, Arc::default()));
    assert!(refused.contains("\"may delete\"") && refused.contains("GRANT SELECT, INSERT"), "{refused}");
    encryption(&at, folder.path());
    // Of several hosts the one that takes writes.
    let elsewhere = database();
    let (port, name) = (elsewhere.hosts[0].port, &elsewhere.database);
    root().query_drop(format!("CREATE DATABASE IF NOT EXISTS {name}")).unwrap();
    server.set(&format!("CREATE DATABASE {name}; SET GLOBAL read_only = 1"));
    let both = address(&format!("root@127.0.0.1:{},127.0.0.1:{port}/{name}", server.port));
    let mut tables = Tables::serve(both, Arc::default()).unwrap();
    assert_eq!(tables.connection.number("port", "SELECT @@port").unwrap(), i64::from(port));
    let Err(Failure::Lost(error)) = serve(false) else { panic!() };
    assert!(error.to_string().contains("is read-only (read_only=1)"), "{error}");
}

/// Makes an authority, and a certificate of localhost; returns the server's options.
fn certificates(folder: &std::path::Path) -> String {
    let authority = |name: &str| {
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(folder.join(format!("{name}.pem")), params.self_signed(&key).unwrap().pem()).unwrap();
        rcgen::Issuer::new(params, key)
    };
    authority("other");
    let issuer = authority("ca");
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap().signed_by(&key, &issuer).unwrap();
    std::fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
    // The server runs as another user.
    let of_all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder, of_all).unwrap();
    let folder = folder.display();
    format!("--ssl-cert={folder}/cert.pem --ssl-key={folder}/key.pem")
}

fn encryption(at: &dyn Fn(&str) -> Arc<crate::endpoint::Address>, folder: &std::path::Path) {
    let folder = folder.display().to_string();
    let table = [
        ("?sslmode=disable", Ok(false)),
        ("", Ok(true)),
        ("?sslmode=require", Ok(true)),
        ("?sslmode=verify-ca&sslrootcert=FOLDER/ca.pem", Ok(true)),
        ("?sslmode=verify-ca&sslrootcert=FOLDER/other.pem", Err("can't be trusted")),
        // The certificate is of localhost.
        ("?sslrootcert=FOLDER/ca.pem", Err("can't be trusted")),
        ("?sslrootcert=FOLDER/missing.pem", Err("missing.pem")),
    ];
    for (query, expected) in table {
        match (Connection::open(at(&query.replace("FOLDER", &folder)), Arc::default()), expected) {
            (Ok(mut connection), Ok(encrypted)) => {
                let sql = "SELECT COUNT(*) FROM information_schema.session_status WHERE variable_name = 'Ssl_cipher' AND variable_value <> ''";
                assert_eq!(connection.number("cipher", sql).unwrap() == 1, encrypted, "{query}");
            }
            (Err(failure), Err(expected)) => assert!(format!("{failure:?}").contains(expected), "{query}: {failure:?}"),
            (opened, _) => panic!("{query}: {:?}", opened.err()),
        }
    }
    let mut named = (*at("?sslmode=verify-full&sslrootcert=FOLDER/ca.pem".replace("FOLDER", &folder).as_str())).clone();
    named.hosts[0].name = "localhost".to_owned();
    // The name has another address as well, at which no server listens.
    Connection::open(Arc::new(named), Arc::default()).unwrap();
}

/// As one whose COMMIT an administrator ended: the transaction is there still.
#[test]
fn a_read_that_can_not_be_ended_is_in_the_way_of_no_other_one() {
    let address = database();
    drop(Tables::serve(Arc::clone(&address), Arc::default()).unwrap());
    let mut tables = Tables::read(address, Arc::default()).unwrap();
    // In such a transaction COMMIT is refused.
    tables.connection.run(&Packet::of("begin", "XA START 'read'")).unwrap();
    tables.open = true;
    tables.end();
    tables.snapshot().unwrap();
}
