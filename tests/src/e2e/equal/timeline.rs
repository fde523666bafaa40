//! What happened on one system, in order: its unfiltered watches, one for each kind.
//!
//! Revisions of two systems differ, since each has other writers too. What they share is the position of a change in
//! this order.

use std::io::BufRead as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::form::MARK;
use super::kind::Kind;
use sluice_shell::error::{Error, Result};
use sluice_toolkit::cluster::client::Client;
use sluice_toolkit::cluster::shirts;

/// One event of a watch.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Event {
    /// `ADDED`, `MODIFIED`, `DELETED`.
    pub(super) what: String,
    /// What it is about.
    pub(super) object: Object,
}

/// An object, without what two systems can't have in common.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Object {
    pub(super) revision: u64,
    pub(super) content: Value,
}

impl Object {
    /// Takes out the revision, and what is made up by the server: identity, times, managed fields.
    ///
    /// # Errors
    /// When it has no revision.
    pub(super) fn of(mut content: Value) -> Result<Self> {
        let revision = shirts::revision(&content)?;
        if let Some(metadata) = content["metadata"].as_object_mut() {
            for name in ["uid", "creationTimestamp", "managedFields", "resourceVersion"] {
                metadata.remove(name);
            }
            if let Some(time) = metadata.get_mut("deletionTimestamp") {
                *time = Value::Bool(true);
            }
        }
        Ok(Self { revision, content })
    }

    /// `namespace/name`.
    pub(super) fn name(&self) -> String {
        let text = |field: &str| self.content["metadata"][field].as_str().unwrap_or_default();
        format!("{}/{}", text("namespace"), text("name"))
    }

    /// Who wrote it last.
    pub(super) fn mark(&self) -> Option<&str> {
        self.content["metadata"]["annotations"][MARK].as_str()
    }
}

#[derive(Default)]
struct Seen {
    events: [Vec<Event>; 2],
    /// Why a watch ended, if one did.
    ended: Option<String>,
}

/// All that happened since [`Timeline::follow`].
#[derive(Clone, Default)]
pub(super) struct Timeline {
    seen: Arc<(Mutex<Seen>, Condvar)>,
}

impl Timeline {
    /// Begins to watch, from the present on.
    ///
    /// # Errors
    /// When the API refuses.
    pub(super) fn follow(api: &Client) -> Result<Self> {
        let timeline = Self::default();
        for (at, kind) in Kind::ALL.into_iter().enumerate() {
            let path = kind.path("v1", None);
            let now = shirts::revision(&api.get(&format!("{path}?limit=1"))?)?;
            let lines = api.watch(&format!("{path}?watch=1&timeoutSeconds=86400&resourceVersion={now}"))?;
            let timeline = timeline.clone();
            std::thread::spawn(move || {
                for line in lines.lines() {
                    let event = line.map_err(Error::from).and_then(|line| event(&line));
                    let mut seen = timeline.lock();
                    match event {
                        Ok(event) => seen.events[at].push(event),
                        Err(error) => seen.ended = Some(error.to_string()),
                    }
                    timeline.seen.1.notify_all();
                }
                timeline.lock().ended.get_or_insert_with(|| "the server ended it".to_owned());
                timeline.seen.1.notify_all();
            });
        }
        Ok(timeline)
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until both kinds' last event is the one with that mark; returns all events in the order in which they
    /// happened.
    ///
    /// # Errors
    /// When that takes too long, or a watch has ended.
    pub(super) fn until(&self, mark: &str) -> Result<Vec<Event>> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut seen = self.lock();
        loop {
            let there = |events: &Vec<Event>| events.last().and_then(|event| event.object.mark()) == Some(mark);
            if seen.events.iter().all(there) {
                let mut all: Vec<Event> = seen.events.iter().flatten().cloned().collect();
                all.sort_by_key(|event| event.object.revision);
                return Ok(all);
            }
            if let Some(reason) = &seen.ended {
                return Err(Error::input(format!("the watch of everything ended: {reason}")));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::input(format!(
                    "the watch of everything never came to the change with mark {mark:?}"
                )));
            }
            seen = self.seen.1.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// From the line that the API writes.
///
/// # Errors
/// When it is no event, or one that says what went wrong.
pub(super) fn event(line: &str) -> Result<Event> {
    let mut event: Value = serde_json::from_str(line)?;
    let what = event["type"].as_str().unwrap_or_default().to_owned();
    let content = event["object"].take();
    if what == "ERROR" {
        return Err(Error::input(format!("an ERROR event: {content}")));
    }
    Ok(Event { what, object: Object::of(content)? })
}
