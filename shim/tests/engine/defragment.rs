//! What a defragmentation gives back.

use sluice_shim::engine::{DeleteRange, KeyRange, Op};

use crate::database::Database;
use crate::support::{open, put};

/// How many values, each of several pages.
const VALUES: usize = 200;
const VALUE: usize = 64 << 10;

/// All that a compaction freed is given back, however much that is.
#[tokio::test]
async fn all_that_is_free_is_given_back() {
    let database = Database::sqlite();
    let (engine, _) = open(&database).await;
    for number in 0..VALUES {
        put(&engine, format!("/a/{number}"), vec![b'x'; VALUE]).await;
    }
    let full = engine.status().await.unwrap().db_size;
    let range = KeyRange::tree(b"/a/");
    engine.write(Op::Delete(DeleteRange { range, ..DeleteRange::default() })).await.unwrap();
    put(&engine, "/b", "the deletion is not the newest revision").await;
    engine.compact(engine.revision(), true).await.unwrap();
    engine.defragment().await.unwrap();
    let status = engine.status().await.unwrap();
    assert!(status.db_size * 20 < full, "{status:?} of {full}");
    let file = std::fs::metadata(database.file()).unwrap().len();
    assert!(file * 20 < full as u64, "the file has {file} bytes");
    engine.shutdown().await;
}
