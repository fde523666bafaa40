//! Everything, for checks. Nobody else has the database open.

use super::{Commit, EdgeRow, PostingRow, Probe, Read};
use crate::engine::Revision;
use crate::engine::store::Facets;
use crate::sql::Damage;
use crate::sql::failure::Result;

/// A live row with what is derived from its value.
#[derive(Debug)]
pub(in crate::sql) struct Live {
    pub(in crate::sql) key: Vec<u8>,
    pub(in crate::sql) hidden: Option<bool>,
    pub(in crate::sql) uid: Option<Vec<u8>>,
    pub(in crate::sql) value: Vec<u8>,
}

/// A value without its bytes, and when it was the newest of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sql) struct Span {
    pub(in crate::sql) key: Vec<u8>,
    pub(in crate::sql) create: Revision,
    /// The revision that put it, and the place in it.
    pub(in crate::sql) begin: (Revision, i64),
    pub(in crate::sql) version: i64,
    /// When it was superseded, and whether by a deletion; `None` for a live one.
    pub(in crate::sql) end: Option<((Revision, i64), bool)>,
}

/// An entry of the index, owned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sql) struct Posting {
    pub(in crate::sql) name: i64,
    pub(in crate::sql) value: String,
    pub(in crate::sql) key: Vec<u8>,
}

/// A row of the table of owners, owned.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sql) struct StoredEdge {
    /// The bytes of the owner's UID.
    pub(in crate::sql) owner: Vec<u8>,
    pub(in crate::sql) labelled: bool,
    pub(in crate::sql) key: Vec<u8>,
    pub(in crate::sql) block: bool,
    pub(in crate::sql) waits: bool,
}

/// Everything, for checks. Pages go on behind the last row of the page before.
pub(in crate::sql) trait Audit: Read + Probe {
    /// What the database itself finds wrong with its tables, pages, indexes and constraints. There is no snapshot then.
    fn integrity(&mut self, report: &mut dyn FnMut(Damage)) -> Result<()>;

    /// Live rows behind a key, in order, at most `limit`.
    fn live_after(&mut self, key: &[u8], limit: usize) -> Result<Vec<Live>>;

    /// The values of all keys, in order of key; of one key in the order in which they ended, the live one last.
    fn spans(&mut self, take: &mut dyn FnMut(Span)) -> Result<()>;

    /// Which of these entries the index has, in their order.
    fn has_postings(&mut self, postings: &[PostingRow<'_>]) -> Result<Vec<bool>>;

    /// Entries of the index behind one, in order of name, value and key, at most `limit`.
    fn postings_after(&mut self, after: &Posting, limit: usize) -> Result<Vec<Posting>>;

    /// The name of a label with this number.
    fn label_of(&mut self, name: i64) -> Result<Option<String>>;

    /// Directories with their counts (live keys, opaque ones, misplaced ones) behind a path, or from the first on, in
    /// order, at most `limit`.
    fn directories_after(&mut self, path: Option<&[u8]>, limit: usize) -> Result<Vec<(Vec<u8>, [i64; 3])>>;

    /// Which of these rows the table of owners has, with these flags, in their order.
    fn has_edges(&mut self, edges: &[EdgeRow<'_>]) -> Result<Vec<bool>>;

    /// Rows of the table of owners behind one, in order of owner, label and key, at most `limit`.
    fn edges_after(&mut self, after: &StoredEdge, limit: usize) -> Result<Vec<StoredEdge>>;
}

/// A database whose derived data can be taken away and written again, within one transaction.
pub(in crate::sql) trait Rebuild: Audit + Commit {
    /// Empties the index, the tables of directories, field indexes and owners, and gives no row a UID.
    fn clear_derived(&mut self) -> Result<()>;

    /// Sets what live rows say of their values: whether they are hidden, and their UIDs.
    fn set_derived(&mut self, rows: &[(&[u8], &Facets)]) -> Result<()>;
}
