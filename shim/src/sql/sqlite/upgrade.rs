//! Makes the tables of one version from those of the version before.
//!
//! A fresh file goes the same way, so that it does not matter how old a file is. An upgrade is one transaction: after a crash the file is what it
//! was.

use rusqlite::Connection;

use super::check::derived;
use super::schema::VERSION;
use super::{field_index, gc_schema, hiding};
use crate::engine::now_millis;

/// Upgrades a file of an older version.
pub(super) fn upgrade(connection: &mut Connection, from: i32) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    steps(&transaction, from)?;
    transaction.commit()
}

/// All steps that a file of this version needs, within the transaction that is under way.
pub(super) fn steps(connection: &Connection, from: i32) -> rusqlite::Result<()> {
    if from < 2 {
        to_version_2(connection)?;
    }
    if from < 3 {
        // Older versions had these indexes always.
        hiding::adjust(connection)?;
    }
    connection.pragma_update(None, "user_version", VERSION)
}

/// Field indexes, which are built in the background, the counts of misplaced keys, and what the collector needs.
fn to_version_2(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(field_index::TABLES)?;
    derived::recount(connection)?;
    for declared in field_index::declared(connection)? {
        field_index::declare(connection, &declared)?;
    }
    gc_schema::add(connection, now_millis())
}
