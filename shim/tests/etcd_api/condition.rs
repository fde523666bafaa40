//! A database that is damaged, or takes no writes, turns probes red and raises an alarm.

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::database::Database;
use super::server::{Client, TestServer, put, range_of};
use sluice_shim::clock::{StoreClock, StoreTime};
use sluice_shim::engine::store::{Committed, Decide, Footprint, Nature, Queue, Reader, Store, Writer};
use sluice_shim::engine::{Error, Result};
use sluice_shim::pb::etcdserverpb as pb;

async fn alarms(client: &mut Client) -> Vec<i32> {
    let alarms = client.maintenance.alarm(pb::AlarmRequest::default()).await.unwrap().into_inner().alarms;
    alarms.iter().map(|alarm| alarm.alarm).collect()
}

async fn is_green(server: &TestServer, path: &str) -> bool {
    let answer = server.get(path).await;
    match answer.split(' ').nth(1) {
        Some("200") => true,
        Some("503") => false,
        _ => panic!("{path}: {answer}"),
    }
}

#[tokio::test]
async fn a_damaged_database_turns_readyz_red() {
    let server = TestServer::start_in(Database::sqlite(), &[]).await;
    let mut client = server.connect().await;
    client.put("a", "1").await;
    for name in ["state.db", "state.db-wal"] {
        let file = std::fs::File::options().write(true).open(server.database.folder().join(name)).unwrap();
        file.write_all_at(&vec![0xff; usize::try_from(file.metadata().unwrap().len()).unwrap()], 0).unwrap();
    }
    let refused = client.range(range_of("a")).await.unwrap_err();
    assert!(refused.message().contains("damaged"), "{refused}");
    let red = server.get("/readyz").await;
    assert!(red.starts_with("HTTP/1.1 503 "), "{red}");
    for line in [
        "[-]data_corruption failed: alarm activated: CORRUPT: the database is damaged: ",
        "[-]serializable_read failed: the database is damaged: ",
        "[-]linearizable_read failed: the database is damaged: ",
        "[+]non_learner ok\n",
    ] {
        assert!(red.contains(line), "{line} in {red}");
    }
    assert!(!is_green(&server, "/livez").await);
    assert!(server.get("/health").await.ends_with("{\"health\":\"false\",\"reason\":\"ALARM CORRUPT\"}\n"));
    assert_eq!(alarms(&mut client).await, [pb::AlarmType::Corrupt as i32]);
}

#[tokio::test]
async fn an_exceeded_quota_turns_the_check_of_writes_red() {
    let server = TestServer::start(&["--quota-backend-bytes", "1"]).await;
    let mut client = server.connect().await;
    client.kv.put(put("a", "1")).await.unwrap_err();
    let red = server.get("/readyz/writable").await;
    assert!(red.contains("\n[-]writable failed: alarm activated: NOSPACE: the data exceeds the quota"), "{red}");
    assert!(is_green(&server, "/readyz").await, "as etcd, which serves reads and deletions");
    assert!(is_green(&server, "/livez").await, "a restart would not help");
    assert!(!is_green(&server, "/health").await);
    assert!(is_green(&server, "/health?exclude=NOSPACE").await);
}

/// Nothing is written in between: the probe itself tries.
#[tokio::test]
async fn a_full_disk_turns_the_check_of_writes_red_until_there_is_room() {
    let full = Arc::new(AtomicBool::new(false));
    let disk = Arc::clone(&full);
    let wrap = |store| -> Arc<dyn Store> { Arc::new(SmallDisk { store, full: disk }) };
    let server = TestServer::start_on(Database::new(), &[], wrap).await;
    let mut client = server.connect().await;
    assert!(is_green(&server, "/readyz/writable").await);
    full.store(true, Ordering::Relaxed);
    client.kv.put(put("a", "1")).await.unwrap_err();
    let red = server.get("/readyz/writable").await;
    assert!(red.contains("[-]writable failed: database space exceeded: no room\n"), "{red}");
    assert!(!is_green(&server, "/readyz/writable").await, "the trial failed too");
    assert!(is_green(&server, "/readyz").await);
    assert!(server.get("/health").await.contains("ALARM NOSPACE"));
    assert_eq!(alarms(&mut client).await, [pb::AlarmType::Nospace as i32]);
    full.store(false, Ordering::Relaxed);
    assert!(is_green(&server, "/readyz/writable").await);
    assert!(is_green(&server, "/health").await);
    assert!(alarms(&mut client).await.is_empty());
}

/// A disk that is full when a test wants it.
struct SmallDisk {
    store: Arc<dyn Store>,
    full: Arc<AtomicBool>,
}

struct OnSmallDisk {
    writer: Box<dyn Writer>,
    full: Arc<AtomicBool>,
}

impl OnSmallDisk {
    fn room(&self) -> Result<()> {
        if self.full.load(Ordering::Relaxed) { Err(Error::NoSpace("no room".into())) } else { Ok(()) }
    }
}

impl Store for SmallDisk {
    fn nature(&self) -> Nature {
        self.store.nature()
    }

    fn writer(&self) -> Result<Box<dyn Writer>> {
        Ok(Box::new(OnSmallDisk { writer: self.store.writer()?, full: Arc::clone(&self.full) }))
    }

    fn clock(&self) -> StoreClock {
        self.store.clock()
    }

    fn reader(&self) -> Result<Box<dyn Reader>> {
        self.store.reader()
    }
}

impl Writer for OnSmallDisk {
    fn commit(&mut self, footprint: &Footprint, decide: &mut Decide<'_>) -> Result<Committed> {
        self.room()?;
        self.writer.commit(footprint, decide)
    }

    fn try_commit(&mut self) -> Result<()> {
        self.room()?;
        self.writer.try_commit()
    }

    fn compact_step(&mut self) -> Result<bool> {
        self.writer.compact_step()
    }

    fn index_step(&mut self, time: Duration) -> Result<bool> {
        self.writer.index_step(time)
    }

    fn tidy(&mut self, idle: bool) -> Result<bool> {
        self.writer.tidy(idle)
    }

    fn defragment(&mut self) -> Result<()> {
        self.writer.defragment()
    }

    fn forget(&mut self, before: StoreTime) -> Result<bool> {
        self.writer.forget(before)
    }

    fn extend_leases(&mut self, least: Duration) -> Result<usize> {
        self.writer.extend_leases(least)
    }

    fn save_clock(&mut self, age: Duration) -> Result<()> {
        self.writer.save_clock(age)
    }

    fn adopt(&mut self, cluster_id: u64) -> Result<()> {
        self.writer.adopt(cluster_id)
    }

    fn take_queue(&mut self, queue: &Queue) -> Result<()> {
        self.writer.take_queue(queue)
    }
}
