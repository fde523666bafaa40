//! Whether clients of a server that is killed again and again see one etcd.
//!
//! Clients send random calls to the real process while it is killed or stopped, and started again, or stands still for
//! a moment; watches run beside them. Where the database is on a server, a second test kills that as well: a server of
//! the test's own. A third test has three processes on the database, which stand by for each other, and kills one after
//! the other. A fourth test has three nodes of a Galera cluster below one process, and kills the node in use, or cuts
//! it off. A fifth test has a server that holds a copy of the database and answers lists; now and then the copy is
//! late, or the server is gone. All events are watched from revision 1 on, and everything is checked against them.
//!
//! # Why this is a check of linearizability
//!
//! A history is linearizable if its calls can be put in one order that respects real time and in which each answer is
//! what a single store would say. To find an order is hard in general. But etcd names it: a write's header has
//! the revision that it made, and any other call's header the revision at which it read. So the order to check is
//! given: by revision, at each revision the write first and then the reads, those by their beginning. A new watch
//! counts as a read: its header says after which revision it begins.
//!
//! - *Sound* (what passes is linearizable): replayed in that order on a model every answer is the model's. The order
//!   respects real time, because a call that began after another was answered has no smaller revision, and a greater
//!   one if it writes; reads of one revision do not disturb each other. A call without an answer is either in no
//!   revision: it may be left out, nothing was built on it. Or it is the cause of one that no answered write made: then
//!   it follows all that was answered before it began, and nothing is bound to follow it.
//! - *Complete* (what fails is not what etcd promises): etcd says which revision is whose, so another order would
//!   contradict the headers even where it explains the values. Among calls without an answer it may be open who made a
//!   revision (values are unique, deletes look alike): a matching finds owners whenever there are any.
//!
//! Compactions and leases have no revision of their own. For them it is checked what real time says: what is compacted
//! before a call began is not read by it, an error has a compaction that had begun ([`compactions`]); a lease is found
//! between its grant and its end and not otherwise, its end deletes its keys in one revision that nobody else made, no
//! earlier than its time is over ([`leases`]); and at the end none has outlived its time. The events to check against
//! are heard by one watch during the whole round, of which no compaction gets ahead; what is left of them in the end is
//! watched again.
//!
//! The ticks of one counter are the time: taken before sending and after the answer, so a call that is said to come
//! before another did. An error counts as unknown only if the server was killed during the call. While the database's
//! server is away a call may be refused, and then nothing of it may be found; only etcd's `request timed out` leaves
//! that open. Any other error fails the test: so does one of a watch, which an outage of the database may not end. A
//! process that is killed may leave open what became of a call that was handed on to it, and ends watches.
//!
//! # How to run it
//!
//! `SLUICE_LINEARIZABILITY_SECONDS` says how long (15 if unset; 3600 for an hour), in rounds of 15 seconds with a new
//! database each. A round prints its seed; `SLUICE_LINEARIZABILITY_SEED` repeats what each client chooses and when the
//! server dies, though not how the machine interleaves it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod backing;
mod checker;
mod checker_tests;
mod client;
#[path = "../servers/galera.rs"]
mod cluster;
mod compactions;
#[path = "../database/mod.rs"]
mod database;
mod history;
mod leases;
mod model;
#[path = "../servers/port.rs"]
mod port;
mod process;
mod random;
#[path = "../servers/own.rs"]
mod server;
mod watcher;

use std::collections::HashMap;
use std::fmt::Debug;
use std::str::FromStr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use backing::{Backing, Copied, Struck};
use client::{Client, KEYS, Shared, all_keys, key, some_keys};
use cluster::Cluster;
use database::Database;
use history::{Answer, Call, History, Keys, Message, Operation, Outcome, Refusal};
use process::{Keeper, Lives, Strikes};
use random::Random;
use server::Server;
use tokio::sync::watch;
use watcher::Watcher;

