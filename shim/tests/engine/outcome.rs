//! A database that others write to, and commits of which nobody knows whether they happened.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::database::Database;
use crate::support::{open, open_on, put};
use sluice_shim::clock::{Steady, StoreClock, StoreTime};
use sluice_shim::engine::store::{
    Before, Committed, Decide, Footprint, Lease, Nature, Page, Queue, Reader, Store, Writer,
};
use sluice_shim::engine::*;

/// What is wrong with the database.
#[derive(Debug, Default)]
struct Faults {
    /// How many revisions another process has made.
    foreign: Revision,
    /// How the next commit ends of which nobody knows: whether it happens.
    unknown: Option<bool>,
    /// Whether it can't be reached for commits.
    down: bool,
    /// Whether nobody knows of commits, of which none was decided either, while it is down.
    unsure: bool,
    /// Whether it has no room for anything that changes.
    full: bool,
    /// The longest key.
    key_limit: Option<usize>,
    /// The most bytes of values at once.
    values_limit: Option<usize>,
}

#[derive(Clone)]
struct Faulty {
    store: Arc<dyn Store>,
    faults: Arc<Mutex<Faults>>,
}

struct FaultyWriter(Box<dyn Writer>, Arc<Mutex<Faults>>);

struct FaultyReader(Box<dyn Reader>, Arc<Mutex<Faults>>);

impl Store for Faulty {
    fn nature(&self) -> Nature {
        let Faults { key_limit, values_limit, .. } = *self.faults.lock().unwrap();
        Nature { key_limit, values_limit, ..self.store.nature() }
    }

    fn writer(&self) -> Result<Box<dyn Writer>> {
        Ok(Box::new(FaultyWriter(self.store.writer()?, Arc::clone(&self.faults))))
    }

    fn clock(&self) -> StoreClock {
        self.store.clock()
    }

    fn reader(&self) -> Result<Box<dyn Reader>> {
        Ok(Box::new(FaultyReader(self.store.reader()?, Arc::clone(&self.faults))))
    }
}

impl Writer for FaultyWriter {
    fn commit(&mut self, footprint: &Footprint, decide: &mut Decide<'_>) -> Result<Committed> {
        let (foreign, unknown, down, unsure, full) = {
            let mut faults = self.1.lock().unwrap();
            // The collector looks for work whenever it likes.
            let unknown = faults.unknown.take_if(|_| footprint.work.is_none());
            // Nobody reaches it behind that either, until the test says so.
            let down = faults.down;
            faults.down |= unknown.is_some();
            (faults.foreign, unknown, down, faults.unsure, faults.full)
        };
        let lost = || Error::Unknown("the connection was lost".into());
        if down {
            return Err(if unsure { lost() } else { Error::Unavailable("down".into()) });
        }
        let committed = self.0.commit(footprint, &mut |before: Before| {
            let changes = decide(Before { revision: before.revision + foreign, ..before })?;
            if full && !changes.is_empty() {
                return Err(no_room());
            }
            if unknown == Some(false) { Err(lost()) } else { Ok(changes) }
        })?;
        if unknown.is_some() { Err(lost()) } else { Ok(committed) }
    }

    fn try_commit(&mut self) -> Result<()> {
        if self.1.lock().unwrap().full { Err(no_room()) } else { self.0.try_commit() }
    }

    fn compact_step(&mut self) -> Result<bool> {
        self.0.compact_step()
    }

    fn index_step(&mut self, time: Duration) -> Result<bool> {
        self.0.index_step(time)
    }

    fn tidy(&mut self, idle: bool) -> Result<bool> {
        self.0.tidy(idle)
    }

    fn defragment(&mut self) -> Result<()> {
        self.0.defragment()
    }

    fn forget(&mut self, before: StoreTime) -> Result<bool> {
        self.0.forget(before)
    }

    fn extend_leases(&mut self, least: Duration) -> Result<usize> {
        self.0.extend_leases(least)
    }

    fn save_clock(&mut self, age: Duration) -> Result<()> {
        self.0.save_clock(age)
    }

