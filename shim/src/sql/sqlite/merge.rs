//! Keys of several entries of the index, in order.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use rusqlite::{Connection, params};

use crate::engine::{KeyRange, RangeEnd};

/// The most keys that are read ahead of one posting list.
const CHUNK: usize = 4096;

/// The keys that have a value under a name in `attribute`. They stand there in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Postings {
    pub(super) name: i64,
    pub(super) value: Box<str>,
}

/// The bounds of a range: the first key, and the end if there is one.
pub(super) fn bounds(range: &KeyRange) -> (Vec<u8>, Option<Vec<u8>>) {
    let end = match &range.end {
        RangeEnd::Single => Some([&range.start[..], &[0]].concat()),
        RangeEnd::Before(end) => Some(end.to_vec()),
        RangeEnd::Unbounded => None,
    };
    (range.start.to_vec(), end)
}

/// Merges posting lists; reads them in chunks, so that a page costs about its own size.
pub(super) struct Merge<'a> {
    connection: &'a Connection,
    end: Option<Vec<u8>>,
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
    pub(super) fn new(
        connection: &'a Connection,
        postings: &'a [Postings],
        range: &KeyRange,
        wanted: usize,
    ) -> rusqlite::Result<Self> {
        let (start, end) = bounds(range);
        let chunk = (wanted.min(256) / postings.len().max(1)).max(8);
        let list = |postings| List { postings, next: Some(start.clone()), chunk, ahead: VecDeque::new() };
        let lists: Vec<_> = postings.iter().map(list).collect();
        let mut merge = Self { connection, end, lists, heads: BinaryHeap::new(), last: None };
        for at in 0..merge.lists.len() {
            merge.advance(at)?;
        }
        Ok(merge)
    }

    /// The next key.
    pub(super) fn next(&mut self) -> rusqlite::Result<Option<Vec<u8>>> {
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
pub(super) fn is_in(connection: &Connection, postings: &[Postings], key: &[u8]) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM attribute WHERE name = ?1 AND value = ?2 AND key = ?3)";
    let mut statement = connection.prepare_cached(sql)?;
    for Postings { name, value } in postings {
        if statement.query_row(params![name, value, key], |row| row.get(0))? {
            return Ok(true);
        }
    }
    Ok(false)
}
