//! Whether a database keeps the promises that its schema can't express.
//!
//! What is derived from the live values (directory counts, labels and fields in the index, `hidden`, UIDs, owners) can be built anew; for all else there are only
//! backups.

pub(super) mod derived;
mod gc;
mod spans;

use std::path::Path;

use rusqlite::Connection;

use super::clock;
use super::error::{at, failed};
use super::row::lease;
use crate::clock::StoreTime;
use crate::engine::store::Lease;
use crate::engine::{Result, Revision};
use crate::sql::{Checked, Damage};

/// Where damage is told.
type Report<'a> = dyn FnMut(Damage) + 'a;

/// What the checks compare with.
#[derive(Debug, Clone, Copy)]
struct Meta {
    revision: Revision,
    compact_revision: Revision,
}

/// Checks the whole file, which no other process has open, and tells everything that is wrong. With `repair`, derived data is built anew if any of it is wrong, and
/// checked again.
pub(in crate::sql) fn check(path: &Path, repair: bool, report: &mut Report<'_>) -> Result<Checked> {
    let (connection, lock) = super::alone(path, || super::log::Guarded::new(super::connect_writer(path)?, path))?;
    // The connection writes when it is dropped, so the lock goes last.
    let (_lock, mut connection) = (lock, connection);
    // Sorting and counting may need more room than there is memory.
    connection.pragma_update(None, "temp_store", "file").map_err(|error| at(path, error))?;
    let mut checked = Checked::default();
    let mut count = |damage: Damage| {
        let counted = if damage.derived { &mut checked.derived } else { &mut checked.damaged };
        *counted += 1;
        report(damage);
    };
    integrity(&connection, &mut count).map_err(failed)?;
    let meta = meta(&connection, &mut count).map_err(failed)?;
    spans::check(&connection, meta, &mut count).map_err(failed)?;
    leases(&connection, &mut count).map_err(failed)?;
    let keys = derived::check(&connection, &mut count).map_err(failed)?;
    gc::check(&connection, &mut count).map_err(failed)?;
    checked.keys = keys;
    if repair && checked.derived > 0 {
        connection.ready().map_err(failed)?;
        derived::rebuild(&mut connection).map_err(failed)?;
        gc::rebuild(&mut connection).map_err(failed)?;
        let mut left = 0;
        derived::check(&connection, &mut |_| left += 1).map_err(failed)?;
        gc::check(&connection, &mut |_| left += 1).map_err(failed)?;
        checked.repaired = checked.derived - left;
    }
    Ok(checked)
}

fn damaged(what: impl Into<String>) -> Damage {
    Damage { what: what.into(), derived: false }
}

/// A key for people.
fn shown(key: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(key))
}

/// The file itself: pages, indexes, constraints.
fn integrity(connection: &Connection, report: &mut Report<'_>) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("PRAGMA integrity_check")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let text: String = row.get(0)?;
        if text != "ok" {
            report(damaged(format!("file: {text}")));
        }
    }
    Ok(())
}

fn meta(connection: &Connection, report: &mut Report<'_>) -> rusqlite::Result<Meta> {
    let mut statement = connection.prepare("SELECT revision, compact_revision FROM meta")?;
    let meta = statement.query_row([], |row| Ok(Meta { revision: row.get(0)?, compact_revision: row.get(1)? }))?;
    let Meta { revision, compact_revision } = meta;
    if revision == 0 {
        report(damaged("the database was not loaded to its end"));
    } else if revision < 0 || !(0..=revision).contains(&compact_revision) {
        report(damaged(format!("the revision is {revision}, that of the compaction {compact_revision}")));
    }
    Ok(meta)
}

/// Leases that can't be, and the clock that they end by: each grant and each renewal was committed together with the
/// moment from which the lease lasts.
fn leases(connection: &Connection, report: &mut Report<'_>) -> rusqlite::Result<()> {
    let now = clock::kept(connection)?;
    if now < StoreTime::default() {
        report(damaged(format!("the store's clock stands at {} ms", now.millis())));
    }
    let mut statement = connection.prepare("SELECT id, ttl, expires_at FROM lease")?;
    for found in statement.query_map([], lease)? {
        let Lease { id, ttl, expires_at } = found?;
        if id == 0 || ttl < 0 {
            report(damaged(format!("lease {id:x}: a time to live of {ttl} s")));
        } else if expires_at > Lease::full(id, ttl, now).expires_at {
            let left = expires_at.since(now).as_secs();
            report(damaged(format!("lease {id:x}: {left} s are left of {ttl} s")));
        }
    }
    Ok(())
}
