//! Rows and ranges, as all statements have them.

use bytes::Bytes;
use tokio_postgres::Row as Columns;
use tokio_postgres::types::{ToSql, Type};

use super::link::{Param, get};
use crate::clock::StoreTime;
use crate::engine::store::{Lease, Row};
use crate::engine::{Error, KeyRange, RangeEnd};
use crate::sql::failure::{Failure, Result};
use crate::sql::remote::LONGEST_KEY;
use crate::sql::select::directories::end_of;
use crate::sql::session::RowRef;

/// Behind all keys.
const END: [u8; LONGEST_KEY + 1] = [0xff; LONGEST_KEY + 1];

/// The columns of [`row`]. They are those of a table or a subquery that a statement names.
pub(super) fn columns(of: &str) -> String {
    format!("{of}.key, {of}.create_revision, {of}.mod_revision, {of}.sub, {of}.version, {of}.lease, {of}.value")
}

/// The same without the values.
pub(super) fn columns_without_value(of: &str) -> String {
    columns(of).replace(&format!("{of}.value"), "''::bytea")
}

/// Reads a row of the columns [`columns`], which begin at one.
pub(super) fn row_ref(row: &Columns, at: usize) -> Result<RowRef<'_>> {
    Ok(RowRef {
        key: get(row, at)?,
        create_revision: get(row, at + 1)?,
        mod_revision: get(row, at + 2)?,
        sub: get(row, at + 3)?,
        version: get(row, at + 4)?,
        lease: get(row, at + 5)?,
        value: get(row, at + 6)?,
    })
}

/// The same, copied.
pub(super) fn row(row: &Columns, at: usize) -> Result<Row> {
    let found = row_ref(row, at)?;
    Ok(Row { kv: found.to_key_value(), sub: found.sub })
}

/// Reads a row of the columns id, ttl, expires_at.
pub(super) fn lease(row: &Columns) -> Result<Lease> {
    Ok(Lease { id: get(row, 0)?, ttl: get(row, 1)?, expires_at: StoreTime::from_millis(get(row, 2)?) })
}

/// Reads bytes.
pub(super) fn bytes(row: &Columns, at: usize) -> Result<Bytes> {
    get::<&[u8]>(row, at).map(Bytes::copy_from_slice)
}

/// Reads a text that is stored as bytes.
pub(super) fn text(row: &Columns, at: usize) -> Result<String> {
    String::from_utf8(get(row, at)?)
        .map_err(|_| Failure::Final(Error::Damaged(format!("a row of the database has no text in column {at}"))))
}

/// Where a range begins and where it ends, both of which all ranges have.
pub(super) struct Bounds {
    pub(super) start: Vec<u8>,
    pub(super) end: Vec<u8>,
}

impl Bounds {
    pub(super) fn of(range: &KeyRange) -> Self {
        let end = match &range.end {
            RangeEnd::Single => [&range.start[..], &[0]].concat(),
            RangeEnd::Before(end) => end.to_vec(),
            RangeEnd::Unbounded => END.to_vec(),
        };
        Self { start: range.start.to_vec(), end }
    }

    /// All there is.
    pub(super) fn all() -> Self {
        Self { start: Vec::new(), end: END.to_vec() }
    }

    /// Lets it begin behind a key.
    pub(super) fn go_on_behind(&mut self, key: &[u8]) {
        self.start.clear();
        self.start.extend_from_slice(key);
        self.start.push(0);
    }
}

/// The range whose keys begin with a prefix, which ends in a slash.
pub(super) fn below(prefix: &[u8]) -> Bounds {
    Bounds { start: prefix.to_vec(), end: end_of(prefix) }
}

/// A parameter of bytes.
pub(super) fn blob<'a>(value: &'a (dyn ToSql + Sync)) -> Param<'a> {
    (value, Type::BYTEA)
}

/// A parameter that is a number.
pub(super) fn int<'a>(value: &'a (dyn ToSql + Sync)) -> Param<'a> {
    (value, Type::INT8)
}

/// A parameter that is a flag.
pub(super) fn flag<'a>(value: &'a (dyn ToSql + Sync)) -> Param<'a> {
    (value, Type::BOOL)
}

/// A parameter of many bytes.
pub(super) fn blobs<'a>(value: &'a (dyn ToSql + Sync)) -> Param<'a> {
    (value, Type::BYTEA_ARRAY)
}

/// A parameter of many numbers.
pub(super) fn ints<'a>(value: &'a (dyn ToSql + Sync)) -> Param<'a> {
    (value, Type::INT8_ARRAY)
}

/// A limit as a number of SQL.
pub(super) fn limit(of: usize) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}
