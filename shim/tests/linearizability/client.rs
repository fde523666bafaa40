//! A client that does random things and writes down what came of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::ready;
use futures::{StreamExt, stream};
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::request_op::Request;
use pb::response_op::Response;
use pb::watch_client::WatchClient;
use sluice_shim::pb::etcdserverpb as pb;
use sluice_shim::pb::mvccpb::KeyValue;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::checker::revision_of;
use super::history::{Answer, Call, Keys, Operation, Outcome, Refusal, Write};
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

/// What all clients of a round have.
#[derive(Clone)]
pub(crate) struct Shared {
    /// Ticks at every beginning and end of an operation.
    pub(crate) clock: Arc<AtomicU64>,
    pub(crate) beginning: Instant,
    /// The newest revision that the watch of the whole history has heard of. What is newer must not be compacted.
    pub(crate) archived: Arc<AtomicI64>,
}

impl Shared {
    /// For a new round.
    pub(crate) fn new() -> Self {
        Self { clock: Arc::default(), beginning: Instant::now(), archived: Arc::new(AtomicI64::new(1)) }
    }

    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Milliseconds since the round began.
    pub(crate) fn now(&self) -> u64 {
        self.beginning.elapsed().as_millis() as u64
    }
}

/// The time of a lease that is to end by itself, in seconds; etcd grants no shorter one.
const SHORT: u64 = 2;
/// The time of a lease that outlives the round.
const LONG: u64 = 1000;

pub(crate) struct Client {
    number: usize,
    random: Random,
    lives: Lives,
    shared: Shared,
    connection: Option<(Life, Channel)>,
    /// The mod revision of each key as last seen.
    seen: Vec<i64>,
    newest: i64,
    /// The leases that were granted last, ended ones too.
    leases: Vec<i64>,
    pub(crate) operations: Vec<Operation>,
}

