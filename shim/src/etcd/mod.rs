//! The etcd v3 API over gRPC: translates requests for the engine and its results back. No SQL in here.
//!
//! A request is checked ([`validate`]), put into the engine's words ([`translate`]) and answered with a header
//! ([`context`]). What goes wrong gets etcd's code and text from one table ([`errors`]). [`server`] serves, at the
//! sockets of [`front`]; [`standby`] hands requests on to the process that serves.

pub mod auth;
mod backup;
pub mod cluster;
mod connection;
pub mod context;
pub mod election;
pub mod errors;
mod fragment;
pub mod front;
mod hash;
mod held;
mod http;
pub mod kv;
pub mod lease;
pub mod listen;
pub mod lock;
pub mod maintenance;
mod observe;
mod oversized;
pub mod pair;
mod place;
mod refused;
pub mod selection;
pub mod server;
pub mod standby;
pub mod tls;
mod translate;
#[cfg(test)]
mod translate_tests;
mod turn;
mod unknown;
mod validate;
pub mod watch;
