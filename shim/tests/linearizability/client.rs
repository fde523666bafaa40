//! A client that does random things and writes down what came of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use futures::future::ready;
use futures::{StreamExt, stream};
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::kv_client::KvClient;
use pb::request_op::Request;
use pb::response_op::Response;
use pb::watch_client::WatchClient;
use sluice_shim::pb::etcdserverpb as pb;
use sluice_shim::pb::mvccpb::KeyValue;
use tonic::Status;
use tonic::transport::Channel;

use super::history::{Answer, Call, Keys, Operation, Outcome, Write};
use super::process::{DEADLINE, Life, Lives};
use super::random::Random;
use super::watcher;

/// Few, so that clients meet.
pub(crate) const KEYS: u64 = 6;

/// The key of a number.
pub(crate) fn key(number: u64) -> Bytes {
    format!("/registry/things/{number}").into()
}

/// All keys.
pub(crate) fn all_keys() -> Keys {
    Keys { from: key(0), end: key(KEYS) }
}

/// Keys from one number up to another.
pub(crate) fn some_keys(random: &mut Random) -> Keys {
    let from = random.within(0..KEYS);
    Keys { from: key(from), end: key(random.within(from + 1..KEYS + 1)) }
}

pub(crate) struct Client {
    number: usize,
    random: Random,
    lives: Lives,
    /// Ticks at every beginning and end of an operation.
    clock: Arc<AtomicU64>,
    connection: Option<(Life, Channel)>,
    /// The mod revision of each key as last seen.
    seen: Vec<i64>,
    newest: i64,
    pub(crate) operations: Vec<Operation>,
}

impl Client {
    pub(crate) fn new(number: usize, random: Random, lives: Lives, clock: Arc<AtomicU64>) -> Self {
        let seen = vec![0; KEYS as usize];
        Self { number, random, lives, clock, connection: None, seen, newest: 1, operations: vec![] }
    }

    /// Does random things until then.
    pub(crate) async fn run(mut self, until: Instant) -> Vec<Operation> {
        while Instant::now() < until {
            let call = self.choose();
            self.perform(call).await;
        }
        self.operations
    }

    fn choose(&mut self) -> Call {
        let number = self.random.within(0..KEYS);
        let key = key(number);
        match self.random.within(0..20) {
            0..3 => Call::Range { keys: Keys::one(key), revision: 0 },
            3..5 => Call::Range { keys: some_keys(&mut self.random), revision: 0 },
            5 => {
                let oldest = (self.newest - 50).max(1) as u64;
                let revision = self.random.within(oldest..self.newest as u64 + 1) as i64;
                Call::Range { keys: all_keys(), revision }
            }
            6 => Call::Watch { keys: Keys::one(key) },
            7..11 => Call::Put { key, value: self.value(0) },
            11..13 => Call::Delete { keys: Keys::one(key) },
            13 => Call::Delete { keys: some_keys(&mut self.random) },
            _ => {
                let expected = self.seen[number as usize];
                let delete = expected != 0 && self.random.once_in(4);
                let first = if delete { Write::Delete(key.clone()) } else { Write::Put(key.clone(), self.value(0)) };
                let mut writes = vec![first];
                if self.random.once_in(4) {
                    let other = (number + self.random.within(1..KEYS)) % KEYS;
                    writes.push(Write::Put(self::key(other), self.value(1)));
                }
                Call::Cas { key, expected, writes }
            }
        }
    }

    /// A value that nobody writes twice.
    fn value(&self, part: usize) -> Bytes {
        format!("{}-{}-{part}", self.number, self.operations.len()).into()
    }

    /// Sends a call and writes down what came of it; returns the revision, if there was an answer.
    pub(crate) async fn perform(&mut self, call: Call) -> Option<i64> {
        let (life, channel) = self.connect().await;
        let began = self.clock.fetch_add(1, Ordering::SeqCst);
        let answer = tokio::time::timeout(DEADLINE, send(channel, &call)).await;
        let outcome = match answer {
            Ok(Ok((revision, answer))) => Outcome::Answered(revision, answer),
            Ok(Err(_)) if self.lives.is_over(life) => {
                self.connection = None;
                Outcome::Unknown
            }
            Ok(Err(status)) => Outcome::Failed(status.to_string()),
            Err(_) => Outcome::Failed("no answer".to_owned()),
        };
        let ended = self.clock.fetch_add(1, Ordering::SeqCst);
        let revision = match &outcome {
            Outcome::Answered(revision, answer) => {
                self.newest = self.newest.max(*revision);
                self.learn(&call, *revision, answer);
                Some(*revision)
            }
            _ => None,
        };
        self.operations.push(Operation { client: self.number, began, ended, call, outcome });
        revision
    }

    /// A connection to the current life: one of a former life may break later.
    async fn connect(&mut self) -> (Life, Channel) {
        loop {
            let life = self.lives.current().await;
            if let Some((_, channel)) = self.connection.as_ref().filter(|(of, _)| *of == life) {
                return (life, channel.clone());
            }
            match life.connect().await {
                Some(channel) => self.connection = Some((life, channel)),
                None => assert!(self.lives.is_over(life), "a living server refused a connection"),
            }
        }
    }

