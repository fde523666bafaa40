//! Clients that write down what they were told, and what must be there in the end because of that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sluice_shim::endpoint::Endpoint;
use sluice_shim::engine::metrics::Metrics;
use sluice_shim::engine::*;
use sluice_shim::sql;
use tokio::task::JoinHandle;

/// Nothing that goes on takes longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

/// Where all keys of the ledger are.
const ALL: &str = "/registry/faults/";

/// What one revision changed: keys in order, without a value where they were deleted.
type Change = Vec<(Bytes, Option<Bytes>)>;

/// Opens the engine on a database.
pub(crate) async fn open(endpoint: &Endpoint) -> Engine {
    open_counted(endpoint, Arc::default()).await
}

/// The same, counted with these.
pub(crate) async fn open_counted(endpoint: &Endpoint, metrics: Arc<Metrics>) -> Engine {
    let store = sql::open(endpoint, Arc::clone(&metrics)).unwrap();
    Engine::start(store, ReaderThreads { small: 1, large: 2 }, metrics).await.unwrap()
}

/// Waits for something, but not for ever.
pub(crate) async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work).await.unwrap_or_else(|_| panic!("it takes too long: {what}"))
}

/// One writer. Each of its steps builds on the one before, so a step that is lost or done twice shows in the next.
pub(crate) struct Writer {
    engine: Engine,
    name: String,
    steps: i64,
    last: Revision,
    /// What its steps changed that happened.
    done: BTreeMap<Revision, Change>,
}

impl Writer {
    pub(crate) fn new(engine: &Engine, name: impl Into<String>) -> Self {
        Self { engine: engine.clone(), name: name.into(), steps: 0, last: 0, done: BTreeMap::new() }
    }

    fn counter(&self) -> Bytes {
        format!("{ALL}counter/{}", self.name).into()
    }

    fn thing(&self, step: i64) -> Bytes {
        format!("{ALL}things/{}-{step}", self.name).into()
    }

