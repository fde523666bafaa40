//! The tables that hold keys, and how they are divided.

use std::sync::Arc;

use super::Tables;
use super::connection::Connection;
use super::text::Packet;
use crate::endpoint::{Address, Layout};
use crate::engine::Error;
use crate::sql::Opened;
use crate::sql::failure::{Failure, Result};
use crate::sql::layout::{DIVIDED, Divided, Stored, hex};
use crate::sql::remote::{self, BEAT};
use crate::sql::session::Commit as _;

/// What a table is made with, or changed to.
pub(super) fn clause(layout: &Layout) -> String {
    match layout {
        Layout::Whole => String::new(),
        Layout::Hashed(parts) => format!("PARTITION BY KEY (k) PARTITIONS {parts}"),
        Layout::Ranges(bounds) => {
            let bounds = bounds.iter().map(|bound| format!("x'{}'", hex(bound)));
            let ends = bounds.chain(["MAXVALUE".to_owned()]).enumerate();
            let parts = ends.map(|(at, end)| format!("PARTITION p{at} VALUES LESS THAN ({end})"));
            format!("PARTITION BY RANGE COLUMNS (k) ({})", parts.collect::<Vec<_>>().join(", "))
        }
    }
}

/// How the tables are divided. Only InnoDB's are divided by hand.
pub(super) fn stored(connection: &mut Connection) -> Result<Stored> {
    let mut stored = Stored::default();
    if !connection.server()?.engine.is_innodb() {
        return Ok(stored);
    }
    let names = DIVIDED.map(|name| format!("'{name}'")).join(",");
    let sql = format!(
        "SELECT table_name, COALESCE(partition_method, ''), COALESCE(partition_description, '')
         FROM information_schema.partitions WHERE table_schema = DATABASE() AND table_name IN ({names})
         ORDER BY table_name, partition_ordinal_position"
    );
    for (table, method, end) in connection.all("partitions", sql, |c| Ok((c.text()?, c.text()?, c.text()?)))? {
        let Some(at) = DIVIDED.iter().position(|name| *name == table) else { continue };
        let layout = &mut stored.0[at];
        match (&mut *layout, &method[..]) {
            (Layout::Hashed(parts), _) => *parts = parts.saturating_add(1),
            (Layout::Ranges(bounds), _) => bounds.extend(bound(&end)),
            (_, "KEY" | "LINEAR KEY") => *layout = Layout::Hashed(1),
            (_, "RANGE COLUMNS") => *layout = Layout::Ranges(bound(&end).into_iter().collect()),
            _ => {}
        }
    }
    Ok(stored)
}

/// The bytes of a literal, as the server shows it: text between quotes, or hexadecimal digits. `None` for MAXVALUE.
fn bound(literal: &str) -> Option<Vec<u8>> {
    let text = literal.trim_start_matches("_binary").trim();
    if let Some(digits) = text.strip_prefix("0x") {
        let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
        return (0..digits.len()).step_by(2).map(byte).collect();
    }
    text.strip_prefix('\'')?.strip_suffix('\'').map(|text| text.as_bytes().to_vec())
}

/// Refuses a server that divides tables by itself.
pub(super) fn check(connection: &Connection) -> Result<()> {
    let engine = connection.server()?.engine;
    match connection.layout() {
        Some(layout) if *layout != Layout::Whole && !engine.is_innodb() => refused(engine.name()),
        _ => Ok(()),
    }
}

fn refused(engine: &str) -> Result<()> {
    let text = format!("{engine} divides tables by itself; leave out --partition-by");
    Err(Failure::Final(Error::Broken(text)))
}

/// Divides the tables of a store that nobody serves: each is built anew by the server, one after the other. What was
/// cut off goes on with the tables that are left.
pub(in crate::sql) fn divide(address: &Address, layout: &Layout) -> Result<Divided> {
    let connection = Connection::open_with(Arc::new(address.clone()), Arc::default(), None)?;
    let engine = connection.server()?.engine;
    if !engine.is_innodb() {
        refused(engine.name())?;
    }
    let mut store = Tables::open_by(connection, Arc::default(), address.accepts_loss, Opened::ToServe)?;
    let before = stored(&mut store.connection)?;
    let mut rows = [0; DIVIDED.len()];
    for (at, table) in DIVIDED.iter().enumerate() {
        let mut another = store.connection.another()?;
        let change = match (layout, &before.0[at]) {
            (now, then) if now == then => None,
            (Layout::Whole, _) => Some("REMOVE PARTITIONING".to_owned()),
            (layout, _) => Some(clause(layout)),
        };
        let counted = |connection: &mut Connection| {
            connection.number("count", format_args!("SELECT COUNT(*) FROM {table} FORCE INDEX (PRIMARY)"))
        };
        let work = || {
            let were = counted(&mut another)?;
            if let Some(change) = change {
                let mut packet = Packet::of("patience", "SET SESSION lock_wait_timeout = 20");
                packet.add("divide", format_args!("ALTER TABLE {table} {change}"));
                another.run(&packet)?;
                rows[at] = counted(&mut another)?;
            } else {
                rows[at] = were;
            }
            if rows[at] == were {
                return Ok(());
            }
            let text = format!("the table {table} had {were} rows, and has {} now", rows[at]);
            Err(Failure::Final(Error::Damaged(text)))
        };
        remote::beside(BEAT, work, || store.try_commit())?;
    }
    let after = stored(&mut store.connection)?;
    Ok(Divided { before, after, rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_as_servers_show_them() {
        let table = [
            ("'/registry/pods/'", Some(&b"/registry/pods/"[..])),
            ("_binary 0xff80", Some(b"\xff\x80")),
            ("_binary'/a/'", Some(b"/a/")),
            ("MAXVALUE", None),
        ];
        for (shown, expected) in table {
            assert_eq!(bound(shown).as_deref(), expected, "{shown}");
        }
    }
}
