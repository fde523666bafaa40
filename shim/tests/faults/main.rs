//! What can happen to a database on a server while one process serves it: nothing that was acknowledged is lost, no
//! event comes twice or not at all, and all goes on without a restart of the shim.
//!
//! `SLUICE_TEST_DATABASE` says which database it is; without it there is no server, and all of these are skipped.
//! `cargo xtask test db` sets it. Where a test stops servers, it starts some of the same kind for that.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod checked;
#[path = "../servers/galera.rs"]
mod cluster;
mod crowded;
mod cut;
#[path = "../database/mod.rs"]
mod database;
mod failover;
mod full;
mod galera;
mod ledger;
mod lists;
mod load;
#[path = "../servers/port.rs"]
mod port;
mod proxy;
mod replicas;
#[path = "../servers/own.rs"]
mod server;
mod shim;
mod slow;
mod standby;

use database::{family, family_or_skip};

/// Whether there is no server to test.
fn is_skipped() -> bool {
    family_or_skip().is_none()
}
