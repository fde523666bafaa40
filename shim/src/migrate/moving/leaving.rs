//! A part of a store that goes to a database of its own.
//!
//! Nobody serves the source. The target is whole, with the same revisions, before the first key is removed from the
//! source. So a move that is killed goes on from the copying, or from the removal.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail};

use super::{Move, Progress, Ranges, Summary, origin};
use crate::endpoint::Endpoint;
use crate::engine::store::{Reader, Store};
use crate::engine::{KeyValue, RangeQuery, Revision, apart};
use crate::migrate::all_keys;
use crate::sql;

/// How many keys, and how many bytes of values, are removed at a time.
const PAGE: usize = 1000;
const BYTES: usize = 4 << 20;

/// A part that was copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// The revision of both.
    pub revision: Revision,
    /// The live keys.
    pub keys: Summary,
    /// The puts and deletions since the compaction.
    pub history: Summary,
}

/// Copies a part of a store that nobody serves, and compares all of it. The target is whole then, and has the revision
/// of the source.
///
/// # Errors
/// When one of the two fails, or they differ, or the target is not to be filled.
pub fn copy(from: &Endpoint, to: &Endpoint, part: &Ranges, progress: Progress) -> Result<Copied> {
    let mut moving = Move::begin_part(from, to, part, progress)?;
    moving.copy()?;
    moving.prove()?;
    moving.prepare()?;
    let figures = moving.figures;
    moving.target.finish(figures.compared_at).with_context(|| format!("the target {to}"))?;
    Ok(Copied { revision: figures.compared_at, keys: figures.keys, history: figures.history })
}

/// Whether a database holds all of a part, and can be served.
///
/// # Errors
/// When one of the two can't be read.
pub fn is_copied(from: &Endpoint, to: &Endpoint, part: &Ranges) -> Result<bool> {
    let Some(mut target) = sql::probe(to).with_context(|| format!("the target {to}"))?.1 else { return Ok(false) };
    let (revision, _) = target.begin()?;
    let status = target.status();
    target.end();
    Ok(revision > 0 && status?.cluster_id == origin(from, Some(part))?.cluster_id)
}

/// Removes a part from a store that nobody serves, as far as the target has it. Returns how many keys were removed.
///
/// # Errors
/// When the target lacks one of them, or one of the two fails. What is left is removed when this is done once more.
pub fn remove(store: &dyn Store, (from, to): (&Endpoint, &Endpoint), part: &Ranges) -> Result<u64> {
    let target = sql::probe(to).with_context(|| format!("the target {to}"))?.1;
    let mut target = target.with_context(|| format!("there is no store in {to}"))?;
    let mut source = origin(from, Some(part))?.source;
    let mut writer = store.writer()?;
    let query = RangeQuery { range: all_keys(), limit_bytes: BYTES, ..RangeQuery::default() };
    let mut removed = 0;
    loop {
        let (revision, _) = source.begin()?;
        let page = source.page(&query, revision, PAGE);
        source.end();
        let kvs = page?.kvs;
        if kvs.is_empty() {
            return Ok(removed);
        }
        check(target.as_mut(), &kvs).with_context(|| format!("the target {to}"))?;
        apart::remove(writer.as_mut(), &kvs).with_context(|| format!("--endpoint: remove keys from {from}"))?;
        removed += kvs.len() as u64;
    }
}

/// Fails unless the target has all of these keys as they are, or as they became there.
fn check(target: &mut dyn Reader, kvs: &[KeyValue]) -> Result<()> {
    let keys: Vec<&[u8]> = kvs.iter().map(|kv| &kv.key[..]).collect();
    let (_, there) = target.newest(&keys)?;
    let there: HashMap<_, _> = there.iter().map(|kv| (&kv.key, kv)).collect();
    let lacks = |kv: &&KeyValue| {
        let same = there.get(&kv.key).filter(|own| own.create_revision == kv.create_revision);
        same.is_none_or(|own| own.mod_revision < kv.mod_revision)
    };
    match kvs.iter().find(lacks) {
        Some(kv) => bail!(
            "it lacks {} as it is in the source, where it is kept; whether it was changed after the move is yours to \
             find out",
            kv.key.escape_ascii()
        ),
        None => Ok(()),
    }
}
