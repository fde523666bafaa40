//! What clients do, and on which keys.

use anyhow::{Result, bail};
use bytes::Bytes;
use clap::ValueEnum;
use serde::Serialize;

use crate::client::{Client, Store};

/// Bytes of a value.
pub(crate) const VALUE_BYTES: usize = 600;
/// Keys that each client of an update owns.
const OWN_KEYS: u64 = 4;
/// Keys of one page of a list, as kube-apiserver asks for it.
const PAGE: i64 = 500;

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Op {
    /// A transaction that creates a key.
    Create,
    /// An unconditional put of a new key.
    Put,
    /// A transaction that changes a key that nobody changed since.
    Update,
    /// A transaction that deletes such a key.
    Delete,
    /// One of the stored keys.
    Get,
    /// A page of 500 of the stored keys.
    List,
    /// The number of the stored keys.
    Count,
    /// Four gets, then one update.
    Mixed,
}

/// A family of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keys {
    kind: &'static str,
    run: u64,
}

impl Keys {
    /// The keys that are there from the start.
    pub(crate) const STORED: Self = Self { kind: "shirts", run: 0 };

    /// Keys that no other run uses.
    pub(crate) fn of_run(run: u64) -> Self {
        Self { kind: "socks", run }
    }

    /// One of them.
    pub(crate) fn key(&self, number: u64) -> Bytes {
        format!("{}{number:09}", self.prefix()).into()
    }

    /// The range of all of them.
    pub(crate) fn range(&self) -> (Bytes, Bytes) {
        let start = self.prefix();
        // The byte after "/".
        let end = format!("{}0", &start[..start.len() - 1]);
        (start.into(), end.into())
    }

    fn prefix(&self) -> String {
        format!("/registry/stable.example.com/{}/run{}/", self.kind, self.run)
    }
}

/// How an object ends, behind its note.
const TAIL: &str = r#""}}"#;

/// A stored object of [`VALUE_BYTES`], as kube-apiserver writes it: JSON with two labels.
pub(crate) fn object(number: usize) -> Bytes {
    colored(number, ["blue", "green", "red", "white"][number % 4])
}

/// The same with a value of the label `color` that is chosen.
pub(crate) fn colored(number: usize, color: &str) -> Bytes {
    let size = ["s", "m", "l"][number % 3];
    let head = format!(
        r#"{{"apiVersion":"stable.example.com/v1","kind":"Shirt","metadata":{{"creationTimestamp":"2026-01-02T03:04:05Z","generation":1,"labels":{{"color":"{color}","size":"{size}"}},"name":"shirt-{number}","namespace":"default","uid":"6a8b1c1e-5c0f-4a55-9d38-{number:012}"}},"spec":{{"note":""#
    );
    let note = "x".repeat(VALUE_BYTES.saturating_sub(head.len() + TAIL.len()));
    format!("{head}{note}{TAIL}").into()
}

/// The object of that number after so many edits: its UID stays.
pub(crate) fn edited(number: usize, edits: u64) -> Bytes {
    let mut bytes = Vec::from(object(number));
    let (text, end) = (format!("{edits:016}"), bytes.len() - TAIL.len());
    bytes[end - text.len()..end].copy_from_slice(text.as_bytes());
    bytes.into()
}

/// One client at work.
#[derive(Debug)]
pub(crate) struct Worker {
    client: Client,
    op: Op,
    keys: Keys,
    /// How many keys are stored under [`Keys::STORED`].
    stored: u64,
    /// Keys that this client alone changes, with their revisions.
    own: Vec<(Bytes, i64)>,
    next: u64,
    step: u64,
    value: Bytes,
    random: u64,
}

