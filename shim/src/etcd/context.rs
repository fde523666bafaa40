//! What all services share.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tonic::metadata::MetadataMap;

use super::errors::Fault;
use super::selection;
use crate::engine::{Engine, Revision};
use crate::metrics::Metrics;
use crate::pb::etcdserverpb as pb;
use crate::selector::Selection;

/// The version of etcd whose API this is. kube-apiserver decides by it which features it uses
/// (k8s.io/apiserver/pkg/storage/feature).
pub const ETCD_VERSION: &str = "3.7.3";

/// The version that an etcd cluster of [`ETCD_VERSION`] agrees on, and that of its storage.
pub const CLUSTER_VERSION: &str = "3.7.0";

/// The term in every header. There is no raft here, so it never changes; clients only ask that it is not zero.
pub const TERM: u64 = 2;

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The database: the same for all instances on it.
    pub cluster_id: u64,
    /// The instance: the same after a restart.
    pub member_id: u64,
}

impl Identity {
    /// The identity of the instance of that name on that database.
    pub fn new(cluster_id: u64, name: &str) -> Self {
        use sha2::{Digest, Sha256};
        let digest = Sha256::new().chain_update(cluster_id.to_be_bytes()).chain_update(name).finalize();
        let member_id = digest.iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte));
        // 0 is "no member" for clients.
        Self { cluster_id, member_id: member_id.max(1) }
    }

    /// A header at that revision.
    pub fn header(self, revision: Revision) -> pb::ResponseHeader {
        pb::ResponseHeader { cluster_id: self.cluster_id, member_id: self.member_id, revision, raft_term: TERM }
    }
}

/// The limits on requests, with etcd's defaults.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Operations in each branch of a transaction.
    pub max_txn_ops: usize,
    /// Bytes of a write.
    pub max_request_bytes: usize,
    /// Bytes of data in the database from which on writes are refused; 0 for no limit.
    pub quota_bytes: i64,
}

impl Limits {
    /// The bytes of a gRPC message, and of a response from which on watchers get it in fragments (etcd:
    /// server/config/config.go, `MaxRequestBytesWithOverhead`).
    pub fn message_bytes(self) -> usize {
        self.max_request_bytes.saturating_add(512 * 1024)
    }
}

/// What all services share.
#[derive(Debug)]
pub struct Context {
    /// The store.
    pub engine: Engine,
    /// Who answers.
    pub identity: Identity,
    /// The name of this member.
    pub name: String,
    /// The URLs that clients are told to use.
    pub client_urls: Vec<String>,
    /// The limits on requests.
    pub limits: Limits,
    /// How often watchers that ask for it hear of the progress.
    pub progress_interval: Duration,
    /// Where snapshots are written before they are sent.
    pub snapshot_dir: PathBuf,
    /// What is counted.
    pub metrics: Metrics,
    /// Turns true when the server ends.
    pub stop: watch::Receiver<bool>,
    /// Whether the data exceeds the quota, or would with what was refused.
    pub full: AtomicBool,
    /// Bytes of the largest request that the quota refused, until there is room for it; else 0.
    pub refused: AtomicI64,
    /// Bytes of data as last measured against the quota, and of the requests admitted since; 0 without a quota.
    pub in_use: AtomicI64,
}

/// A reference to the [`Context`].
pub type Shared = Arc<Context>;

impl Context {
    /// A header at the newest revision.
    pub fn header(&self) -> pb::ResponseHeader {
        self.identity.header(self.engine.revision())
    }

    /// A header at that revision.
    pub fn header_at(&self, revision: Revision) -> pb::ResponseHeader {
        self.identity.header(revision)
    }

    /// Refuses a request that stores so many bytes if the database exceeds the quota with it (etcd:
    /// server/etcdserver/api/v3rpc/quota.go, server/storage/quota.go). Smaller ones are still taken, other than by
    /// etcd.
    ///
    /// Between two measurements what was admitted is added up. That is an estimate, so before it refuses anything it is
    /// measured again.
    pub async fn check_quota(&self, bytes: usize) -> Result<(), Fault> {
        if self.limits.quota_bytes == 0 {
            return Ok(());
        }
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        if !self.has_room(bytes) {
            self.measure_quota().await;
            if !self.has_room(bytes) {
                self.refused.fetch_max(bytes, Ordering::Relaxed);
                self.set_full(true);
                return Err(Fault::NoSpace);
            }
        }
        self.in_use.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Measures the database against the quota; returns whether it exceeds it, or would with the largest request that
    /// was refused.
    pub async fn measure_quota(&self) -> bool {
        if self.limits.quota_bytes == 0 {
            return false;
        }
        let Ok(status) = self.engine.status().await else { return self.is_full() };
        self.in_use.store(status.db_size_in_use, Ordering::Relaxed);
        let full = !self.has_room(self.refused.load(Ordering::Relaxed));
        if !full {
            self.refused.store(0, Ordering::Relaxed);
        }
        self.set_full(full);
        full
    }

    /// What [`Context::measure_quota`] said last.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// What is wrong with the database. It follows from its state, so an alarm ends when its cause does; damage does
    /// not before a restart.
    pub async fn alarms(&self) -> Vec<pb::AlarmType> {
        let mut alarms = vec![];
        if self.measure_quota().await || self.engine.is_full() {
            alarms.push(pb::AlarmType::Nospace);
        }
        if self.engine.damage().is_some() {
            alarms.push(pb::AlarmType::Corrupt);
        }
        alarms
    }

    fn has_room(&self, bytes: i64) -> bool {
        self.in_use.load(Ordering::Relaxed).saturating_add(bytes) <= self.limits.quota_bytes
    }

    fn set_full(&self, full: bool) {
        if self.full.swap(full, Ordering::Relaxed) != full {
            tracing::warn!(full, quota_bytes = self.limits.quota_bytes, "the quota was crossed");
        }
    }

    /// The selectors in the metadata of a request, if they can be used.
    pub fn selection(&self, metadata: &MetadataMap) -> Option<Arc<Selection>> {
        selection::from_metadata(metadata, &self.metrics)
    }

    /// The selectors of a range: those in its metadata, else those in itself.
    pub fn range_selection(&self, metadata: &MetadataMap, range: &pb::RangeRequest) -> Option<Arc<Selection>> {
        selection::of_range(metadata, range, &self.metrics)
    }

    /// The selectors of a watcher: those in the metadata of its stream, else those in its request.
    pub fn watch_selection(
        &self,
        of_stream: Option<&Arc<Selection>>,
        watcher: &pb::WatchCreateRequest,
    ) -> Option<Arc<Selection>> {
        of_stream
            .cloned()
            .or_else(|| selection::from_message(&watcher.label_selector, &watcher.field_selector, &self.metrics))
    }
}

/// Waits until the server ends.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the server is gone already.
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_stable_and_differ() {
        let one = Identity::new(7, "default");
        assert_eq!(one, Identity::new(7, "default"));
        assert_ne!(one.member_id, Identity::new(8, "default").member_id);
        assert_ne!(one.member_id, Identity::new(7, "other").member_id);
    }
}
