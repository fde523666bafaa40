//! The property test of selectors: whatever is asked of patched apiserver and shim, the answer is that of stock
//! apiserver and etcd.
//!
//! Both run side by side. Random objects of two custom resources go through the same random edits in the same order on
//! both, in rounds. Beside and after the edits of a round come lists and watches with random selectors; each is asked
//! of both systems, and both must say the same: objects, order, pages, types of events, refusals. On our side the
//! resources are out of the watch cache, so that every one of them reaches the storage.
//!
//! Revisions differ between systems. What is compared instead is a change's position in the order of all changes, which
//! an unfiltered watch gives ([`timeline`]).
//!
//! `SLUICE_EQUAL_SEED` repeats the choices of a seed, `SLUICE_EQUAL_CHECKS` says how many lists are made.

mod edit;
mod form;
mod kind;
mod list;
mod random;
mod selector;
mod system;
mod timeline;
mod watch;

use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use self::edit::Edit;
use self::form::{Form, Place};
use self::kind::Kind;
use self::list::List;
use self::random::Random;
use self::system::System;
use self::watch::{Start, Watch};
use super::lab::{Lab, Wish};
use super::{Case, Column, Suite, Verdict};
use sluice_shell::error::{Error, Result};
use sluice_toolkit::cluster::settings::Store;
use sluice_toolkit::cluster::wait::ensure;

/// Lists, in all rounds together.
const CHECKS: usize = 3000;

/// Of a round.
const LISTS: usize = 250;
const EDITS: usize = 60;
const WATCHES: usize = 18;
const PAGED: usize = 8;

/// Edits before the definition of a resource is changed.
const EARLY: usize = 60;

/// Threads that ask.
const ASKING: usize = 8;

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new("equal/random-selectors", run)]
}

fn run(suite: &Suite) -> Result<Verdict> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_secs());
    let seed = setting("SLUICE_EQUAL_SEED")?.unwrap_or(now);
    let checks = setting("SLUICE_EQUAL_CHECKS")?.unwrap_or(CHECKS);
    let [stock, ours] = start(suite)?;
    let shown = compare(stock, ours, seed, checks.div_ceil(LISTS));
    shown.map(Verdict::Passed).map_err(|error| error.attempting(format!("SLUICE_EQUAL_SEED={seed}")))
}

fn setting<T: FromStr>(name: &str) -> Result<Option<T>> {
    match std::env::var(name) {
        Ok(text) => text.parse().map(Some).map_err(|_| Error::input(format!("{name}={text:?} is no number"))),
        Err(_) => Ok(None),
    }
}

/// Without compaction: states of the past are asked for.
fn start(suite: &Suite) -> Result<[Lab; 2]> {
    let wish = |column| Wish::new(column).apiserver_arg("--etcd-compaction-interval=0");
    let stock = wish(Column { patched: false, store: Store::Etcd });
    let ours = wish(Column::OURS).apiserver_arg(kind::NO_WATCH_CACHE);
    let [stock, ours] = both([stock, ours], |wish| Lab::start(suite, wish))?;
    Ok([stock, ours])
}

fn compare(stock: Lab, ours: Lab, seed: u64, rounds: usize) -> Result<String> {
    let mut random = Random::new(seed);
    let early: Vec<Edit> = (0..EARLY).map(|number| Edit::random(&mut random, number)).collect();
    let mut systems = both([stock, ours], |lab| System::prepare(lab, &early))?;
    let mut tally = Tally::default();
    // Positions count from the first change that both timelines saw.
    round(&mut systems, &mut random, 0, &mut tally).map_err(|error| error.attempting("round 0"))?;
    for number in 1..=rounds {
        round(&mut systems, &mut random, number, &mut tally)
            .map_err(|error| error.attempting(format!("round {number}")))?;
    }
    let used = selectors_used(&systems[1])?;
    let wanted = tally.with_labels as u64 / 2;
    ensure(used >= wanted, || format!("the shim used {used} selectors, less than {wanted}: they do not reach it"))?;
    let [stock, ours] = systems;
    stock.lab.finish()?;
    ours.lab.finish()?;
    Ok(format!("seed {seed}: {} lists, {} watches, {} changes are equal", tally.lists, tally.watches, tally.changes))
}

#[derive(Default)]
struct Tally {
    lists: usize,
    /// Lists with a label selector.
    with_labels: usize,
    watches: usize,
    changes: usize,
}

