//! Revisions, group commit, snapshots, leases, compaction and the watch hub. No SQL and no protobuf in here.

pub mod types;

use tokio::sync::mpsc;
pub use types::*;

/// The store: one per process.
#[derive(Debug, Clone)]
pub struct Engine {}

/// The watchers of one client stream.
#[derive(Debug)]
pub struct WatchSession {}

impl Engine {
    /// Reads a range. Linearizable unless `serializable`.
    pub async fn range(&self, _query: RangeQuery) -> Result<RangeResult> {
        todo!()
    }

    /// Reads a range in chunks of one snapshot; the last chunk alone has `revision`, `more` and `count` set. Dropping the receiver ends it.
    pub fn range_stream(&self, _query: RangeQuery) -> mpsc::Receiver<Result<RangeResult>> {
        todo!()
    }

    /// Carries out a put, a deletion or a transaction; returns the newest revision after it. Durable when it returns.
    pub async fn write(&self, _op: Op) -> Result<(Revision, OpResult)> {
        todo!()
    }

    /// Forgets all that was superseded at or before the revision. With `physical`, returns when the rows are gone.
    pub async fn compact(&self, _revision: Revision, _physical: bool) -> Result<Revision> {
        todo!()
    }

    /// Grants a lease; id 0 lets the engine choose one. `ttl` in seconds.
    pub async fn lease_grant(&self, _id: LeaseId, _ttl: i64) -> Result<LeaseStatus> {
        todo!()
    }

    /// Ends a lease and deletes its keys.
    pub async fn lease_revoke(&self, _id: LeaseId) -> Result<Revision> {
        todo!()
    }

    /// Makes the lease live its full time from now on; returns that time in seconds.
    pub async fn lease_keep_alive(&self, _id: LeaseId) -> Result<i64> {
        todo!()
    }

    /// What a lease has left, and its keys if asked for.
    pub async fn lease_time_to_live(&self, _id: LeaseId, _keys: bool) -> Result<LeaseStatus> {
        todo!()
    }

    /// All leases, without keys.
    pub async fn leases(&self) -> Result<Vec<LeaseStatus>> {
        todo!()
    }

    /// The newest revision whose events are on their way to the watchers. No answer's revision is ever ahead of it.
    pub fn revision(&self) -> Revision {
        todo!()
    }

    /// Sizes and revisions.
    pub async fn status(&self) -> Result<StoreStatus> {
        todo!()
    }

    /// Everything a backup needs that was not compacted at the revision (0: the newest), in order of (revision, sub), from one snapshot, in
    /// chunks. Used for HashKV and Maintenance.Snapshot.
    pub fn records(&self, _revision: Revision) -> mpsc::Receiver<Result<Vec<Record>>> {
        todo!()
    }

    /// Gives unused space back to the file system.
    pub async fn defragment(&self) -> Result<()> {
        todo!()
    }

    /// Opens a watch session for one client stream.
    pub fn watch(&self) -> WatchSession {
        todo!()
    }

    /// Stops taking writes, finishes those under way and closes the database.
    pub async fn shutdown(&self) {
        todo!()
    }
}

impl WatchSession {
    /// Adds a watcher. Ids are the caller's, unique in the session. Returns the store's newest revision at that moment: a watcher with start
    /// revision 0 sees all that comes after it.
    pub fn create(&self, _spec: WatchSpec) -> Revision {
        todo!()
    }

    /// Removes a watcher; false if there is none of that id.
    pub fn cancel(&self, _id: i64) -> bool {
        todo!()
    }

    /// The next message; waits for one. Cancel safe.
    pub async fn next(&mut self) -> WatchMessage {
        todo!()
    }

    /// The revision up to which `next` has returned everything for this watcher; `None` while it catches up or if there is none.
    pub fn progress(&self, _id: i64) -> Option<Revision> {
        todo!()
    }

    /// The same for all watchers of the session together; `None` while one of them catches up.
    pub fn progress_all(&self) -> Option<Revision> {
        todo!()
    }
}
