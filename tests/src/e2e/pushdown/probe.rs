//! Asks with a selector in every way there is, and compares what comes back.

use std::io::BufRead as _;

use serde_json::Value;

use crate::e2e::lab::Lab;
use crate::kubectl::Event;
use sluice_shell::error::{Error, Result};
use sluice_toolkit::cluster::client::{Client, HttpError};
use sluice_toolkit::cluster::shirts::names;

/// How often the objects of a list are counted: others may list the same resource meanwhile.
const TRIES: usize = 5;

/// The annotation of the bookmark that ends the initial events of a watch (apimachinery:
/// `metav1.InitialEventsAnnotationKey`).
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// A selector, and what must come back for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    /// The label selector; may be empty.
    pub(super) labels: &'static str,
    /// The field selector; may be empty.
    pub(super) fields: &'static str,
    /// The names of the objects, in order.
    pub(super) names: &'static str,
    /// How many objects our store hands to the apiserver for a list.
    pub(super) fetched: usize,
}

/// A [`Row`] with a label selector.
pub(super) const fn label(labels: &'static str, names: &'static str, fetched: usize) -> Row {
    Row { labels, fields: "", names, fetched }
}

/// A [`Row`] with a field selector.
pub(super) const fn field(fields: &'static str, names: &'static str, fetched: usize) -> Row {
    Row { labels: "", fields, names, fetched }
}

/// Asks one cluster, and keeps what was wrong to the end.
pub(super) struct Probe<'a> {
    /// The cluster.
    pub(super) lab: &'a Lab,
    /// Whether apiserver and store are ours.
    ours: bool,
    asked: usize,
    wrong: Vec<String>,
}

impl<'a> Probe<'a> {
    pub(super) fn new(lab: &'a Lab, ours: bool) -> Self {
        Self { lab, ours, asked: 0, wrong: Vec::new() }
    }

