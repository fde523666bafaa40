//! Asks for shirts: one client, one question after the other.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use serde_json::{Value, json};

use super::api::Server;
use super::latency::{Histogram, Latency};
use super::memory::Watcher;
use super::part::{Question, What};
use super::shirt::{self, OF_A_COLOR};

/// A question is asked so often at least, whatever the time; the first answers do not count.
const LEAST: u64 = 10;
const WARM_UP: u64 = 3;

/// An event must come within this time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks each question for a while. Returns what was found, and why it was not all.
pub(super) async fn run(
    server: &Server,
    objects: u64,
    duration: Duration,
    watcher: &Watcher,
) -> Result<(What, Option<String>)> {
    let (mut answers, mut stopped) = (BTreeMap::new(), None);
    for question in Question::ALL {
        let asked = match question {
            Question::Event => events(server, objects, duration, watcher).await,
            _ => lists(question, server, objects, duration, watcher).await,
        };
        match asked.with_context(|| question.title()) {
            Ok(latency) => answers.insert(question, latency),
            Err(error) => {
                stopped = watcher.stop().or_else(|| Some(format!("{error:#}")));
                break;
            }
        };
    }
    let stopped = stopped.map(|reason| format!("at {} shirts: {reason}", crate::report::number(objects as f64)));
    Ok((What::Query { objects, answers }, stopped))
}

/// When a question was asked often enough.
struct Clock<'a> {
    begin: Instant,
    duration: Duration,
    asked: u64,
    histogram: Histogram,
    watcher: &'a Watcher,
}

impl<'a> Clock<'a> {
    fn new(duration: Duration, watcher: &'a Watcher) -> Self {
        Self { begin: Instant::now(), duration, asked: 0, histogram: Histogram::default(), watcher }
    }

    fn goes_on(&self) -> Result<bool> {
        if let Some(reason) = self.watcher.stop() {
            bail!("{reason}");
        }
        Ok(self.begin.elapsed() < self.duration || self.asked < LEAST + WARM_UP)
    }

    fn note(&mut self, latency: Duration) {
        self.asked += 1;
        if self.asked > WARM_UP {
            self.histogram.add(latency);
        }
    }

    fn latency(&self) -> Latency {
        self.histogram.latency()
    }
}

/// A number that looks like chance and is the same for all systems.
fn scattered(number: u64, below: u64) -> u64 {
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % below.max(1)
}

async fn lists(
    question: Question,
    server: &Server,
    objects: u64,
    duration: Duration,
    watcher: &Watcher,
) -> Result<Latency> {
    let (mut connection, mut clock, path) = (server.connection(), Clock::new(duration, watcher), shirt::path("shirts"));
    let mut next = String::new();
    while clock.goes_on()? {
        let color = shirt::color(scattered(clock.asked, objects));
        let path = match question {
            Question::Label => format!("{path}?labelSelector=color%3D{color}"),
            Question::Field => format!("{path}?fieldSelector=spec.color%3D{color}"),
            _ => format!("{path}?limit=500{next}"),
        };
        let sent = Instant::now();
        let list = connection.get(&path).await?;
        clock.note(sent.elapsed());
        let found = shirt::count(&list) as u64;
        if question == Question::Page {
            // The walk begins anew behind the last page.
            next = token(&list).map(|token| format!("&continue={token}")).unwrap_or_default();
            if found != objects.min(500) && !next.is_empty() {
                bail!("{path} gave {found} shirts");
            }
        } else if found != OF_A_COLOR {
            bail!("{path} gave {found} shirts");
        }
    }
    Ok(clock.latency())
}

/// The list's continue token.
fn token(list: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct List {
        metadata: Metadata,
    }
    #[derive(serde::Deserialize)]
    struct Metadata {
        #[serde(default)]
        r#continue: String,
    }
    let list: List = serde_json::from_slice(list).ok()?;
    Some(list.metadata.r#continue).filter(|token| !token.is_empty())
}

/// Writes to shirts of one colour, and waits for each event at a watch of that colour.
async fn events(server: &Server, objects: u64, duration: Duration, watcher: &Watcher) -> Result<Latency> {
    let (mut connection, mut clock, path) = (server.connection(), Clock::new(duration, watcher), shirt::path("shirts"));
    let first = scattered(7, objects / OF_A_COLOR) * OF_A_COLOR;
    let selector = format!("labelSelector=color%3D{}", shirt::color(first));
    let list = connection.json(&format!("{path}?{selector}")).await?;
    let now = list["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    let watch = format!("{path}?watch=1&timeoutSeconds=3600&resourceVersion={now}&{selector}");
    let mut watch = server.connection().watch(&watch).await?;
    while clock.goes_on()? {
        let number = first + clock.asked % OF_A_COLOR;
        let patch = json!({"spec": {"size": format!("{now}-{}", clock.asked)}}).to_string();
        let sent = Instant::now();
        let shirt = format!("{path}/{}", shirt::name(number));
        // Both at once: the event may come before the answer to the write.
        let (written, event) = tokio::join!(connection.merge(&shirt, Bytes::from(patch)), async {
            let event = tokio::time::timeout(PATIENCE, watch.next()).await;
            (event, sent.elapsed())
        });
        let (event, latency) = event;
        let (written, event) = (written?, event.context("the event did not come")??);
        clock.note(latency);
        let revision = |object: &Value| object["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        let (written, event): (Value, Value) = (serde_json::from_slice(&written)?, serde_json::from_slice(&event)?);
        if revision(&written) != revision(&event["object"]) {
            bail!("the watch gave another event: {event}");
        }
    }
    Ok(clock.latency())
}
