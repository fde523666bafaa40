//! Moving data in and out, and looking after it, while no server has the database open; and moving a store to another
//! database while a server serves it.

pub mod accept_rollback;
mod digest;
pub mod export;
pub mod fsck;
pub mod import;
pub mod migrate_to;
pub mod move_group;
pub mod moving;
pub mod partition;
pub mod restore;
mod source;
mod verify;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use crate::endpoint::Endpoint;
use crate::engine::load::Loaded;
use crate::engine::metrics::Metrics;
use crate::engine::store::Store;
use crate::engine::{KeyRange, Revision};
use crate::sql;

/// What was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Puts and deletions.
    pub records: u64,
    /// Leases.
    pub leases: u64,
    /// The revision of the store.
    pub revision: Revision,
    /// The revision of its last compaction, or 0.
    pub compact_revision: Revision,
}

impl Moved {
    fn new(loaded: Loaded, revision: Revision, compact_revision: Revision) -> Self {
        Self { records: loaded.records, leases: loaded.leases, revision, compact_revision }
    }
}

impl std::fmt::Display for Moved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { records, leases, revision, compact_revision } = self;
        write!(f, "{records} changes, {leases} leases; revision {revision}, compacted at {compact_revision}")
    }
}

/// Opens a database that is to be filled; creates it if need be.
fn open(endpoint: &Endpoint) -> Result<Arc<dyn Store>> {
    sql::open(endpoint, Arc::new(Metrics::default())).with_context(|| format!("--endpoint: open {endpoint}"))
}

/// Opens a database that must be there, to read it.
fn open_existing(endpoint: &Endpoint) -> Result<Arc<dyn Store>> {
    endpoint.must_exist()?;
    sql::open_to_read(endpoint).with_context(|| format!("--endpoint: open {endpoint}"))
}

fn all_keys() -> KeyRange {
    KeyRange::from_wire(vec![0].into(), vec![0].into())
}

/// Syncs a folder, so that a file that was renamed into it is there after a power loss.
fn sync_folder_of(file: &Path) -> std::io::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()
}
