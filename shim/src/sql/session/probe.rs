//! What the planner of reads with a selector asks.

use crate::engine::KeyRange;
use crate::engine::catalog::FieldIndex;
use crate::sql::failure::Result;

/// Where the keys of a read come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sql) enum Source {
    /// All live keys of the range.
    Scan,
    /// Those of objects without the skip label.
    Visible,
    /// The keys of posting lists.
    Postings(Vec<Postings>),
    /// These keys, in order, as far as they exist.
    Keys(Vec<Vec<u8>>),
}

/// The keys that have a value under a name in the index. They stand there in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sql) struct Postings {
    pub(in crate::sql) name: i64,
    pub(in crate::sql) value: Box<str>,
}

/// Keys that a directory counts apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sql) enum Odd {
    /// Their values are no readable objects: the index does not know them.
    Opaque,
    /// Their objects have another name or namespace than the key says.
    Misplaced,
}

/// How far a field index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sql) enum IndexState {
    /// Objects that were not written since the index was declared may lack entries.
    Building,
    /// Every object has its entries.
    Ready,
    /// Its entries are being removed; there are no new ones.
    Dropping,
}

impl IndexState {
    /// All of them.
    pub(in crate::sql) const ALL: [Self; 3] = [Self::Building, Self::Ready, Self::Dropping];
}

/// A field index as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sql) struct StoredIndex {
    pub(in crate::sql) index: FieldIndex,
    pub(in crate::sql) state: IndexState,
    /// While it is being built: objects up to this key have their entries.
    pub(in crate::sql) cursor: Vec<u8>,
    /// How many objects those are.
    pub(in crate::sql) objects: i64,
}

/// A field in one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sql) struct Field<'a> {
    pub(in crate::sql) api_version: &'a str,
    pub(in crate::sql) field: &'a str,
}

/// What the planner of reads with a selector asks.
pub(in crate::sql) trait Probe {
    /// How many keys of that sort the directories count whose paths are in the range, and those at these paths besides.
    fn odd(&mut self, range: &KeyRange, besides: &[&[u8]], odd: Odd) -> Result<i64>;

    /// Paths of directories in the range, in order, at most `limit`.
    fn directories(&mut self, range: &KeyRange, limit: usize) -> Result<Vec<Vec<u8>>>;

    /// How many live keys the directories have whose paths begin with a prefix, which ends in a slash.
    fn live(&mut self, prefix: &[u8]) -> Result<i64>;

    /// The number of a label's name in the index; `None` if no object ever had it.
    fn label(&mut self, name: &str) -> Result<Option<i64>>;

    /// How many keys each source has in the range, counted up to its limit.
    fn counts(&mut self, range: &KeyRange, sources: &[(&Source, i64)]) -> Result<Vec<i64>>;

    /// The values under a name, in order; `None` if there are more than `limit`.
    fn values(&mut self, name: i64, limit: usize) -> Result<Option<Vec<String>>>;

    /// Gives value and key of the entries under a name, in no order, at most `limit` of them; returns whether these are
    /// all.
    fn entries(&mut self, name: i64, limit: usize, take: &mut dyn FnMut(&str, &[u8])) -> Result<bool>;

    /// How many entries there are under a name.
    fn entries_count(&mut self, name: i64) -> Result<i64>;

    /// The index of a field, not one that is being removed, below the first of these prefixes that has one.
    fn index(&mut self, prefixes: &[&[u8]], field: Field<'_>) -> Result<Option<StoredIndex>>;

    /// All field indexes, in order of number.
    fn indexes(&mut self) -> Result<Vec<StoredIndex>>;

    /// Whether [`Source::Visible`] can be read. A store that never had an object with the skip label may have no index
    /// for it; then all objects are visible.
    fn tells_visible(&mut self) -> Result<bool>;
}
