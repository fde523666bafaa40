//! The etcd API over real sockets, in this process: each test has its own server, database and port.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where something is not as it should be")]

mod calendar;
mod condition;
#[path = "../database/mod.rs"]
mod database;
mod definitions;
mod election;
mod http;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod metrics;
mod oversized;
#[path = "../servers/port.rs"]
mod port;
mod process;
mod refused;
mod server;
mod tls;
mod unknown;
mod watch;
