//! The server of the tests of this binary, and a database for each.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use mysql::Conn;
use mysql::prelude::Queryable as _;

use super::Tables;
pub(super) use super::server::start;
use super::server::{Server, connect};
use crate::endpoint::{Address, Endpoint};
use crate::engine::metrics::Metrics;
use crate::sql::Opened;
use crate::sql::failure::Result;

/// The port on 127.0.0.1 of a server to test that runs already, with a user root who needs no password: TiDB, for
/// example. Without it the tests start a MariaDB.
const RUNNING: &str = "SLUICE_TEST_MYSQL_PORT";

fn port() -> u16 {
    static SERVER: OnceLock<Server> = OnceLock::new();
    match std::env::var(RUNNING) {
        Ok(port) if !port.is_empty() => port.parse().unwrap(),
        _ => SERVER.get_or_init(|| start("")).port,
    }
}

impl Tables {
    /// Makes this process the one that serves a store.
    pub(super) fn serve(address: Arc<Address>, metrics: Arc<Metrics>) -> Result<Self> {
        Self::open(address, metrics, Opened::ToServe)
    }
}

/// A connection to the server of all tests that may do everything.
pub(super) fn root() -> Conn {
    connect(port()).unwrap()
}

/// An empty database of one's own.
pub(in crate::sql) fn database() -> Arc<Address> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("test{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    root().query_drop(format!("CREATE DATABASE {name}")).unwrap();
    address(&format!("root@127.0.0.1:{}/{name}", port()))
}

/// What stands behind the scheme, as an address. PORT is the server's port.
pub(super) fn address(rest: &str) -> Arc<Address> {
    let url = format!("mysql://{}", rest.replace("PORT", &port().to_string()));
    match url.parse().unwrap() {
        Endpoint::Network(address) => Arc::new(*address),
        other => panic!("{other}"),
    }
}
