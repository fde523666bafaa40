//! The main store, over etcd's API.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use super::definitions;
use crate::engine::Revision;
use crate::pb::etcdserverpb as pb;
use crate::pb::mvccpb::event::EventType;
use pb::kv_client::KvClient;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;

/// How many definitions are read at a time. They may be a megabyte each.
const PAGE: i64 = 20;

/// How long the main store may be silent until it is asked whether it is there, and how long until it answers.
const ALIVE: Duration = Duration::from_secs(10);

/// A main store.
pub(super) struct Source(Endpoint);

impl Source {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        let endpoint = endpoint.http2_keep_alive_interval(ALIVE).keep_alive_timeout(ALIVE);
        Self(endpoint.keep_alive_while_idle(true))
    }

    pub(super) async fn connect(&self) -> Result<Connection> {
        let channel = self.0.connect().await.with_context(|| format!("connect to {}", self.0.uri()))?;
        Ok(Connection(channel))
    }
}

/// A connection to it.
pub(super) struct Connection(Channel);

impl Connection {
    /// All definitions by their keys, and the revision that they are of.
    pub(super) async fn list(&mut self) -> Result<(BTreeMap<Bytes, Bytes>, Revision)> {
        let mut client = KvClient::new(self.0.clone()).max_decoding_message_size(usize::MAX);
        let (mut range, mut revision, mut found) = (definitions(), 0, BTreeMap::new());
        loop {
            let (key, end) = range.bounds();
            let range_end = end.unwrap_or_default();
            let request = pb::RangeRequest { key, range_end, limit: PAGE, revision, ..Default::default() };
            let page = client.range(request).await.context("read the definitions")?.into_inner();
            if revision == 0 {
                revision = page.header.map_or(0, |header| header.revision);
            }
            let last = page.kvs.last().map(|last| range.after(&last.key));
            found.extend(page.kvs.into_iter().map(|kv| (kv.key, kv.value)));
            match last {
                Some(next) if page.more => range = next,
                _ => return Ok((found, revision)),
            }
        }
    }

    /// What changes from a revision on.
    pub(super) async fn watch(&mut self, start_revision: Revision) -> Result<Changes> {
        let mut client = WatchClient::new(self.0.clone()).max_decoding_message_size(usize::MAX);
        let (key, end) = definitions().bounds();
        let create = pb::WatchCreateRequest {
            key,
            range_end: end.unwrap_or_default(),
            start_revision,
            progress_notify: true,
            ..Default::default()
        };
        let (requests, open) = mpsc::channel(1);
        requests.send(pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }).await?;
        let answers = client.watch(ReceiverStream::new(open)).await.context("watch the definitions")?.into_inner();
        Ok(Changes { answers, _requests: requests })
    }
}

/// A watch.
pub(super) struct Changes {
    answers: Streaming<pb::WatchResponse>,
    /// The server ends the watch with them.
    _requests: mpsc::Sender<pb::WatchRequest>,
}

impl Changes {
    /// The next ones: keys with their values, or without one if they were deleted.
    pub(super) async fn next(&mut self) -> Result<Vec<(Bytes, Option<Bytes>)>> {
        let Some(answer) = self.answers.message().await.context("watch the definitions")? else {
            bail!("the main store ended the watch of its definitions");
        };
        if answer.canceled {
            bail!("the main store ended the watch of its definitions: {}", answer.cancel_reason);
        }
        let changes = answer.events.into_iter().filter_map(|event| {
            let deleted = event.r#type == i32::from(EventType::Delete);
            event.kv.map(|kv| (kv.key, (!deleted).then_some(kv.value)))
        });
        Ok(changes.collect())
    }
}
