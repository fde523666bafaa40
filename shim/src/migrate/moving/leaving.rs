//! A part of a store that goes to a database of its own.
//!
//! Nobody serves the source. The target is whole, with the same revisions, before the first key is removed from the
//! source. So a move that is killed goes on from the copying, or from the removal.

use std::collections::HashMap;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::{Move, Progress, Ranges, Summary, origin};
use crate::endpoint::Endpoint;
use crate::engine::store::{Reader, Writer};
use crate::engine::{Error, KeyValue, RangeQuery, Revision, apart};
use crate::migrate::all_keys;
use crate::sql;

/// How many keys, and how many bytes of values, are removed at a time.
const PAGE: usize = 1000;
const BYTES: usize = 4 << 20;

/// How often the source is told that this process has it.
pub const BEAT: Duration = Duration::from_secs(2);

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

/// Does something while this process goes on telling that it has the source: a process that stands by would serve it
/// after some seconds without a word, and its clients change what is being copied.
///
/// # Errors
/// Those of the work, and when another process has the source now.
pub fn keeping<T>(
    every: Duration,
    mut tell: impl FnMut() -> crate::engine::Result<()> + Send,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    thread::scope(|scope| {
        let (working, ended) = mpsc::channel::<()>();
        let telling = scope.spawn(move || {
            while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                // What can't be told now may be told the next time.
                if let Err(error @ Error::Replaced(_)) = tell() {
                    return Err(error);
                }
            }
            Ok(())
        });
        let done = work();
        drop(working);
        telling.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        done
    })
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
pub fn remove(writer: &mut dyn Writer, (from, to): (&Endpoint, &Endpoint), part: &Ranges) -> Result<u64> {
    let target = sql::probe(to).with_context(|| format!("the target {to}"))?.1;
    let mut target = target.with_context(|| format!("there is no store in {to}"))?;
    let mut source = origin(from, Some(part))?.source;
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
        apart::remove(writer, &kvs).with_context(|| format!("--endpoint: remove keys from {from}"))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_kept_while_it_is_copied() {
        let (told, heard) = mpsc::channel();
        let copy = || {
            for _ in 0..3 {
                heard.recv_timeout(Duration::from_secs(60))?;
            }
            Ok(7)
        };
        let mut failed = false;
        let tell = move || {
            let _ = told.send(());
            // That once it can't be told makes no difference.
            if std::mem::replace(&mut failed, true) { Ok(()) } else { Err(Error::Unavailable("locked".into())) }
        };
        assert_eq!(keeping(Duration::from_millis(1), tell, copy).unwrap(), 7);
        let (told, heard) = mpsc::channel();
        let replaced = move || {
            let _ = told.send(());
            Err(Error::Replaced("by another".into()))
        };
        let copied = keeping(Duration::from_millis(1), replaced, || Ok(heard.recv_timeout(Duration::from_secs(60))?));
        assert_eq!(copied.unwrap_err().to_string(), "by another");
    }
}
