//! Whether two stores hold the same keys: their number, and a SHA-256 over all of them.

use anyhow::{Result, bail};
use sha2::{Digest as _, Sha256};

use super::source::Source;
use crate::engine::store::Store;
use crate::engine::{KeyRange, RangeQuery, Revision};

/// How many keys are read at a time.
const PAGE: i64 = 500;

/// What is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Summary {
    keys: u64,
    sha256: String,
}

#[derive(Default)]
struct Hasher {
    keys: u64,
    sha256: Sha256,
}

impl Hasher {
    fn add(&mut self, key: &[u8], value: &[u8], create_revision: Revision, mod_revision: Revision) {
        self.keys += 1;
        for bytes in [key, value] {
            self.sha256.update((bytes.len() as u64).to_be_bytes());
            self.sha256.update(bytes);
        }
        self.sha256.update(create_revision.to_be_bytes());
        self.sha256.update(mod_revision.to_be_bytes());
    }

    fn finish(self) -> Summary {
        let sha256 = self.sha256.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Summary { keys: self.keys, sha256 }
    }
}

/// Compares the keys of the range, with values and revisions, as they were in the source at the revision; returns how
/// many there are.
pub(super) fn same(source: &Source, store: &dyn Store, range: &KeyRange, revision: Revision) -> Result<u64> {
    let (there, here) = (of_source(source, range.clone(), revision)?, of_store(store, range.clone(), revision)?);
    if there != here {
        bail!(
            "the database is not what the source is at revision {revision}: {} keys with SHA-256 {} here, {} with {} there",
            here.keys,
            here.sha256,
            there.keys,
            there.sha256
        );
    }
    Ok(here.keys)
}

fn of_source(source: &Source, mut range: KeyRange, revision: Revision) -> Result<Summary> {
    let mut hasher = Hasher::default();
    loop {
        let page = source.page(&range, revision, PAGE)?;
        for kv in &page.kvs {
            hasher.add(&kv.key, &kv.value, kv.create_revision, kv.mod_revision);
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
            hasher.add(&kv.key, &kv.value, kv.create_revision, kv.mod_revision);
        }
        match page.kvs.last() {
            Some(last) if page.more => query.range = query.range.after(&last.key),
            _ => break,
        }
    }
    reader.end();
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What moves between a key and its value is a difference.
    #[test]
    fn every_part_counts() {
        let sum = |kvs: &[(&str, &str, i64, i64)]| {
            let mut hasher = Hasher::default();
            for (key, value, create, modified) in kvs {
                hasher.add(key.as_bytes(), value.as_bytes(), *create, *modified);
            }
            hasher.finish()
        };
        let one = sum(&[("ab", "c", 2, 3)]);
        assert_eq!(one, sum(&[("ab", "c", 2, 3)]));
        for other in [[("a", "bc", 2, 3)], [("ab", "d", 2, 3)], [("ab", "c", 1, 3)], [("ab", "c", 2, 4)]] {
            assert_ne!(one, sum(&other));
        }
        assert_eq!(one.keys, 1);
    }
}
