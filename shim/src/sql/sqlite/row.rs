//! Rows and ranges, as all statements have them.

use bytes::Bytes;
use rusqlite::{Connection, ToSql};

use crate::engine::store::{Lease, Row};
use crate::engine::{KeyRange, KeyValue, RangeEnd, Revision};
use crate::sql::session::RowRef;

/// The columns of [`row`].
pub(super) const ROW: &str = "key, create_revision, mod_revision, version, lease, value, sub";

/// Bounds of a range, for SQL.
pub(super) enum Range<'a> {
    All,
    Single(&'a [u8]),
    Between(&'a [u8], &'a [u8]),
    From(&'a [u8]),
}

impl<'a> Range<'a> {
    pub(super) fn of(range: &'a KeyRange) -> Self {
        match &range.end {
            RangeEnd::Single => Self::Single(&range.start),
            RangeEnd::Before(end) => Self::Between(&range.start, end),
            RangeEnd::Unbounded => Self::From(&range.start),
        }
    }

    /// The condition on a column, with parameters ?1 and ?2.
    pub(super) fn condition(&self, column: &str) -> String {
        match self {
            Self::All => "TRUE".to_owned(),
            Self::Single(_) => format!("{column} = ?1 AND ?2 IS NULL"),
            Self::Between(..) => format!("{column} >= ?1 AND {column} < ?2"),
            Self::From(_) => format!("{column} >= ?1 AND ?2 IS NULL"),
        }
    }

    /// Its parameters, with more behind them.
    pub(super) fn params<'p>(&'p self, more: &[&'p dyn ToSql]) -> Vec<&'p dyn ToSql> {
        let (start, end): (&dyn ToSql, &dyn ToSql) = match self {
            Self::All => (&NULL, &NULL),
            Self::Single(start) | Self::From(start) => (start, &NULL),
            Self::Between(start, end) => (start, end),
        };
        [&[start, end], more].concat()
    }
}

const NULL: rusqlite::types::Null = rusqlite::types::Null;

/// A row of the columns [`ROW`], where it lies.
pub(super) fn row_ref<'r>(row: &'r rusqlite::Row<'_>) -> rusqlite::Result<RowRef<'r>> {
    Ok(RowRef {
        key: row.get_ref(0)?.as_blob()?,
        create_revision: row.get(1)?,
        mod_revision: row.get(2)?,
        version: row.get(3)?,
        lease: row.get(4)?,
        value: row.get_ref(5)?.as_blob()?,
        sub: row.get(6)?,
    })
}

/// Reads a row of the columns [`ROW`].
pub(super) fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let found = row_ref(row)?;
    Ok(Row { kv: found.to_key_value(), sub: found.sub })
}

pub(super) fn key_value(row: &rusqlite::Row<'_>) -> rusqlite::Result<KeyValue> {
    Ok(row_ref(row)?.to_key_value())
}

/// Reads a row of one column that is a key.
pub(super) fn key(row: &rusqlite::Row<'_>) -> rusqlite::Result<Bytes> {
    Ok(Bytes::copy_from_slice(row.get_ref(0)?.as_blob()?))
}

/// All keys of a range at a revision that may be in the past, in order.
pub(super) fn range_at(
    connection: &Connection,
    range: &KeyRange,
    revision: Revision,
) -> rusqlite::Result<Vec<KeyValue>> {
    let bounds = Range::of(range);
    let condition = bounds.condition("key");
    let sql = format!(
        "SELECT {ROW} FROM current WHERE {condition} AND mod_revision <= ?3
         UNION ALL
         SELECT {ROW} FROM history WHERE {condition} AND mod_revision <= ?3 AND end_revision > ?3
         ORDER BY key"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_map(bounds.params(&[&revision]).as_slice(), key_value)?.collect()
}

/// Reads a row of the columns id, ttl, expires_at.
pub(super) fn lease(row: &rusqlite::Row<'_>) -> rusqlite::Result<Lease> {
    Ok(Lease { id: row.get(0)?, ttl: row.get(1)?, expires_at: row.get(2)? })
}
