//! `sluice-shim import`: a database from a server that speaks etcd's API and runs.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use tokio::runtime::Handle;

use super::source::{Address, Source};
use super::{Moved, restore, verify};
use crate::clock::{StoreClock, StoreTime};
use crate::config::DatabaseFlags;
use crate::engine::load::Loader;
use crate::engine::store::{Lease, Store};
use crate::engine::{KeyRange, KeyValue, LeaseId, Record, Revision};
use crate::pb::mvccpb;
use crate::snapshot::SnapshotReader;

/// How many keys are read at a time.
const PAGE: i64 = 500;

/// Builds a database from a running etcd, kine, or other server of etcd's API, as it is at one revision, and compares
/// the two. The database must be new or empty.
///
/// From etcd (anything that gives snapshots) the history comes along. From kine come the keys below / as they are now,
/// with their revisions.
#[derive(Debug, Clone, clap::Args)]
pub struct Import {
    #[command(flatten)]
    from: Address,

    /// Where the data goes.
    #[command(flatten)]
    database: DatabaseFlags,
}

/// What an import found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// What was moved.
    pub moved: Moved,
    /// How many keys were compared with the source, and are the same.
    pub verified_keys: u64,
    /// Whether the history came along.
    pub history: bool,
    /// The revision of the source at the end. What it wrote after [`Moved::revision`] is not in the database.
    pub source_revision: Revision,
}

impl std::fmt::Display for Imported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let history = if self.history { "with the history" } else { "without history" };
        write!(f, "{}; {history}; {} keys are the same on both sides", self.moved, self.verified_keys)?;
        let missed = self.source_revision - self.moved.revision;
        if missed > 0 {
            write!(f, "\nwarning: the source wrote {missed} revisions since; stop what writes to it and import again")?;
        }
        Ok(())
    }
}

impl Import {
    /// Imports. Blocks: call it where that is allowed, in a tokio runtime.
    ///
    /// # Errors
    /// When the source can't be read at one revision, or the database is not empty or does not hold the same in the
    /// end. What was built by then can't be used, and says so.
    pub fn run(&self) -> Result<Imported> {
        let endpoint = self.database.endpoint()?;
        let source = self.from.connect(Handle::current())?;
        let store = super::open(&endpoint)?;
        let beside = endpoint.folder();
        let folder = tempfile::Builder::new().prefix(".sluice-import-").tempdir_in(&beside);
        let folder = folder.with_context(|| format!("make a folder in {}", beside.display()))?;
        let file = folder.path().join("snapshot");
        if source.snapshot(&file)? {
            with_history(&source, store.as_ref(), &file)
        } else {
            keys(&source, store.as_ref())
        }
    }
}

fn with_history(source: &Source, store: &dyn Store, file: &Path) -> Result<Imported> {
    let snapshot = SnapshotReader::open(file)?;
    if !snapshot.has_digest() {
        bail!("the snapshot of the source was cut off");
    }
    let left = leases_left(source, &store.clock(), &mut snapshot.leases()?.map(|lease| Ok(lease?.0)))?;
    let expires_at = |id, _| left.get(&id).map_or(StoreTime::default(), |lease| lease.expires_at);
    let mut verified_keys = 0;
    let moved = restore::load(&snapshot, store, None, expires_at, |revision| {
        verified_keys = verify::same(source, store, &super::all_keys(), revision)?;
        Ok(())
    })?;
    Ok(Imported { moved, verified_keys, history: true, source_revision: source.revision()? })
}

/// The leases with the time that is left to them. One that has ended meanwhile ends here too, soon after the server
/// started.
fn leases_left(
    source: &Source,
    clock: &StoreClock,
    ids: &mut dyn Iterator<Item = Result<LeaseId>>,
) -> Result<HashMap<LeaseId, Lease>> {
    let mut leases = HashMap::new();
    for id in ids {
        let id = id?;
        let (ttl, left) = source.lease(id)?.unwrap_or((0, 0));
        leases.insert(id, Lease { ttl, ..Lease::full(id, left, clock.now()) });
    }
    Ok(leases)
}

/// The keys as they are at one revision, page by page. For a server without snapshots, which is kine: its keys are
/// paths.
fn keys(source: &Source, store: &dyn Store) -> Result<Imported> {
    let paths = KeyRange::from_wire(b"/"[..].into(), b"0"[..].into());
    let mut loader = Loader::begin(store, Revision::MAX)?;
    let mut attached = BTreeSet::new();
    // The place among the changes of a revision: where a transaction put several keys, these need one each.
    let mut places: HashMap<Revision, i64> = HashMap::new();
    let (mut range, mut revision) = (paths.clone(), 0);
    loop {
        let page = source.page(&range, revision, PAGE)?;
        revision = if revision == 0 { page.revision } else { revision };
        let next = page.kvs.last().map(|last| range.after(&last.key));
        for kv in page.kvs {
            attached.insert(kv.lease);
            let place = places.entry(kv.mod_revision).or_default();
            loader.push(record(kv, *place))?;
            *place += 1;
        }
        match next {
            Some(next) if page.more => range = next,
            _ => break,
        }
    }
    attached.remove(&0);
    let clock = store.clock();
    let leases = match source.leases()? {
        Some(ids) => leases_left(source, &clock, &mut ids.into_iter().map(Ok))?.into_values().collect(),
        None => attached.into_iter().map(|id| lease_of_kine(id, clock.now())).collect(),
    };
    loader.leases(leases)?;
    loader.flush()?;
    let verified_keys = verify::same(source, store, &paths, revision)?;
    let loaded = loader.finish(revision, revision)?;
    let moved = Moved::new(loaded, revision, revision);
    Ok(Imported { moved, verified_keys, history: false, source_revision: source.revision()? })
}

/// A lease of kine is a time to live, in seconds, that each key gets for itself; its number is that time (kine:
/// pkg/server/lease.go). Here all its keys get that time from now on.
fn lease_of_kine(id: LeaseId, now: StoreTime) -> Lease {
    Lease::full(id, id, now)
}

fn record(kv: mvccpb::KeyValue, sub: i64) -> Record {
    let kv = KeyValue {
        key: kv.key,
        value: kv.value,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        // kine does not count. A key that was changed was put twice at least.
        version: kv.version.max(1 + i64::from(kv.mod_revision > kv.create_revision)),
        lease: kv.lease,
    };
    Record { revision: kv.mod_revision, sub, tombstone: false, kv }
}
