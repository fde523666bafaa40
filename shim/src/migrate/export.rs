//! `sluice-shim export`: an etcd snapshot file from a database that no server has open.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::Moved;
use crate::config::{ConfigError, DatabaseFlags};
use crate::engine::Revision;
use crate::engine::load::Loaded;
use crate::engine::store::Reader;
use crate::etcd::context::Identity;
use crate::snapshot::{SnapshotFile, SnapshotMember, SnapshotMeta, SnapshotWriter};

/// How many records are read at a time.
const CHUNK: usize = 1000;

/// Writes a database that no server has open as an etcd snapshot file, which etcdutl and `sluice-shim restore` read.
/// For a database that is being served use `etcdctl snapshot save`.
#[derive(Debug, Clone, clap::Args)]
pub struct Export {
    /// Where the data is.
    #[command(flatten)]
    pub database: DatabaseFlags,

    /// The file to write; it must not exist.
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
}

impl Export {
    /// Writes the file. It has its name only when it is whole.
    ///
    /// # Errors
    /// When the database can't be read, or the file can't be written.
    pub fn run(&self) -> Result<Moved> {
        let to = &self.to;
        let endpoint = self.database.endpoint()?;
        if to.exists() {
            let hint = "name a file that is not there yet";
            return Err(ConfigError::here(format!("--to {} exists already", to.display()), hint).into());
        }
        let store = super::open_existing(&endpoint)?;
        let mut reader = store.reader()?;
        let part = part_of(to);
        let (file, moved) = write(reader.as_mut(), &part).with_context(|| format!("--to: write {}", part.display()))?;
        reader.end();
        let sealed = seal(&file, to);
        if sealed.is_err() {
            // The first error says more than one of the removal.
            let _ = std::fs::remove_file(&part);
        }
        sealed.with_context(|| format!("--to: write {}", to.display()))?;
        Ok(moved)
    }
}

fn part_of(to: &Path) -> PathBuf {
    let mut name = to.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

fn write(reader: &mut dyn Reader, part: &Path) -> Result<(SnapshotFile, Moved)> {
    let (revision, compact_revision) = reader.begin()?;
    if revision == 0 {
        bail!("the database was not loaded to its end: there is nothing in it to be trusted");
    }
    let cluster = reader.status()?.cluster_id;
    let mut writer = SnapshotWriter::create(part)?;
    let mut loaded = Loaded { revision, ..Loaded::default() };
    let mut after: (Revision, i64) = (0, i64::MAX);
    loop {
        let records = reader.records(after, revision, None, CHUNK)?;
        for record in &records {
            writer.push(record)?;
        }
        loaded.records += records.len() as u64;
        match records.last() {
            Some(last) if records.len() == CHUNK => after = (last.revision, last.sub),
            _ => break,
        }
    }
    for lease in reader.leases(0)? {
        writer.lease(lease.id, lease.ttl);
        loaded.leases += 1;
    }
    let name = "default".to_owned();
    let id = Identity::new(cluster, &name).member_id;
    let member = SnapshotMember { id, name, ..SnapshotMember::default() };
    let file = writer.finish(SnapshotMeta { revision, compact_revision, member })?;
    Ok((file, Moved::new(loaded, revision, compact_revision)))
}

/// Adds the digest, syncs the file and gives it its name.
fn seal(file: &SnapshotFile, to: &Path) -> std::io::Result<()> {
    let mut open = File::options().write(true).open(&file.path)?;
    open.seek(SeekFrom::Start(file.size))?;
    open.write_all(&file.sha256)?;
    open.sync_all()?;
    std::fs::rename(&file.path, to)?;
    super::sync_folder_of(to)
}
