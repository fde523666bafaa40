//! Requests as kube-apiserver makes them.

use anyhow::Result;
use bytes::Bytes;
use sluice_wire::contract::{CONTRACT_VERSION, CONTRACT_VERSION_HEADER, LABEL_SELECTOR_HEADER};
use sluice_wire::pb::etcdserverpb as pb;
use sluice_wire::pb::etcdserverpb::kv_client::KvClient;
use sluice_wire::pb::etcdserverpb::maintenance_client::MaintenanceClient;
use sluice_wire::pb::etcdserverpb::watch_client::WatchClient;
use sluice_wire::pb::mvccpb::KeyValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

/// No more connections than that, however many clients there are.
const CONNECTIONS: usize = 8;

/// Connections to a server.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    channels: Vec<Channel>,
}

impl Store {
    /// Connects, for a number of clients.
    pub(crate) async fn connect(url: &str, clients: usize) -> Result<Self> {
        let mut channels = Vec::new();
        for _ in 0..clients.clamp(1, CONNECTIONS) {
            // The windows of Go's client, which the servers were made for, would be smaller; these hold up nobody.
            let endpoint = Endpoint::from_shared(url.to_owned())?
                .tcp_nodelay(true)
                .initial_stream_window_size(4 << 20)
                .initial_connection_window_size(8 << 20);
            channels.push(endpoint.connect().await?);
        }
        Ok(Self { channels })
    }

    /// One connection with the least windows, as Go's clients have them: little is on the way to a client that reads
    /// slowly.
    pub(crate) async fn narrow(url: &str) -> Result<Self> {
        const WINDOW: u32 = 65_535;
        let endpoint = Endpoint::from_shared(url.to_owned())?
            .tcp_nodelay(true)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW);
        Ok(Self { channels: vec![endpoint.connect().await?] })
    }

    /// Over a connection that is there.
    #[cfg(test)]
    pub(crate) fn over(channel: Channel) -> Self {
        Self { channels: vec![channel] }
    }

    /// The client of that number. Clients share connections.
    pub(crate) fn client(&self, number: usize) -> Client {
        Client { kv: KvClient::new(self.channel(number)).max_decoding_message_size(usize::MAX) }
    }

    /// A client for watches.
    pub(crate) fn watch_client(&self, number: usize) -> WatchClient<Channel> {
        WatchClient::new(self.channel(number)).max_decoding_message_size(usize::MAX)
    }

    /// A client for snapshots.
    pub(crate) fn maintenance_client(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel(0))
    }

    fn channel(&self, number: usize) -> Channel {
        self.channels[number % self.channels.len()].clone()
    }
}

/// What a request that changes a key came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    /// Whether the condition held.
    pub(crate) succeeded: bool,
    /// The revision of the store after it.
    pub(crate) revision: i64,
}

/// One client.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    kv: KvClient<Channel>,
}

impl Client {
    /// A key (k8s.io/apiserver/pkg/storage/etcd3, `store.Get`).
    pub(crate) async fn get(&self, key: Bytes) -> Result<Option<i64>, Status> {
        let response = self.kv.clone().range(pb::RangeRequest { key, ..Default::default() }).await?.into_inner();
        Ok(response.kvs.first().map(|kv| kv.mod_revision))
    }

    /// A page of a list (`store.GetList`); returns how many keys came.
    pub(crate) async fn list(&self, key: Bytes, range_end: Bytes, limit: i64) -> Result<usize, Status> {
        let request = pb::RangeRequest { key, range_end, limit, ..Default::default() };
        Ok(self.kv.clone().range(request).await?.into_inner().kvs.len())
    }

    /// A page of a list with what is in it, of all objects or of those that a selector of labels takes.
    pub(crate) async fn objects(
        &self,
        key: Bytes,
        range_end: Bytes,
        limit: i64,
        selector: Option<&str>,
    ) -> Result<Vec<KeyValue>> {
        let mut request = Request::new(pb::RangeRequest { key, range_end, limit, ..Default::default() });
        if let Some(selector) = selector {
            select(&mut request, selector)?;
        }
        Ok(self.kv.clone().range(request).await?.into_inner().kvs)
    }

    /// How many keys there are (`store.Stats`).
    pub(crate) async fn count(&self, key: Bytes, range_end: Bytes) -> Result<i64, Status> {
        let request = pb::RangeRequest { key, range_end, count_only: true, ..Default::default() };
        Ok(self.kv.clone().range(request).await?.into_inner().count)
    }

    /// An unconditional put.
    pub(crate) async fn put(&self, key: Bytes, value: Bytes) -> Result<(), Status> {
        self.kv.clone().put(pb::PutRequest { key, value, ..Default::default() }).await.map(|_| ())
    }

    /// A put of a key that does not exist (`store.Create`).
    pub(crate) async fn create(&self, key: Bytes, value: Bytes) -> Result<Written, Status> {
        let put = put(key.clone(), value);
        self.txn(pb::TxnRequest { compare: vec![unchanged(key, 0)], success: vec![put], failure: Vec::new() }).await
    }

    /// A put of a key that nobody changed since (`store.GuaranteedUpdate`).
    pub(crate) async fn update(&self, key: Bytes, value: Bytes, revision: i64) -> Result<Written, Status> {
        let (compare, success, failure) =
            (vec![unchanged(key.clone(), revision)], vec![put(key.clone(), value)], vec![range(key)]);
        self.txn(pb::TxnRequest { compare, success, failure }).await
    }

    /// The deletion of a key that nobody changed since (`store.Delete`).
    pub(crate) async fn delete(&self, key: Bytes, revision: i64) -> Result<Written, Status> {
        let delete = pb::DeleteRangeRequest { key: key.clone(), ..Default::default() };
        let success = vec![op(pb::request_op::Request::RequestDeleteRange(delete))];
        let (compare, failure) = (vec![unchanged(key.clone(), revision)], vec![range(key)]);
        self.txn(pb::TxnRequest { compare, success, failure }).await
    }

    /// Forgets history; returns when it is gone, or when the server says so.
    pub(crate) async fn compact(&self, revision: i64) -> Result<(), Status> {
        self.kv.clone().compact(pb::CompactionRequest { revision, physical: true }).await.map(|_| ())
    }

    async fn txn(&self, request: pb::TxnRequest) -> Result<Written, Status> {
        let response: Response<pb::TxnResponse> = self.kv.clone().txn(request).await?;
        let response = response.into_inner();
        Ok(Written { succeeded: response.succeeded, revision: response.header.map_or(0, |header| header.revision) })
    }
}

/// Puts a selector of labels into the metadata of a request.
pub(crate) fn select<T>(request: &mut Request<T>, selector: &str) -> Result<()> {
    request.metadata_mut().insert(CONTRACT_VERSION_HEADER, CONTRACT_VERSION.to_string().parse()?);
    request.metadata_mut().insert(LABEL_SELECTOR_HEADER, selector.parse()?);
    Ok(())
}

fn unchanged(key: Bytes, revision: i64) -> pb::Compare {
    use pb::compare::{CompareResult, CompareTarget, TargetUnion};
    pb::Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Mod as i32,
        key,
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::ModRevision(revision)),
    }
}

fn op(request: pb::request_op::Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn put(key: Bytes, value: Bytes) -> pb::RequestOp {
    op(pb::request_op::Request::RequestPut(pb::PutRequest { key, value, ..Default::default() }))
}

fn range(key: Bytes) -> pb::RequestOp {
    op(pb::request_op::Request::RequestRange(pb::RangeRequest { key, ..Default::default() }))
}