impl Client {
    pub(crate) fn new(number: usize, random: Random, lives: Lives, shared: Shared) -> Self {
        let seen = vec![0; KEYS as usize];
        Self { number, random, lives, shared, connection: None, seen, newest: 1, leases: vec![], operations: vec![] }
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
        match self.random.within(0..26) {
            0..3 => Call::Range { keys: Keys::one(key), revision: 0 },
            3..5 => Call::Range { keys: some_keys(&mut self.random), revision: 0 },
            5 => {
                let newest = self.newest;
                Call::Range { keys: all_keys(), revision: self.recent(newest, 100) }
            }
            6 => Call::Watch { keys: Keys::one(key) },
            7..11 => {
                let lease = if self.random.once_in(2) { self.some_lease() } else { 0 };
                Call::Put { key, value: self.value(0), lease }
            }
            11..13 => Call::Delete { keys: Keys::one(key) },
            13 => Call::Delete { keys: some_keys(&mut self.random) },
            20..22 => {
                let newest = self.newest;
                Call::Replay { revision: self.recent(newest, 100).max(2) }
            }
            22 => {
                let archived = self.shared.archived.load(Ordering::SeqCst);
                Call::Compact { revision: self.recent(archived, 60) }
            }
            23 if !self.leases.is_empty() => Call::Revoke { lease: self.some_lease() },
            24..26 => Call::Grant { lease: self.new_lease(), ttl: if self.random.once_in(2) { SHORT } else { LONG } },
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

    /// A revision that has been.
    fn recent(&mut self, newest: i64, span: i64) -> i64 {
        self.random.within((newest - span).max(1) as u64..newest as u64 + 1) as i64
    }

    /// A number that no other lease has.
    fn new_lease(&mut self) -> i64 {
        let lease = (self.number as i64 + 1) << 32 | self.operations.len() as i64;
        self.leases.truncate(3);
        self.leases.insert(0, lease);
        lease
    }

    /// A lease of the client's own; 0 if it has none.
    fn some_lease(&mut self) -> i64 {
        let count = self.leases.len() as u64;
        if count == 0 { 0 } else { self.leases[self.random.within(0..count) as usize] }
    }

    /// A value that nobody writes twice.
    fn value(&self, part: usize) -> Bytes {
        format!("{}-{}-{part}", self.number, self.operations.len()).into()
    }

    /// Sends a call and writes down what came of it; returns the revision, if there was an answer.
    pub(crate) async fn perform(&mut self, call: Call) -> Option<i64> {
        let (life, channel) = self.connect().await;
        let outages = self.lives.outages();
        let (began, sent) = (self.shared.tick(), self.shared.now());
        let answer = tokio::time::timeout(DEADLINE, send(channel, &call)).await;
        let outcome = match answer {
            Ok(Ok((revision, answer))) => Outcome::Answered(revision, answer),
            Ok(Err(_)) if self.lives.is_over(life) => {
                self.connection = None;
                Outcome::Unknown
            }
            Ok(Err(status)) if status.code() == Code::OutOfRange && status.message() == COMPACTED => {
                Outcome::Refused(Refusal::Compacted)
            }
            Ok(Err(status)) if status.code() == Code::NotFound && status.message() == NO_LEASE => {
                Outcome::Refused(Refusal::NoLease)
            }
            Ok(Err(status)) if status.code() == Code::Unavailable && self.lives.is_excused(outages) => {
                let nobody_knows = [TIMED_OUT, LEADER_FAILED].contains(&status.message());
                if nobody_knows { Outcome::Unknown } else { Outcome::Refused(Refusal::NoDatabase) }
            }
            Ok(Err(status)) => Outcome::Failed(status.to_string()),
            Err(_) => Outcome::Failed("no answer".to_owned()),
        };
        let (ended, done) = (self.shared.tick(), self.shared.now());
        let revision = match &outcome {
            Outcome::Answered(revision, answer) => {
                self.newest = self.newest.max(*revision);
                self.learn(&call, *revision, answer);
                Some(*revision)
            }
            _ => None,
        };
        self.operations.push(Operation { client: self.number, began, ended, sent, done, call, outcome });
        revision
    }

    /// Waits until all leases have ended that are to end by themselves.
    pub(crate) async fn outlive_leases(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let (_, channel) = self.connect().await;
            let mut client = LeaseClient::new(channel);
            let mut short = Vec::new();
            for lease in client.lease_leases(pb::LeaseLeasesRequest {}).await.unwrap().into_inner().leases {
                let request = pb::LeaseTimeToLiveRequest { id: lease.id, keys: false };
                let answer = client.lease_time_to_live(request).await.unwrap().into_inner();
                short.extend((answer.granted_ttl == SHORT as i64).then_some(lease.id));
            }
            if short.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "leases of {SHORT} s do not end: {short:x?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
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

/// etcd's texts (api/v3rpc/rpctypes/error.go).
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const NO_LEASE: &str = "etcdserver: requested lease not found";
const TIMED_OUT: &str = "etcdserver: request timed out";
const LEADER_FAILED: &str = "etcdserver: request timed out, possibly due to previous leader failure";

/// The events of one revision from a watch of all keys, with the revision of the answer to the watch's beginning.
async fn replay(channel: Channel, revision: i64) -> Result<(i64, Answer), Status> {
    let request = watcher::create(&all_keys(), revision, false);
    let requests = stream::once(ready(request)).chain(stream::pending());
    let mut answers = WatchClient::new(channel).watch(requests).await?.into_inner();
    let (mut header, mut events) = (0, Vec::new());
    loop {
        let Some(answer) = answers.message().await? else { return Err(Status::data_loss("the watch ended")) };
        if answer.compact_revision > revision && answer.canceled {
            return Err(Status::out_of_range(COMPACTED));
        }
        if answer.canceled {
            return Err(Status::data_loss(format!("not the error of a compaction: {answer:?}")));
        }
        header = if answer.created { revision_in(answer.header)? } else { header };
        let newest = answer.events.last().map_or(0, revision_of);
        events.extend(answer.events.into_iter().filter(|event| revision_of(event) == revision));
        if newest > revision || (newest == revision && !answer.fragment) {
            return Ok((header, Answer::Replayed(events)));
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
        Call::Put { key, value, lease } => {
            let answer = client.put(pb::PutRequest { lease: *lease, ..put(key, value) }).await?.into_inner();
            Ok((revision_in(answer.header)?, Answer::Put(answer.prev_kv)))
        }
        Call::Replay { revision } => replay(channel, *revision).await,
        Call::Grant { lease, ttl } => {
            let request = pb::LeaseGrantRequest { id: *lease, ttl: *ttl as i64 };
            let answer = LeaseClient::new(channel).lease_grant(request).await?.into_inner();
            if (answer.id, answer.ttl) != (*lease, *ttl as i64) {
                return Err(Status::data_loss(format!("another lease: {answer:?}")));
            }
            Ok((revision_in(answer.header)?, Answer::Granted))
        }
        Call::Revoke { lease } => {
            let request = pb::LeaseRevokeRequest { id: *lease };
            let answer = LeaseClient::new(channel).lease_revoke(request).await?.into_inner();
            Ok((revision_in(answer.header)?, Answer::Revoked))
        }
        Call::Compact { revision } => {
            let request = pb::CompactionRequest { revision: *revision, physical: false };
            let answer = client.compact(request).await?.into_inner();
            Ok((revision_in(answer.header)?, Answer::Compacted))
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
