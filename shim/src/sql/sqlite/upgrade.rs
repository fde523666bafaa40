//! Makes the tables of one version from those of the version before.
//!
//! A fresh file goes the same way, so that it does not matter how old a file is. An upgrade is one transaction: after a
//! crash the file is what it was.

use rusqlite::Connection;

use super::error::Made;
use super::{derived, field_index, gc_schema, hiding, long};
use crate::clock::{StoreTime, WallTime};
use crate::gc::LONGEST_PAUSE;

/// The version of the tables, kept in the file's `user_version`.
pub(super) const VERSION: i32 = 5;

/// Upgrades a file of an older version.
pub(super) fn upgrade(connection: &mut Connection, from: i32) -> Made<()> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    steps(&transaction, from)?;
    Ok(transaction.commit()?)
}

/// All steps that a file of this version needs, within the transaction that is under way.
pub(super) fn steps(connection: &Connection, from: i32) -> Made<()> {
    if from < 4 {
        // First: what the other steps write is of the new clock already.
        to_version_4(connection, from, WallTime::now())?;
    }
    if from < 2 {
        to_version_2(connection)?;
    }
    if from < 3 {
        // Older versions had these indexes always.
        hiding::adjust(connection)?;
    }
    if from < 5 {
        long::remove(connection)?;
    }
    Ok(connection.pragma_update(None, "user_version", VERSION)?)
}

/// Field indexes, which are built in the background, the counts of misplaced keys, and what the collector needs.
fn to_version_2(connection: &Connection) -> Made<()> {
    connection.execute_batch(field_index::TABLES)?;
    derived::recount(connection)?;
    field_index::declare(connection)?;
    gc_schema::add(connection, StoreTime::default())
}

/// The store's clock, which begins at 0. Moments were those of the calendar, in milliseconds since 1970: what is past
/// becomes negative. Where the calendar had been set they may be anywhere: no lease has more left than it was
/// granted, nothing happened later than now, and no pause is longer than the longest.
fn to_version_4(connection: &Connection, from: i32, now: WallTime) -> rusqlite::Result<()> {
    connection.execute_batch("ALTER TABLE meta ADD COLUMN clock INTEGER NOT NULL DEFAULT 0;")?;
    let now = now.millis();
    let sql = "UPDATE lease SET expires_at = max(0, min(expires_at - ?1, min(max(ttl, 0), ?2) * 1000))";
    connection.execute(sql, [now, i64::MAX / 1000])?;
    if from >= 2 {
        connection.execute("UPDATE gc_tombstone SET at = min(at - ?1, 0)", [now])?;
        let sql =
            "UPDATE gc_task SET created_at = min(created_at - ?1, 0), not_before = max(0, min(not_before - ?1, ?2))";
        connection.execute(sql, [now, i64::try_from(LONGEST_PAUSE.as_millis()).unwrap_or(i64::MAX)])?;
    }
    Ok(())
}
