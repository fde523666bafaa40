//! Selective watches: from the present, from the past, and with the state they begin with.
//!
//! A watch ends at its own mark: the last edits of a round make an object that each of them sees. So nothing waits for
//! a time, and what should not have been sent before that is noticed.

use std::io::BufRead;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use serde_json::Value;

use super::edit::Edit;
use super::kind::Kind;
use super::random::Random;
use super::selector::Selector;
use super::system::System;
use super::timeline::{Event, event};
use sluice_shell::error::{Error, Result};
use sluice_toolkit::cluster::client::{Client, HttpError};

/// How long a watch may wait for its mark, in seconds.
const LIMIT: u64 = 60;

/// On the bookmark that ends the state that a watch begins with (k8s.io/apimachinery/pkg/apis/meta/v1,
/// `InitialEventsAnnotationKey`).
const INITIAL_END: &str = "k8s.io/initial-events-end";

/// Where a watch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// Behind the change at that position.
    Behind(usize),
    /// With all that is there (`sendInitialEvents`), and goes on from there.
    State,
}

/// A watch that is asked of both systems, and the edit that ends it.
#[derive(Debug, Clone)]
pub(super) struct Watch {
    kind: Kind,
    version: &'static str,
    namespace: Option<&'static str>,
    selector: Selector,
    start: Start,
    mark: String,
    /// What makes or changes an object so that the watch sees it.
    pub(super) last: Edit,
}

/// What a watch saw: the state that it began with, in the order of names, and what happened then. Or the status of a
/// refusal.
pub(super) type Answer = Result<(Vec<Event>, Vec<Event>), u16>;

/// A watch that runs.
pub(super) struct Running {
    thread: JoinHandle<Result<Answer>>,
    ready: Receiver<()>,
}

impl Watch {
    /// Any watch from that start.
    pub(super) fn random(random: &mut Random, start: Start, mark: String) -> Self {
        loop {
            let kind = *random.one(&Kind::ALL);
            let version = *random.one(kind.versions());
            let namespace = if random.once_in(2) { *random.one(kind.namespaces()) } else { None };
            let selector = Selector::random(random, kind, version);
            if let Some((place, form)) = selector.satisfy(random, kind, namespace) {
                let last = Edit::Put(kind, place, form, mark.clone());
                return Self { kind, version, namespace, selector, start, mark, last };
            }
        }
    }

    /// Whether it begins before the position, and so can be opened at any time behind it.
    pub(super) fn is_replay(&self, now: usize) -> bool {
        matches!(self.start, Start::Behind(position) if position < now)
    }

    fn path(&self, system: &System) -> String {
        let start = match self.start {
            Start::Behind(position) => format!("&resourceVersion={}", system.revision(position)),
            Start::State => "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan".to_owned(),
        };
        let path = self.kind.path(self.version, self.namespace);
        format!("{path}?watch=1&allowWatchBookmarks=true&timeoutSeconds={LIMIT}{start}{}", self.selector.query())
    }

    /// Opens it.
    pub(super) fn open(&self, system: &System) -> Running {
        let (api, path, mark) = (system.lab.api.clone(), self.path(system), self.mark.clone());
        let (ready, is_ready) = channel();
        let start = self.start;
        Running { thread: std::thread::spawn(move || follow(&api, &path, &mark, start, &ready)), ready: is_ready }
    }

    /// Both systems' answers must be the same.
    ///
    /// # Errors
    /// When they are not: says what is asked and where they differ.
    pub(super) fn compare(&self, systems: [&System; 2], answers: [&Answer; 2]) -> Result<()> {
        let [stock, ours] = [0, 1].map(|at| shown(systems[at], answers[at]));
        if stock == ours {
            return Ok(());
        }
        let first = stock.iter().zip(&ours).position(|(stock, ours)| stock != ours);
        let first = first.unwrap_or_else(|| stock.len().min(ours.len()));
        let line = |lines: &[String]| lines.get(first).cloned().unwrap_or_else(|| "nothing".to_owned());
        Err(Error::input(format!(
            "a watch differs: {}\n  {self:?}\n  stock ({} events), event {first}: {}\n  ours ({} events): {}",
            self.path(systems[1]),
            stock.len(),
            line(&stock),
            ours.len(),
            line(&ours),
        )))
    }
}

impl Running {
    /// Waits until what happens next will be seen.
    pub(super) fn ready(&self) {
        // A watch that is refused, or ends, drops its side; what it says is looked at later.
        let _ = self.ready.recv();
    }

    /// What it saw up to its mark.
    ///
    /// # Errors
    /// When its mark does not come.
    pub(super) fn end(self) -> Result<Answer> {
        self.thread.join().map_err(|_| Error::input("a watch's thread panicked"))?
    }
}

fn follow(api: &Client, path: &str, mark: &str, start: Start, ready: &Sender<()>) -> Result<Answer> {
    let lines = match api.watch(path) {
        Ok(lines) => lines,
        Err(HttpError::Refused { status, .. }) => return Ok(Err(status)),
        Err(error) => return Err(error.into()),
    };
    if matches!(start, Start::Behind(_)) {
        let _ = ready.send(());
    }
    read(lines, mark, start, ready).map_err(|error| error.attempting(format!("watch {path} up to mark {mark:?}")))
}

fn read(lines: impl BufRead, mark: &str, start: Start, ready: &Sender<()>) -> Result<Answer> {
    let (mut state, mut then): (Vec<Event>, Vec<Event>) = (Vec::new(), Vec::new());
    let mut in_state = start == Start::State;
    // Behind what all events must be: the last one, or a bookmark, which says that nothing older will come.
    let mut past = 0;
    for line in lines.lines() {
        let event = event(&line?)?;
        if event.what == "BOOKMARK" {
            past = past.max(event.object.revision);
            if event.object.content["metadata"]["annotations"][INITIAL_END] == Value::String("true".into()) {
                state.sort_by_key(|event| event.object.name());
                in_state = false;
                let _ = ready.send(());
            }
            continue;
        }
        if in_state {
            state.push(event);
            continue;
        }
        if event.object.revision <= past {
            return Err(Error::input(format!("an event at {} came behind {past}: {event:?}", event.object.revision)));
        }
        past = event.object.revision;
        let last = event.object.mark() == Some(mark) && event.what != "DELETED";
        then.push(event);
        if last {
            return Ok(Ok((state, then)));
        }
    }
    Err(Error::input(format!("the watch ended before its mark came, after {} events", state.len() + then.len())))
}

/// As lines, with positions for revisions.
fn shown(system: &System, answer: &Answer) -> Vec<String> {
    let (state, then) = match answer {
        Ok(both) => both,
        Err(status) => return vec![format!("refused with status {status}")],
    };
    let line = |event: &Event| {
        format!("{} at {}: {}", event.what, system.position(event.object.revision), event.object.content)
    };
    let end = format!("-- {} objects at first", state.len());
    state.iter().map(line).chain([end]).chain(then.iter().map(line)).collect()
}
