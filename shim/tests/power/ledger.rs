//! What clients were told, and whether it is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use pb::kv_client::KvClient;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use sluice_shim::pb::etcdserverpb as pb;
use sluice_shim::pb::mvccpb::{Event, event::EventType};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::shim::PATIENCE;
use crate::values::{self, Value};

/// Where all keys are, and where those are that the shim may delete by itself.
pub(crate) const GROUP: &str = "/registry/power.example.com/";
pub(crate) const OWNERS: &str = "/registry/power.example.com/owners/";
pub(crate) const COLLECTED: &str = "/registry/power.example.com/items/";

/// What a write does: keys with their new values, or `None` where they are deleted.
pub(crate) type Change = BTreeMap<String, Option<Value>>;

/// The number of a write that was begun.
pub(crate) type Ticket = u64;

#[derive(Debug, Default)]
struct Book {
    /// What is known to have happened, by revision.
    done: BTreeMap<i64, Change>,
    /// What may have happened, with the newest revision that was known when it began.
    begun: BTreeMap<Ticket, (i64, Change)>,
    tickets: Ticket,
    /// No revision that anybody was told of is newer.
    newest: i64,
    /// A compaction up to here was asked for.
    compacted: i64,
    /// What the shim deleted at a revision that was compacted.
    gone: BTreeSet<String>,
    acknowledged: u64,
}

/// Shared by all clients.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Book>);

/// What is stored of a key.
#[derive(Debug, PartialEq, Eq)]
struct Stored {
    created: i64,
    changed: i64,
    version: i64,
    value: Value,
}

impl Ledger {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap()
    }

    /// A write is sent.
    pub(crate) fn begin(&self, change: Change) -> Ticket {
        let mut book = self.book();
        book.tickets += 1;
        let (ticket, newest) = (book.tickets, book.newest);
        book.begun.insert(ticket, (newest, change));
        ticket
    }

    /// It was acknowledged.
    pub(crate) fn acknowledge(&self, ticket: Ticket, revision: i64) {
        let mut book = self.book();
        let (since, change) = book.begun.remove(&ticket).unwrap();
        assert!(revision > since, "revision {revision} is given once more, after {since}");
        assert!(book.done.insert(revision, change).is_none(), "two writes have revision {revision}");
        book.newest = book.newest.max(revision);
        book.acknowledged += 1;
    }

    /// It was refused, so that nothing may come of it.
    pub(crate) fn refuse(&self, ticket: Ticket) {
        self.book().begun.remove(&ticket);
    }

    /// How many writes were acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.book().acknowledged
    }

    /// A revision up to which may be compacted: all that may have happened unseen is newer. `share`: how much of what
    /// is there, in tenths.
    pub(crate) fn compaction(&self, share: u64) -> i64 {
        let mut book = self.book();
        let most = book.begun.values().map(|(since, _)| *since).min().unwrap_or(book.newest);
        let revision = book.compacted + (most - book.compacted).max(0) * share as i64 / 10;
        book.compacted = book.compacted.max(revision);
        revision
    }

    /// Checks that all is there that was acknowledged, with its revision, and nothing else but what was under way.
    pub(crate) async fn check(&self, channel: &Channel) -> Result<(), String> {
        let head = look(channel).await?;
        let mut compacted = 0;
        let mut happened = BTreeMap::<i64, BTreeMap<String, Option<Event>>>::new();
        if head.revision > 1 {
            let (floor, events) = history(channel, head.revision).await?;
            compacted = floor;
            for event in events {
                let kv = event.kv.clone().unwrap_or_default();
                let key = String::from_utf8_lossy(&kv.key).into_owned();
                let put = event.r#type() == EventType::Put;
                happened.entry(kv.mod_revision).or_default().insert(key, put.then_some(event));
            }
        }
        let mut book = self.book();
        book.take_over(head.revision, compacted, happened)?;
        let mut expected = book.stored();
        let found = head.kvs.into_iter().map(|kv| {
            let value = values::read(&kv.value);
            let stored = Stored { created: kv.create_revision, changed: kv.mod_revision, version: kv.version, value };
            (String::from_utf8_lossy(&kv.key).into_owned(), stored)
        });
        let found: BTreeMap<_, _> = found.collect();
        book.gone(&mut expected, |key| found.contains_key(key));
        let keys: BTreeSet<_> = expected.keys().chain(found.keys()).collect();
        let differs = keys.into_iter().find(|key| expected.get(*key) != found.get(*key));
        match differs {
            Some(key) => {
                Err(format!("{key}: {:?} was acknowledged, {:?} is stored", expected.get(key), found.get(key)))
            }
            None => Ok(()),
        }
    }
}

