//! Registries of container images (OCI distribution specification): what is in an OCI layout is pushed, what
//! is in a registry is fetched into one, and the one is compared with the other.
//!
//! [`Registry`] is the connection to one registry: TLS, credentials, attempts, limits of time. [`graph`] finds what an
//! image consists of, on either side. Documents are sent and kept byte for byte, so a digest is the same everywhere.

mod access;
mod answer;
mod client;
mod compare;
mod credentials;
mod error;
mod fetch;
mod graph;
mod login;
mod push;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use self::{access::Access, client::Registry, push::Transfer};
