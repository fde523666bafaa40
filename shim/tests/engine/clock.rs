//! How long leases last when time passes, when nobody serves the store, and when the server is killed. The clock is
//! the test's.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::database::Database;
use crate::hand::Hand;
use crate::support::open_by;
use sluice_shim::engine::*;

/// The lease that all is about.
const LEASE: LeaseId = 7;

/// What happens.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// It is granted, for so many seconds.
    Grant(i64),
    /// It is renewed.
    KeepAlive,
    /// So many seconds pass.
    Pass(u64),
    /// Something is committed.
    Commit,
    /// A request that commits nothing.
    Ask,
    /// The server ends well. Later it is started again.
    Restart,
    /// The server is killed. Later it is started again.
    Kill,
    /// It has so many seconds left, of so many that were granted.
    Left(i64, i64),
    /// It ends, with its key.
    Gone,
}

use Step::*;

const TABLE: &[(&str, &[Step])] = &[
    ("time passes", &[Grant(10), Pass(3), Left(7, 10), Pass(6), Left(1, 10), Pass(1), Gone]),
    (
        "a renewal gives the full time",
        &[Grant(10), Pass(9), KeepAlive, Left(10, 10), Pass(9), Left(1, 10), Pass(1), Gone],
    ),
    (
        "downtime does not count",
        &[Grant(600), Pass(100), Restart, Left(500, 600), Pass(499), Left(1, 600), Pass(1), Gone],
    ),
    (
        "a restart gives a minute to what is about to end",
        &[Grant(600), Pass(595), Restart, Left(60, 600), Pass(60), Gone],
    ),
    ("and no more than was granted", &[Grant(5), Pass(4), Restart, Left(5, 5), Pass(5), Gone]),
    ("the time does not begin anew", &[Grant(3600), Pass(3500), Restart, Left(100, 3600), Restart, Left(100, 3600)]),
    ("nor is a minute added to a minute", &[Grant(600), Pass(570), Restart, Restart, Left(60, 600), Pass(60), Gone]),
    ("a renewal after a restart gives the full time", &[Grant(600), Pass(595), Restart, KeepAlive, Left(600, 600)]),
    ("what has ended does not come back", &[Grant(5), Pass(5), Gone, Restart, Gone]),
    ("after a kill the time since the last commit does not count", &[Grant(600), Pass(9), Kill, Left(600, 600)]),
    ("that of a commit does", &[Grant(600), Pass(100), Commit, Pass(9), Kill, Left(500, 600), Pass(500), Gone]),
    ("so does what was kept without commits", &[Grant(300), Pass(11), Ask, Ask, Pass(9), Kill, Left(289, 300)]),
    ("which is not at every moment", &[Grant(300), Pass(9), Ask, Ask, Kill, Left(300, 300)]),
    (
        "a kill gives a minute, too",
        &[Grant(600), Pass(570), Commit, Kill, Left(60, 600), Kill, Left(60, 600), Pass(60), Gone],
    ),
    ("the longest lease", &[Grant(9_000_000_000), Restart, Left(9_000_000_000, 9_000_000_000)]),
];

struct Store {
    hand: Hand,
    engine: Engine,
    /// Dropped after the engine.
    database: Database,
}

impl Store {
    async fn open(database: Database) -> Self {
        // Nothing of the clock of the process before is left.
        let hand = Hand::new();
        let (engine, _) = open_by(&database, Arc::new(hand.clone())).await;
        Self { hand, engine, database }
    }

    async fn carry_out(self, step: Step) -> Self {
        let engine = &self.engine;
        match step {
            Grant(ttl) => {
                engine.lease_grant(LEASE, ttl).await.unwrap();
                engine.write(attached("/leased", LEASE)).await.unwrap();
            }
            KeepAlive => drop(engine.lease_keep_alive(LEASE).await.unwrap()),
            Pass(seconds) => self.hand.pass(Duration::from_secs(seconds)),
            Commit => drop(engine.write(attached("/other", 0)).await.unwrap()),
            Ask => assert!(engine.lease_revoke(99).await.is_err()),
            Restart => {
                engine.shutdown().await;
                let Self { database, engine, .. } = self;
                drop(engine);
                return Self::open(database).await;
            }
            Kill => {
                let copy = Database::sqlite();
                copy_files(self.database.folder(), copy.folder());
                engine.shutdown().await;
                return Self::open(copy).await;
            }
            Left(left, granted) => {
                let status = engine.lease_time_to_live(LEASE, true).await.unwrap();
                assert_eq!((status.remaining_ttl, status.granted_ttl), (left, granted));
                assert_eq!(status.keys, ["/leased"]);
            }
            Gone => {
                let deadline = Instant::now() + Duration::from_secs(30);
                while engine.lease_time_to_live(LEASE, false).await.is_ok() {
                    assert!(Instant::now() < deadline, "the lease does not end");
                    tokio::task::yield_now().await;
                }
                let leased = RangeQuery { range: KeyRange::single("/leased"), ..RangeQuery::default() };
                assert_eq!(engine.range(leased).await.unwrap().kvs, []);
            }
        }
        self
    }
}

fn attached(key: &'static str, lease: LeaseId) -> Op {
    Op::Put(Put { key: key.into(), value: "v".into(), lease, ..Put::default() })
}

/// What a kill leaves behind.
fn copy_files(from: &Path, to: &Path) {
    for name in ["state.db", "state.db-wal"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

#[tokio::test]
async fn a_lease_lasts_as_long_as_it_is_served() {
    for (what, steps) in TABLE {
        let mut store = Store::open(Database::sqlite()).await;
        for (at, step) in steps.iter().enumerate() {
            eprintln!("{what}: {at} {step:?}");
            store = store.carry_out(*step).await;
        }
        store.engine.shutdown().await;
    }
}

/// What nobody needs to know the time for is not written at all.
#[tokio::test]
async fn an_empty_store_keeps_no_time() {
    let store = Store::open(Database::sqlite()).await;
    store.hand.pass(Duration::from_secs(86_400));
    store.engine.shutdown().await;
    let connection = rusqlite::Connection::open(store.database.file()).unwrap();
    let kept: i64 = connection.query_row("SELECT clock FROM meta", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, 0);
}
