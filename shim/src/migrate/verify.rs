//! Whether two stores hold the same keys: their number, and a SHA-256 over all of them.

use anyhow::{Result, bail};

use super::digest::{Hasher, Summary};
use super::source::Source;
use crate::engine::store::Store;
use crate::engine::{KeyRange, RangeQuery, Revision};

/// How many keys are read at a time.
const PAGE: i64 = 500;

/// Compares the keys of the range, with values and revisions, as they were in the source at the revision; returns how
/// many there are.
pub(super) fn same(source: &Source, store: &dyn Store, range: &KeyRange, revision: Revision) -> Result<u64> {
    let (there, here) = (of_source(source, range.clone(), revision)?, of_store(store, range.clone(), revision)?);
    if there != here {
        bail!(
            "the database is not what the source is at revision {revision}: {} keys with SHA-256 {} here, {} with {} there",
            here.count,
            here.sha256,
            there.count,
            there.sha256
        );
    }
    Ok(here.count)
}

fn of_source(source: &Source, mut range: KeyRange, revision: Revision) -> Result<Summary> {
    let mut hasher = Hasher::default();
    loop {
        let page = source.page(&range, revision, PAGE)?;
        for kv in &page.kvs {
            hasher.add(&[&kv.key, &kv.value], &[kv.create_revision, kv.mod_revision]);
        }
        match page.kvs.last() {
            Some(last) if page.more => range = range.after(&last.key),
            _ => return Ok(hasher.finish()),
        }
    }
}

fn of_store(store: &dyn Store, range: KeyRange, revision: Revision) -> Result<Summary> {
    let mut hasher = Hasher::default();
    let mut query = RangeQuery { range, ..RangeQuery::default() };
    let mut reader = store.reader()?;
    reader.begin()?;
    loop {
        let page = reader.page(&query, revision, PAGE as usize)?;
        for kv in &page.kvs {
            hasher.add(&[&kv.key, &kv.value], &[kv.create_revision, kv.mod_revision]);
        }
        match page.kvs.last() {
            Some(last) if page.more => query.range = query.range.after(&last.key),
            _ => break,
        }
    }
    reader.end();
    Ok(hasher.finish())
}