    fn adopt(&mut self, cluster_id: u64) -> Result<()> {
        self.0.adopt(cluster_id)
    }

    fn take_queue(&mut self, queue: &Queue) -> Result<()> {
        self.0.take_queue(queue)
    }
}

impl Reader for FaultyReader {
    fn begin(&mut self) -> Result<(Revision, Revision)> {
        let (revision, compact_revision) = self.0.begin()?;
        Ok((revision + self.1.lock().unwrap().foreign, compact_revision))
    }

    fn end(&mut self) {
        self.0.end();
    }

    fn batch(&self) -> i64 {
        self.0.batch()
    }

    fn newest(&mut self, keys: &[&[u8]]) -> Result<(Revision, Vec<KeyValue>)> {
        let (revision, kvs) = self.0.newest(keys)?;
        Ok((revision + self.1.lock().unwrap().foreign, kvs))
    }

    fn page(&mut self, query: &RangeQuery, revision: Revision, limit: usize) -> Result<Page> {
        self.0.page(query, revision, limit)
    }

    fn count(&mut self, range: &KeyRange, revision: Revision) -> Result<i64> {
        self.0.count(range, revision)
    }

    fn events(&mut self, range: &KeyRange, from: Revision, limit: usize) -> Result<(Vec<Event>, Revision)> {
        self.0.events(range, from, limit)
    }

    fn records(
        &mut self,
        after: (Revision, i64),
        until: Revision,
        above: Option<Revision>,
        limit: usize,
    ) -> Result<Vec<Record>> {
        self.0.records(after, until, above, limit)
    }

    fn lease(&mut self, id: LeaseId) -> Result<Option<Lease>> {
        self.0.lease(id)
    }

    fn lease_keys(&mut self, id: LeaseId) -> Result<Vec<bytes::Bytes>> {
        self.0.lease_keys(id)
    }

    fn leases(&mut self, limit: usize) -> Result<Vec<Lease>> {
        self.0.leases(limit)
    }

    fn status(&mut self) -> Result<StoreStatus> {
        self.0.status()
    }

    fn collector(&mut self) -> Result<sluice_shim::gc::Status> {
        self.0.collector()
    }

    fn opaque_directories(&mut self) -> Result<Vec<Vec<u8>>> {
        self.0.opaque_directories()
    }

    fn opaque_key(&mut self, range: &KeyRange, begins: &[u8]) -> Result<Option<bytes::Bytes>> {
        self.0.opaque_key(range, begins)
    }

    fn tasks(&mut self, after: i64, limit: usize) -> Result<Vec<sluice_shim::gc::Task>> {
        self.0.tasks(after, limit)
    }

    fn tombstones(&mut self, after: i64, limit: usize) -> Result<Vec<sluice_shim::gc::Tombstone>> {
        self.0.tombstones(after, limit)
    }
}

struct World {
    _database: Database,
    faults: Arc<Mutex<Faults>>,
    engine: Engine,
    watch: WatchSession,
}

impl World {
    async fn new(faults: Faults) -> Self {
        let (database, faults) = (Database::new(), Arc::new(Mutex::new(faults)));
        let theirs = Arc::clone(&faults);
        let wrap = |store| -> Arc<dyn Store> { Arc::new(Faulty { store, faults: theirs }) };
        let (engine, _) = open_on(&database, Arc::new(Steady::default()), wrap).await;
        let watch = engine.watch();
        let range = KeyRange::from_wire("a".into(), "z".into());
        watch.create(WatchSpec { id: 1, range, start_revision: 1, no_put: false, no_delete: false, selection: None });
        Self { _database: database, faults, engine, watch }
    }