const ROUND: Duration = Duration::from_secs(15);
const CLIENTS: usize = 6;
const WATCHES: u64 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_are_linearizable() {
    rounds(None, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_of_several_shims_are_linearizable() {
    if database::family_or_skip().is_some() {
        rounds(None, 3).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_are_linearizable_while_the_database_is_killed_as_well() {
    let Some(family) = database::family_or_skip() else { return };
    rounds(Some(&mut Server::start(family, &[])), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_are_linearizable_while_nodes_of_a_cluster_are_struck_as_well() {
    if !cluster::is_skipped() {
        rounds(Some(&mut Struck::new(Cluster::start())), 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_with_a_copy_that_answers_lists_are_linearizable() {
    if let Some(family) = database::family_or_skip() {
        rounds(Some(&mut Copied::start(family)), 1).await;
    }
}

/// Rounds, each with a database of its own: on the server that is killed, or of the kind under test. `shims`: how many
/// shims serve it.
async fn rounds(mut server: Option<&mut (dyn Backing + 'static)>, shims: usize) {
    let seed = variable("SLUICE_LINEARIZABILITY_SEED")
        .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64);
    let mut left = Duration::from_secs(variable("SLUICE_LINEARIZABILITY_SECONDS").unwrap_or(ROUND.as_secs()));
    for seed in seed.. {
        let time = left.min(ROUND);
        eprintln!("SLUICE_LINEARIZABILITY_SEED={seed} for {time:?}");
        let database = server.as_ref().map_or_else(Database::new, |server| Database::on(&server.url()));
        let (history, strikes) = round((seed, time), &database, server.as_deref_mut(), shims).await;
        match checker::check(&history) {
            Ok(revision) => {
                eprintln!("{strikes:?}, {} at revision {revision}", summary(&history));
                say(seed, strikes, &history);
            }
            Err(why) => {
                let (url, folder) = (database.url().to_owned(), database.keep());
                std::fs::write(folder.join("history.txt"), format!("{history:#?}")).unwrap();
                panic!("seed {seed}: {why}\nThe database is {url}, history.txt is in {}", folder.display());
            }
        }
        left -= time;
        if left.is_zero() {
            break;
        }
    }
}

fn variable<T: FromStr<Err: Debug>>(name: &str) -> Option<T> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

/// A line for `cargo xtask test scale`, which adds them up.
fn say(seed: u64, Strikes { kills, stops, pauses, outages }: Strikes, history: &History) {
    let writes = history.operations.iter().filter(|operation| match &operation.outcome {
        Outcome::Answered(_, Answer::Put(_) | Answer::Succeeded(_)) => true,
        Outcome::Answered(_, Answer::Delete(deleted)) => !deleted.is_empty(),
        _ => false,
    });
    let (writes, events) = (writes.count(), history.events.len());
    let round = serde_json::json!({
        "seed": seed, "kills": kills, "stops": stops, "pauses": pauses, "outages": outages,
        "writes": writes, "events": events,
    });
    println!("ROUND {round}");
}

/// One database with clients and watches; returns also what was struck how often.
async fn round(
    (seed, time): (u64, Duration),
    database: &Database,
    server: Option<&mut (dyn Backing + 'static)>,
    shims: usize,
) -> (History, Strikes) {
    let mut keeper = Keeper::start(database, server, shims).await;
    let shared = Shared::new();
    let (ending, end) = watch::channel(None);
    let heard = Arc::new(Mutex::new(HashMap::new()));
    let archive = tokio::spawn(archive(&shared, &heard, keeper.lives(0), end).run());
    let until = Instant::now() + time;
    let spawn = |number: usize| {
        let random = Random::new(seed, number as u64);
        tokio::spawn(Client::new(number, random, keeper.lives(number), shared.clone()).run(until))
    };
    let clients: Vec<_> = (0..CLIENTS).map(spawn).collect();
    let mut random = Random::new(seed, 1000);
    let mut watches = Vec::new();
    for number in 0..WATCHES {
        let (sender, last) = watch::channel(None);
        let keys = match number {
            0 => all_keys(),
            1 => Keys::one(key(random.within(0..KEYS))),
            _ => some_keys(&mut random),
        };
        let from = if random.once_in(2) { 0 } else { random.within(1..200) as i64 };
        let watcher =
            Watcher::new(keys.clone(), from, Random::new(seed, 2000 + number), keeper.lives(number as usize), last);
        watches.push((keys, sender, tokio::spawn(watcher.run())));
    }
    while Instant::now() < until {
        // The clients work meanwhile.
        tokio::time::sleep(Duration::from_millis(random.within(200..1500))).await;
        keeper.strike(&mut random).await;
    }
    let strikes = keeper.strikes;
    let mut history = History::default();
    for client in clients {
        history.operations.extend(client.await.unwrap());
    }
    // A last write to each key tells each watch where it may end.
    let mut closing = Client::new(CLIENTS, Random::new(seed, 3000), keeper.lives(0), shared);
    closing.outlive_leases().await;
    let mut last = Vec::new();
    for number in 0..KEYS {
        let call = Call::Put { key: key(number), value: format!("last-{number}").into(), lease: 0 };
        last.push((key(number), closing.perform(call).await.unwrap()));
    }
    closing.perform(Call::Range { keys: all_keys(), revision: 0 }).await.unwrap();
    history.operations.append(&mut closing.operations);
    let newest = last.last().map(|(_, revision)| *revision);
    ending.send_replace(newest);
    let whole = archive.await.unwrap();
    // What a later life has is what was heard in the earlier ones.
    let (_sender, end) = watch::channel(newest);
    let kept = (all_keys(), compacted(&history) + 1);
    history.watches.push(Watcher::of_history(kept, keeper.lives(0), end, |_| ()).run().await);
    for (keys, sender, watcher) in watches {
        let newest = last.iter().filter(|(key, _)| keys.contains(key)).map(|(_, revision)| *revision).max();
        sender.send_replace(newest);
        history.watches.push(watcher.await.unwrap());
    }
    let events = |message: &Message| match message {
        Message::Events(_, events) => events.clone(),
        Message::Progress(_) | Message::Gap(_) => vec![],
    };
    history.events = whole.messages.iter().flat_map(events).collect();
    history.watches.push(whole);
    history.heard = std::mem::take(&mut *heard.lock().unwrap());
    (history, strikes)
}

/// The watch of the whole history: when it heard of each revision, and how far others may compact.
fn archive(
    shared: &Shared,
    heard: &Arc<Mutex<HashMap<i64, u64>>>,
    lives: Lives,
    end: watch::Receiver<Option<i64>>,
) -> Watcher {
    let (shared, heard) = (shared.clone(), Arc::clone(heard));
    Watcher::of_history((all_keys(), 1), lives, end, move |revision| {
        let before = shared.archived.swap(revision, Ordering::SeqCst);
        let now = shared.now();
        heard.lock().unwrap().extend((before + 1..=revision).map(|revision| (revision, now)));
    })
}

/// The revision up to which all may be compacted.
fn compacted(history: &History) -> i64 {
    let revision = |operation: &Operation| match operation.call {
        Call::Compact { revision } if !matches!(operation.outcome, Outcome::Refused(_)) => Some(revision),
        _ => None,
    };
    history.operations.iter().filter_map(revision).max().unwrap_or(0)
}

fn summary(history: &History) -> String {
    let unknown = history.operations.iter().filter(|operation| matches!(operation.outcome, Outcome::Unknown));
    let messages: usize = history.watches.iter().map(|watch| watch.messages.len()).sum();
    let gaps =
        history.watches.iter().flat_map(|watch| &watch.messages).filter(|message| matches!(message, Message::Gap(_)));
    let count = |of: fn(&Operation) -> bool| history.operations.iter().filter(|operation| of(operation)).count();
    let refused = [Refusal::Compacted, Refusal::NoLease, Refusal::NoDatabase].map(|refusal| {
        history.operations.iter().filter(|operation| operation.outcome == Outcome::Refused(refusal)).count()
    });
    format!(
        "{} calls ({} unknown, {} refused because of a compaction, {} for want of a lease, {} of a database, {} compactions), {messages} watch messages, {} gaps",
        history.operations.len(),
        unknown.count(),
        refused[0],
        refused[1],
        refused[2],
        count(|operation| matches!(
            (&operation.call, &operation.outcome),
            (Call::Compact { .. }, Outcome::Answered(..))
        )),
        gaps.count()
    )
}
