//! Real etcd snapshots: what `etcdctl snapshot save` gets, `etcdutl snapshot status` accepts and `etcdutl snapshot
//! restore` restores.
//!
//! Such a file is a bbolt database with etcd's buckets, followed by its SHA-256 ([`SnapshotChunks`] sends that; the
//! file itself is without it).
//!
//! **Why not a bbolt library.** A store that is written once, from input that is in order already, needs no
//! transactions, no free pages and no memory map. The `bbolt-rs` crate has all of them: 12,900 lines, `unsafe`, a
//! hundred further crates, and a write transaction that keeps every dirty page in memory. Here pages are appended as
//! they fill up, one per level of the tree in memory, so a snapshot of any size takes the memory of its largest value
//! and its leases.
//!
//! All of it is blocking file work: call it where blocking is allowed.

mod page;
mod reader;
mod schema;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use bytes::Bytes;
use prost::Message;
pub use reader::{Entries, SnapshotReader};
use schema::{RevisionKey, StoredKeyValue, StoredLease};
use sha2::{Digest, Sha256};
use tree::{PageFile, Root, Tree, with_path};

use crate::engine::{LeaseId, Record, Revision};

/// The storage version in the file, and the `version` of a SnapshotResponse. etcd 3.6 and 3.7 have the same layout, and
/// an etcd refuses a file of a version above its own: with this both restore it.
pub const STORAGE_VERSION: &str = "3.6.0";

/// Bytes of one message of Maintenance.Snapshot (etcd: v3rpc/maintenance.go, `snapshotSendBufferSize`).
const CHUNK: usize = 32 * 1024;

/// Writes a snapshot file. One that is dropped before [`SnapshotWriter::finish`] removes the file.
#[derive(Debug)]
pub struct SnapshotWriter {
    file: PageFile,
    keys: Tree,
    leases: BTreeMap<u64, i64>,
    /// The revision of the last record, or 0.
    last: Revision,
    finished: bool,
}

/// What a snapshot holds beside records and leases.
#[derive(Debug, Clone)]
pub struct SnapshotMeta {
    /// The store's revision. It must be the last record's, or that of the compaction if nothing came after it, since
    /// etcd goes on from there.
    pub revision: Revision,
    /// The revision of the last compaction, or 0. Records that it freed may be there, with the deletions of their keys.
    pub compact_revision: Revision,
    /// The member that the snapshot is from.
    pub member: SnapshotMember,
}

/// A member of the cluster. A restore replaces it.
#[derive(Debug, Clone, Default)]
pub struct SnapshotMember {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
}

/// A finished snapshot. The file is the caller's, to keep or to remove. It is not synced to the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes; a multiple of 4096.
    pub size: u64,
    /// The digest of its content.
    pub sha256: [u8; 32],
}

impl SnapshotWriter {
    /// Creates the file, which must not exist, readable by its owner alone.
    pub fn create(path: impl Into<PathBuf>) -> io::Result<Self> {
        let file = PageFile::create(&path.into())?;
        Ok(Self { file, keys: Tree::new(), leases: BTreeMap::new(), last: 0, finished: false })
    }

    /// Adds a record. They come in order of (revision, sub); one that does not is refused.
    pub fn push(&mut self, record: &Record) -> io::Result<()> {
        let Record { revision, sub, tombstone, ref kv } = *record;
        let sound = revision > 0 && sub >= 0 && !kv.key.is_empty() && (tombstone || kv.mod_revision == revision);
        if !sound {
            let why =
                format!("the record at revision {revision}/{sub} (mod revision {}) is not sound", kv.mod_revision);
            return Err(self.file.refuse(why));
        }
        let (key, len) = RevisionKey { revision, sub, tombstone }.encode();
        push_message(&mut self.keys, &mut self.file, &key[..len], &StoredKeyValue::of(record))?;
        self.last = revision;
        Ok(())
    }

    /// Adds a lease with the time to live that was granted, in seconds. Any order; the same one may come again.
    ///
    /// A key whose lease is missing would live for ever after a restore, a lease without keys does no harm: if leases
    /// and records do not come from one transaction, give the leases of before and of after.
    ///
    /// The time that is left is not stored: an etcd without lease checkpoints, which is the default, would renew the
    /// lease for that time instead of the granted one ever after (etcd: lease/lessor.go, `Renew`). As with etcd's own
    /// snapshots a restored lease has its full time.
    pub fn lease(&mut self, id: LeaseId, ttl: i64) {
        self.leases.insert(id as u64, ttl);
    }

