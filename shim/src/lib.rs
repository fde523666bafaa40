//! An etcd v3 server over SQL that answers Kubernetes selectors from an index.
//!
//! Data flows down and events flow up: `etcd` (gRPC) → `engine` → `sql`. `engine` knows no SQL and no protobuf;
//! only `sql` knows a dialect.

pub mod contract;
pub mod engine;
pub mod selector;