    fn set(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.faults.lock().unwrap());
    }

    async fn try_put(&self, key: &'static str) -> Result<Revision> {
        let put = Put { key: key.into(), value: "v".into(), ..Put::default() };
        self.engine.write(Op::Put(put)).await.map(|(revision, _)| revision)
    }

    async fn get(&self, key: &'static str) -> Result<usize> {
        let range = KeyRange::from_wire(key.into(), "".into());
        let query = RangeQuery { range, ..RangeQuery::default() };
        self.engine.range(query).await.map(|found| found.kvs.len())
    }

    /// The next events of the watcher, which began before all.
    async fn events(&mut self, count: usize) -> Vec<(bytes::Bytes, Revision)> {
        let mut seen = Vec::new();
        while seen.len() < count {
            let WatchMessage::Events { events, .. } = self.watch.next().await else { panic!("the watcher ended") };
            seen.extend(events.iter().map(|event| (event.kv.key.clone(), event.kv.mod_revision)));
        }
        seen
    }
}

fn no_room() -> Error {
    Error::NoSpace("the disk is full".into())
}

fn is_foreign<T: std::fmt::Debug>(result: Result<T>) -> bool {
    matches!(&result, Err(Error::Replaced(why)) if why.contains("another process has written to the database"))
}

/// Its events are unknown: whatever is served behind them would make watchers miss some.
#[tokio::test]
async fn nothing_is_served_behind_the_writes_of_another_process() {
    let mut world = World::new(Faults::default()).await;
    put(&world.engine, "b", "v").await;
    world.set(|faults| faults.foreign = 3);
    assert!(is_foreign(world.try_put("c").await));
    assert!(is_foreign(world.get("b").await));
    world.set(|faults| faults.foreign = 0);
    assert!(is_foreign(world.try_put("c").await), "watchers have missed something since");
    assert!(is_foreign(world.engine.writable().await));
    assert_eq!(world.get("b").await, Ok(1));
    assert_eq!(world.get("c").await, Ok(0));
    assert_eq!(world.events(1).await, [("b".into(), 2)]);
    assert!(is_foreign(Err::<(), _>(world.engine.ended().await)));
}

/// A read alone waited for ever for the revision that it had seen.
#[tokio::test]
async fn a_read_finds_the_writes_of_another_process() {
    let world = World::new(Faults { foreign: 0, ..Faults::default() }).await;
    world.set(|faults| faults.foreign = 1);
    assert!(is_foreign(world.get("b").await));
}

/// Whether or not it happened, its events come once, and nothing is written before that is known.
#[tokio::test]
async fn the_outcome_of_a_commit_is_known_before_the_next() {
    for happens in [true, false] {
        let mut world = World::new(Faults::default()).await;
        put(&world.engine, "b", "v").await;
        world.set(|faults| faults.unknown = Some(happens));
        let unknown = world.try_put("c").await;
        assert!(matches!(unknown, Err(Error::Unknown(_))), "{unknown:?}");
        let refused = world.try_put("d").await;
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
        if happens {
            let unsure = world.get("c").await;
            assert!(matches!(unsure, Err(Error::Unavailable(_))), "watchers do not know of it: {unsure:?}");
        }
        world.set(|faults| faults.down = false);
        assert_eq!(world.get("c").await, Ok(usize::from(happens)));
        let next = world.try_put("e").await.unwrap();
        let expected: &[_] = if happens { &[("b", 2), ("c", 3), ("e", 4)] } else { &[("b", 2), ("e", 3)] };
        let expected: Vec<_> = expected.iter().map(|(key, revision)| ((*key).into(), *revision)).collect();
        assert_eq!(world.events(expected.len()).await, expected);
        assert_eq!((world.get("d").await, world.engine.revision()), (Ok(0), next));
    }
}

/// What is to be told of the first of two such commits is not forgotten for the second.
#[tokio::test]
async fn a_commit_that_nobody_decided_hides_none() {
    let mut world = World::new(Faults { unsure: true, ..Faults::default() }).await;
    put(&world.engine, "b", "v").await;
    world.set(|faults| faults.unknown = Some(true));
    for key in ["c", "d"] {
        let unknown = world.try_put(key).await;
        assert!(matches!(unknown, Err(Error::Unknown(_))), "{unknown:?}");
    }
    world.set(|faults| faults.down = false);
    assert_eq!(world.try_put("e").await, Ok(4));
    assert_eq!(world.events(3).await, [("b".into(), 2), ("c".into(), 3), ("e".into(), 4)]);
}

