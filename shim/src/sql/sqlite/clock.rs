//! The store's clock in the file: what is kept of it, and the leases that last by it.

use std::time::Duration;

use rusqlite::types::{FromSql, FromSqlResult, ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql, params};

use crate::clock::StoreTime;

/// How late it was when that was last kept.
pub(super) fn kept(connection: &Connection) -> rusqlite::Result<StoreTime> {
    connection.query_row("SELECT clock FROM meta", [], |row| row.get(0))
}

/// Keeps how late it is, if anything in the store lasts.
pub(super) fn keep(connection: &Connection, now: StoreTime) -> rusqlite::Result<()> {
    let sql = "UPDATE meta SET clock = ?1 WHERE EXISTS (SELECT 1 FROM lease) OR EXISTS (SELECT 1 FROM gc_tombstone)
        OR EXISTS (SELECT 1 FROM gc_task)";
    connection.prepare_cached(sql)?.execute([now]).map(drop)
}

/// Gives each lease at least so many seconds from now on, but never more than it was granted; returns how many got
/// some.
pub(super) fn extend_leases(connection: &Connection, now: StoreTime, least: Duration) -> rusqlite::Result<usize> {
    // The first condition is for the index, the second leaves alone who has all that was granted.
    let sql = "UPDATE lease SET expires_at = ?1 + min(ttl, ?2) * 1000
        WHERE expires_at < ?1 + ?2 * 1000 AND expires_at < ?1 + min(ttl, ?2) * 1000";
    connection.execute(sql, params![now, i64::try_from(least.as_secs()).unwrap_or(0)])
}

impl ToSql for StoreTime {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.millis().into())
    }
}

impl FromSql for StoreTime {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        i64::column_result(value).map(Self::from_millis)
    }
}
