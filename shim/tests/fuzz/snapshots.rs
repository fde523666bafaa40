//! Snapshot files of strangers.
//!
//! The pages of which a file begins have a checksum, so damage there would be all that is ever found. They are made
//! anew: an input is the number of the root page, then the pages from the second on.

use std::path::Path;

use bytes::Bytes;
use sluice_shim::engine::{KeyValue, Record};
use sluice_shim::snapshot::{SnapshotMeta, SnapshotReader, SnapshotWriter};

use super::bounds::Bounds;
use super::driver::{Target, alone, kind, words};

const PAGE: usize = 4096;
/// A file as small as an input names it as root page; its number is in the first eight bytes.
const ROOT: usize = 8;
/// A page's elements are read into 72 bytes each, of which the file needs 16; a value that is passed on is not copied.
pub(crate) const BOUNDS: Bounds = Bounds { memory: 256 << 10, memory_a_byte: 64 };

/// bbolt's page flags with a count, and its magic.
const WORDS: [&[u8]; 7] = [
    b"\x01\0\x01\0\0\0\0\0",
    b"\x02\0\x01\0\0\0\0\0",
    b"\x02\0\xff\xff\0\0\0\0",
    b"\x01\0\0\0\x10\0\0\0\x10\0\0\0",
    b"key",
    b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\0",
    b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\0t",
];

/// An input as a file, with two sound meta pages (bbolt: internal/common/meta.go) and without a digest.
pub(crate) fn file(input: &[u8]) -> Vec<u8> {
    let (root, pages) = input.split_at(ROOT.min(input.len()));
    let mut number = [0; ROOT];
    number[..root.len()].copy_from_slice(root);
    let count = 2 + pages.len() / PAGE;
    let mut file = Vec::with_capacity((count + 1) * PAGE);
    for transaction in 1..=2_u64 {
        let mut meta = Vec::new();
        meta.extend_from_slice(&0xED0C_DAED_u32.to_le_bytes());
        meta.extend_from_slice(&2_u32.to_le_bytes());
        meta.extend_from_slice(&(PAGE as u32).to_le_bytes());
        meta.extend_from_slice(&[0; 4]);
        meta.extend_from_slice(&number);
        meta.extend_from_slice(&[0; 8]);
        meta.extend_from_slice(&[0xff; 8]);
        meta.extend_from_slice(&(count as u64).to_le_bytes());
        meta.extend_from_slice(&transaction.to_le_bytes());
        let sum = meta
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        meta.extend_from_slice(&sum.to_le_bytes());
        let start = file.len();
        file.resize(start + 16, 0);
        file.extend_from_slice(&meta);
        file.resize(start + PAGE, 0);
    }
    file.extend_from_slice(pages);
    file
}

/// A sound file as an input.
fn input(file: &[u8]) -> Vec<u8> {
    [&file[16 + 16..16 + 24], &file[2 * PAGE..]].concat()
}

fn written(dir: &Path, count: i64) -> Vec<u8> {
    let path = dir.join("written");
    let mut writer = SnapshotWriter::create(&path).unwrap();
    for revision in 2..2 + count {
        let key = Bytes::from(format!("/registry/pods/{}", (revision - 2) % 7));
        let value = Bytes::from(vec![b'v'; (revision * 37 % 5000) as usize]);
        let kv = KeyValue {
            key,
            value,
            create_revision: 2 + (revision - 2) % 7,
            mod_revision: revision,
            version: 1 + (revision - 2) / 7,
            lease: 3,
        };
        writer.push(&Record { revision, sub: 0, tombstone: false, kv }).unwrap();
    }
    writer.lease(3, 60);
    let meta = SnapshotMeta { revision: 1 + count, compact_revision: 2, member: Default::default() };
    let saved = std::fs::read(writer.finish(meta).unwrap().path).unwrap();
    std::fs::remove_file(path).unwrap();
    saved
}

