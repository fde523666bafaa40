//! The etcd v3 wire format, generated from `shim/wire/proto`.
#![expect(missing_docs, reason = "generated code; the .proto files describe it")]
#![expect(clippy::allow_attributes, reason = "generated code")]

/// Keys, values and events.
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}

/// The services with their requests and responses.
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

/// Locks.
pub mod v3lockpb {
    tonic::include_proto!("v3lockpb");
}

/// Elections.
pub mod v3electionpb {
    tonic::include_proto!("v3electionpb");
}
