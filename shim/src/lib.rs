//! An etcd v3 server over SQL that answers Kubernetes selectors from an index.
//!
//! Data flows down and events flow up: `etcd` (gRPC) → `engine` → `sql`. `engine` knows no SQL and no protobuf;
//! only `sql` knows a dialect.

pub mod cli;
pub mod clock;
pub mod config;
pub mod definitions;
pub mod endpoint;
pub mod engine;
pub mod etcd;
pub mod gc;
pub mod inspect;
pub mod metrics;
pub mod migrate;
pub mod object;
#[cfg(test)]
#[path = "../tests/servers/port.rs"]
mod port;
mod remote;
pub mod selector;
pub mod snapshot;
mod spelling;
pub mod sql;
pub mod standby;
pub mod telemetry;
mod variables;

pub use sluice_wire::{contract, pb};

/// The commit that this was built from, if the build said which (`SLUICE_COMMIT`).
pub const COMMIT: &str = match option_env!("SLUICE_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};
