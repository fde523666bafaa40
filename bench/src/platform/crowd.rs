//! The mixed load: many users, each of whom creates one object of each of six kinds, then reads them back by label.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::api::{Connection, Server};
use super::latency::Histogram;
use super::memory::Watcher;
use super::part::{Slice, What};
use super::shirt;
use crate::say;

/// The kinds.
const KINDS: [&str; 6] = ["shirts", "hats", "coats", "socks", "scarves", "gloves"];

/// The load is cut into slices of this length.
const SLICE: Duration = Duration::from_secs(5);

/// A user whose request failed takes a break.
const BREAK: Duration = Duration::from_millis(500);

/// How many failures are described.
const DESCRIBED: usize = 5;

/// One request.
struct Done {
    /// When it ended, since the begin.
    at: Duration,
    took: Duration,
    ok: bool,
    creates: bool,
}

/// Lets the users work for that time. Returns what they did, and why it was not all.
pub(super) async fn run(
    server: &Server,
    users: usize,
    duration: Duration,
    watcher: &Watcher,
) -> Result<(What, Option<String>)> {
    let mut connection = server.connection();
    for kind in KINDS {
        shirt::define(&mut connection, kind).await?;
    }
    let (begin, end) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let tasks: Vec<_> =
        (0..users).map(|number| tokio::spawn(user(number, server.connection(), begin, Arc::clone(&end)))).collect();
    let mut stopped = None;
    let mut said = begin;
    while begin.elapsed() < duration && stopped.is_none() {
        tokio::time::sleep(Duration::from_millis(100)).await;
        stopped = watcher.stop();
        if said.elapsed() > Duration::from_secs(60) {
            said = Instant::now();
            say(&format!("  {:.0} of {:.0} s", begin.elapsed().as_secs_f64(), duration.as_secs_f64()));
        }
    }
    let length = begin.elapsed();
    end.store(true, Ordering::Relaxed);
    let (mut done, mut failures) = (Vec::new(), Vec::new());
    for task in tasks {
        let (some, described) = task.await?;
        done.extend(some);
        failures.extend(described);
    }
    failures.sort();
    failures.dedup();
    failures.truncate(DESCRIBED);
    let slices = cut(&done, length, begin.duration_since(watcher.begin()), watcher);
    let objects = slices.last().map_or(0, |slice: &Slice| slice.objects);
    let stopped = stopped.map(|reason| format!("at {} objects: {reason}", crate::report::number(objects as f64)));
    Ok((What::Mixed { users, slices, failures }, stopped))
}

async fn user(
    number: usize,
    mut connection: Connection,
    begin: Instant,
    end: Arc<AtomicBool>,
) -> (Vec<Done>, Vec<String>) {
    let (mut done, mut failures) = (Vec::new(), Vec::new());
    for turn in 0_u64.. {
        let owner = format!("user-{number}-{turn}");
        for (kind, creates) in KINDS.map(|kind| (kind, true)).into_iter().chain(KINDS.map(|kind| (kind, false))) {
            if end.load(Ordering::Relaxed) {
                return (done, failures);
            }
            let sent = Instant::now();
            let result = request(&mut connection, kind, &owner, creates).await;
            done.push(Done { at: begin.elapsed(), took: sent.elapsed(), ok: result.is_ok(), creates });
            if let Err(error) = result {
                if failures.len() < DESCRIBED {
                    failures.push(format!("{error:#}"));
                }
                tokio::time::sleep(BREAK).await;
            }
        }
    }
    (done, failures)
}

async fn request(connection: &mut Connection, kind: &str, owner: &str, creates: bool) -> Result<()> {
    let path = shirt::path(kind);
    if creates {
        connection.create(&path, shirt::piece(kind, owner, owner)).await?.success()?;
        return Ok(());
    }
    let list = connection.get(&format!("{path}?labelSelector=owner%3D{owner}")).await?;
    match shirt::count(&list) {
        1 => Ok(()),
        found => anyhow::bail!("a list by label gave {found} objects instead of 1"),
    }
}

/// Sums the requests up by slices; `offset` is from the watcher's begin to the load's.
fn cut(done: &[Done], length: Duration, offset: Duration, watcher: &Watcher) -> Vec<Slice> {
    let count = (length.as_secs_f64() / SLICE.as_secs_f64()).round().max(1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of slices")]
    let count = count as usize;
    let mut slices: Vec<Slice> = (0..count)
        .map(|at| {
            let begin = SLICE * u32::try_from(at).unwrap_or(u32::MAX);
            let end = if at + 1 == count { length.max(begin) } else { begin + SLICE };
            Slice {
                begin: begin.as_secs_f64(),
                seconds: (end - begin).as_secs_f64(),
                objects: 0,
                requests: 0,
                failures: 0,
                latencies: Histogram::default(),
                memory: watcher.between(begin + offset, end + offset),
            }
        })
        .collect();
    for request in done {
        let at = usize::try_from(request.at.as_millis() / SLICE.as_millis()).unwrap_or(usize::MAX);
        // What was under way at the end belongs to the last slice.
        let slice = &mut slices[at.min(count - 1)];
        slice.requests += 1;
        slice.failures += u64::from(!request.ok);
        slice.objects += u64::from(request.ok && request.creates);
        slice.latencies.add(request.took);
    }
    let mut objects = 0;
    for slice in &mut slices {
        objects += slice.objects;
        slice.objects = objects;
    }
    slices
}
