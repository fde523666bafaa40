//! A database built from a stranger's snapshot is sound, or there is none.

use std::path::Path;

use sluice_shim::endpoint::Endpoint;
use sluice_shim::migrate::fsck::Fsck;
use sluice_shim::migrate::restore::Restore;

use super::driver::{Target, alone, kind, words};
use super::snapshots;

fn run(dir: &Path, input: &[u8]) -> u64 {
    let (snapshot, database) = (dir.join("s.db"), dir.join("new"));
    std::fs::write(&snapshot, snapshots::file(input)).unwrap();
    std::fs::create_dir(&database).unwrap();
    let endpoint = Endpoint::Sqlite(database.join("state.db"));
    let restore = Restore {
        from: snapshot,
        database: endpoint.clone().into(),
        bump_revision: 0,
        mark_compacted: false,
        skip_hash_check: true,
    };
    let restored = restore.run().map_err(|error| words(format!("{error:#}")));
    if restored.is_ok() {
        let mut report = Vec::new();
        let sound = Fsck { database: endpoint.into(), repair: false, accept_lost_log: false }.run(&mut report).unwrap();
        assert!(sound, "{}", String::from_utf8_lossy(&report));
    }
    std::fs::remove_dir_all(database).unwrap();
    kind(restored.map(|moved| (moved.records.min(3), moved.leases.min(2), moved.compact_revision > 0)))
}

#[test]
fn restored_databases() {
    let alone = alone();
    // Memory, if the machine has a file system for it: a database is synced to the disk many times.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    Target { name: "restore", seeds: snapshots::seeds(dir.path()), words: &[], run: &|input| run(dir.path(), input) }
        .fuzz(&alone);
}
