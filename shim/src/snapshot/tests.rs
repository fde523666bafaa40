//! Round trips through the reader, a snapshot of a real etcd, bbolt's invariants on our pages, and damaged files.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;

use super::page::{BRANCH, ELEMENT, FREELIST, Header, LEAF, Meta, PAGE_HEADER, PAGE_SIZE, u32_at, u64_at};
use super::*;
use crate::engine::KeyValue;

/// `etcdctl snapshot save` of etcd 3.7.3 after: put a 1, put a 2, del a, lease grant 500, put b x with the lease,
/// compact 3.
const REAL: &[u8] = include_bytes!("testdata/etcd-3.7.3.db");

fn put(revision: Revision, sub: i64, key: &str, value: impl Into<Bytes>) -> Record {
    let kv = KeyValue {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: value.into(),
        create_revision: revision,
        mod_revision: revision,
        version: 1,
        lease: 0,
    };
    Record { revision, sub, tombstone: false, kv }
}

fn delete(revision: Revision, sub: i64, key: &str) -> Record {
    let kv = KeyValue { key: Bytes::copy_from_slice(key.as_bytes()), ..KeyValue::default() };
    Record { revision, sub, tombstone: true, kv }
}

fn meta(revision: Revision, compact_revision: Revision) -> SnapshotMeta {
    let urls = |port: u16| vec![format!("http://127.0.0.1:{port}")];
    let member = SnapshotMember { id: 0xabc, name: "one".into(), peer_urls: urls(2380), client_urls: urls(2379) };
    SnapshotMeta { revision, compact_revision, member }
}

/// Writes a snapshot and saves it as `etcdctl snapshot save` does. Returns where.
fn save(dir: &TempDir, records: &[Record], leases: &[(LeaseId, i64)], meta: SnapshotMeta) -> io::Result<PathBuf> {
    let mut writer = SnapshotWriter::create(dir.path().join("raw"))?;
    for record in records {
        writer.push(record)?;
    }
    for (id, ttl) in leases {
        writer.lease(*id, *ttl);
    }
    let file = writer.finish(meta)?;
    assert_eq!(file.size, fs::metadata(&file.path)?.len());
    let mut content = Vec::new();
    let mut remaining = file.size;
    let opened = fs::File::open(&file.path)?;
    for chunk in file.clone().chunks(opened) {
        let chunk = chunk?;
        assert_eq!(chunk.remaining_bytes, remaining.saturating_sub(chunk.blob.len() as u64));
        remaining = chunk.remaining_bytes;
        content.extend_from_slice(&chunk.blob);
    }
    fs::remove_file(&file.path)?;
    let path = dir.path().join("saved.db");
    fs::write(&path, content)?;
    Ok(path)
}

fn records(reader: &SnapshotReader) -> io::Result<Vec<Record>> {
    reader.records()?.collect()
}

fn leases(reader: &SnapshotReader) -> io::Result<Vec<(LeaseId, i64)>> {
    reader.leases()?.collect()
}

fn bucket(path: &Path, name: &[u8]) -> Vec<(Bytes, Bytes)> {
    let reader = SnapshotReader::open(path).unwrap();
    reader.bucket(name).unwrap().unwrap().collect::<io::Result<_>>().unwrap()
}

/// What bbolt's `Tx.check` and `node.rebalance` demand: every page below the high water mark is in use once, a branch
/// has two children or more, and its keys are its children's first.
fn check_pages(content: &[u8]) {
    let content = &content[..content.len() / PAGE_SIZE * PAGE_SIZE];
    let newest = Meta::decode(&content[PAGE_HEADER..]).unwrap();
    let older = Meta::decode(&content[PAGE_SIZE + PAGE_HEADER..]).unwrap();
    assert_eq!(
        (newest.transaction, older.transaction),
        (2, 1),
        "the page of a meta record is its transaction modulo 2"
    );
    assert_eq!(newest.pages as usize * PAGE_SIZE, content.len());
    let mut used = vec![0; newest.pages as usize];
    used[0] = 1;
    used[1] = 1;
    used[newest.freelist as usize] = 1;
    assert_eq!(Header::decode(&content[newest.freelist as usize * PAGE_SIZE..]).unwrap().flags, FREELIST);
    check_node(content, newest.root, &mut used);
    assert!(used.iter().all(|uses| *uses == 1), "pages are lost or used twice: {used:?}");
}

/// Checks a page and those below it; returns its first key.
fn check_node(content: &[u8], id: u64, used: &mut [u32]) -> Vec<u8> {
    let page = &content[id as usize * PAGE_SIZE..];
    let header = Header::decode(page).unwrap();
    assert_eq!(header.id, id);
    (id..=id + u64::from(header.overflow)).for_each(|page| used[page as usize] += 1);
    let end = (header.overflow as usize + 1) * PAGE_SIZE;
    let mut first = Vec::new();
    for at in (0..usize::from(header.count)).map(|index| PAGE_HEADER + index * ELEMENT) {
        let field = |index: usize| u32_at(page, at + 4 * index).unwrap() as usize;
        let (position, key_len) = if header.flags == LEAF { (field(1), field(2)) } else { (field(0), field(1)) };
        let key = page[at + position..][..key_len].to_vec();
        if header.flags == LEAF {
            let value = &page[at + position + key_len..][..field(3)];
            assert!(at + position + key_len + value.len() <= end);
            let bucket = if field(0) == 1 { u64_at(value, 0).unwrap() } else { 0 };
            if bucket != 0 {
                check_node(content, bucket, used);
            }
        } else {
            assert_eq!(header.flags, BRANCH);
            assert!(header.count >= 2, "the branch {id} has one child");
            assert_eq!(check_node(content, u64_at(page, at + 8).unwrap(), used), key);
        }
        if first.is_empty() {
            first = key;
        }
    }
    first
}

