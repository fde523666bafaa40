//! The disk of the server is full.

use std::fs;
use std::io::Write as _;

use sluice_shim::endpoint::Family;
use sluice_shim::engine::{Error, KeyRange, Op, Put, RangeQuery};

use crate::database::Database;
use crate::ledger::{in_time, open, sound};
use crate::server::{Server, Stop, is_root};

/// What is written at once, and how often that fits at most.
const VALUE: usize = 64 << 10;
const MANY: usize = 3000;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_until_there_is_room() {
    let Some(family) = crate::family_or_skip() else { return };
    if !is_root() {
        eprintln!("skipped: only root can mount a file system that is small enough to fill");
        return;
    }
    // The log of what is to be written is elsewhere, or as large as it gets: the server can go on.
    let options: &[&str] = match family {
        Family::Postgres => &[],
        Family::MySql => &["--innodb-log-file-size=8M", "--innodb-flush-method=fsync", "--innodb-buffer-pool-size=32M"],
    };
    let mut server = Server::start_on_small_disk(family, options, "256m");
    let data = server.folder.join("data");
    let database = Database::on(&server.url());
    let engine = open(database.endpoint()).await;
    let put = |number: usize| {
        let value = vec![b'a' + (number % 26) as u8; VALUE];
        Op::Put(Put { key: format!("full/{number}").into(), value: value.into(), ..Put::default() })
    };
    engine.write(put(0)).await.unwrap();
    let filler = data.join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    while file.write_all(&[0; 64 << 10]).is_ok() {}
    let mut written = 1;
    let refused = loop {
        match in_time("a write", engine.write(put(written))).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < MANY, "the disk is not full");
    };
    let all = RangeQuery { range: KeyRange::tree(b"full/"), ..RangeQuery::default() };
    // Rolling a transaction back needs room too, and without it MariaDB 10.11 ends itself.
    let gave_up = family == Family::MySql && matches!(refused, Error::Unavailable(_) | Error::Unknown(_));
    if !gave_up {
        assert!(matches!(refused, Error::NoSpace(_)), "behind {written} writes: {refused:?}");
        assert!(engine.is_full());
        assert_eq!(in_time("a list", engine.range(all.clone())).await.unwrap().kvs.len(), written);
    }
    drop(file);
    fs::remove_file(&filler).unwrap();
    if gave_up {
        assert!(!server.lives(), "{refused:?}");
        server.stop(Stop::Kill);
        server.run();
    }
    in_time("a write", async { while engine.write(put(written)).await.is_err() {} }).await;
    assert!(!engine.is_full());
    assert_eq!(in_time("a list", engine.range(all)).await.unwrap().kvs.len(), written + 1);
    engine.shutdown().await;
    drop(engine);
    sound(database.endpoint());
}
