//! What etcd keeps in a backend: bucket names, keys and encodings (etcd: server/storage/schema, server/storage/mvcc).

use bytes::Bytes;
use serde::Serialize;

use crate::engine::{KeyValue, LeaseId, Record, Revision};

/// All buckets, in the order that bbolt keeps them (etcd: `schema.AllBuckets`).
pub(super) const BUCKETS: [&[u8]; 10] =
    [b"alarm", b"auth", b"authRoles", b"authUsers", b"cluster", KEY, LEASE, MEMBERS, b"members_removed", META];

/// The bucket with every revision of every key.
pub(super) const KEY: &[u8] = b"key";
/// The bucket with the leases.
pub(super) const LEASE: &[u8] = b"lease";
/// The bucket with the cluster's members.
pub(super) const MEMBERS: &[u8] = b"members";
/// The bucket with single values.
pub(super) const META: &[u8] = b"meta";

/// Keys of [`META`] (etcd: schema/bucket.go), in order.
pub(super) const CONF_STATE: &[u8] = b"confState";
pub(super) const CONSISTENT_INDEX: &[u8] = b"consistent_index";
pub(super) const FINISHED_COMPACT: &[u8] = b"finishedCompactRev";
pub(super) const SCHEDULED_COMPACT: &[u8] = b"scheduledCompactRev";
pub(super) const STORAGE_VERSION_KEY: &[u8] = b"storageVersion";
pub(super) const TERM: &[u8] = b"term";

const REVISION_KEY: usize = 17;
const TOMBSTONE: u8 = b't';

/// `mvccpb.KeyValue`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StoredKeyValue {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(int64, tag = "2")]
    create_revision: i64,
    #[prost(int64, tag = "3")]
    mod_revision: i64,
    #[prost(int64, tag = "4")]
    version: i64,
    #[prost(bytes = "bytes", tag = "5")]
    value: Bytes,
    #[prost(int64, tag = "6")]
    lease: i64,
}

/// `leasepb.Lease`, without the remaining time (see [`super::SnapshotWriter::lease`]).
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StoredLease {
    #[prost(int64, tag = "1")]
    pub(super) id: LeaseId,
    #[prost(int64, tag = "2")]
    pub(super) ttl: i64,
}

impl StoredKeyValue {
    /// What etcd stores for a record; of a deletion only the key.
    pub(super) fn of(record: &Record) -> Self {
        let kv = &record.kv;
        if record.tombstone {
            return Self { key: kv.key.clone(), ..Self::default() };
        }
        Self {
            key: kv.key.clone(),
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            value: kv.value.clone(),
            lease: kv.lease,
        }
    }
}

impl From<StoredKeyValue> for KeyValue {
    fn from(stored: StoredKeyValue) -> Self {
        Self {
            key: stored.key,
            value: stored.value,
            create_revision: stored.create_revision,
            mod_revision: stored.mod_revision,
            version: stored.version,
            lease: stored.lease,
        }
    }
}

/// A key of the [`KEY`] bucket (etcd: mvcc/revision.go, `BucketKey`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RevisionKey {
    pub(super) revision: Revision,
    pub(super) sub: i64,
    pub(super) tombstone: bool,
}

impl RevisionKey {
    /// The key of a put; what the compaction marks of [`META`] hold as well.
    pub(super) fn at(revision: Revision) -> Self {
        Self { revision, sub: 0, tombstone: false }
    }

    /// The bytes, in a buffer, with how many of them count.
    pub(super) fn encode(self) -> ([u8; REVISION_KEY + 1], usize) {
        let mut out = [TOMBSTONE; REVISION_KEY + 1];
        out[..8].copy_from_slice(&self.revision.to_be_bytes());
        out[8] = b'_';
        out[9..REVISION_KEY].copy_from_slice(&self.sub.to_be_bytes());
        (out, REVISION_KEY + usize::from(self.tombstone))
    }

    /// `None` for what etcd never writes.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let tombstone = match bytes.len() {
            REVISION_KEY => false,
            18 if bytes[REVISION_KEY] == TOMBSTONE => true,
            _ => return None,
        };
        let revision = i64::from_be_bytes(bytes[..8].try_into().ok()?);
        let sub = i64::from_be_bytes(bytes[9..REVISION_KEY].try_into().ok()?);
        (bytes[8] == b'_' && revision >= 0 && sub >= 0).then_some(Self { revision, sub, tombstone })
    }
}

/// A member as etcd stores it (etcd: membership/member.go, `Member`).
#[derive(Serialize)]
struct StoredMember<'a> {
    id: u64,
    #[serde(rename = "peerURLs")]
    peer_urls: &'a [String],
    name: &'a str,
    #[serde(rename = "clientURLs", skip_serializing_if = "<[String]>::is_empty")]
    client_urls: &'a [String],
}

/// The key and the value of a member.
pub(super) fn member(member: &super::SnapshotMember) -> (Vec<u8>, Vec<u8>) {
    let stored = StoredMember {
        id: member.id,
        peer_urls: &member.peer_urls,
        name: &member.name,
        client_urls: &member.client_urls,
    };
    // Strings and numbers alone: this can't fail.
    (format!("{:x}", member.id).into_bytes(), serde_json::to_vec(&stored).unwrap_or_default())
}

/// The raft configuration of one voter (etcd: schema/confstate.go).
pub(super) fn conf_state(member: u64) -> Vec<u8> {
    format!(r#"{{"voters":[{member}],"auto_leave":false}}"#).into_bytes()
}