    /// The API as admin.
    pub(super) fn api(&self) -> &'a Client {
        &self.lab.api
    }

    /// Asks for each row by a list, by pages of one object, and by a watch that sends what there is.
    ///
    /// # Errors
    /// When the API does not answer. A wrong answer is kept for [`Probe::into_wrong`].
    pub(super) fn expect(&mut self, situation: &str, path: &str, rows: &[Row]) -> Result<()> {
        for row in rows {
            self.asked += 1;
            let url = format!("{path}?labelSelector={}&fieldSelector={}", escape(row.labels), escape(row.fields));
            let (listed, fetched) = self.list(path, &url, row.fetched)?;
            let ways = [("list", listed), ("pages", pages(self.api(), &url)?), ("watch", initial(self.api(), &url)?)];
            for (way, seen) in ways {
                self.equal(situation, row, &format!("the {way} shows"), &seen, row.names);
            }
            if self.ours {
                self.equal(situation, row, "the store gave", &fetched.to_string(), &row.fetched.to_string());
            }
        }
        Ok(())
    }

    /// Like [`Probe::expect`] for one row and by a list alone: quick, for asking again and again while something goes
    /// on. Does not look at what the store gave.
    ///
    /// # Errors
    /// As [`Probe::expect`].
    pub(super) fn expect_list(
        &mut self,
        situation: &str,
        path: &str,
        fields: &'static str,
        names: &str,
    ) -> Result<bool> {
        self.asked += 1;
        let row = field(fields, "", 0);
        let list = self.api().get(&format!("{path}?fieldSelector={}", escape(fields)))?;
        Ok(self.equal(situation, &row, "the list shows", &joined(&list), names))
    }

    /// Every list must fail with this status, whatever it selects.
    ///
    /// # Errors
    /// As [`Probe::expect`].
    pub(super) fn expect_refused(&mut self, situation: &str, path: &str, status: u16, rows: &[Row]) -> Result<()> {
        for row in rows {
            self.asked += 1;
            let url = format!("{path}?labelSelector={}&fieldSelector={}", escape(row.labels), escape(row.fields));
            let seen = match self.api().get(&url) {
                Ok(list) => format!("the objects {}", joined(&list)),
                Err(HttpError::Refused { status, .. }) => status.to_string(),
                Err(error) => return Err(error.into()),
            };
            self.equal(situation, row, "the list answers", &seen, &status.to_string());
        }
        Ok(())
    }

    /// How many selectors were asked for.
    pub(super) fn asked(&self) -> usize {
        self.asked
    }

    /// All that was not as expected.
    pub(super) fn into_wrong(self) -> Vec<String> {
        self.wrong
    }

    fn equal(&mut self, situation: &str, row: &Row, what: &str, seen: &str, expected: &str) -> bool {
        if seen != expected {
            let selector = format!("-l '{}' --field-selector '{}'", row.labels, row.fields);
            self.wrong.push(format!("{situation}: {selector}: {what} {seen:?}, expected {expected:?}"));
        }
        seen == expected
    }

    /// The names, and how many objects the apiserver read from its store for them: the least of some tries, unless it
    /// is the expected number at once.
    fn list(&self, path: &str, url: &str, expected: usize) -> Result<(String, usize)> {
        if !self.ours {
            return Ok((joined(&self.api().get(url)?), 0));
        }
        let (mut listed, mut least) = (String::new(), usize::MAX);
        for _ in 0..TRIES {
            let before = self.fetched(path)?;
            listed = joined(&self.api().get(url)?);
            least = least.min(self.fetched(path)?.saturating_sub(before));
            if least <= expected {
                break;
            }
        }
        Ok((listed, least))
    }

    /// Objects of a resource that the apiserver has read from its store for lists.
    fn fetched(&self, path: &str) -> Result<usize> {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let group = if parts[0] == "api" { "" } else { parts[1] };
        let resource = parts[parts.len() - 1];
        let wanted = [format!("group=\"{group}\""), format!("resource=\"{resource}\"")];
        let metrics = self.api().text("/metrics")?;
        let lines = metrics.lines().filter(|line| line.starts_with("apiserver_storage_list_fetched_objects_total{"));
        let lines = lines.filter(|line| wanted.iter().all(|label| line.contains(label.as_str())));
        // Before v1.37 it counts reads of the store alone, and does not say so.
        let lines = lines.filter(|line| line.contains("storage=\"etcd\"") || !line.contains("storage=\""));
        let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a counter of objects is a whole number"
        )]
        Ok(values.sum::<f64>() as usize)
    }
}

fn joined(list: &Value) -> String {
    names(list).join(" ")
}

/// The names on pages of one object.
fn pages(api: &Client, url: &str) -> Result<String> {
    let mut found = Vec::new();
    let mut token = String::new();
    loop {
        let page = api.get(&format!("{url}&limit=1&continue={}", escape(&token)))?;
        found.extend(names(&page));
        match page["metadata"]["continue"].as_str() {
            Some(next) if !next.is_empty() => next.clone_into(&mut token),
            _ => return Ok(found.join(" ")),
        }
    }
}

/// The names in a watch's initial events.
fn initial(api: &Client, url: &str) -> Result<String> {
    let how = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=20";
    let mut found = Vec::new();
    for line in api.watch(&format!("{url}&{how}"))?.lines() {
        let event = Event::from_json(&serde_json::from_str(&line?)?);
        match event.kind.as_str() {
            "ADDED" => found.push(event.name().to_owned()),
            "BOOKMARK" if event.object["metadata"]["annotations"][INITIAL_EVENTS_END] == "true" => {
                found.sort();
                return Ok(found.join(" "));
            }
            other => found.push(format!("{other}: {}", event.object["message"])),
        }
    }
    Err(Error::input(format!("the watch {url} ended before its initial events did: {found:?}")))
}

/// Percent-encodes a query value.
pub(super) fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}