#[test]
fn our_snapshot_holds_what_etcds_does() {
    let dir = TempDir::new().unwrap();
    let original = dir.path().join("etcd.db");
    fs::write(&original, REAL).unwrap();
    let reader = SnapshotReader::open(&original).unwrap();
    let records = records(&reader).unwrap();
    let leases = leases(&reader).unwrap();
    assert_eq!(reader.compact_revision().unwrap(), 3);
    assert_eq!(
        records.iter().map(|r| (r.revision, r.tombstone)).collect::<Vec<_>>(),
        [(3, false), (4, true), (5, false)]
    );
    assert_eq!((&records[0].kv.value[..], records[0].kv.version), (&b"2"[..], 2));
    assert_eq!((leases[0].0, leases[0].1), (records[2].kv.lease, 500));

    let ours = save(&dir, &records, &leases, meta(5, 3)).unwrap();
    assert_eq!(SnapshotReader::open(&ours).unwrap().buckets().unwrap(), reader.buckets().unwrap());
    for name in [schema::KEY, schema::LEASE] {
        assert_eq!(bucket(&ours, name), bucket(&original, name), "{name:?}");
    }
    // The values of the member and of raft are another cluster's, the names must be the same.
    let names = |path: &Path| bucket(path, schema::META).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(&ours), names(&original));
    let [(id, member)] = &bucket(&ours, schema::MEMBERS)[..] else { panic!("one member") };
    assert_eq!(&id[..], b"abc");
    let expected =
        br#"{"id":2748,"peerURLs":["http://127.0.0.1:2380"],"name":"one","clientURLs":["http://127.0.0.1:2379"]}"#;
    assert_eq!(&member[..], &expected[..]);
}

#[test]
fn an_empty_store_has_a_snapshot() {
    let dir = TempDir::new().unwrap();
    let path = save(&dir, &[], &[], meta(1, 0)).unwrap();
    check_pages(&fs::read(&path).unwrap());
    let reader = SnapshotReader::open(&path).unwrap();
    assert!(reader.has_digest());
    assert_eq!((records(&reader).unwrap(), leases(&reader).unwrap()), (vec![], vec![]));
    assert_eq!(reader.compact_revision().unwrap(), 0);
}

#[test]
fn trees_of_three_levels_and_values_over_many_pages() {
    let dir = TempDir::new().unwrap();
    let mut given: Vec<_> =
        (2..40_000).map(|revision| put(revision, 0, &format!("k{revision}"), "v".repeat(300))).collect();
    given.push(put(40_000, 0, "large", vec![7; 3 << 20]));
    given.push(put(40_000, 1, "page", vec![8; PAGE_SIZE]));
    given.push(delete(40_000, 2, "k2"));
    let granted: Vec<_> = (1..5000).map(|id| (id * 0x0123_4567_89ab, 60 + id)).collect();
    let path = save(&dir, &given, &granted, meta(40_000, 0)).unwrap();
    check_pages(&fs::read(&path).unwrap());
    let reader = SnapshotReader::open(&path).unwrap();
    assert!(records(&reader).unwrap() == given);
    assert!(leases(&reader).unwrap() == granted);
}

#[test]
fn what_would_not_restore_to_the_same_store_is_refused() {
    let dir = TempDir::new().unwrap();
    let wrong_mod = Record { revision: 3, ..put(2, 0, "a", "") };
    let cases: [(&str, &[Record], SnapshotMeta); 8] = [
        ("order", &[put(3, 0, "a", ""), put(2, 0, "b", "")], meta(3, 0)),
        ("twice", &[put(3, 1, "a", ""), put(3, 1, "b", "")], meta(3, 0)),
        ("mod revision", &[wrong_mod], meta(3, 0)),
        ("no key", &[put(2, 0, "", "")], meta(2, 0)),
        ("revision 0", &[put(0, 0, "a", "")], meta(1, 0)),
        ("records are missing", &[put(2, 0, "a", "")], meta(3, 0)),
        ("records are too new", &[put(4, 0, "a", "")], meta(3, 0)),
        ("compacted ahead", &[put(2, 0, "a", "")], meta(2, 3)),
    ];
    for (name, records, meta) in cases {
        let error = save(&dir, records, &[], meta).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}");
        assert!(error.to_string().contains(dir.path().to_str().unwrap()), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{name}: the unfinished file stays");
    }
}