    /// Ends the file.
    pub fn finish(mut self, meta: SnapshotMeta) -> io::Result<SnapshotFile> {
        let restored = self.last.max(meta.compact_revision).max(1);
        if meta.revision != restored {
            let why = format!("it would restore to revision {restored}, but the store is at {}", meta.revision);
            return Err(self.file.refuse(why));
        }
        let keys = std::mem::replace(&mut self.keys, Tree::new());
        let mut roots = BTreeMap::from([(schema::KEY, keys.finish(&mut self.file)?)]);
        roots.insert(schema::LEASE, self.write_leases()?);
        roots.insert(schema::MEMBERS, self.write_bucket(&[schema::member(&meta.member)])?);
        roots.insert(schema::META, self.write_bucket(&meta_entries(&meta))?);
        let mut tree = Tree::new();
        for name in schema::BUCKETS {
            let root = match roots.remove(name) {
                Some(root) => root,
                None => Tree::new().finish(&mut self.file)?,
            };
            let value = root.bucket_value();
            tree.push(&mut self.file, page::BUCKET_ELEMENT, name, value.len(), |out| out.extend_from_slice(&value))?;
        }
        let root = tree.finish_in_page(&mut self.file)?;
        let path = self.file.path().to_owned();
        let (file, size) = self.file.finish(root)?;
        let sha256 = digest(file, size).map_err(|error| with_path("read back", &path, &error))?;
        self.finished = true;
        Ok(SnapshotFile { path, size, sha256 })
    }

    fn write_leases(&mut self) -> io::Result<Root> {
        let mut tree = Tree::new();
        for (id, ttl) in std::mem::take(&mut self.leases) {
            let lease = StoredLease { id: id as LeaseId, ttl };
            push_message(&mut tree, &mut self.file, &id.to_be_bytes(), &lease)?;
        }
        tree.finish(&mut self.file)
    }

    fn write_bucket(&mut self, entries: &[(Vec<u8>, Vec<u8>)]) -> io::Result<Root> {
        let mut tree = Tree::new();
        for (key, value) in entries {
            tree.push(&mut self.file, 0, key, value.len(), |out| out.extend_from_slice(value))?;
        }
        tree.finish(&mut self.file)
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = std::fs::remove_file(self.file.path())
            // Somebody else may have removed its name already.
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %self.file.path().display(), "cannot remove an unfinished snapshot file");
        }
    }
}

fn push_message(tree: &mut Tree, file: &mut PageFile, key: &[u8], message: &impl Message) -> io::Result<()> {
    tree.push(file, 0, key, message.encoded_len(), |out| message.encode_raw(out))
}

/// The `meta` bucket, in order. A restore sets the index and the term again.
fn meta_entries(meta: &SnapshotMeta) -> Vec<(Vec<u8>, Vec<u8>)> {
    let one = 1u64.to_be_bytes().to_vec();
    let mut entries = vec![
        (schema::CONF_STATE, schema::conf_state(meta.member.id)),
        (schema::CONSISTENT_INDEX, one.clone()),
        (schema::STORAGE_VERSION_KEY, STORAGE_VERSION.as_bytes().to_vec()),
        (schema::TERM, one),
    ];
    if meta.compact_revision > 0 {
        let (key, len) = RevisionKey::at(meta.compact_revision).encode();
        let marks = [schema::FINISHED_COMPACT, schema::SCHEDULED_COMPACT].map(|name| (name, key[..len].to_vec()));
        entries.splice(2..2, marks);
    }
    entries.into_iter().map(|(name, value)| (name.to_vec(), value)).collect()
}

/// The SHA-256 of the next `size` bytes; there must be so many.
fn digest(file: &mut File, size: u64) -> io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut left = size;
    while left > 0 {
        let part = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        file.read_exact(&mut buffer[..part])?;
        hash.update(&buffer[..part]);
        left -= part as u64;
    }
    Ok(hash.finalize().into())
}

impl SnapshotFile {
    /// What is to be sent, read from the file's beginning. The file was opened before; its name may be gone.
    pub fn chunks(self, file: File) -> SnapshotChunks {
        SnapshotChunks { file, snapshot: self, sent: 0, done: false }
    }
}

/// The messages of Maintenance.Snapshot for one file: its bytes, then its digest.
#[derive(Debug)]
pub struct SnapshotChunks {
    file: File,
    snapshot: SnapshotFile,
    sent: u64,
    done: bool,
}

/// One message of Maintenance.Snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotChunk {
    /// How many bytes of the database come after it.
    pub remaining_bytes: u64,
    /// The bytes.
    pub blob: Bytes,
}

impl Iterator for SnapshotChunks {
    type Item = io::Result<SnapshotChunk>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let remaining = self.snapshot.size - self.sent;
        if remaining == 0 {
            self.done = true;
            return Some(Ok(SnapshotChunk { remaining_bytes: 0, blob: Bytes::copy_from_slice(&self.snapshot.sha256) }));
        }
        let mut blob = vec![0; CHUNK.min(usize::try_from(remaining).unwrap_or(CHUNK))];
        if let Err(error) = self.file.read_exact(&mut blob) {
            self.done = true;
            return Some(Err(with_path("read", &self.snapshot.path, &error)));
        }
        self.sent += blob.len() as u64;
        Some(Ok(SnapshotChunk { remaining_bytes: self.snapshot.size - self.sent, blob: blob.into() }))
    }
}
