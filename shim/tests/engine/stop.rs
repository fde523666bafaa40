//! What a clean stop leaves behind.

use std::fs;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use sluice_shim::clock::Steady;
use sluice_shim::engine::store::Store;

use crate::database::Database;
use crate::support::{open_on, put};

/// A value that makes the database's file longer when it is copied there from the log.
const VALUE: usize = 1 << 20;

/// After a clean stop a copy of the one file is a backup, also if a read was under way that holds back part of the log.
#[tokio::test]
async fn a_read_under_way_leaves_nothing_in_the_log() {
    let (database, opened) = (Database::sqlite(), OnceLock::new());
    let keep = |store: Arc<dyn Store>| Arc::clone(opened.get_or_init(|| store));
    let (engine, _) = open_on(&database, Arc::new(Steady::default()), keep).await;
    put(&engine, "a", vec![0; VALUE]).await;
    let mut reader = opened.get().unwrap().reader().unwrap();
    reader.begin().unwrap();
    put(&engine, "b", "later than the read").await;
    let file = database.file().to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let deadline = Instant::now() + Duration::from_secs(30);
        // The stop has copied what the read does not hold back.
        while fs::metadata(&file).unwrap().len() < VALUE as u64 {
            assert!(Instant::now() < deadline, "nothing was copied");
            std::thread::yield_now();
        }
        reader.end();
    });
    let ((), read) = tokio::join!(engine.shutdown(), read);
    read.unwrap();
    let log = database.folder().join("state.db-wal");
    assert_eq!(fs::metadata(log).map_or(0, |log| log.len()), 0, "the log is not needed any more");
}
