//! A database on three nodes of a Galera cluster, each of which takes writes: one at a time is used.

use std::sync::{Arc, Mutex};

use mysql::prelude::Queryable as _;
use nix::sys::signal::Signal;
use sluice_shim::endpoint::Endpoint;
use sluice_shim::sql;

use crate::cluster::{Cluster, is_skipped};
use crate::database::Database;
use crate::ledger::{Observer, Writer, in_time, open, sound};
use crate::load::under_load;
use crate::shim::Shim;
use crate::standby::{FLAGS, count, ready, write};

/// A database at one of its nodes alone.
fn at_node(database: &Database, nth: usize) -> Endpoint {
    let Endpoint::Network(address) = database.endpoint() else { panic!("a file") };
    let mut address = address.clone();
    address.hosts = vec![address.hosts[nth].clone()];
    Endpoint::Network(address)
}

/// Lets clients write while the node that is in use is struck again and again, which is to be in use no more.
async fn struck(blows: usize, strike: fn(&mut Cluster, usize), mend: fn(&mut Cluster, usize)) {
    if is_skipped() {
        return;
    }
    let cluster = Arc::new(Mutex::new(Cluster::start()));
    let database = Database::on(&cluster.lock().unwrap().url_from(0));
    let Endpoint::Network(address) = database.endpoint().clone() else { panic!("a file") };
    let theirs = Arc::clone(&cluster);
    let mut last = None;
    let blow = move |number: usize| {
        let mut cluster = theirs.lock().unwrap();
        // Writes went on without it before it comes back.
        if let Some(nth) = last.take() {
            mend(&mut cluster, nth);
        }
        if number < blows {
            let nth = cluster.in_use(&address.database).expect("no node is in use");
            strike(&mut cluster, nth);
            last = Some(nth);
        }
    };
    under_load(database.endpoint(), blows + 1, blow).await;
    sound(database.endpoint());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_goes_on_when_one_is_killed() {
    struck(4, Cluster::kill, Cluster::revive).await;
}

/// The node still takes connections.
#[tokio::test(flavor = "multi_thread")]
async fn another_node_goes_on_when_one_is_cut_off() {
    struck(3, |cluster, nth| cluster.cut_off(nth), |cluster, nth| cluster.let_in(nth)).await;
}

/// The node answers nothing any more, and has not noticed when it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn another_node_goes_on_when_one_stands_still() {
    struck(
        2,
        |cluster, nth| cluster.node(nth).signal(Signal::SIGSTOP),
        |cluster, nth| {
            cluster.node(nth).signal(Signal::SIGCONT);
            cluster.wait();
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_the_majority_is_refused_and_nothing_is_served_by_less() {
    if is_skipped() {
        return;
    }
    let cluster = Cluster::start();
    let database = Database::on(&cluster.url_from(0));
    let engine = open(database.endpoint()).await;
    let observer = Observer::new(&engine);
    let mut writer = Writer::new(&engine, "w");
    writer.step().await.unwrap();
    for nth in [0, 1] {
        tokio::task::block_in_place(|| cluster.cut_off(nth));
    }
    // The third one alone is no majority either.
    let refused = in_time("a write that is refused", async {
        loop {
            match writer.step().await {
                Ok(()) => {}
                Err(error) => return error,
            }
        }
    });
    let refused = refused.await;
    let said = async {
        let alone = at_node(&database, 2);
        loop {
            let said = tokio::task::block_in_place(|| sql::source(&alone).err().unwrap().to_string());
            if said.contains("no part of the majority of its Galera cluster") {
                break;
            }
            // A read that had begun waits for nodes that are not there any more.
            assert!(said.contains("error 1205"), "{said}");
        }
    };
    in_time("what the third one says", said).await;
    tokio::task::block_in_place(|| [0, 1].iter().for_each(|nth| cluster.let_in(*nth)));
    writer.find_out(&refused).await;
    in_time("a write", async { while writer.step().await.is_err() {} }).await;
    writer.look().await.unwrap();
    observer.check([writer]).await;
    sound(database.endpoint());
}

/// What was acknowledged by one node may wait at another one until that carries it out. Whoever reads there waits too.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_at_a_node_that_is_behind_waits_for_what_was_acknowledged() {
    if is_skipped() {
        return;
    }
    let cluster = Cluster::start();
    let database = Database::on(&cluster.url_from(0));
    let engine = open(database.endpoint()).await;
    let mut writer = Writer::new(&engine, "w");
    writer.step().await.unwrap();
    let mut source = tokio::task::block_in_place(|| sql::source(&at_node(&database, 1))).unwrap();
    let before = tokio::task::block_in_place(|| source.newest(&[]).unwrap().0);
    let options = mysql::OptsBuilder::new().ip_or_hostname(Some("127.0.0.1")).tcp_port(cluster.node(1).port);
    let mut lock = mysql::Conn::new(options.user(Some("root")).prefer_socket(false)).unwrap();
    lock.query_drop("FLUSH TABLES WITH READ LOCK").unwrap();
    writer.step().await.unwrap();
    let read = tokio::task::spawn_blocking(move || source.newest(&[]).unwrap().0);
    let waits =
        "SELECT 1 FROM information_schema.processlist WHERE command = 'Query' AND info LIKE 'SELECT m.revision%'";
    let waiting = async {
        while !read.is_finished() && cluster.node(1).set(waits).is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    in_time("a read", waiting).await;
    lock.query_drop("UNLOCK TABLES").unwrap();
    assert_eq!(in_time("a read", read).await.unwrap(), before + 1);
    engine.shutdown().await;
}

/// Each has another node, and that of the process that serves is killed with the process.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_processes_on_two_nodes_serves() {
    if is_skipped() {
        return;
    }
    let mut cluster = Cluster::start();
    let database = Database::on(&cluster.url_from(0));
    let Endpoint::Network(address) = database.endpoint() else { panic!("a file") };
    let at = |first: usize| {
        let mut address = address.clone();
        address.hosts.rotate_left(first);
        Endpoint::Network(address)
    };
    let mut first = Shim::start_with(&at(0), &FLAGS);
    in_time("the first", async { while !ready(&first).await.0 {} }).await;
    let second = Shim::start_with(&at(1), &FLAGS);
    in_time("the second", async { while !ready(&second).await.0 {} }).await;
    let [leads, stands_by] = [first.connect().await, second.connect().await];
    let mut last = write(&stands_by, "/a/0").await.unwrap();
    for (nth, through) in [(1, &leads), (2, &stands_by)] {
        assert_eq!(write(through, &format!("/a/{nth}")).await.unwrap(), last + 1);
        last += 1;
    }
    assert_eq!((cluster.in_use(&address.database), count(&stands_by).await), (Some(0), 3));
    cluster.kill(0);
    first.signal(Signal::SIGKILL);
    first.ended().await;
    let again = async {
        loop {
            match write(&stands_by, "/a/3").await {
                Ok(revision) => break revision,
                Err(status) => assert_eq!(status.code(), tonic::Code::Unavailable, "{status}"),
            }
        }
    };
    let next = in_time("a write", again).await;
    assert!(next > last && count(&stands_by).await == 4, "{last} {next}");
    cluster.revive(0);
}
