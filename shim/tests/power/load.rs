//! What is done on a machine until its power fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pb::kv_client::KvClient;
use pb::maintenance_client::MaintenanceClient;
use pb::request_op::Request;
use sluice_shim::pb::etcdserverpb as pb;
use tonic::Status;
use tonic::transport::Channel;

use crate::ledger::{COLLECTED, Change, GROUP, Ledger, OWNERS};
use crate::random::Random;
use crate::values;

/// A definition, which has the shim make indexes of fields.
const DEFINITION: &str = "/registry/apiextensions.k8s.io/customresourcedefinitions/things.power.example.com";

/// How much is done, by a seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) clients: u64,
    /// How long values are at most.
    pub(crate) longest: u64,
    /// How many writes each client makes at most.
    pub(crate) writes: u64,
}

impl Load {
    pub(crate) fn any(random: &mut Random) -> Self {
        let clients = [1, 1, 4, 16, 64][random.within(0..5) as usize];
        let longest = [64, 1 << 10, 16 << 10, 128 << 10, 1 << 20][random.within(0..5) as usize];
        // Not more than a few megabytes at a time.
        let writes = ((24 << 20) / (longest + 256) / clients).clamp(2, 200);
        Self { clients, longest, writes }
    }
}

/// Everything that the clients of one life of the shim share.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) ledger: Arc<Ledger>,
    channel: Channel,
    /// Which life it is, so that all names differ.
    life: u64,
    named: Arc<AtomicU64>,
}

impl World {
    pub(crate) fn new(ledger: &Arc<Ledger>, channel: &Channel, life: u64) -> Self {
        Self { ledger: Arc::clone(ledger), channel: channel.clone(), life, named: Arc::default() }
    }

    fn name(&self) -> String {
        format!("{}-{}", self.life, self.named.fetch_add(1, Ordering::SeqCst))
    }

    /// Carries a write out; an error if nobody knows what came of it.
    async fn write(&self, puts: Vec<(String, Vec<u8>)>, deletes: Vec<String>) -> Result<(), Status> {
        let mut change = Change::new();
        let mut operations = Vec::new();
        for (key, value) in puts {
            change.insert(key.clone(), Some(values::read(&value)));
            let put = pb::PutRequest { key: key.into(), value: value.into(), ..Default::default() };
            operations.push(Request::RequestPut(put));
        }
        for key in deletes {
            change.insert(key.clone(), None);
            let delete = pb::DeleteRangeRequest { key: key.into(), ..Default::default() };
            operations.push(Request::RequestDeleteRange(delete));
        }
        let ticket = self.ledger.begin(change);
        let success = operations.into_iter().map(|operation| pb::RequestOp { request: Some(operation) }).collect();
        let request = pb::TxnRequest { compare: vec![], success, failure: vec![] };
        let mut client = KvClient::new(self.channel.clone());
        let answer = client.txn(request).await;
        if answer.as_ref().is_err_and(is_full) {
            // From now on it is an error if it happens all the same.
            self.ledger.refuse(ticket);
        }
        self.ledger.acknowledge(ticket, answer?.into_inner().header.unwrap_or_default().revision);
        Ok(())
    }

    /// The same; `false` if the disk is full.
    async fn try_write(&self, puts: Vec<(String, Vec<u8>)>, deletes: Vec<String>) -> Result<bool, Status> {
        match self.write(puts, deletes).await {
            Err(status) if is_full(&status) => Ok(false),
            done => done.map(|()| true),
        }
    }