    /// Remembers revisions, so that some comparisons hold.
    fn learn(&mut self, call: &Call, revision: i64, answer: &Answer) {
        let mut set = |key: &Bytes, revision| {
            if let Some(number) = (0..KEYS).find(|&number| self::key(number) == *key) {
                self.seen[number as usize] = revision;
            }
        };
        match (call, answer) {
            (Call::Put { key, .. }, _) => set(key, revision),
            (Call::Delete { keys }, _) => set(&keys.from, 0),
            (Call::Cas { writes, .. }, Answer::Succeeded(_)) => writes.iter().for_each(|write| match write {
                Write::Put(key, _) => set(key, revision),
                Write::Delete(key) => set(key, 0),
            }),
            (Call::Cas { key, .. }, Answer::NotEqual(current)) => {
                set(key, current.as_ref().map_or(0, |kv| kv.mod_revision));
            }
            (_, Answer::Range { kvs, .. }) => kvs.iter().for_each(|kv| set(&kv.key, kv.mod_revision)),
            _ => {}
        }
    }
}

async fn send(channel: Channel, call: &Call) -> Result<(i64, Answer), Status> {
    let mut client = KvClient::new(channel.clone());
    match call {
        Call::Range { keys, revision } => {
            let request = pb::RangeRequest { revision: *revision, ..range(keys) };
            let answer = client.range(request).await?.into_inner();
            Ok((revision_in(answer.header)?, Answer::Range { kvs: answer.kvs, count: answer.count }))
        }
        Call::Watch { keys } => {
            let request = watcher::create(keys, 0, false);
            // The stream of requests must not end before the answer.
            let requests = stream::once(ready(request)).chain(stream::pending());
            let mut answers = WatchClient::new(channel).watch(requests).await?.into_inner();
            match answers.message().await? {
                Some(answer) if answer.created && !answer.canceled => {
                    Ok((revision_in(answer.header)?, Answer::Watching))
                }
                other => Err(Status::data_loss(format!("not a new watch: {other:?}"))),
            }
        }
        Call::Put { key, value } => {
            let answer = client.put(put(key, value)).await?.into_inner();
            Ok((revision_in(answer.header)?, Answer::Put(answer.prev_kv)))
        }
        Call::Delete { keys } => {
            let answer = client.delete_range(delete(keys)).await?.into_inner();
            if answer.deleted != answer.prev_kvs.len() as i64 {
                return Err(Status::data_loss(format!("wrong number: {answer:?}")));
            }
            Ok((revision_in(answer.header)?, Answer::Delete(answer.prev_kvs)))
        }
        Call::Cas { key, expected, writes } => {
            let answer = client.txn(transaction(key, *expected, writes)).await?.into_inner();
            let revision = revision_in(answer.header)?;
            if answer.succeeded {
                let previous = answer.responses.into_iter().map(previous).collect::<Result<_, _>>()?;
                return Ok((revision, Answer::Succeeded(previous)));
            }
            match answer.responses.into_iter().next().and_then(|op| op.response) {
                Some(Response::ResponseRange(read)) => Ok((revision, Answer::NotEqual(read.kvs.into_iter().next()))),
                other => Err(Status::data_loss(format!("not a read: {other:?}"))),
            }
        }
    }
}

/// What was before a write in a transaction.
fn previous(op: pb::ResponseOp) -> Result<Option<KeyValue>, Status> {
    match op.response {
        Some(Response::ResponsePut(put)) => Ok(put.prev_kv),
        Some(Response::ResponseDeleteRange(mut delete)) if delete.prev_kvs.len() < 2 => Ok(delete.prev_kvs.pop()),
        other => Err(Status::data_loss(format!("not a write: {other:?}"))),
    }
}

fn revision_in(header: Option<pb::ResponseHeader>) -> Result<i64, Status> {
    Ok(header.ok_or_else(|| Status::data_loss("an answer without a header"))?.revision)
}

fn range(keys: &Keys) -> pb::RangeRequest {
    pb::RangeRequest { key: keys.from.clone(), range_end: keys.end.clone(), ..Default::default() }
}

fn put(key: &Bytes, value: &Bytes) -> pb::PutRequest {
    pb::PutRequest { key: key.clone(), value: value.clone(), prev_kv: true, ..Default::default() }
}

fn delete(keys: &Keys) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest { key: keys.from.clone(), range_end: keys.end.clone(), prev_kv: true }
}

fn transaction(key: &Bytes, expected: i64, writes: &[Write]) -> pb::TxnRequest {
    let compare = pb::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::ModRevision(expected)),
        ..Default::default()
    };
    let op = |request| pb::RequestOp { request: Some(request) };
    let write = |write: &Write| match write {
        Write::Put(key, value) => op(Request::RequestPut(put(key, value))),
        Write::Delete(key) => op(Request::RequestDeleteRange(delete(&Keys::one(key.clone())))),
    };
    pb::TxnRequest {
        compare: vec![compare],
        success: writes.iter().map(write).collect(),
        failure: vec![op(Request::RequestRange(range(&Keys::one(key.clone()))))],
    }
}