/// Makes the workers of a load.
pub(crate) async fn workers(store: &Store, op: Op, clients: usize, run: u64, stored: u64) -> Result<Vec<Worker>> {
    let mut tasks = Vec::new();
    for number in 0..clients {
        let worker = Worker {
            client: store.client(number),
            op,
            keys: Keys::of_run(run),
            stored,
            own: Vec::new(),
            next: number as u64 * 1_000_000,
            step: 0,
            value: object(number),
            random: 0x9e37_79b9_7f4a_7c15 ^ ((run << 32) | (number as u64 + 1)),
        };
        let owned = if matches!(op, Op::Update | Op::Mixed) { OWN_KEYS } else { 0 };
        tasks.push(tokio::spawn(worker.with_own(owned)));
    }
    let mut workers = Vec::new();
    for task in tasks {
        workers.push(task.await??);
    }
    Ok(workers)
}

impl Worker {
    async fn with_own(mut self, keys: u64) -> Result<Self> {
        for _ in 0..keys {
            self.create().await?;
        }
        Ok(self)
    }

    /// The same client, with other work: what it created it now deletes, say.
    pub(crate) fn turn_to(&mut self, op: Op) {
        self.op = op;
    }

    /// One request. False when there is nothing left to do.
    pub(crate) async fn step(&mut self) -> Result<bool> {
        self.step += 1;
        match self.op {
            Op::Create => self.create().await?,
            Op::Put => {
                let key = self.new_key();
                self.client.put(key, self.value.clone()).await?;
            }
            Op::Update => self.update().await?,
            Op::Delete => {
                let Some((key, revision)) = self.own.pop() else { return Ok(false) };
                if !self.client.delete(key, revision).await?.succeeded {
                    bail!("a key that nobody changed was not deleted");
                }
            }
            Op::Get => self.get().await?,
            Op::List => {
                let (_, end) = Keys::STORED.range();
                let room = self.stored.saturating_sub(PAGE as u64).max(1);
                let start = Keys::STORED.key(self.random() % room);
                let found = self.client.list(start, end, PAGE).await?;
                if found as u64 != self.stored.min(PAGE as u64) {
                    bail!("a page has {found} keys");
                }
            }
            Op::Count => {
                let (start, end) = Keys::STORED.range();
                let count = self.client.count(start, end).await?;
                if count != self.stored as i64 {
                    bail!("{count} keys were counted, {} are there", self.stored);
                }
            }
            Op::Mixed if self.step.is_multiple_of(5) => self.update().await?,
            Op::Mixed => self.get().await?,
        }
        Ok(true)
    }

    async fn get(&mut self) -> Result<()> {
        let key = Keys::STORED.key(self.random() % self.stored);
        if self.client.get(key).await?.is_none() {
            bail!("a stored key is missing");
        }
        Ok(())
    }

    async fn create(&mut self) -> Result<()> {
        let key = self.new_key();
        let written = self.client.create(key.clone(), self.value.clone()).await?;
        if !written.succeeded {
            bail!("a key exists already");
        }
        self.own.push((key, written.revision));
        Ok(())
    }

    async fn update(&mut self) -> Result<()> {
        let at = self.step as usize % self.own.len();
        let (key, revision) = self.own[at].clone();
        let written = self.client.update(key, self.value.clone(), revision).await?;
        if !written.succeeded {
            bail!("a key that nobody changed was not updated");
        }
        self.own[at].1 = written.revision;
        Ok(())
    }

    fn new_key(&mut self) -> Bytes {
        self.next += 1;
        self.keys.key(self.next)
    }

    /// Xorshift: the same keys in each run, for each server.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_have_the_size_and_are_json() {
        for number in [0, 7, 123_456] {
            let bytes = object(number);
            assert_eq!(bytes.len(), VALUE_BYTES);
            let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(value["metadata"]["labels"].as_object().unwrap().len(), 2);
            let edited: serde_json::Value = serde_json::from_slice(&edited(number, 5)).unwrap();
            assert_eq!(edited["metadata"], value["metadata"]);
            assert_ne!(edited["spec"], value["spec"]);
        }
    }

    #[test]
    fn ranges_hold_their_keys_and_no_others() {
        let keys = Keys::of_run(1);
        let (start, end) = keys.range();
        for number in [0, 9_999_999, 255_000_000] {
            let key = keys.key(number);
            assert!(start <= key && key < end);
        }
        let other = Keys::of_run(10).key(0);
        assert!(other < start || other >= end);
    }
}
