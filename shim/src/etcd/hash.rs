//! etcd's hash of the history: two stores with the same keys and revisions have the same, whatever they are made of.
//!
//! It is the CRC-32C of the bucket's name and of all keys and values as etcd stores them (etcd:
//! server/storage/mvcc/hash.go, revision.go). One case differs: for exactly the revision of the last compaction etcd
//! answers with a hash that it made before it deleted what was superseded; this is of what is left.

use std::collections::HashSet;

use bytes::Bytes;
use prost::Message;

use super::translate;
use crate::engine::{Engine, Error, Record, Result, Revision};

/// How often the hash is begun anew because a compaction came between.
const ATTEMPTS: usize = 5;

/// A hash with what it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hashed {
    /// CRC-32C.
    pub(super) hash: u32,
    /// The newest revision of the store.
    pub(super) current: Revision,
    /// The revision that was hashed.
    pub(super) revision: Revision,
    /// The compaction that it was hashed after, 0 for none.
    pub(super) compact_revision: Revision,
}

/// Hashes the history up to the revision; 0 for the newest.
pub(super) async fn by_revision(engine: &Engine, revision: Revision) -> Result<Hashed> {
    for _ in 0..ATTEMPTS {
        let before = engine.status().await?;
        if revision > 0 && revision < before.compact_revision {
            return Err(Error::Compacted { compact_revision: before.compact_revision });
        }
        if revision > before.revision {
            return Err(Error::FutureRevision);
        }
        let upto = if revision == 0 { before.revision } else { revision };
        let superseded = superseded(engine, before.compact_revision, upto).await?;
        let mut hasher = Hasher::new(before.compact_revision, upto, superseded);
        let mut chunks = engine.records(upto);
        while let Some(chunk) = chunks.recv().await {
            chunk?.iter().for_each(|record| hasher.add(record));
        }
        let after = engine.status().await?;
        if after.compact_revision == before.compact_revision {
            let Hasher { crc: hash, .. } = hasher;
            let (current, compact_revision) = (before.revision, before.compact_revision);
            return Ok(Hashed { hash, current, revision: upto, compact_revision });
        }
    }
    Err(Error::Unavailable("compactions are too frequent to hash the history".to_owned()))
}

/// The keys that changed after the compaction, up to the revision. Their older values are only kept for readers
/// between the two, so etcd leaves them out of the hash. The set is as big as what changed since the compaction.
async fn superseded(engine: &Engine, compact: Revision, upto: Revision) -> Result<HashSet<Bytes>> {
    let mut keys = HashSet::new();
    if compact == 0 || compact >= upto {
        return Ok(keys);
    }
    let mut chunks = engine.records(upto);
    while let Some(chunk) = chunks.recv().await {
        let changed = chunk?.into_iter().filter(|record| record.revision > compact && record.revision <= upto);
        keys.extend(changed.map(|record| record.kv.key));
    }
    Ok(keys)
}

struct Hasher {
    crc: u32,
    compact: Revision,
    upto: Revision,
    superseded: HashSet<Bytes>,
    buffer: Vec<u8>,
}

impl Hasher {
    fn new(compact: Revision, upto: Revision, superseded: HashSet<Bytes>) -> Self {
        Self { crc: crc32c::crc32c(b"key"), compact, upto, superseded, buffer: vec![] }
    }

    fn add(&mut self, record: &Record) {
        let compacted = record.revision <= self.compact;
        if record.revision > self.upto || (compacted && (record.tombstone || self.superseded.contains(&record.kv.key)))
        {
            return;
        }
        self.buffer.clear();
        self.buffer.extend_from_slice(&record.revision.to_be_bytes());
        self.buffer.push(b'_');
        self.buffer.extend_from_slice(&record.sub.to_be_bytes());
        if record.tombstone {
            self.buffer.push(b't');
        }
        // Encoding into a growing vector does not fail.
        let encoded = translate::kv(record.kv.clone()).encode(&mut self.buffer);
        debug_assert!(encoded.is_ok());
        self.crc = crc32c::crc32c_append(self.crc, &self.buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::KeyValue;

    fn put(revision: Revision, sub: i64, key: &'static str) -> Record {
        let kv = KeyValue {
            key: key.into(),
            value: "v".into(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            lease: 0,
        };
        Record { revision, sub, tombstone: false, kv }
    }

    fn tombstone(revision: Revision, key: &'static str) -> Record {
        let kv = KeyValue { key: key.into(), ..KeyValue::default() };
        Record { revision, sub: 0, tombstone: true, kv }
    }

    fn hash(compact: Revision, upto: Revision, superseded: &[&'static str], records: &[Record]) -> u32 {
        let superseded = superseded.iter().copied().map(Bytes::from).collect();
        let mut hasher = Hasher::new(compact, upto, superseded);
        records.iter().for_each(|record| hasher.add(record));
        hasher.crc
    }

    /// The bytes of etcd's bucket, written down: a revision key is two big-endian numbers around an underscore.
    #[test]
    fn bytes_are_etcds() {
        let mut bytes = b"key".to_vec();
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 2, b'_', 0, 0, 0, 0, 0, 0, 0, 1]);
        bytes.extend([0x0a, 1, b'a', 0x10, 2, 0x18, 2, 0x20, 1, 0x2a, 1, b'v']);
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 3, b'_', 0, 0, 0, 0, 0, 0, 0, 0, b't', 0x0a, 1, b'a']);
        assert_eq!(hash(0, 9, &[], &[put(2, 1, "a"), tombstone(3, "a")]), crc32c::crc32c(&bytes));
    }

    #[test]
    fn what_is_left_out() {
        let base = hash(0, 9, &[], &[put(5, 0, "b")]);
        assert_eq!(hash(0, 5, &[], &[put(5, 0, "b"), put(6, 0, "c")]), base, "newer than the revision");
        assert_eq!(hash(4, 9, &["a"], &[put(2, 0, "a"), put(5, 0, "b")]), base, "superseded since the compaction");
        assert_eq!(hash(4, 9, &[], &[tombstone(4, "a"), put(5, 0, "b")]), base, "a tombstone of the compaction");
        assert_ne!(hash(4, 9, &[], &[put(4, 0, "a"), put(5, 0, "b")]), base, "still the newest of its key");
    }
}
