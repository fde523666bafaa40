//! How the entries of field indexes are named.
//!
//! Entries stand in `attribute` beside those of labels. A label's name has a positive number there; an index has two
//! negative ones, which no text that a client chooses can be mistaken for.

use crate::engine::catalog::FieldEntry;

/// The name of the entries that hold a value.
pub(in crate::sql) const fn values_of(index: i64) -> i64 {
    -2 * index
}

/// The name of the entries of objects whose value is foreign.
pub(in crate::sql) const fn foreign_of(index: i64) -> i64 {
    -2 * index - 1
}

/// The number of the index that a negative name belongs to.
pub(in crate::sql) const fn index_of(name: i64) -> i64 {
    -name / 2
}

/// Name and value of an entry in `attribute`.
pub(in crate::sql) fn attribute(entry: &FieldEntry) -> (i64, &str) {
    match &entry.value {
        Some(value) => (values_of(entry.index), value),
        None => (foreign_of(entry.index), ""),
    }
}