    fn change(&self, step: i64) -> Change {
        let labels = format!(r#"{{"name":"{}-{step}","uid":"{0}{step}","labels":{{"step":"{step}"}}}}"#, self.name);
        let object = format!(r#"{{"apiVersion":"example.com/v1","kind":"Thing","metadata":{labels}}}"#);
        let mut change = vec![(self.counter(), Some(step.to_string().into())), (self.thing(step), Some(object.into()))];
        if step > 1 {
            change.push((self.thing(step - 1), None));
        }
        change
    }

    /// Makes the next step; returns the error of one that was not acknowledged, after which
    /// [`find_out`](Self::find_out) has to be asked.
    pub(crate) async fn step(&mut self) -> Result<()> {
        let op = |(key, value): (Bytes, Option<Bytes>)| match value {
            Some(value) => Op::Put(Put { key, value, ..Put::default() }),
            None => Op::Delete(DeleteRange { range: KeyRange::single(key), prev_kv: false }),
        };
        let compare = Compare {
            range: KeyRange::single(self.counter()),
            result: CompareResult::Equal,
            target: CompareTarget::Mod(self.last),
        };
        let success = self.change(self.steps + 1).into_iter().map(op).collect();
        let txn = Txn { compares: vec![compare], success, failure: vec![] };
        match in_time("a write", self.engine.write(Op::Txn(txn))).await? {
            (revision, OpResult::Txn(TxnResult { succeeded: true, .. })) => self.happened(revision),
            other => panic!("{}: step {} does not find the one before: {other:?}", self.name, self.steps + 1),
        }
        Ok(())
    }

    fn happened(&mut self, revision: Revision) {
        self.steps += 1;
        let changed = self.done.insert(revision, self.change(self.steps));
        assert!(changed.is_none() && revision > self.last, "{}: revision {revision} came twice", self.name);
        self.last = revision;
    }

    /// Finds out whether the step happened that ended with that error, as soon as the database can be read.
    pub(crate) async fn find_out(&mut self, error: &Error) {
        let range = RangeQuery { range: KeyRange::single(self.counter()), ..RangeQuery::default() };
        let mut refused = String::new();
        let read = async {
            loop {
                match self.engine.range(range.clone()).await {
                    Ok(found) => return found.kvs,
                    Err(error @ (Error::Unavailable(_) | Error::TooManyRequests)) => {
                        refused = error.to_string();
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    Err(other) => panic!("{}: {other}", self.name),
                }
            }
        };
        let found = tokio::time::timeout(DEADLINE, read).await;
        let found = found.unwrap_or_else(|_| panic!("a read behind an error takes too long: {refused}"));
        let revision = found.first().map_or(0, |kv| kv.mod_revision);
        if revision != self.last {
            let may = matches!(error, Error::Unknown(_));
            assert!(may, "{}: it is said not to have happened, but it did: {error}", self.name);
            assert_eq!(found[0].value, (self.steps + 1).to_string(), "{}: {error}", self.name);
            self.happened(revision);
        }
    }

    /// Reads what it wrote last, by its key and in a list: no read may be older.
    pub(crate) async fn look(&self) -> Result<()> {
        // A dot comes behind a dash.
        let [start, end] = ["-", "."].map(|end| Bytes::from(format!("{ALL}things/{}{end}", self.name)));
        let things = KeyRange { start, end: RangeEnd::Before(end) };
        for range in [KeyRange::single(self.counter()), things] {
            let found = in_time("a read", self.engine.range(RangeQuery { range, ..RangeQuery::default() })).await?;
            let revisions: Vec<_> = found.kvs.iter().map(|kv| kv.mod_revision).collect();
            let last = if self.last > 0 { vec![self.last] } else { vec![] };
            assert_eq!(revisions, last, "{}: a read is older than a write that was acknowledged", self.name);
        }
        Ok(())
    }
}

/// A watch of everything, from the beginning on.
pub(crate) struct Observer {
    engine: Engine,
    heard: JoinHandle<BTreeMap<Revision, Change>>,
}

impl Observer {
    /// Hears all until a key says that it is the end.
    pub(crate) fn new(engine: &Engine) -> Self {
        let mut watch = engine.watch();
        let range = KeyRange::tree(ALL.as_bytes());
        watch.create(WatchSpec { id: 1, range, start_revision: 1, no_put: false, no_delete: false, selection: None });
        let heard = tokio::spawn(async move {
            let mut heard = BTreeMap::<Revision, Change>::new();
            loop {
                let events = match watch.next().await {
                    WatchMessage::Events { events, .. } => events,
                    ended => panic!("the watch ended: {ended:?}"),
                };
                let until = heard.last_key_value().map_or(0, |(revision, _)| *revision);
                for event in events {
                    let revision = event.kv.mod_revision;
                    assert!(revision > until, "revision {revision} was heard behind {until}");
                    let value = (event.kind == EventKind::Put).then(|| event.kv.value.clone());
                    heard.entry(revision).or_default().push((event.kv.key.clone(), value));
                    if event.kv.key == end() {
                        return heard;
                    }
                }
            }
        });
        Self { engine: engine.clone(), heard }
    }

    /// Checks that the watch has heard, and the database holds, what the writers were told: all of it, and once.
    pub(crate) async fn check(self, writers: impl IntoIterator<Item = Writer>) {
        let put = Put { key: end(), value: "end".into(), ..Put::default() };
        let last = in_time("the last write", self.engine.write(Op::Put(put))).await.unwrap().0;
        let mut expected = BTreeMap::from([(last, vec![(end(), Some("end".into()))])]);
        for writer in writers {
            for (revision, change) in writer.done {
                assert!(expected.insert(revision, change).is_none(), "two writes have revision {revision}");
            }
        }
        let heard = in_time("the last event", self.heard).await.unwrap();
        assert_eq!(heard, expected, "what was heard is not what was written");
        let mut live = BTreeMap::new();
        for (key, value) in expected.into_values().flatten() {
            match value {
                Some(value) => live.insert(key, value),
                None => live.remove(&key),
            };
        }
        let query = RangeQuery { range: KeyRange::tree(ALL.as_bytes()), ..RangeQuery::default() };
        let found = in_time("a list", self.engine.range(query)).await.unwrap().kvs;
        assert!(found.into_iter().map(|kv| (kv.key, kv.value)).eq(live), "what is stored is not what was written");
        self.engine.shutdown().await;
    }
}

fn end() -> Bytes {
    format!("{ALL}end").into()
}

/// Checks all that the database stores; nobody may serve it.
pub(crate) fn sound(endpoint: &Endpoint) {
    let mut wrong = Vec::new();
    sql::check(endpoint, false, &mut |damage| wrong.push(damage)).unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