/// Edits with watches and paged lists around them, then lists of what is there. Round 0 is edits alone.
fn round(systems: &mut [System; 2], random: &mut Random, number: usize, tally: &mut Tally) -> Result<()> {
    let (begin, first) = (tally.changes, number == 0);
    let watches = if first { Vec::new() } else { watches(random, number, begin) };
    let early = |watch: &Watch| !watch.is_replay(begin);
    let running = watches.iter().filter(|watch| early(watch)).map(|watch| open(systems, watch)).collect::<Vec<_>>();
    running.iter().flatten().for_each(watch::Running::ready);
    let paged: Vec<List> = (0..if first { 0 } else { PAGED }).map(|_| List::in_pages(random, begin)).collect();
    let begun = ask(&paged, systems, |list, system| list.begin(system))?;

    edit(systems, random, number, &watches, tally)?;

    let replays = watches.iter().filter(|watch| !early(watch)).map(|watch| open(systems, watch)).collect::<Vec<_>>();
    let both_sides = [&systems[0], &systems[1]];
    for (list, begun) in paged.iter().zip(begun) {
        let [stock, ours] = begun;
        let answers = [list.finish(both_sides[0], stock)?, list.finish(both_sides[1], ours)?];
        list.compare(both_sides, [&answers[0], &answers[1]])
            .map_err(|error| error.attempting("a list whose pages have edits between them"))?;
    }
    let in_order = watches.iter().filter(|watch| early(watch)).chain(watches.iter().filter(|watch| !early(watch)));
    for (watch, running) in in_order.zip(running.into_iter().chain(replays)) {
        let [stock, ours] = running.map(watch::Running::end);
        let stock = stock.map_err(|error| error.attempting("stock"))?;
        let ours = ours.map_err(|error| error.attempting("ours"))?;
        watch.compare(both_sides, [&stock, &ours])?;
    }
    let lists: Vec<List> = (0..if first { 0 } else { LISTS }).map(|_| List::random(random, tally.changes)).collect();
    ask(&lists, systems, |list, system| list.finish(system, list.begin(system)?))?
        .iter()
        .zip(&lists)
        .try_for_each(|([stock, ours], list)| list.compare(both_sides, [stock, ours]))?;
    tally.lists += lists.len() + paged.len();
    tally.with_labels += lists.iter().filter(|list| list.has_labels()).count();
    tally.watches += watches.len();
    Ok(())
}

/// A third from the present, a third with the state, a third from the round before, opened when the edits are done.
fn watches(random: &mut Random, number: usize, now: usize) -> Vec<Watch> {
    let start = |random: &mut Random, at| match at % 3 {
        0 => Start::Behind(now),
        1 => Start::State,
        // Not further: stock's cache forgets.
        _ => Start::Behind(now.saturating_sub(1 + random.below(EDITS / 2)).max(1)),
    };
    (0..WATCHES)
        .map(|at| {
            let start = start(random, at);
            Watch::random(random, start, format!("round-{number}-watch-{at}"))
        })
        .collect()
}

fn open(systems: &[System; 2], watch: &Watch) -> [watch::Running; 2] {
    [watch.open(&systems[0]), watch.open(&systems[1])]
}

/// Random edits, those that end the watches, and one for each kind that ends the round. All must come out the same.
fn edit(
    systems: &mut [System; 2],
    random: &mut Random,
    number: usize,
    watches: &[Watch],
    tally: &mut Tally,
) -> Result<()> {
    let mut edits: Vec<Edit> = (0..EDITS).map(|at| Edit::random(random, at)).collect();
    edits.extend(watches.iter().map(|watch| watch.last.clone()));
    let mark = format!("round-{number}");
    edits.extend(Kind::ALL.map(|kind| {
        let place = Place { namespace: kind.namespaces()[0], name: "last".to_owned() };
        Edit::Put(kind, place, Form::random(random, kind), mark.clone())
    }));
    let [stock, ours] = both([&systems[0], &systems[1]], |system| system.apply(&edits))?;
    for (edit, (stock, ours)) in edits.iter().zip(stock.into_iter().zip(ours)) {
        ensure(stock == ours, || format!("stock says {stock}, ours says {ours} to {edit:?}"))?;
    }
    let [stock, ours] = systems;
    let [first, second] = [stock.catch_up(&mark)?, ours.catch_up(&mark)?];
    for (at, (first, second)) in first.iter().zip(&second).enumerate() {
        let same = first.what == second.what && first.object.content == second.object.content;
        ensure(same, || format!("change {at} differs\n  stock: {first:?}\n  ours: {second:?}"))?;
    }
    ensure(first.len() == second.len(), || format!("stock saw {} changes, ours {}", first.len(), second.len()))?;
    tally.changes = first.len();
    Ok(())
}

/// Does something on both systems at once.
fn both<I: Send, T: Send>(inputs: [I; 2], work: impl Fn(I) -> Result<T> + Sync) -> Result<[T; 2]> {
    let [first, second] = inputs;
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| work(first));
        let second = work(second);
        (first.join().unwrap_or_else(|_| Err(Error::input("a thread panicked"))), second)
    });
    Ok([first?, second?])
}

/// Asks both systems for each list, on many threads.
fn ask(
    lists: &[List],
    systems: &[System; 2],
    work: impl Fn(&List, &System) -> Result<list::Answer> + Sync,
) -> Result<Vec<[list::Answer; 2]>> {
    let next = AtomicUsize::new(0);
    let answers = Mutex::new(Vec::new());
    let put = |at, answer| answers.lock().unwrap_or_else(PoisonError::into_inner).push((at, answer));
    std::thread::scope(|scope| {
        for _ in 0..ASKING {
            scope.spawn(|| {
                while let Some((at, list)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, lists.get(at)?)))
                {
                    let both = work(list, &systems[0]).and_then(|stock| Ok([stock, work(list, &systems[1])?]));
                    put(at, both);
                }
            });
        }
    });
    let mut answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
    answers.sort_by_key(|(at, _)| *at);
    answers.into_iter().map(|(_, both)| both).collect()
}

/// How often the shim filtered: were it never, the test would show nothing.
fn selectors_used(ours: &System) -> Result<u64> {
    let metrics = ours.lab.cluster.store_client().text("/metrics")?;
    let lines = metrics.lines().filter(|line| line.starts_with("sluice_selectors_used_total"));
    Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
}