#[test]
fn an_existing_file_is_neither_overwritten_nor_removed() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("precious");
    fs::write(&path, "data").unwrap();
    assert_eq!(SnapshotWriter::create(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&path).unwrap(), b"data");
}

#[test]
fn an_io_error_names_the_file() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("no such folder/snapshot");
    let error = SnapshotWriter::create(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

#[test]
fn a_changed_byte_or_a_missing_end_is_noticed() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("damaged.db");
    let mut changed = REAL.to_vec();
    changed[PAGE_SIZE * 3 + 200] ^= 1;
    for content in [&changed[..], &REAL[..REAL.len() - 512], &REAL[..PAGE_SIZE * 3], &REAL[..40], b""] {
        fs::write(&path, content).unwrap();
        let error = SnapshotReader::open(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    }
}

/// A change to a record: what it does with which of a few keys, and how large the value is.
fn changes() -> impl Strategy<Value = Vec<(bool, u8, usize, bool)>> {
    let size = prop_oneof![8 => 0..200usize, 3 => 900..4200usize, 1 => 4000..40_000usize];
    prop::collection::vec((any::<bool>(), 0..20u8, size, any::<bool>()), 0..400)
}

fn records_of(changes: &[(bool, u8, usize, bool)]) -> Vec<Record> {
    let (mut revision, mut sub) = (1, 0);
    let mut records = Vec::new();
    for (index, (tombstone, key, size, same_revision)) in changes.iter().enumerate() {
        (revision, sub) = if *same_revision && revision > 1 { (revision, sub + 1) } else { (revision + 1, 0) };
        let key = format!("/registry/{key}");
        let mut record = put(revision, sub, &key, vec![index as u8; *size]);
        record.kv.lease = index as i64 - 3;
        records.push(if *tombstone { delete(revision, sub, &key) } else { record });
    }
    records
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_written_is_read(changes in changes(), granted in prop::collection::btree_map(1..i64::MAX, 1..i64::MAX, 0..80)) {
        let dir = TempDir::new().unwrap();
        let given = records_of(&changes);
        let granted: Vec<_> = granted.into_iter().collect();
        let revision = given.last().map_or(1, |record| record.revision);
        let path = save(&dir, &given, &granted, meta(revision, revision / 2)).unwrap();
        check_pages(&fs::read(&path).unwrap());
        let reader = SnapshotReader::open(&path).unwrap();
        prop_assert!(records(&reader).unwrap() == given);
        prop_assert_eq!(leases(&reader).unwrap(), granted);
        prop_assert_eq!(reader.compact_revision().unwrap(), revision / 2);
    }

    /// Long keys, so that few children fill a branch and the tree gets high.
    #[test]
    fn trees_of_any_shape(lengths in prop::collection::vec((4..2500usize, 0..3000usize), 0..400)) {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("tree");
        let key = |index: usize, len| [&(index as u32).to_be_bytes()[..], &vec![b'k'; len]].concat();
        let mut file = PageFile::create(&path).unwrap();
        let mut tree = Tree::new();
        for (index, (key_len, value_len)) in lengths.iter().enumerate() {
            let write = |out: &mut Vec<u8>| out.resize(out.len() + value_len, b'v');
            tree.push(&mut file, 0, &key(index, *key_len), *value_len, write).unwrap();
        }
        let value = tree.finish(&mut file).unwrap().bucket_value();
        let mut root = Tree::new();
        root.push(&mut file, page::BUCKET_ELEMENT, b"b", value.len(), |out| out.extend_from_slice(&value)).unwrap();
        let root = root.finish_in_page(&mut file).unwrap();
        file.finish(root).unwrap();
        check_pages(&fs::read(&path).unwrap());
        let found = bucket(&path, b"b").into_iter().map(|(key, value)| (key.to_vec(), value.len()));
        let given = lengths.iter().enumerate().map(|(index, (key_len, value_len))| (key(index, *key_len), *value_len));
        prop_assert!(found.eq(given));
    }

    /// Without the digest, so that the damage gets past it.
    #[test]
    fn a_damaged_file_gives_an_error_or_data(changes in changes(), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..12)) {
        let dir = TempDir::new().unwrap();
        let given = records_of(&changes);
        let path = save(&dir, &given, &[(1, 2)], meta(given.last().map_or(1, |record| record.revision), 0)).unwrap();
        let mut content = fs::read(&path).unwrap();
        content.truncate(content.len() - 32);
        for (place, byte, in_head) in damage {
            // Most bytes are values, where nothing can go wrong: aim at page headers and element tables.
            let page = place.index(content.len() / PAGE_SIZE - 2) + 2;
            let at = if in_head { page * PAGE_SIZE + place.index(64) } else { place.index(content.len()) };
            content[at] = byte;
        }
        fs::write(&path, &content).unwrap();
        if let Ok(reader) = SnapshotReader::open(&path) {
            let _ = records(&reader);
            let _ = leases(&reader);
            let _ = reader.compact_revision();
            for name in reader.buckets().unwrap_or_default() {
                let _ = reader.bucket(&name).map(|entries| entries.into_iter().flatten().count());
            }
        }
    }
}
