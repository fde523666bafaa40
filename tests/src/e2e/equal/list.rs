//! Lists: whole, in pages, of the past, with edits between their pages.

use super::kind::Kind;
use super::random::Random;
use super::selector::Selector;
use super::system::System;
use super::timeline::Object;
use serde_json::Value;
use sluice_shell::error::{Error, Result};
use sluice_toolkit::cluster::client::HttpError;

/// At which state, given as a position in the order of changes.
#[derive(Debug, Clone, Copy)]
enum State {
    Latest,
    NotOlderThan(usize),
    Exact(usize),
}

/// A list that is asked of both systems.
#[derive(Debug, Clone)]
pub(super) struct List {
    kind: Kind,
    version: &'static str,
    namespace: Option<&'static str>,
    selector: Selector,
    state: State,
    /// How many objects a page holds at most; 0 for all.
    limit: usize,
}

/// What a list gave: pages, or the status of a refusal.
pub(super) type Answer = Result<Vec<Page>, u16>;

/// One page.
#[derive(Debug, Clone)]
pub(super) struct Page {
    /// The list's revision.
    revision: u64,
    objects: Vec<Object>,
    remaining: Option<u64>,
    next: Option<String>,
}

impl List {
    /// Any list, of states up to the position `now`.
    pub(super) fn random(random: &mut Random, now: usize) -> Self {
        let kind = *random.one(&Kind::ALL);
        let version = *random.one(kind.versions());
        let namespace = if random.once_in(2) { *random.one(kind.namespaces()) } else { None };
        let selector = Selector::random(random, kind, version);
        let state = match random.below(8) {
            0 | 1 => State::Exact(1 + random.below(now)),
            2 => State::NotOlderThan(now),
            _ => State::Latest,
        };
        let limit = if random.once_in(3) { 1 + random.below(7) } else { 0 };
        Self { kind, version, namespace, selector, state, limit }
    }

    /// One whose pages are worth to be taken apart in time.
    pub(super) fn in_pages(random: &mut Random, now: usize) -> Self {
        Self { state: State::Latest, limit: 1 + random.below(4), ..Self::random(random, now) }
    }

    /// Whether the storage gets labels to select by.
    pub(super) fn has_labels(&self) -> bool {
        self.selector.has_labels()
    }

    fn path(&self, system: &System) -> String {
        let path = self.kind.path(self.version, self.namespace);
        let mut path = format!("{path}?limit={}{}", self.limit, self.selector.query());
        let (at, how) = match self.state {
            State::Latest => return path,
            State::NotOlderThan(at) => (at, "NotOlderThan"),
            State::Exact(at) => (at, "Exact"),
        };
        path.push_str(&format!("&resourceVersion={}&resourceVersionMatch={how}", system.revision(at)));
        path
    }

    /// The first page.
    ///
    /// # Errors
    /// When there is no answer, or one that is no list.
    pub(super) fn begin(&self, system: &System) -> Result<Answer> {
        Ok(page(system, &self.path(system))?.map(|page| vec![page]))
    }

    /// The other pages.
    ///
    /// # Errors
    /// As [`List::begin`].
    pub(super) fn finish(&self, system: &System, begun: Answer) -> Result<Answer> {
        let Ok(mut pages) = begun else { return Ok(begun) };
        while let Some(next) = pages.last().and_then(|page| page.next.clone()) {
            let path = self.kind.path(self.version, self.namespace);
            let path = format!("{path}?limit={}{}&continue={next}", self.limit, self.selector.query());
            match page(system, &path)? {
                Ok(page) => pages.push(page),
                Err(status) => return Ok(Err(status)),
            }
        }
        Ok(Ok(pages))
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
            "a list differs: {}\n  {self:?}\n  stock ({} lines), line {first}: {}\n  ours ({} lines): {}",
            self.path(systems[1]),
            stock.len(),
            line(&stock),
            ours.len(),
            line(&ours),
        )))
    }
}

/// As lines, with positions for revisions.
fn shown(system: &System, answer: &Answer) -> Vec<String> {
    let pages = match answer {
        Ok(pages) => pages,
        Err(status) => return vec![format!("refused with status {status}")],
    };
    let mut lines = Vec::new();
    // Who does not know the selector must promise one more page to find out that nothing follows.
    let empty_end = pages.len() > 1 && pages.last().is_some_and(|page| page.objects.is_empty());
    for page in &pages[..pages.len() - usize::from(empty_end)] {
        let (position, remaining) = (system.position(page.revision), page.remaining);
        lines.push(format!("a page at {position} with {} objects, remaining {remaining:?}", page.objects.len()));
        lines.extend(
            page.objects.iter().map(|object| format!("at {}: {}", system.position(object.revision), object.content)),
        );
    }
    lines
}

fn page(system: &System, path: &str) -> Result<Result<Page, u16>> {
    let mut list = match system.lab.api.get(path) {
        Ok(list) => list,
        Err(HttpError::Refused { status, .. }) => return Ok(Err(status)),
        Err(error) => return Err(error.into()),
    };
    let Value::Array(items) = list["items"].take() else { return Err(Error::input(format!("{path} is no list"))) };
    let metadata = &list["metadata"];
    let next = metadata["continue"].as_str().filter(|next| !next.is_empty()).map(str::to_owned);
    Ok(Ok(Page {
        revision: sluice_toolkit::cluster::shirts::revision(&list)?,
        objects: items.into_iter().map(Object::of).collect::<Result<_>>()?,
        remaining: metadata["remainingItemCount"].as_u64(),
        next,
    }))
}
