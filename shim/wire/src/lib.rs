//! What goes over the wire: etcd's gRPC services, and the contract with the patched kube-apiserver.
//!
//! A crate of its own, so that a client of etcd servers (the load generator) does not build one.

pub mod contract;
pub mod pb;
