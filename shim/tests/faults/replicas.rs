//! Servers that hold copies of the database answer lists, and no list is older for it.

use std::sync::Arc;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use sluice_shim::endpoint::{Address, Endpoint, Family};
use sluice_shim::engine::metrics::{Metrics, ReplicaOutcome};
use sluice_shim::engine::{Engine, Error, KeyRange, Op, Put, RangeQuery, WatchMessage, WatchSpec};

use crate::database::Database;
use crate::ledger::{Writer, in_time, open, open_counted, sound};
use crate::load::engine_under_load;
use crate::proxy::Proxy;
use crate::server::{Server, Stop};

/// A database with a server that holds a copy of it, and what is counted of that server.
struct Copied {
    primary: Server,
    copy: Server,
    database: Database,
    metrics: Arc<Metrics>,
}

impl Copied {
    fn start(family: Family) -> Self {
        let primary = Server::primary(family);
        let copy = Server::replica_of(&primary, "copy");
        let database = Database::on(&primary.url());
        copy.catch_up(&primary);
        Self { primary, copy, database, metrics: Arc::default() }
    }

    /// The database at the server that holds the copy.
    fn of_copy(&self) -> Address {
        let Endpoint::Network(address) = self.database.endpoint() else { panic!("a file") };
        let mut address = (**address).clone();
        address.hosts[0].port = self.copy.port;
        address
    }

    /// The engine on the database; `copy`: where it is told that there is a copy.
    async fn open(&self, copy: Address) -> Engine {
        let Endpoint::Network(address) = self.database.endpoint() else { panic!("a file") };
        let address = Address { replicas: vec![copy], ..(**address).clone() };
        open_counted(&Endpoint::Network(Box::new(address)), Arc::clone(&self.metrics)).await
    }

    /// How many reads of the copy came to that end.
    fn count(&self, copy: &Address, outcome: ReplicaOutcome) -> u64 {
        self.metrics.replica_reads(&copy.hosts(), outcome).get()
    }
}

/// Writes and looks at it, until something is so.
async fn go_on(writer: &mut Writer, what: &str, until: impl Fn() -> bool) {
    let steps = async {
        while !until() {
            writer.step().await.unwrap();
            writer.look().await.unwrap();
        }
    };
    in_time(what, steps).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_answers_lists_while_it_is_not_late() {
    let Some(family) = crate::family_or_skip() else { return };
    let mut copied = Copied::start(family);
    let address = copied.of_copy();
    let engine = copied.open(address.clone()).await;
    let mut writer = Writer::new(&engine, "w");
    for _ in 0..2 {
        let answered = copied.count(&address, ReplicaOutcome::Answered);
        let more = || copied.count(&address, ReplicaOutcome::Answered) > answered + 5;
        go_on(&mut writer, "lists from a copy", more).await;
        let late = copied.count(&address, ReplicaOutcome::Late);
        copied.copy.follow(false);
        go_on(&mut writer, "lists while the copy is late", || copied.count(&address, ReplicaOutcome::Late) > late + 1)
            .await;
        copied.copy.follow(true);
    }
    copied.copy.stop(Stop::Kill);
    let failed = |copied: &Copied| copied.count(&address, ReplicaOutcome::Failed) > 0;
    go_on(&mut writer, "lists while the copy is gone", || failed(&copied)).await;
    copied.copy.run();
    let answered = copied.count(&address, ReplicaOutcome::Answered);
    let again = || copied.count(&address, ReplicaOutcome::Answered) > answered;
    go_on(&mut writer, "lists from a copy that was started again", again).await;
    // As docs/monitoring.md calls them.
    let (mut registry, mut text) = (Registry::default(), String::new());
    copied.metrics.register_server(&mut registry);
    encode(&mut text, &registry).unwrap();
    let endpoint = address.hosts();
    for outcome in ["Answered", "Late", "Failed"] {
        let name = format!("read_endpoint_reads_total{{endpoint=\"{endpoint}\",outcome=\"{outcome}\"}} ");
        assert!(text.contains(&name) && !text.contains(&format!("{name}0\n")), "{name}: {text}");
    }
    assert!(text.contains(&format!("read_endpoint_revision{{endpoint=\"{endpoint}\"}} ")), "{text}");
}

/// Watchers that begin in the past, and pages of the past, see the same from a copy.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_answers_what_was() {
    let Some(family) = crate::family_or_skip() else { return };
    let copied = Copied::start(family);
    let address = copied.of_copy();
    let engine = copied.open(address.clone()).await;
    let range = KeyRange::tree(b"/a/");
    let put = |value: &'static str| Op::Put(Put { key: "/a/b".into(), value: value.into(), ..Put::default() });
    let (first, _) = engine.write(put("1")).await.unwrap();
    engine.write(put("2")).await.unwrap();
    let answered = || copied.count(&address, ReplicaOutcome::Answered);
    let page = async {
        let before = answered();
        loop {
            let past = RangeQuery { range: range.clone(), revision: first, ..RangeQuery::default() };
            let found = engine.range(past).await.unwrap();
            assert_eq!((found.kvs.len(), &found.kvs[0].value[..]), (1, &b"1"[..]));
            if answered() > before {
                break;
            }
        }
    };
    in_time("a page from a copy", page).await;
    // One that was started later has only the database to tell of what was before.
    engine.shutdown().await;
    drop(engine);
    let engine = copied.open(address.clone()).await;
    let watch = async {
        let before = answered();
        loop {
            let mut session = engine.watch();
            session.create(WatchSpec {
                id: 1,
                range: range.clone(),
                start_revision: first,
                no_put: false,
                no_delete: false,
                selection: None,
            });
            let mut seen = Vec::new();
            while seen.len() < 2 {
                if let WatchMessage::Events { events, .. } = session.next().await {
                    seen.extend(events.iter().map(|event| event.kv.value.clone()));
                }
            }
            assert_eq!(seen, ["1", "2"]);
            if answered() > before {
                break;
            }
        }
    };
    in_time("a watch from a copy", watch).await;
    engine.compact(first + 1, false).await.unwrap();
    let old = RangeQuery { range, revision: first, ..RangeQuery::default() };
    let refused = engine.range(old).await.unwrap_err();
    assert!(matches!(refused, Error::Compacted { .. }), "{refused}");
}