/// A transaction whose conditions fail writes nothing: it is carried out, and the alarm stays.
#[tokio::test]
async fn a_full_database_is_full_until_something_is_written() {
    let world = World::new(Faults { full: true, ..Faults::default() }).await;
    assert_eq!(world.try_put("b").await, Err(no_room()));
    let range = KeyRange::from_wire("b".into(), "".into());
    let there = Compare { range, result: CompareResult::Greater, target: CompareTarget::Version(0) };
    let txn = Op::Txn(Txn { compares: vec![there], ..Txn::default() });
    assert!(world.engine.write(txn).await.is_ok());
    assert!(world.engine.is_full());
    assert_eq!(world.engine.writable().await, Err(no_room()));
    world.set(|faults| faults.full = false);
    assert_eq!(world.try_put("b").await, Ok(2));
    assert!(!world.engine.is_full());
}

#[tokio::test]
async fn a_key_is_not_longer_than_the_database_can_hold() {
    let world = World::new(Faults { key_limit: Some(3), ..Faults::default() }).await;
    let long = Put { key: "long".into(), value: "v".into(), ..Put::default() };
    let within = Op::Txn(Txn { failure: vec![Op::Put(long)], ..Txn::default() });
    assert_eq!(world.try_put("abc").await, Ok(2));
    assert_eq!(world.try_put("long").await, Err(Error::KeyTooLong { length: 4, limit: 3 }));
    assert_eq!(world.engine.write(within).await, Err(Error::KeyTooLong { length: 4, limit: 3 }));
    assert_eq!(world.get("long").await, Ok(0));
}

#[tokio::test]
async fn a_request_has_no_more_bytes_than_the_database_can_take() {
    let world = World::new(Faults { values_limit: Some(3), ..Faults::default() }).await;
    let put = |value: &'static str| Op::Put(Put { key: value.into(), value: value.into(), ..Put::default() });
    let txn = |success: &[&'static str], failure: &[&'static str]| {
        let ops = |values: &[&'static str]| values.iter().map(|value| put(value)).collect();
        Op::Txn(Txn { success: ops(success), failure: ops(failure), ..Txn::default() })
    };
    let table = [
        (put("abc"), Ok(2)),
        (put("abcd"), Err(4)),
        (txn(&["a", "bc"], &["def"]), Ok(3)),
        (txn(&["a"], &["bc", "de"]), Err(4)),
        (Op::Txn(Txn { failure: vec![txn(&[], &["ab", "cd"])], ..Txn::default() }), Err(4)),
    ];
    for (op, expected) in table {
        let done = world.engine.write(op.clone()).await.map(|(revision, _)| revision);
        assert_eq!(done, expected.map_err(|length| Error::RequestTooLarge { length, limit: 3 }), "{op:?}");
    }
}

/// Its guess is a revision that the requests before it in the same commit make.
#[tokio::test]
async fn a_transaction_that_reads_what_is_not_there_yet_fails_alone() {
    let database = Database::new();
    let (engine, _) = open(&database).await;
    put(&engine, "x", "before").await;
    for _ in 0..5 {
        let set = |key: String| Op::Put(Put { key: key.into(), value: "v".into(), ..Put::default() });
        let range = KeyRange::single("x".to_owned());
        let guess = RangeQuery { range, revision: engine.revision() + 15, ..RangeQuery::default() };
        let success = vec![set("x".to_owned()), Op::Range(guess)];
        let txn = Op::Txn(Txn { success, ..Txn::default() });
        // All but the first wait for its commit, and are committed together.
        let writes = (0..20).map(|number| set(format!("a{number}"))).chain([txn]);
        let mut answers = futures::future::join_all(writes.map(|write| engine.write(write))).await;
        assert!(matches!(answers.pop(), Some(Ok(_) | Err(Error::FutureRevision))));
        answers.into_iter().for_each(|answer| drop(answer.unwrap()));
    }
    engine.shutdown().await;
}
