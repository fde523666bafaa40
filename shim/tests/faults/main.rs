//! What can happen to a database on a server while one process serves it: nothing that was acknowledged is lost, no
//! event comes twice or not at all, and all goes on without a restart of the shim.
//!
//! `SLUICE_TEST_DATABASE` says which database it is; without it there is no server, and all of these are skipped.
//! `cargo xtask test db` sets it. Where a test stops servers, it starts some of the same kind for that.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod checked;
mod crowded;
mod cut;
#[path = "../database/mod.rs"]
mod database;
mod failover;
mod full;
mod ledger;
mod load;
mod proxy;
mod server;
mod shim;
mod slow;

use sluice_shim::endpoint::{Endpoint, Family};

/// The kind of the server under test; says so if there is none.
fn family() -> Option<Family> {
    match std::env::var(database::VARIABLE).ok().filter(|url| !url.is_empty())?.parse() {
        Ok(Endpoint::Network(address)) => Some(address.family),
        _ => panic!("{} leads to no server", database::VARIABLE),
    }
}

/// The same, or `None` after a word about what is missing.
fn family_or_skip() -> Option<Family> {
    let family = family();
    if family.is_none() {
        eprintln!("skipped: {} names no server; `cargo xtask test db` starts some", database::VARIABLE);
    }
    family
}

/// Whether there is no server to test.
fn is_skipped() -> bool {
    family_or_skip().is_none()
}