impl Book {
    /// Compares what happened since the compaction, and takes over what was under way and did happen.
    fn take_over(
        &mut self,
        revision: i64,
        compacted: i64,
        mut happened: BTreeMap<i64, BTreeMap<String, Option<Event>>>,
    ) -> Result<(), String> {
        if revision < self.newest {
            return Err(format!("revision {} was acknowledged, {revision} is stored", self.newest));
        }
        if compacted > self.compacted {
            return Err(format!("compacted at {compacted}, which nobody asked for"));
        }
        for revision in compacted.max(1) + 1..=revision {
            let found = happened.remove(&revision).unwrap_or_default();
            let found: Change = found
                .into_iter()
                .map(|(key, event)| (key, event.map(|event| values::read(&event.kv.unwrap_or_default().value))))
                .collect();
            match self.done.get(&revision) {
                Some(known) if *known == found => {}
                Some(known) => {
                    return Err(format!("revision {revision}: {known:?} was acknowledged, {found:?} is stored"));
                }
                None => self.settle(revision, found)?,
            }
        }
        // What has not happened by now never does.
        self.begun.clear();
        self.newest = revision;
        Ok(())
    }

    fn settle(&mut self, revision: i64, found: Change) -> Result<(), String> {
        let by_the_shim =
            !found.is_empty() && found.iter().all(|(key, value)| key.starts_with(COLLECTED) && value.is_none());
        let ticket = self.begun.iter().find(|(_, (_, change))| *change == found).map(|(ticket, _)| *ticket);
        match ticket {
            Some(ticket) => drop(self.begun.remove(&ticket)),
            None if by_the_shim => {}
            None => return Err(format!("revision {revision} is of no write that was sent: {found:?}")),
        }
        self.done.insert(revision, found);
        Ok(())
    }

    /// Leaves out what the shim may have deleted unseen: items without their owner.
    fn gone(&mut self, expected: &mut BTreeMap<String, Stored>, is_there: impl Fn(&str) -> bool) {
        let owner = |key: &str| Some(format!("{OWNERS}{}", key.strip_prefix(COLLECTED)?.rsplit_once('-')?.0));
        let is_alone = |key: &str| owner(key).is_some_and(|owner| !expected.contains_key(&owner));
        let gone: Vec<String> = expected.keys().filter(|key| is_alone(key) && !is_there(key)).cloned().collect();
        self.gone.extend(gone);
        expected.retain(|key, _| !self.gone.contains(key));
    }

    /// What must be stored.
    fn stored(&self) -> BTreeMap<String, Stored> {
        let mut stored = BTreeMap::<String, Stored>::new();
        for (revision, change) in &self.done {
            for (key, value) in change {
                let Some(value) = value else {
                    stored.remove(key);
                    continue;
                };
                let before = stored.get(key);
                let (created, version) = before.map_or((*revision, 1), |old| (old.created, old.version + 1));
                stored.insert(key.clone(), Stored { created, changed: *revision, version, value: value.clone() });
            }
        }
        stored
    }
}

struct Head {
    revision: i64,
    kvs: Vec<sluice_shim::pb::mvccpb::KeyValue>,
}

/// Whether nothing was ever written to a store.
pub(crate) async fn is_empty(channel: &Channel) -> Result<bool, String> {
    Ok(look(channel).await?.revision == 1)
}

async fn look(channel: &Channel) -> Result<Head, String> {
    let request = pb::RangeRequest { key: vec![0].into(), range_end: vec![0].into(), ..Default::default() };
    let mut client = KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
    let answer = client.range(request).await.map_err(|status| status.to_string())?.into_inner();
    Ok(Head { revision: answer.header.unwrap_or_default().revision, kvs: answer.kvs })
}

/// All events up to a revision, and the revision up to which the store is compacted.
async fn history(channel: &Channel, until: i64) -> Result<(i64, Vec<Event>), String> {
    let (mut from, mut compacted) = (1, 0);
    'watch: loop {
        let (requests, receiver) = tokio::sync::mpsc::channel(1);
        let mut client = WatchClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
        let watching = client.watch(ReceiverStream::new(receiver));
        let create = pb::WatchCreateRequest {
            key: vec![0].into(),
            range_end: vec![0].into(),
            start_revision: from,
            progress_notify: true,
            ..Default::default()
        };
        let request = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        requests.send(request).await.map_err(|error| error.to_string())?;
        let mut responses = watching.await.map_err(|status| status.to_string())?.into_inner();
        let mut events: Vec<Event> = Vec::new();
        loop {
            let newest = events.last().and_then(|event| Some(event.kv.as_ref()?.mod_revision));
            if newest.is_some_and(|newest| newest >= until) || from > until {
                return Ok((compacted, events));
            }
            let next = tokio::time::timeout(PATIENCE, responses.message()).await;
            let next = next.map_err(|_| format!("no event after {newest:?}, up to {until}"))?;
            let response = next.map_err(|status| status.to_string())?.ok_or("the watch ended")?;
            if response.compact_revision > 0 {
                (from, compacted) = (response.compact_revision + 1, response.compact_revision);
                continue 'watch;
            }
            events.extend(response.events);
        }
    }
}
