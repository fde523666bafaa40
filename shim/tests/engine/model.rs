//! The engine on a real database against a simple model of etcd: random operations, reads at random revisions, watches,
//! compactions and restarts.

use std::collections::BTreeMap;

use crate::database::Database;
use crate::support::open;
use bytes::Bytes;
use proptest::prelude::*;
use sluice_shim::engine::*;

/// Every state of the store since its birth.
#[derive(Default)]
struct Model {
    /// The live keys after each revision; the first is revision 1.
    states: Vec<BTreeMap<Bytes, KeyValue>>,
    /// The changes of each revision, from revision 2 on.
    events: Vec<Event>,
    compact_revision: Revision,
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8, bool),
    Delete(u8, u8),
    /// Put if the key's mod revision is that of so many revisions ago.
    Cas(u8, u8, i64),
    Range(u8, u8, i64, usize),
    Count(u8, u8, i64),
    Compact(i64),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0u8..12;
    prop_oneof![
        6 => (key.clone(), any::<u8>(), any::<bool>()).prop_map(|(k, v, p)| Step::Put(k, v, p)),
        2 => (key.clone(), 0u8..4).prop_map(|(k, n)| Step::Delete(k, n)),
        3 => (key.clone(), any::<u8>(), 0i64..5).prop_map(|(k, v, ago)| Step::Cas(k, v, ago)),
        4 => (key.clone(), 0u8..14, 0i64..30, 0usize..6).prop_map(|(k, n, ago, limit)| Step::Range(k, n, ago, limit)),
        2 => (key, 0u8..14, 0i64..30).prop_map(|(k, n, ago)| Step::Count(k, n, ago)),
        1 => (0i64..20).prop_map(Step::Compact),
        1 => Just(Step::Restart),
    ]
}

/// Keys in three directories.
fn key(number: u8) -> Bytes {
    format!("/registry/{}/{number:02}", ["a", "b", "b/c"][usize::from(number / 4).min(2)]).into()
}

