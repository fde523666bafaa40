//! Everything, for checks. Nobody else has the database open.

use super::{Commit, PostingRow};
use crate::engine::Revision;
use crate::engine::store::{Facets, Lease};
use crate::sql::Damage;
use crate::sql::failure::Result;

/// A live row with what is derived from its value.
#[derive(Debug)]
pub(in crate::sql) struct Live {
    pub(in crate::sql) key: Vec<u8>,
    pub(in crate::sql) revision: Revision,
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

/// Everything, for checks and for building anew what is derived. Pages go on behind the last row of the page before.
pub(in crate::sql) trait Audit: Commit {
    /// What the database itself finds wrong with its tables, pages and constraints.
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

    /// Directories with their counts behind a path, in order, at most `limit`.
    fn directories_after(&mut self, path: &[u8], limit: usize) -> Result<Vec<(Vec<u8>, [i64; 3])>>;

    /// Rows of the table of owners behind one, in order, at most `limit`: owner, labelled, key, block, waits.
    fn edges_after(
        &mut self,
        after: (&[u8], bool, &[u8]),
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, bool, Vec<u8>, bool, bool)>>;

    /// All leases, in no order.
    fn all_leases(&mut self) -> Result<Vec<Lease>>;

    /// Empties all tables of what is derived from the live values, within a transaction that [`Commit::begin`] began,
    /// and gives the rows of `current` no UID.
    fn clear_derived(&mut self) -> Result<()>;

    /// Sets what is derived of rows, within the same transaction: key, `hidden`, and UID.
    fn set_derived(&mut self, rows: &[(&[u8], &Facets)]) -> Result<()>;
}
