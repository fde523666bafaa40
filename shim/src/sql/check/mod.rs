//! Whether a database keeps the promises that its schema can't express.
//!
//! What is derived from the live values (directory counts, labels and fields in the index, `hidden`, UIDs, owners) can
//! be built anew; for all else there are only backups.
//!
//! Rows are read in pages. Directories alone are counted in memory: about 150 MB for a million of them.

pub(super) mod derived;
mod directories;
mod indexes;
mod owners;
mod pages;
mod rebuild;
mod spans;

use super::failure::Result;
use super::session::{Audit, Head, Rebuild};
use super::{Checked, Damage};
use crate::clock::StoreTime;
use crate::engine::store::Lease;

/// Where damage is told.
type Report<'a> = dyn FnMut(Damage) + 'a;

/// Checks the whole database, which nobody else has open, and tells everything that is wrong. With `repair`, derived
/// data is built anew if any of it is wrong, and checked again.
pub(super) fn run(audit: &mut dyn Rebuild, repair: bool, report: &mut Report<'_>) -> Result<Checked> {
    let mut checked = Checked::default();
    let mut count = |damage: Damage| {
        let counted = if damage.derived { &mut checked.derived } else { &mut checked.damaged };
        *counted += 1;
        report(damage);
    };
    audit.integrity(&mut count)?;
    let keys = within_snapshot(audit, &mut |audit, head| {
        meta(head, &mut count);
        spans::check(audit, head, &mut count)?;
        leases(audit, head.now, &mut count)?;
        derived::check(audit, &mut count)
    })?;
    checked.keys = keys;
    if repair && checked.derived > 0 {
        rebuild::rebuild(audit)?;
        let mut left = 0;
        let mut count = |damage: Damage| left += u64::from(damage.derived);
        audit.integrity(&mut count)?;
        within_snapshot(audit, &mut |audit, _| derived::check(audit, &mut count))?;
        checked.repaired = checked.derived - left.min(checked.derived);
    }
    Ok(checked)
}

fn within_snapshot(audit: &mut dyn Rebuild, look: &mut dyn FnMut(&mut dyn Audit, Head) -> Result<u64>) -> Result<u64> {
    let head = audit.snapshot()?;
    let looked = look(audit, head);
    audit.end();
    looked
}

/// What there are only backups for.
fn damaged(what: impl Into<String>) -> Damage {
    Damage { what: what.into(), derived: false }
}

/// What can be built anew.
fn stale(what: String) -> Damage {
    Damage { what, derived: true }
}

/// A key for people.
fn shown(key: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(key))
}

fn meta(head: Head, report: &mut Report<'_>) {
    let Head { revision, compact_revision, .. } = head;
    if revision == 0 {
        report(damaged("the database was not loaded to its end"));
    } else if revision < 0 || !(0..=revision).contains(&compact_revision) {
        report(damaged(format!("the revision is {revision}, that of the compaction {compact_revision}")));
    }
}

/// Leases that can't be, and the clock that they end by: each grant and each renewal was committed together with the
/// moment from which the lease lasts.
fn leases(audit: &mut dyn Audit, now: StoreTime, report: &mut Report<'_>) -> Result<()> {
    if now < StoreTime::default() {
        report(damaged(format!("the store's clock stands at {} ms", now.millis())));
    }
    for Lease { id, ttl, expires_at } in audit.leases(0)? {
        if id == 0 || ttl < 0 {
            report(damaged(format!("lease {id:x}: a time to live of {ttl} s")));
        } else if expires_at > Lease::full(id, ttl, now).expires_at {
            let left = expires_at.since(now).as_secs();
            report(damaged(format!("lease {id:x}: {left} s are left of {ttl} s")));
        }
    }
    Ok(())
}
