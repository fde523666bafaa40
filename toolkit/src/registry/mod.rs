//! Registries of container images (OCI distribution specification): what is in an OCI layout is pushed.
//!
//! [`Registry`] is the connection to one registry: TLS, credentials, attempts, limits of time. [`graph`] finds what an
//! image consists of. Documents are sent byte for byte, so a digest is the same everywhere.

mod access;
mod answer;
mod client;
mod credentials;
mod error;
mod graph;
mod login;
mod push;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use self::{access::Access, client::Registry, push::Transfer};