fn range(from: u8, keys: u8) -> KeyRange {
    match keys {
        0 => KeyRange::single(key(from)),
        13 => KeyRange::from_wire(Bytes::from_static(b"/registry/b/"), Bytes::from_static(b"/registry/b0")),
        12 => KeyRange::from_wire(Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
        keys => {
            let (a, b) = (key(from), key(from + keys));
            KeyRange::from_wire(a.clone().min(b.clone()), a.max(b))
        }
    }
}

impl Model {
    fn new() -> Self {
        Self { states: vec![BTreeMap::new()], ..Self::default() }
    }

    fn revision(&self) -> Revision {
        self.states.len() as Revision
    }

    fn at(&self, revision: Revision) -> &BTreeMap<Bytes, KeyValue> {
        &self.states[revision as usize - 1]
    }

    fn put(&mut self, key: Bytes, value: Bytes) -> Option<KeyValue> {
        let mut state = self.at(self.revision()).clone();
        let revision = self.revision() + 1;
        let previous = state.get(&key).cloned();
        let kv = KeyValue {
            key: key.clone(),
            value,
            create_revision: previous.as_ref().map_or(revision, |kv| kv.create_revision),
            mod_revision: revision,
            version: previous.as_ref().map_or(1, |kv| kv.version + 1),
            lease: 0,
        };
        state.insert(key, kv.clone());
        self.states.push(state);
        self.events.push(Event { kind: EventKind::Put, kv, prev_kv: previous.clone() });
        previous
    }

    fn delete(&mut self, range: &KeyRange) -> Vec<KeyValue> {
        let mut state = self.at(self.revision()).clone();
        let gone: Vec<_> = state.values().filter(|kv| range.contains(&kv.key)).cloned().collect();
        if !gone.is_empty() {
            let revision = self.revision() + 1;
            for previous in &gone {
                state.remove(&previous.key);
                let kv = KeyValue { key: previous.key.clone(), mod_revision: revision, ..KeyValue::default() };
                self.events.push(Event { kind: EventKind::Delete, kv, prev_kv: Some(previous.clone()) });
            }
            self.states.push(state);
        }
        gone
    }
}

struct System {
    engine: Engine,
    model: Model,
    /// Dropped after the engine.
    database: Database,
}

impl System {
    async fn new() -> Self {
        let database = Database::new();
        let (engine, _) = open(&database).await;
        Self { engine, model: Model::new(), database }
    }

    async fn run(&mut self, step: Step) {
        match step {
            Step::Put(k, v, prev_kv) => {
                let (key, value) = (key(k), Bytes::from(vec![v; usize::from(v)]));
                let put = Put { key: key.clone(), value: value.clone(), prev_kv, ..Put::default() };
                let (revision, result) = self.engine.write(Op::Put(put)).await.unwrap();
                let previous = self.model.put(key, value);
                assert_eq!(revision, self.model.revision());
                assert_eq!(result, OpResult::Put(previous.filter(|_| prev_kv)));
            }
            Step::Delete(k, n) => {
                let range = range(k, n);
                let delete = DeleteRange { range: range.clone(), prev_kv: true };
                let (revision, result) = self.engine.write(Op::Delete(delete)).await.unwrap();
                let prev_kvs = self.model.delete(&range);
                assert_eq!(revision, self.model.revision());
                assert_eq!(result, OpResult::Delete { deleted: prev_kvs.len() as i64, prev_kvs });
            }
            Step::Cas(k, v, ago) => self.cas(key(k), Bytes::from(vec![v]), ago).await,
            Step::Range(k, n, ago, limit) => self.range(range(k, n), ago, limit).await,
            Step::Count(k, n, ago) => {
                let (range, revision) = (range(k, n), (self.model.revision() - ago).max(1));
                let query = RangeQuery {
                    range: range.clone(),
                    revision,
                    projection: Projection::CountOnly,
                    ..RangeQuery::default()
                };
                let result = self.engine.range(query).await;
                if revision < self.model.compact_revision {
                    assert!(matches!(result, Err(Error::Compacted { .. })));
                } else {
                    let count = self.model.at(revision).keys().filter(|key| range.contains(key)).count() as i64;
                    assert_eq!(result.unwrap().count, count, "{range:?} at {revision}");
                }
            }
            Step::Compact(ago) => {
                let revision = self.model.revision() - ago;
                let result = self.engine.compact(revision, ago % 2 == 0).await;
                if revision <= self.model.compact_revision {
                    assert!(matches!(result, Err(Error::Compacted { .. })));
                } else {
                    assert_eq!(result.unwrap(), self.model.revision());
                    self.model.compact_revision = revision;
                }
            }
            Step::Restart => {
                self.engine.shutdown().await;
                (self.engine, _) = open(&self.database).await;
            }
        }
    }

    async fn cas(&mut self, key: Bytes, value: Bytes, ago: i64) {
        let expected = self.model.at((self.model.revision() - ago).max(1)).get(&key).map_or(0, |kv| kv.mod_revision);
        let actual = self.model.at(self.model.revision()).get(&key).map_or(0, |kv| kv.mod_revision);
        let get = Op::Range(RangeQuery { range: KeyRange::single(key.clone()), ..RangeQuery::default() });
        let txn = Txn {
            compares: vec![Compare {
                range: KeyRange::single(key.clone()),
                result: CompareResult::Equal,
                target: CompareTarget::Mod(expected),
            }],
            success: vec![Op::Put(Put { key: key.clone(), value: value.clone(), ..Put::default() }), get.clone()],
            failure: vec![get],
        };
        let (revision, result) = self.engine.write(Op::Txn(txn)).await.unwrap();
        let OpResult::Txn(result) = result else { panic!("not a transaction's answer") };
        assert_eq!(result.succeeded, expected == actual);
        if result.succeeded {
            self.model.put(key.clone(), value);
        }
        assert_eq!(revision, self.model.revision());
        let Some(OpResult::Range(read)) = result.results.last() else { panic!("no read") };
        let now: Vec<_> = self.model.at(revision).get(&key).cloned().into_iter().collect();
        assert_eq!(read.kvs, now);
    }

    async fn range(&self, range: KeyRange, ago: i64, limit: usize) {
        let revision = (self.model.revision() - ago).max(1);
        let limit_bytes = [0, 1, 60][ago as usize % 3];
        let query = RangeQuery { range: range.clone(), revision, limit, limit_bytes, ..RangeQuery::default() };
        let mut next = query.clone();
        let mut found = Vec::new();
        loop {
            let result = match self.engine.range(next.clone()).await {
                Ok(result) => result,
                Err(Error::Compacted { compact_revision }) => {
                    assert_eq!(compact_revision, self.model.compact_revision);
                    assert!(revision < compact_revision);
                    return;
                }
                Err(error) => panic!("{error}"),
            };
            assert!(revision >= self.model.compact_revision);
            assert_eq!(result.revision, self.model.revision());
            let rest = self.model.at(revision).keys().filter(|key| next.range.contains(key)).count() as i64;
            assert_eq!(result.count, rest);
            if limit > 0 && result.kvs.len() == limit {
                assert_eq!(result.more, rest > limit as i64, "a full page knows whether it is the last");
            }
            found.extend(result.kvs);
            match found.last() {
                Some(last) if result.more => next.range = range.after(&last.key),
                _ => break,
            }
        }
        let expected: Vec<_> = self.model.at(revision).values().filter(|kv| range.contains(&kv.key)).cloned().collect();
        assert_eq!(found, expected, "{range:?} at {revision}");
        let mut chunks = self.engine.range_stream(query);
        let mut streamed = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            streamed.extend(chunk.unwrap().kvs);
        }
        let cut = if limit == 0 { expected.len() } else { limit.min(expected.len()) };
        assert_eq!(streamed, expected[..cut]);
    }

    /// A watch from any revision sees exactly the events since, in order, once, whether they come from the ring or the
    /// database.
    async fn check_watches(&self) {
        for start in [1, self.model.compact_revision, self.model.compact_revision + 1, self.model.revision()] {
            let start = start.max(1);
            let mut session = self.engine.watch();
            let all = KeyRange { start: Bytes::from_static(b"\0"), end: RangeEnd::Unbounded };
            session.create(WatchSpec {
                id: 7,
                range: all,
                start_revision: start,
                no_put: false,
                no_delete: false,
                selection: None,
            });
            let expected: Vec<_> = self.model.events.iter().filter(|event| event.kv.mod_revision >= start).collect();
            if start < self.model.compact_revision {
                let compact_revision = self.model.compact_revision;
                assert_eq!(session.next().await, WatchMessage::Compacted { id: 7, compact_revision });
                continue;
            }
            let mut seen = Vec::new();
            while seen.len() < expected.len() {
                match session.next().await {
                    WatchMessage::Events { events, .. } => seen.extend(events),
                    other => panic!("{other:?}"),
                }
            }
            // What a change at the revision of the compaction replaced may be gone.
            let lost = |event: &Event| event.kv.mod_revision == self.model.compact_revision;
            let kept =
                |event: &Event| Event { prev_kv: event.prev_kv.clone().filter(|_| !lost(event)), ..event.clone() };
            assert!(seen.iter().map(|event| kept(event)).eq(expected.iter().map(|event| kept(event))));
        }
    }

    /// The history as a backup sees it holds every live key as it is.
    async fn check_records(&self) {
        let mut chunks = self.engine.records(0);
        let mut records = Vec::new();
        while let Some(chunk) = chunks.recv().await {
            records.extend(chunk.unwrap());
        }
        assert!(records.is_sorted_by_key(|record| (record.revision, record.sub)));
        let mut live = BTreeMap::new();
        for record in records {
            match record.tombstone {
                true => live.remove(&record.kv.key),
                false => live.insert(record.kv.key.clone(), record.kv),
            };
        }
        assert_eq!(&live, self.model.at(self.model.revision()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn behaves_as_the_model(steps in prop::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut system = System::new().await;
            for step in steps {
                system.run(step).await;
            }
            system.check_watches().await;
            system.check_records().await;
            system.engine.shutdown().await;
        });
    }
}

/// The value of one of the three keys exceeds the bytes of a page that is full with all three.
#[tokio::test]
async fn a_full_page_of_the_past_knows_whether_it_is_the_last() {
    let mut system = System::new().await;
    let steps = [
        Step::Put(7, 56, false),
        Step::Cas(4, 0, 0),
        Step::Put(2, 4, false),
        Step::Put(3, 0, false),
        Step::Put(4, 0, false),
        Step::Range(0, 8, 2, 3),
    ];
    for step in steps {
        system.run(step).await;
    }
    system.engine.shutdown().await;
}
