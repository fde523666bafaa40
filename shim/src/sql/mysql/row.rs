//! Rows of answers.

use mysql::Value;

use super::error::unreadable;
use crate::clock::StoreTime;
use crate::engine::KeyValue;
use crate::engine::store::{Lease, Row};
use crate::sql::failure::Result;
use crate::sql::session::RowRef;

/// The columns of [`Cells::row`].
pub(super) const ROW: &str = "k, create_revision, mod_revision, version, lease, value, sub";

/// The cells of a row, from left to right.
pub(super) struct Cells(std::vec::IntoIter<Value>);

impl Cells {
    pub(super) fn of(row: mysql::Row) -> Self {
        Self(row.unwrap().into_iter())
    }

    pub(super) fn maybe_bytes(&mut self) -> Result<Option<Vec<u8>>> {
        match self.0.next() {
            Some(Value::Bytes(bytes)) => Ok(Some(bytes)),
            Some(Value::NULL) => Ok(None),
            _ => Err(unreadable()),
        }
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>> {
        self.maybe_bytes()?.ok_or_else(unreadable)
    }

    pub(super) fn text(&mut self) -> Result<String> {
        String::from_utf8(self.bytes()?).map_err(|_| unreadable())
    }

    pub(super) fn maybe_int(&mut self) -> Result<Option<i64>> {
        let Some(digits) = self.maybe_bytes()? else { return Ok(None) };
        let parsed = std::str::from_utf8(&digits).ok().and_then(|digits| digits.parse().ok());
        parsed.map(Some).ok_or_else(unreadable)
    }

    pub(super) fn int(&mut self) -> Result<i64> {
        self.maybe_int()?.ok_or_else(unreadable)
    }

    pub(super) fn flag(&mut self) -> Result<bool> {
        self.int().map(|number| number != 0)
    }

    pub(super) fn time(&mut self) -> Result<StoreTime> {
        self.int().map(StoreTime::from_millis)
    }

    /// The columns [`ROW`].
    pub(super) fn row(&mut self) -> Result<Row> {
        let kv = KeyValue {
            key: self.bytes()?.into(),
            create_revision: self.int()?,
            mod_revision: self.int()?,
            version: self.int()?,
            lease: self.int()?,
            value: self.bytes()?.into(),
        };
        Ok(Row { kv, sub: self.int()? })
    }

    /// The same if the first of these columns is not NULL.
    pub(super) fn maybe_row(&mut self) -> Result<Option<Row>> {
        if matches!(self.0.as_slice().first(), Some(Value::NULL)) {
            self.0.nth(ROW.split(", ").count() - 1);
            return Ok(None);
        }
        self.row().map(Some)
    }

    /// The columns id, ttl, expires_at.
    pub(super) fn lease(&mut self) -> Result<Lease> {
        Ok(Lease { id: self.int()?, ttl: self.int()?, expires_at: self.time()? })
    }
}

/// A row where it is.
pub(super) fn borrowed(Row { kv, sub }: &Row) -> RowRef<'_> {
    RowRef {
        key: &kv.key,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        sub: *sub,
        version: kv.version,
        lease: kv.lease,
        value: &kv.value,
    }
}