    /// Writes until there is room, with a pause between two tries.
    pub(crate) async fn write_at_last(&self) -> Result<(), Status> {
        let key = format!("{GROUP}things/l{}-last", self.life);
        while !self.try_write(vec![(key.clone(), self.name().into_bytes())], vec![]).await? {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// One client, until it has written all or is not answered any more. A full disk does not stop it.
    async fn client(self, number: u64, load: Load, mut random: Random) -> Result<(), Status> {
        let keys = 1 + random.within(0..12);
        let mut live = vec![false; keys as usize];
        for _ in 0..load.writes {
            let at = random.within(0..keys) as usize;
            let key = |at: usize| format!("{GROUP}things/l{}-c{number}-{at}", self.life);
            if live[at] && random.once_in(6) {
                live[at] &= !self.try_write(vec![], vec![key(at)]).await?;
                continue;
            }
            let mut puts = Vec::new();
            let several = if random.once_in(8) { keys } else { 1 };
            for next in 0..several {
                let at = (at + next as usize) % live.len();
                let length = random.within(64..load.longest.max(64) + 1) / several;
                let name = format!("l{}-c{number}-{at}", self.life);
                let more = format!(r#","annotations":{{"a":"{}"}}"#, self.name());
                puts.push((key(at), values::object(&name, &more, length)));
            }
            let written: Vec<_> = (0..several as usize).map(|next| (at + next) % live.len()).collect();
            if self.try_write(puts, vec![]).await? {
                written.into_iter().for_each(|at| live[at] = true);
            }
        }
        Ok(())
    }

    /// Compactions, definitions, owners that are deleted, the database made smaller.
    async fn tend(self, mut random: Random) -> Result<(), Status> {
        let mut items = Vec::new();
        loop {
            match random.within(0..6) {
                0 => {
                    let revision = self.ledger.compaction(random.within(1..11));
                    let request = pb::CompactionRequest { revision, physical: random.once_in(2) };
                    // One that is there already is refused.
                    let _ = KvClient::new(self.channel.clone()).compact(request).await;
                }
                1 => {
                    MaintenanceClient::new(self.channel.clone()).defragment(pb::DefragmentRequest {}).await?;
                }
                2 | 3 => self.write(vec![(DEFINITION.to_owned(), self.definition(&mut random))], vec![]).await?,
                4 if !items.is_empty() => {
                    let owner: String = items.swap_remove(random.within(0..items.len() as u64) as usize);
                    self.write(vec![], vec![owner]).await?;
                }
                _ => items.push(self.family(&mut random).await?),
            }
            tokio::time::sleep(Duration::from_micros(random.within(0..20_000))).await;
        }
    }

    fn definition(&self, random: &mut Random) -> Vec<u8> {
        let fields = [".spec.color", ".metadata.annotations.a"];
        let fields = fields.into_iter().filter(|_| random.once_in(2));
        let fields: Vec<_> = fields.map(|field| format!(r#"{{"jsonPath":"{field}"}}"#)).collect();
        let (fields, stamp) = (fields.join(","), self.name());
        format!(
            r#"{{"kind":"CustomResourceDefinition","apiVersion":"apiextensions.k8s.io/v1","metadata":{{"name":"things.power.example.com","annotations":{{"a":"{stamp}"}}}},"spec":{{"group":"power.example.com","names":{{"plural":"things","kind":"Thing"}},"scope":"Cluster","versions":[{{"name":"v1","served":true,"storage":true,"selectableFields":[{fields}]}}]}}}}"#,
        )
        .into_bytes()
    }

    /// An owner, and items that go with it; returns the owner's key.
    async fn family(&self, random: &mut Random) -> Result<String, Status> {
        let name = self.name();
        let (key, uid) = (format!("{OWNERS}{name}"), format!("uid-{name}"));
        let owner = format!(
            r#"{{"apiVersion":"power.example.com/v1","kind":"Owner","metadata":{{"name":"{name}","uid":"{uid}"}}}}"#
        );
        self.write(vec![(key.clone(), owner.into_bytes())], vec![]).await?;
        let mut items = Vec::new();
        for number in 0..random.within(1..60) {
            let item = format!("{name}-{number}");
            let value = format!(
                r#"{{"apiVersion":"power.example.com/v1","kind":"Item","metadata":{{"name":"{item}","uid":"uid-{item}","labels":{{"skip-controller-manager-metadata-caching":"true"}},"ownerReferences":[{{"apiVersion":"power.example.com/v1","kind":"Owner","name":"{name}","uid":"{uid}","controller":true}}]}}}}"#
            );
            items.push((format!("{COLLECTED}{item}"), value.into_bytes()));
        }
        self.write(items, vec![]).await?;
        Ok(key)
    }
}

/// Whether a write was refused because the disk is full.
pub(crate) fn is_full(status: &Status) -> bool {
    status.message().contains("space exceeded")
}

/// Puts load on a shim until it is done or `ended` says so; returns the errors of clients.
pub(crate) async fn put_on(
    world: &World,
    load: Load,
    random: &mut Random,
    ended: impl Fn() -> bool,
    patience: Duration,
) -> Vec<Status> {
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..load.clients {
        let random = Random::new(random.within(0..u64::MAX), number);
        clients.spawn(world.clone().client(number, load, random));
    }
    let tend = random.once_in(2).then(|| Random::new(random.within(0..u64::MAX), 0));
    let tending = tend.map(|random| tokio::spawn(world.clone().tend(random)));
    let start = Instant::now();
    let mut errors = Vec::new();
    while !ended() && start.elapsed() < patience {
        match tokio::time::timeout(Duration::from_millis(2), clients.join_next()).await {
            Ok(Some(done)) => errors.extend(done.unwrap().err()),
            Ok(None) => break,
            Err(_) => {}
        }
    }
    // What they were not told of by now they are never told of. Whoever is aborted has sent its last write.
    clients.abort_all();
    while let Some(done) = clients.join_next().await {
        if let Ok(Err(error)) = done {
            errors.push(error);
        }
    }
    if let Some(tending) = tending {
        tending.abort();
        let _ = tending.await;
    }
    errors
}
