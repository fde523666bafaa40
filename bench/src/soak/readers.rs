//! Gets, lists, compactions and snapshots, as kube-apiserver and an operator make them.

use std::sync::atomic::Ordering;

use anyhow::{Result, bail};
use sluice_wire::pb::etcdserverpb as pb;

use super::traffic::{Traffic, Work, count};
use super::writers::keys;
use crate::client::Store;

/// Asks for objects in one way after the other.
pub(crate) struct Reader {
    pub(crate) store: Store,
    pub(crate) turn: usize,
}

impl Work for Reader {
    const NAME: &str = "read";

    async fn once(&mut self, traffic: &Traffic) -> Result<()> {
        self.turn += 1;
        let client = self.store.client(self.turn);
        let (start, end) = keys().range();
        count(&traffic.counts.reads, 1);
        match self.turn % 16 {
            0 => {
                // Writers replace objects meanwhile.
                let count = client.count(start, end).await?;
                if !(1_990..=2_000).contains(&count) {
                    bail!("{count} objects were counted");
                }
            }
            1 | 9 => {
                client.list(start, end, 500).await?;
            }
            5 | 13 => {
                let color = ["blue", "green", "red", "white"][self.turn / 4 % 4];
                let label = format!("\"color\":\"{color}\"");
                let found = client.objects(start, end, 500, Some(&format!("color={color}"))).await?;
                let has = |value: &[u8]| value.windows(label.len()).any(|part| part == label.as_bytes());
                if found.is_empty() || !found.iter().all(|kv| has(&kv.value)) {
                    bail!("a list with a selector has {} objects, or others than it asked for", found.len());
                }
                count(&traffic.counts.selected, 1);
            }
            _ => {
                client.get(keys().key(self.turn as u64 % 500)).await?;
            }
        }
        Ok(())
    }
}

/// Compacts to where the store was the last time, as kube-apiserver does
/// (apiserver: pkg/storage/etcd3/compact.go), more often.
pub(crate) struct Compactor {
    pub(crate) store: Store,
    pub(crate) before: i64,
}

impl Work for Compactor {
    const NAME: &str = "compaction";

    async fn once(&mut self, traffic: &Traffic) -> Result<()> {
        let target = std::mem::replace(&mut self.before, traffic.revision.load(Ordering::Relaxed));
        let compacted = traffic.others.1.load(Ordering::Acquire);
        if target == self.before || target <= compacted {
            return Ok(());
        }
        self.store.client(0).compact(target).await?;
        count(&traffic.counts.compactions, 1);
        Ok(())
    }
}

/// Reads a snapshot to its end.
pub(crate) struct Snapshots(pub(crate) Store);

impl Work for Snapshots {
    const NAME: &str = "snapshot";

    async fn once(&mut self, traffic: &Traffic) -> Result<()> {
        let mut parts = self.0.maintenance_client().snapshot(pb::SnapshotRequest {}).await?.into_inner();
        let (mut bytes, mut remaining) = (0, u64::MAX);
        while let Some(part) = parts.message().await? {
            bytes += part.blob.len();
            remaining = part.remaining_bytes;
        }
        if bytes == 0 || remaining != 0 {
            bail!("a snapshot of {bytes} bytes ended {remaining} before its end");
        }
        count(&traffic.counts.snapshots, 1);
        count(&traffic.counts.snapshot_bytes, bytes);
        Ok(())
    }
}