/// A server whose network lets no answer through holds a list up, and the next ones not.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_does_not_answer_is_left_alone() {
    let Some(family) = crate::family_or_skip() else { return };
    let copied = Copied::start(family);
    let proxy = Proxy::start(&Endpoint::Network(Box::new(copied.of_copy())));
    let Endpoint::Network(address) = proxy.endpoint() else { panic!("a file") };
    let engine = copied.open((**address).clone()).await;
    let mut writer = Writer::new(&engine, "w");
    let answered = || copied.count(address, ReplicaOutcome::Answered) > 0;
    go_on(&mut writer, "lists from a copy", answered).await;
    proxy.stall(true);
    let failed = || copied.count(address, ReplicaOutcome::Failed) > 0;
    go_on(&mut writer, "lists while the copy is silent", failed).await;
    proxy.stall(false);
    let before = copied.count(address, ReplicaOutcome::Answered);
    let again = || copied.count(address, ReplicaOutcome::Answered) > before;
    go_on(&mut writer, "lists when it answers again", again).await;
}

/// Its revision is higher, and its keys are others.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_holds_another_database_is_no_copy() {
    if crate::is_skipped() {
        return;
    }
    let [database, other] = Database::several();
    let stranger = open(other.endpoint()).await;
    let mut writer = Writer::new(&stranger, "w");
    for _ in 0..20 {
        writer.step().await.unwrap();
    }
    let (Endpoint::Network(address), Endpoint::Network(other)) = (database.endpoint(), other.endpoint()) else {
        panic!("a file")
    };
    let metrics = Arc::<Metrics>::default();
    let address = Address { replicas: vec![(**other).clone()], ..(**address).clone() };
    let engine = open_counted(&Endpoint::Network(Box::new(address)), Arc::clone(&metrics)).await;
    let mut writer = Writer::new(&engine, "w");
    for _ in 0..10 {
        writer.step().await.unwrap();
        writer.look().await.unwrap();
    }
    assert_eq!(metrics.replica_reads(&other.hosts(), ReplicaOutcome::Answered).get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_late_and_gone_in_turns_loses_nothing() {
    let Some(family) = crate::family_or_skip() else { return };
    let copied = Copied::start(family);
    let engine = copied.open(copied.of_copy()).await;
    let Copied { primary: _primary, mut copy, database, .. } = copied;
    let blow = move |number: usize| match number % 4 {
        0 => copy.follow(false),
        1 => copy.follow(true),
        2 => copy.stop(Stop::Kill),
        _ => copy.run(),
    };
    engine_under_load(engine, 12, blow).await;
    sound(database.endpoint());
}
