//! A pooler between: one that only greets otherwise than the server. `cargo xtask test db` runs through real ones.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use super::model::{Model, Op};
use super::*;

/// How a message begins that greets with the number of a process and a secret number.
const GREETING: [u8; 5] = [b'K', 0, 0, 0, 12];

/// Passes connections on to the server until the tests end; returns its port. `greets`: with a number of its own.
fn passing_on(greets: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.unwrap(), TcpStream::connect(("127.0.0.1", Server::get().port)).unwrap());
            let (from_client, to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || pass(from_client, to_server));
            thread::spawn(move || match greet(&server, &client, greets) {
                Ok(()) => pass(server, client),
                Err(_) => drop(client.shutdown(Shutdown::Both)),
            });
        }
    });
    port
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
}

/// Passes messages on until the one that greets.
fn greet(mut server: &TcpStream, mut client: &TcpStream, otherwise: bool) -> io::Result<()> {
    loop {
        let mut head = [0; 5];
        server.read_exact(&mut head)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut body = vec![0; length - 4];
        server.read_exact(&mut body)?;
        if head == GREETING && otherwise {
            body[0] ^= 0x40;
        }
        client.write_all(&head)?;
        client.write_all(&body)?;
        if head == GREETING {
            return Ok(());
        }
    }
}

/// The address of a new database, by that port.
fn by(port: u16) -> Address {
    let mut address = address(&Server::get().database());
    address.hosts[0].port = port;
    address.options.tls.mode = crate::endpoint::TlsMode::Disable;
    address
}

#[test]
fn statements_are_prepared_unless_a_pooler_is_between() {
    let (proxy, pooler) = (passing_on(false), passing_on(true));
    let table = [(proxy, None, true), (proxy, Some(false), false), (pooler, None, false), (pooler, Some(true), true)];
    for (port, option, expected) in table {
        let mut address = by(port);
        address.options.prepare = option;
        let (mut session, _) = opened(&address).unwrap();
        Model::new().commit(&mut session, &[vec![Op::Put("/a", "v".into(), 0)]], None);
        session.snapshot().unwrap();
        let texts = session.on(|link| Ok(link.texts())).unwrap();
        assert_eq!(!texts.is_empty(), expected, "pooler {}, option {option:?}", port == pooler);
    }
}

/// Through a pooler the process of the server that carried out the last transaction tells nothing of who serves the
/// store: it may end while that one lives, and live when that one has ended.
#[test]
fn through_a_pooler_no_process_of_the_server_tells_who_serves_the_store() {
    let address = by(passing_on(true));
    let meta = || Server::get().psql(&address.database, "SELECT owner = 0, backend FROM meta").unwrap();
    let (mut session, _) = opened(&address).unwrap();
    assert_eq!(meta(), "f|0");
    Model::new().commit(&mut session, &[vec![Op::Put("/a", "v".into(), 0)]], None);
    assert_eq!(meta(), "f|0");
    session.try_commit().unwrap();
    assert_eq!(meta(), "f|0");
    drop(session);
    assert_eq!(meta(), "t|0");
    let (direct, _) = opened(&Address { hosts: super::address("x").hosts, ..address.clone() }).unwrap();
    assert!(meta().starts_with("f|") && meta() != "f|0");
    drop(direct);
}

/// What a get waits for is one round trip either way; a statement alone is a fraction of the server's work.
#[test]
fn a_get_is_one_statement_unless_a_pooler_keeps_no_settings() {
    for (greets, outside, last) in [(false, "off", "SELECT|idle"), (true, "on", "ROLLBACK|idle")] {
        let address = by(passing_on(greets));
        let (mut session, _) = opened(&address).unwrap();
        let scans = |session: &mut Session| {
            let sql = "SELECT current_setting('enable_seqscan')";
            session.ask(link::Ask::new("setting", sql, vec![])).unwrap()[0].get::<_, String>(0)
        };
        assert_eq!(scans(&mut session), outside, "pooler: {greets}");
        session.snapshot().unwrap();
        assert_eq!(scans(&mut session), "off", "pooler: {greets}");
        session.end();
        session.newest(&[b"/a"]).unwrap();
        let sql = format!(
            "SELECT split_part(query, ' ', 1), state FROM pg_stat_activity
             WHERE datname = '{}' AND application_name = 'sluice-shim'",
            address.database
        );
        assert_eq!(Server::get().psql(&address.database, &sql).unwrap(), last, "pooler: {greets}");
    }
}