/// A file of etcd's, and files of ours with one level of pages and with two.
pub(crate) fn seeds(dir: &Path) -> Vec<Vec<u8>> {
    let theirs = include_bytes!("../../src/snapshot/testdata/etcd-3.7.3.db");
    vec![input(&theirs[..theirs.len() - 32]), input(&written(dir, 5)), input(&written(dir, 12))]
}

/// Reads everything; what is read in all is bounded by the file.
fn walk(path: &Path) -> std::io::Result<(usize, usize)> {
    let reader = SnapshotReader::open(path)?;
    let (mut count, mut bytes) = (0, 0);
    for record in reader.records()? {
        let kv = record?.kv;
        count += 1;
        bytes += kv.key.len() + kv.value.len();
    }
    reader.compact_revision()?;
    for lease in reader.leases()? {
        lease?;
    }
    for name in reader.buckets()?.into_iter().take(12) {
        for entry in reader.bucket(&name)?.into_iter().flatten() {
            entry?;
        }
    }
    Ok((count, bytes))
}

fn run(path: &Path, input: &[u8]) -> u64 {
    let file = file(input);
    std::fs::write(path, &file).unwrap();
    // Up to a dozen passes over the file: one for each bucket.
    let found = BOUNDS.hold(16 * file.len(), || walk(path));
    if let Ok((_, bytes)) = found {
        assert!(bytes <= file.len(), "{bytes} bytes of keys and values in a file of {}", file.len());
    }
    kind(found.map(|(count, _)| count.min(5)).map_err(words))
}

/// A page of a leaf with elements of one value; `overflow` further pages belong to it, of which nothing is said.
fn leaf(id: u64, overflow: u32, keys: &[[u8; 8]], value_len: u32) -> Vec<u8> {
    let mut page =
        [&id.to_le_bytes()[..], &[2, 0], &(keys.len() as u16).to_le_bytes(), &overflow.to_le_bytes()].concat();
    let table = keys.len() * 16;
    for (index, _) in keys.iter().enumerate() {
        let position = (table - index * 16) as u32 + index as u32 * 8;
        // The key, and the value behind it: the keys of the others, and more.
        page.extend([0, position, 8, value_len].iter().flat_map(|number| number.to_le_bytes()));
    }
    page.extend(keys.iter().flatten());
    page.resize(PAGE, 0);
    page
}

#[test]
fn a_file_is_not_read_as_more_than_it_is() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let key = |number: u64| number.to_be_bytes();
    let root = |id: u64| id.to_le_bytes().to_vec();
    // 150 elements whose values are the rest of the page.
    let keys: Vec<[u8; 8]> = (1..=150).map(key).collect();
    let overlap = [root(2), leaf(2, 0, &keys, 400)].concat();
    // A branch to 200 leaves, each of which claims all pages behind it.
    let leaves = 200_u64;
    let mut branch = [&2_u64.to_le_bytes()[..], &[1, 0], &(leaves as u16).to_le_bytes(), &[0; 4]].concat();
    for child in 0..leaves {
        let position = ((leaves - child) * 16) as u32;
        branch.extend([&position.to_le_bytes()[..], &[0; 4], &(3 + child).to_le_bytes()].concat());
    }
    branch.resize(PAGE, 0);
    let claimed = (0..leaves).map(|child| leaf(3 + child, (leaves - 1 - child) as u32, &[key(1 + child)], 0));
    let twice = [root(2), branch, claimed.collect::<Vec<_>>().concat()].concat();
    for (input, expected) in [(overlap, "elements of page 2 lie upon each other"), (twice, "is part of two others")] {
        let path = dir.path().join("s.db");
        std::fs::write(&path, file(&input)).unwrap();
        let error = BOUNDS.hold(16 * input.len(), || walk(&path)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn snapshot_files() {
    let alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    Target { name: "snapshots", seeds: seeds(dir.path()), words: &WORDS, run: &|input| run(&path, input) }.fuzz(&alone);
}
