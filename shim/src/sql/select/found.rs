//! The keys that a read found.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::engine::{KeyValue, RangeQuery};
use crate::sql::session::RowRef;

/// The keys that a read found, in order.
pub(in crate::sql) struct Found<'q> {
    pub(in crate::sql) kvs: Vec<KeyValue>,
    query: &'q RangeQuery,
    wanted: usize,
    /// How many bytes of values may still be added.
    bytes: usize,
    /// How many rows were looked at.
    rows: u64,
}

impl<'q> Found<'q> {
    /// None yet, `wanted` at most, or as many as have the bytes that the query allows.
    pub(in crate::sql) fn new(query: &'q RangeQuery, wanted: usize) -> Self {
        let bytes = if query.limit_bytes == 0 { usize::MAX } else { query.limit_bytes };
        Self { kvs: Vec::new(), query, wanted, bytes, rows: 0 }
    }

    /// Takes a row that may match the query's selection, and says whether the rows are enough now.
    pub(in crate::sql) fn take(&mut self, row: RowRef<'_>) -> ControlFlow<()> {
        self.rows += 1;
        if self.query.selection.as_ref().is_none_or(|selection| selection.may_match(row.value)) {
            self.bytes = self.bytes.saturating_sub(row.value.len());
            self.kvs.push(row.to_key_value());
        }
        if self.is_enough() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn is_enough(&self) -> bool {
        self.kvs.len() >= self.wanted || self.is_cut()
    }

    /// Whether the bytes ended it. The last key that is wanted only tells whether a full page is the last: for it there
    /// is always room.
    fn is_cut(&self) -> bool {
        self.bytes == 0 && self.kvs.len() + 1 < self.wanted
    }

    /// The last key, if there may be more behind it that the bytes left no room for.
    pub(in crate::sql) fn cut(&self) -> Option<Bytes> {
        if self.is_cut() { self.kvs.last().map(|kv| kv.key.clone()) } else { None }
    }

    /// How many rows were looked at.
    pub(in crate::sql) fn rows(&self) -> u64 {
        self.rows
    }
}
