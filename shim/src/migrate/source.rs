//! The etcd API server that is imported from. Its calls block: use it where blocking is allowed.

use std::fs::File;
use std::future::Future;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tokio::runtime::Handle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::engine::{KeyRange, LeaseId, RangeEnd, Revision};
use crate::pb::etcdserverpb as pb;
use crate::pb::mvccpb;
use crate::remote::{Flags, Remote};
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;

/// The flags of [`Address`].
const FLAGS: Flags = Flags { url: "--from-etcd", cacert: "--cacert", cert: "--cert", key: "--key" };

/// Where the server is and how to reach it.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Address {
    /// The server to import from: http://host:port or https://host:port.
    #[arg(long = "from-etcd", value_name = "URL")]
    url: String,

    /// The authorities that sign the server's certificate (PEM). Needed for https.
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,

    /// The certificate that the server asks clients for (PEM).
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,

    /// Its key (PEM).
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

/// A connection to the server.
#[derive(Debug)]
pub(super) struct Source {
    runtime: Handle,
    channel: Channel,
}

/// A page of a range.
pub(super) struct RangePage {
    /// The newest revision of the server.
    pub(super) revision: Revision,
    /// The keys with their values.
    pub(super) kvs: Vec<mvccpb::KeyValue>,
    /// Whether there are more.
    pub(super) more: bool,
}

impl Address {
    /// Connects.
    pub(super) fn connect(&self, runtime: Handle) -> Result<Source> {
        let endpoint = self.endpoint()?;
        let channel =
            runtime.block_on(endpoint.connect()).with_context(|| format!("--from-etcd: connect to {}", self.url))?;
        Ok(Source { runtime, channel })
    }

    fn endpoint(&self) -> Result<Endpoint> {
        let Self { url, cacert, cert, key } = self;
        Remote { flags: FLAGS, url, cacert: cacert.as_ref(), cert: cert.as_ref(), key: key.as_ref() }.endpoint()
    }
}

/// Whether the server has no such call. kine says so with a text of its own instead of the code (kine:
/// pkg/server/lease.go, maintenance.go).
fn is_missing(status: &Status) -> bool {
    status.code() == Code::Unimplemented || (status.code() == Code::Unknown && status.message().contains("supported"))
}

impl Source {
    /// Writes a snapshot of the server to a new file; false if it gives none.
    pub(super) fn snapshot(&self, to: &Path) -> Result<bool> {
        let mut client = MaintenanceClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        let write = async {
            let mut chunks = client.snapshot(pb::SnapshotRequest {}).await?.into_inner();
            let mut next = chunks.message().await?;
            let mut file = File::options()
                .write(true)
                .create_new(true)
                .open(to)
                .with_context(|| format!("create {}", to.display()))?;
            while let Some(chunk) = next {
                file.write_all(&chunk.blob).with_context(|| format!("write {}", to.display()))?;
                next = chunks.message().await?;
            }
            anyhow::Ok(())
        };
        match self.runtime.block_on(write) {
            Ok(()) => Ok(true),
            Err(error) if error.downcast_ref::<Status>().is_some_and(is_missing) => Ok(false),
            Err(error) => Err(error.context("get a snapshot")),
        }
    }

    /// The keys of a range in order, at a revision (0: the newest).
    pub(super) fn page(&self, range: &KeyRange, revision: Revision, limit: i64) -> Result<RangePage> {
        let range_end = match &range.end {
            RangeEnd::Single => Default::default(),
            RangeEnd::Before(end) => end.clone(),
            RangeEnd::Unbounded => vec![0].into(),
        };
        let request = pb::RangeRequest { key: range.start.clone(), range_end, limit, revision, ..Default::default() };
        let mut client = KvClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        let response = self.call(client.range(request)).context("read the keys")?;
        let revision = response.header.map_or(0, |header| header.revision);
        Ok(RangePage { revision, kvs: response.kvs, more: response.more })
    }

    /// The newest revision.
    pub(super) fn revision(&self) -> Result<Revision> {
        // kine knows its revision only beside a range.
        Ok(self.page(&super::all_keys(), 0, 1)?.revision)
    }

    /// The seconds that a lease was granted and those that are left to it; `None` if it has ended.
    pub(super) fn lease(&self, id: LeaseId) -> Result<Option<(i64, i64)>> {
        let mut client = LeaseClient::new(self.channel.clone());
        let request = pb::LeaseTimeToLiveRequest { id, keys: false };
        let response =
            self.call(client.lease_time_to_live(request)).with_context(|| format!("read the lease {id:x}"))?;
        Ok((response.ttl >= 0).then_some((response.granted_ttl, response.ttl)))
    }

    /// The numbers of all leases; `None` if the server has no leases of its own.
    pub(super) fn leases(&self) -> Result<Option<Vec<LeaseId>>> {
        let mut client = LeaseClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        match self.call(client.lease_leases(pb::LeaseLeasesRequest {})) {
            Ok(response) => Ok(Some(response.leases.into_iter().map(|lease| lease.id).collect())),
            Err(status) if is_missing(&status) => Ok(None),
            Err(status) => Err(anyhow::Error::from(status).context("read the leases")),
        }
    }

    fn call<T>(&self, call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, Status> {
        self.runtime.block_on(call).map(tonic::Response::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_that_a_call_is_missing() {
        assert!(is_missing(&Status::unimplemented("")));
        assert!(is_missing(&Status::unknown("lease leases is not supported")));
        assert!(!is_missing(&Status::unknown("etcdserver: no leader")));
        assert!(!is_missing(&Status::permission_denied("is not supported")));
    }
}
