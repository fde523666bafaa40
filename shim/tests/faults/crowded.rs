//! Others have taken all connections that the server allows.

use sluice_shim::endpoint::{Endpoint, Family};
use sluice_shim::engine::Error;
use sluice_shim::sql;

use crate::database::Database;
use crate::ledger::{Observer, Writer, in_time, open};
use crate::proxy::Proxy;
use crate::server::Server;

/// How many connections the server allows.
const MOST: usize = 16;

/// Connections that do nothing.
enum Crowd {
    Postgres(Vec<tokio_postgres::Client>),
    MySql(Vec<mysql::Conn>),
}

impl Crowd {
    /// As many as there are.
    async fn all(endpoint: &Endpoint) -> Self {
        let Endpoint::Network(address) = endpoint else { panic!("a file") };
        let (user, name, port) = (address.user.as_deref().unwrap(), &*address.database, address.hosts[0].port);
        match address.family {
            Family::Postgres => {
                let mut config = tokio_postgres::Config::new();
                config.host("127.0.0.1").port(port).user(user).dbname(name);
                let mut all = Vec::new();
                while let Ok((client, connection)) = config.connect(tokio_postgres::NoTls).await {
                    tokio::spawn(connection);
                    all.push(client);
                }
                Self::Postgres(all)
            }
            Family::MySql => {
                let options = mysql::OptsBuilder::new().ip_or_hostname(Some("127.0.0.1")).tcp_port(port);
                let options = mysql::Opts::from(options.user(Some(user)).db_name(Some(name)).prefer_socket(false));
                Self::MySql(std::iter::from_fn(|| mysql::Conn::new(options.clone()).ok()).collect())
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Postgres(all) => all.len(),
            Self::MySql(all) => all.len(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_room_for_connections_is_served_when_there_is_room() {
    let Some(family) = crate::family_or_skip() else { return };
    let (options, statements): (&[&str], &[&str]) = match family {
        Family::Postgres => {
            (&["-c", "max_connections=16"], &["CREATE ROLE sluice LOGIN", "CREATE DATABASE sluice OWNER sluice"])
        }
        Family::MySql => (
            &["--max-connections=16"],
            &["CREATE DATABASE sluice", "CREATE USER sluice@localhost", "GRANT ALL ON sluice.* TO sluice@localhost"],
        ),
    };
    let server = Server::start(family, options);
    for statement in statements {
        server.set(statement);
    }
    let scheme = family.to_string();
    let direct: Endpoint = format!("{scheme}://sluice@127.0.0.1:{}/sluice", server.port).parse().unwrap();
    let proxy = Proxy::start(&direct);
    // At the start.
    let crowd = Crowd::all(&direct).await;
    assert!((10..=MOST).contains(&crowd.len()), "{}", crowd.len());
    let refused = sql::open(proxy.endpoint(), std::sync::Arc::default()).err();
    let said = refused.as_ref().map(ToString::to_string).unwrap_or_default();
    assert!(matches!(refused, Some(Error::Unavailable(_))) && said.contains("max_connections"), "{refused:?}");
    drop(crowd);
    let engine = in_time("a start", open_when_it_can(proxy.endpoint())).await;
    let observer = Observer::new(&engine);
    let mut writer = Writer::new(&engine, "w");
    writer.step().await.unwrap();
    // When connections are made anew.
    proxy.down(true);
    let crowd = in_time("a crowd", whole_crowd(&direct)).await;
    proxy.down(false);
    for _ in 0..2 {
        let refused = writer.look().await.unwrap_err();
        assert!(matches!(&refused, Error::Unavailable(why) if why.contains("max_connections")), "{refused:?}");
    }
    let refused = writer.step().await.unwrap_err();
    assert!(matches!(&refused, Error::Unavailable(why) if why.contains("max_connections")), "{refused:?}");
    drop(crowd);
    writer.find_out(&refused).await;
    in_time("a write", async { while writer.step().await.is_err() {} }).await;
    observer.check([writer]).await;
}

/// Each try to connect needs a port of this machine, which has some thousands a minute for all programs together.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_can_not_be_reached_is_not_asked_by_each_read() {
    const READS: usize = 500;
    if crate::is_skipped() {
        return;
    }
    let database = Database::new();
    let proxy = Proxy::start(database.endpoint());
    let engine = open(proxy.endpoint()).await;
    let mut writer = Writer::new(&engine, "w");
    writer.step().await.unwrap();
    proxy.down(true);
    // The first one waits.
    writer.look().await.unwrap_err();
    let before = proxy.refused();
    for _ in 0..READS {
        let refused = writer.look().await.unwrap_err();
        assert!(matches!(refused, Error::Unavailable(_)), "{refused:?}");
    }
    let tries = proxy.refused() - before;
    assert!(tries < READS / 2, "{tries} tries to connect for {READS} reads");
    proxy.down(false);
    in_time("a read", async { while writer.look().await.is_err() {} }).await;
}

/// A server may need a moment until it knows that a connection has gone.
async fn open_when_it_can(endpoint: &Endpoint) -> sluice_shim::engine::Engine {
    while let Err(error) = sql::open(endpoint, std::sync::Arc::default()) {
        assert!(matches!(error, Error::Unavailable(_)), "{error}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    open(endpoint).await
}

/// The same: all connections, those of the shim included.
async fn whole_crowd(endpoint: &Endpoint) -> Vec<Crowd> {
    let mut all = Vec::new();
    while all.iter().map(Crowd::len).sum::<usize>() < least(endpoint) {
        all.push(Crowd::all(endpoint).await);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    all
}

/// How many connections somebody who is no administrator may have at least.
fn least(endpoint: &Endpoint) -> usize {
    let Endpoint::Network(address) = endpoint else { panic!("a file") };
    // Three are kept for administrators.
    if address.family == Family::Postgres { MOST - 3 } else { MOST }
}
