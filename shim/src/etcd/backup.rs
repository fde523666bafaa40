//! Maintenance.Snapshot: the history as an etcd database file, written beside the database and then sent.
//!
//! The file has no name: it is gone with this process, however the process ends.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use tonic::Status;

use super::context::Shared;
use crate::clock::WallTime;
use crate::engine::{self, Record, Revision};
use crate::pb::etcdserverpb::SnapshotResponse;
use crate::snapshot::{STORAGE_VERSION, SnapshotFile, SnapshotMember, SnapshotMeta, SnapshotWriter};

/// What a client gets.
pub(super) type Chunks = mpsc::Sender<Result<SnapshotResponse, Status>>;

/// Writes a snapshot and sends it. Ends early when the client is gone.
pub(super) async fn send(context: Shared, chunks: Chunks) -> Result<(), Status> {
    let begin = std::time::Instant::now();
    let (written, file) = write(&context, &chunks).await?;
    let size = written.size;
    run_blocking(move || send_file(written, file, &chunks)).await?;
    tracing::info!(bytes = size, milliseconds = begin.elapsed().as_millis() as u64, "sent a snapshot");
    Ok(())
}

/// Writes the file. Records are of one moment; leases of before and of after it, so that none is missing.
async fn write(context: &Shared, chunks: &Chunks) -> Result<(SnapshotFile, File), Status> {
    let engine = &context.engine;
    let before = engine.status().await?;
    let leases_before = engine.leases().await?;
    let path = context.snapshot_dir.join(file_name());
    let records = engine.records(0);
    let client = chunks.clone();
    let (mut writer, file, last) = run_blocking(move || write_records(path, records, &client)).await?;
    let after = engine.status().await?;
    for lease in leases_before.into_iter().chain(engine.leases().await?) {
        writer.lease(lease.id, lease.granted_ttl);
    }
    let compact_revision = before.compact_revision.max(after.compact_revision.min(last));
    let meta = SnapshotMeta {
        revision: last.max(compact_revision).max(1),
        compact_revision,
        member: SnapshotMember {
            id: context.identity.member_id,
            name: context.name.clone(),
            peer_urls: vec![],
            client_urls: context.client_urls.clone(),
        },
    };
    let written = run_blocking(move || writer.finish(meta).map_err(|error| failed(&error))).await?;
    Ok((written, file))
}

fn write_records(
    path: PathBuf,
    mut records: mpsc::Receiver<engine::Result<Vec<Record>>>,
    client: &Chunks,
) -> Result<(SnapshotWriter, File, Revision), Status> {
    let mut writer = SnapshotWriter::create(&path).map_err(|error| failed(&error))?;
    let opened = File::open(&path).and_then(|file| std::fs::remove_file(&path).map(|()| file));
    let file = opened.map_err(|error| failed(&error))?;
    let mut last = 0;
    while let Some(chunk) = records.blocking_recv() {
        for record in chunk? {
            writer.push(&record).map_err(|error| failed(&error))?;
            last = record.revision;
        }
        if client.is_closed() {
            return Err(Status::cancelled("etcdserver: request canceled"));
        }
    }
    Ok((writer, file, last))
}

fn send_file(written: SnapshotFile, file: File, client: &Chunks) -> Result<(), Status> {
    for chunk in written.chunks(file) {
        let chunk = chunk.map_err(|error| failed(&error))?;
        let version = STORAGE_VERSION.to_owned();
        let response =
            SnapshotResponse { header: None, remaining_bytes: chunk.remaining_bytes, blob: chunk.blob, version };
        if client.blocking_send(Ok(response)).is_err() {
            return Err(Status::cancelled("etcdserver: request canceled"));
        }
    }
    Ok(())
}

async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Status::internal(format!("etcdserver: snapshot: {error}")))?
}

fn failed(error: &std::io::Error) -> Status {
    tracing::error!(%error, "a snapshot failed");
    Status::internal(format!("etcdserver: snapshot: {error}"))
}

/// A name of its own for each snapshot, for the moment until it has none; also beside another process, and in a
/// container, where each process may have the number of the one before.
fn file_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = WallTime::now().millis();
    format!(".sluice-snapshot-{}-{now}-{}.db", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
