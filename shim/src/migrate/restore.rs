//! `sluice-shim restore`: a database from a snapshot file of etcd or of Sluice.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::Moved;
use crate::clock::StoreTime;
use crate::config::{ConfigError, DatabaseFlags, whole};
use crate::engine::load::Loader;
use crate::engine::store::{Lease, Store};
use crate::engine::{LeaseId, Revision};
use crate::snapshot::SnapshotReader;

/// Builds a database from a snapshot file: keys with their revisions, versions and leases, and the history since the
/// compaction. The database must be new or empty.
#[derive(Debug, Clone, clap::Args)]
pub struct Restore {
    /// The snapshot, as `etcdctl snapshot save` writes it.
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,

    /// Where the data goes.
    #[command(flatten)]
    pub database: DatabaseFlags,

    /// How much to raise the revision, so that no client sees it go back. Take more than was written since the
    /// snapshot.
    #[arg(long, default_value_t = 0, requires = "mark_compacted", value_parser = whole::<i64>(0..=i64::MAX as u64),
          allow_hyphen_values = true, value_name = "N")]
    pub bump_revision: Revision,

    /// Mark all revisions as compacted, so that clients list again instead of watching on from a history that is not
    /// theirs. Needed with --bump-revision.
    #[arg(long, requires = "bump_revision")]
    pub mark_compacted: bool,

    /// Do not compare the content with the digest. Needed for a file copied from a data folder (member/snap/db), which
    /// has none.
    #[arg(long)]
    pub skip_hash_check: bool,
}

impl Restore {
    /// Builds the database.
    ///
    /// # Errors
    /// When the snapshot is damaged or the database is not empty. What was built by then can't be used, and says so.
    pub fn run(&self) -> Result<Moved> {
        if (self.bump_revision > 0) != self.mark_compacted {
            let hint = "with --bump-revision give --mark-compacted, and a number above 0";
            return Err(ConfigError::new("--bump-revision above 0 and --mark-compacted go together", hint).into());
        }
        let endpoint = self.database.endpoint()?;
        let snapshot = open_snapshot(&self.from, self.skip_hash_check)
            .with_context(|| format!("read --from {}", self.from.display()))?;
        let store = super::open(&endpoint)?;
        let bump = (self.bump_revision > 0).then_some(self.bump_revision);
        // With its full time, as with etcd.
        let full = |id, ttl| Lease::full(id, ttl, store.clock().now()).expires_at;
        load(&snapshot, store.as_ref(), bump, full, |_| Ok(()))
    }
}

/// Opens a snapshot. One without a digest is only accepted when it need not be compared.
fn open_snapshot(path: &Path, skip_hash_check: bool) -> Result<SnapshotReader> {
    if skip_hash_check {
        return Ok(SnapshotReader::open_unverified(path)?);
    }
    let snapshot = SnapshotReader::open(path)?;
    if !snapshot.has_digest() {
        bail!(
            "{} has no digest at its end, so it may be damaged; if it was copied from a data folder, use --skip-hash-check",
            path.display()
        );
    }
    Ok(snapshot)
}

/// Loads a snapshot into an empty store. `bump`: raise the revision and forget the history. `expires_at`: when a lease
/// with its time to live in seconds ends. `check` looks at the store, which holds everything, before it is released for
/// use, and is told its revision.
pub(super) fn load(
    snapshot: &SnapshotReader,
    store: &dyn Store,
    bump: Option<Revision>,
    mut expires_at: impl FnMut(LeaseId, i64) -> StoreTime,
    check: impl FnOnce(Revision) -> Result<()>,
) -> Result<Moved> {
    let compacted = snapshot.compact_revision()?;
    let mut loader = Loader::begin(store, if bump.is_some() { Revision::MAX } else { compacted })?;
    for record in snapshot.records()? {
        loader.push(record?)?;
    }
    let mut leases = Vec::new();
    for lease in snapshot.leases()? {
        let (id, ttl) = lease?;
        leases.push(Lease { id, ttl, expires_at: expires_at(id, ttl) });
    }
    loader.leases(leases)?;
    let newest = loader.flush()?.revision.max(compacted).max(1);
    let (revision, compact_revision) = match bump {
        None => (newest, compacted),
        Some(bump) => {
            let revision = newest.checked_add(bump).context("the revision would be greater than any number")?;
            (revision, revision)
        }
    };
    check(newest)?;
    let loaded = loader.finish(revision, compact_revision)?;
    Ok(Moved::new(loaded, revision, compact_revision))
}
