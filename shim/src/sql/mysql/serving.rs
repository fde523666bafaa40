//! One process at a time serves a store.
//!
//! The process has a random number. Where it stands in `meta`, it serves; whoever finds another one there stops.

use std::thread;
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::engine::{self, Engine};
use super::note;
use super::row::Cells;
use super::text::{Bytes, Packet};
use crate::engine::Error;
use crate::sql::failure::{Failure, Result};
use crate::sql::remote::{self, MOVED, SILENCE, Serving};

/// The database's clock, in milliseconds.
pub(super) const NOW: &str = "CAST(UNIX_TIMESTAMP(SYSDATE(3)) * 1000 AS SIGNED)";

/// How often to look whether another process is still there.
const LOOK: Duration = Duration::from_millis(200);
/// How long to wait for the lock that each commit holds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Begins to serve, if no other process does. One that says nothing, and that is not known to be gone, is waited for:
/// it may have been killed just now.
pub(super) fn begin(connection: &mut Connection, owner: i64) -> Result<()> {
    let (mut last, begun): (Option<(Serving, Instant)>, _) = (None, Instant::now());
    loop {
        let other = match try_begin(connection, owner) {
            Ok(None) => return Ok(()),
            Ok(Some(other)) => other,
            // The other one has the lock: it is there, and commits.
            Err(Failure::Again(error)) => {
                if begun.elapsed() > PATIENCE {
                    return Err(Failure::Final(error));
                }
                thread::sleep(LOOK);
                continue;
            }
            Err(failure) => return Err(failure),
        };
        if other.owner == MOVED {
            return Err(note::refusal(&other.place));
        }
        if connection.standby().is_some() {
            return Err(Failure::Final(Error::Served(other.place)));
        }
        if let Some((before, since)) = &last {
            let waited = i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX);
            if before.owner != other.owner || before.seen_at != other.seen_at || waited > 2 * SILENCE {
                return Err(Failure::Final(Error::Served(other.place)));
            }
        } else {
            tracing::info!(
                place = other.place,
                "another sluice-shim served this database just now; wait for whether it is still there"
            );
            last = Some((other, Instant::now()));
        }
        thread::sleep(LOOK);
    }
}

/// What the database says of the process that serves it; a statement without a lock.
///
/// Other servers of a cluster have other connections: there the number says nothing. A server that was started anew
/// begins to number them again: what was seen before is gone. The time that it runs is in whole seconds.
fn who_serves(connection: &Connection) -> Result<String> {
    let server = connection.server()?;
    let connected = if server.engine == Engine::MariaDb && !server.galera {
        format!(
            "{} AND seen_at >= {NOW} - 1000 * (SELECT variable_value + 1 FROM information_schema.global_status
                    WHERE variable_name = 'UPTIME')",
            engine::is_connected("backend")
        )
    } else {
        "TRUE".to_owned()
    };
    Ok(format!("SELECT owner, seen_at, {NOW}, address, ({connected}) FROM meta WHERE id = 1"))
}

fn serving(cells: &mut Cells) -> Result<Serving> {
    let (owner, seen_at, now) = (cells.int()?, cells.int()?, cells.int()?);
    Ok(Serving { owner, seen_at, now, place: cells.text()?, connected: cells.flag()? })
}

/// Looks who serves the store.
pub(super) fn look(connection: &mut Connection) -> Result<Serving> {
    let found = connection.first("who serves", who_serves(connection)?, serving)?;
    found.ok_or_else(|| Failure::Final(Error::Damaged("the table meta is empty".into())))
}

/// Takes the store if nobody has it; else returns who has.
pub(super) fn try_begin(connection: &mut Connection, owner: i64) -> Result<Option<Serving>> {
    let mut packet = Packet::of("begin", "BEGIN");
    packet.add("who serves", format_args!("{} FOR UPDATE", who_serves(connection)?));
    let mut found = None;
    let asked = connection.each(&packet, &mut |_, mut cells| {
        found = Some(serving(&mut cells)?);
        Ok(())
    });
    let end = |connection: &mut Connection, statement: Option<String>| {
        let mut packet = Packet::default();
        if let Some(statement) = statement {
            packet.add("serve", statement);
        }
        packet.add("end", "COMMIT");
        connection.run(&packet).map(drop)
    };
    if let Err(failure) = asked {
        if connection.is_open() {
            connection.run(&Packet::of("rollback", "ROLLBACK"))?;
        }
        return Err(failure);
    }
    match found {
        Some(other) if other.owner == MOVED || (other.is_there() && other.owner != owner) => {
            end(connection, None)?;
            Ok(Some(other))
        }
        _ => {
            let statement = taken(owner, &remote::place(connection.standby()));
            end(connection, Some(statement)).map(|()| None)
        }
    }
}

/// Writes that a process serves.
fn taken(owner: i64, place: &str) -> String {
    let place = Bytes(place.as_bytes());
    format!(
        "UPDATE meta SET owner = {owner}, batch = 0, seen_at = {NOW}, backend = CONNECTION_ID(), address = {place} WHERE id = 1"
    )
}

/// Says that the process is still there.
pub(super) fn go_on(owner: i64) -> String {
    format!("UPDATE meta SET seen_at = {NOW}, backend = CONNECTION_ID() WHERE id = 1 AND owner = {owner}")
}

/// Says that the process is there on a node of a Galera cluster that it has come to.
///
/// A commit that was under way on another node may still be on its way to this one. The statement changes the row that
/// each commit changes, whatever is in it. So either the commit is carried out here before, or no node accepts it any
/// more: its outcome is known from then on.
pub(super) fn arrive(owner: i64) -> String {
    format!(
        "UPDATE meta SET seen_at = {NOW}, backend = IF(backend = CONNECTION_ID(), 0, CONNECTION_ID())
         WHERE id = 1 AND owner = {owner}"
    )
}

/// Ends it: the next process need not wait.
pub(super) fn end(owner: i64) -> String {
    format!("UPDATE meta SET owner = 0, seen_at = 0 WHERE id = 1 AND owner = {owner}")
}

/// What is wrong if another process has the store, or the store has moved.
pub(super) fn taken_over(owner: i64, address: &str) -> Failure {
    if owner == MOVED {
        return note::refusal(address);
    }
    Failure::Final(Error::Replaced(format!(
        "another sluice-shim serves this database now: {address}; this one was silent for too long, and ends"
    )))
}
