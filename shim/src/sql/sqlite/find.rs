//! Finds live keys.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::{ControlFlow, Deref};

use bytes::Bytes;
use rusqlite::{Connection, Rows, params};

use super::row::{ROW, Range, row_ref};
use super::tables::Tables;
use crate::engine::KeyRange;
use crate::sql::session::{Find, Postings, Source, Take};

/// The most keys that are read ahead of one posting list.
const CHUNK: usize = 4096;

impl<C: Deref<Target = Connection>> Tables<C> {
    /// Gives the live keys of a source, in order.
    pub(super) fn find_rows(&self, find: &Find<'_>, take: &mut Take<'_>) -> rusqlite::Result<()> {
        match find.source {
            Source::Scan => self.scan(find, ("current_key", ""), take),
            Source::Visible => self.scan(find, ("current_visible", "AND hidden = 0"), take),
            Source::Keys(keys) => {
                let mut keys = keys.iter();
                self.fetch(find, &mut || Ok(keys.next().cloned()), take)
            }
            Source::Postings(postings) => {
                let mut merge = Merge::new(&self.connection, postings, find.range, find.wanted)?;
                self.fetch(find, &mut || merge.next(), take)
            }
        }
    }

    /// Goes through the keys of the range that an index has.
    fn scan(&self, find: &Find<'_>, (index, condition): (&str, &str), take: &mut Take<'_>) -> rusqlite::Result<()> {
        let bounds = Range::of(find.range);
        let sql = format!(
            "SELECT {} FROM current INDEXED BY {index} WHERE {} AND mod_revision <= ?3 {condition} ORDER BY key",
            columns(find),
            bounds.condition("key")
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(bounds.params(&[&find.until]).as_slice())?;
        give(&mut rows, take).map(drop)
    }

    /// Fetches keys, in order, that no probe excludes.
    fn fetch(
        &self,
        find: &Find<'_>,
        next: &mut dyn FnMut() -> rusqlite::Result<Option<Vec<u8>>>,
        take: &mut Take<'_>,
    ) -> rusqlite::Result<()> {
        let sql = format!(
            "SELECT {} FROM current INDEXED BY current_key WHERE key = ?1 AND mod_revision <= ?2",
            columns(find)
        );
        let mut one = self.connection.prepare_cached(&sql)?;
        'keys: while let Some(key) = next()? {
            if !find.range.contains(&key) {
                continue;
            }
            for postings in find.probes {
                if !is_in(&self.connection, postings, &key)? {
                    continue 'keys;
                }
            }
            let mut rows = one.query(params![key, find.until])?;
            if give(&mut rows, take)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// The columns of [`row_ref`], the value only if it is needed.
fn columns(find: &Find<'_>) -> &'static str {
    if find.values { ROW } else { "key, create_revision, mod_revision, version, lease, x'', sub" }
}

/// Gives rows of the columns of [`row_ref`] until they are enough.
pub(super) fn give(rows: &mut Rows<'_>, take: &mut Take<'_>) -> rusqlite::Result<ControlFlow<()>> {
    while let Some(row) = rows.next()? {
        if take(row_ref(row)?).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Merges posting lists; reads them in chunks, so that a page costs about its own size.
struct Merge<'a> {
    connection: &'a Connection,
    end: Option<Bytes>,
    lists: Vec<List<'a>>,
    /// The first key of each list that has any left.
    heads: BinaryHeap<Reverse<(Vec<u8>, usize)>>,
    last: Option<Vec<u8>>,
}

struct List<'a> {
    postings: &'a Postings,
    /// Where the next chunk begins; `None` after the last one.
    next: Option<Vec<u8>>,
    chunk: usize,
    ahead: VecDeque<Vec<u8>>,
}

impl<'a> Merge<'a> {
    /// Of the keys in the range. `wanted`: about how many the caller is going to take.
    fn new(
        connection: &'a Connection,
        postings: &'a [Postings],
        range: &KeyRange,
        wanted: usize,
    ) -> rusqlite::Result<Self> {
        let (start, end) = range.bounds();
        let chunk = (wanted.min(256) / postings.len().max(1)).max(8);
        let list = |postings| List { postings, next: Some(start.to_vec()), chunk, ahead: VecDeque::new() };
        let lists: Vec<_> = postings.iter().map(list).collect();
        let mut merge = Self { connection, end, lists, heads: BinaryHeap::new(), last: None };
        for at in 0..merge.lists.len() {
            merge.advance(at)?;
        }
        Ok(merge)
    }

    /// The next key.
    fn next(&mut self) -> rusqlite::Result<Option<Vec<u8>>> {
        while let Some(Reverse((key, at))) = self.heads.pop() {
            self.advance(at)?;
            if self.last.as_ref() != Some(&key) {
                self.last = Some(key.clone());
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    fn advance(&mut self, at: usize) -> rusqlite::Result<()> {
        let list = &mut self.lists[at];
        if list.ahead.is_empty() {
            list.read(self.connection, self.end.as_deref())?;
        }
        if let Some(key) = list.ahead.pop_front() {
            self.heads.push(Reverse((key, at)));
        }
        Ok(())
    }
}

impl List<'_> {
    fn read(&mut self, connection: &Connection, end: Option<&[u8]>) -> rusqlite::Result<()> {
        let Some(from) = self.next.take() else { return Ok(()) };
        let before_end = if end.is_some() { "AND key < ?4" } else { "AND ?4 IS NULL" };
        let sql = format!(
            "SELECT key FROM attribute WHERE name = ?1 AND value = ?2 AND key >= ?3 {before_end} ORDER BY key LIMIT ?5"
        );
        let mut statement = connection.prepare_cached(&sql)?;
        let Postings { name, value } = self.postings;
        let mut rows = statement.query(params![name, value, from, end, self.chunk as i64])?;
        while let Some(row) = rows.next()? {
            self.ahead.push_back(row.get(0)?);
        }
        if self.ahead.len() == self.chunk {
            self.next = self.ahead.back().map(|last| [&last[..], &[0]].concat());
            self.chunk = (self.chunk * 4).min(CHUNK);
        }
        Ok(())
    }
}

/// Whether a key is in one of the posting lists.
fn is_in(connection: &Connection, postings: &[Postings], key: &[u8]) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM attribute WHERE name = ?1 AND value = ?2 AND key = ?3)";
    let mut statement = connection.prepare_cached(sql)?;
    for Postings { name, value } in postings {
        if statement.query_row(params![name, value, key], |row| row.get(0))? {
            return Ok(true);
        }
    }
    Ok(false)
}
