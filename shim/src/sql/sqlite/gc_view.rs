//! What a person may want to know of the collector's work, read beside a running server.
//!
//! Nothing is written and no lock is taken: the connection reads one snapshot, as the server's own readers do.

use std::path::Path;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, params};

use super::error::failed;
use super::gc_definitions::Definitions;
use super::gc_task::{TASK, task};
use super::{clock, gc_load};
use crate::engine::Result;
use crate::gc::{Dependent, Overview, Place, Task, Uid, View};
use crate::object;

/// How many tasks or dependents are named one by one.
const NAMED: i64 = 20;

/// What the collector has to do.
pub(in crate::sql) fn overview(path: &Path) -> Result<Overview> {
    read(path, |connection| {
        let parked = format!("SELECT {} FROM gc_task WHERE state = 2 ORDER BY created_at, id LIMIT {NAMED}", TASK);
        // An owner is looked up once, however many name it.
        let unknown = "SELECT count(*), coalesce(sum(dependents), 0)
            FROM (SELECT owner_uid, count(*) AS dependents FROM owner WHERE labelled = 1 GROUP BY owner_uid) AS named
            WHERE NOT EXISTS (SELECT 1 FROM current WHERE uid = owner_uid)
            AND NOT EXISTS (SELECT 1 FROM gc_tombstone WHERE uid = owner_uid)";
        let (unknown_owners, unknown_references) =
            connection.query_row(unknown, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Overview {
            revision: revision(connection)?,
            now: clock::kept(connection)?,
            status: gc_load::status(connection)?,
            parked: connection.prepare(&parked)?.query_map([], task)?.collect::<rusqlite::Result<_>>()?,
            unknown_owners,
            unknown_references,
        })
    })
}

/// What is known around a key.
pub(in crate::sql) fn view(path: &Path, key: &[u8]) -> Result<View> {
    read(path, |connection| {
        let mut view = View { revision: revision(connection)?, now: clock::kept(connection)?, ..View::default() };
        let sql = "SELECT value, mod_revision FROM current WHERE key = ?1";
        view.live = connection
            .query_row(sql, [key], |row| Ok((Bytes::copy_from_slice(row.get_ref(0)?.as_blob()?), row.get(1)?)))
            .optional()?;
        let uid = match &view.live {
            Some((value, _)) => {
                let (meta, mut definitions) = (object::decode(value), Definitions::default());
                for reference in meta.iter().flat_map(|meta| &meta.owner_references) {
                    let Some(uid) = Uid::parse(&reference.uid) else { continue };
                    let known = gc_load::known(connection, &uid, &mut definitions)?;
                    view.owners.push((uid, known));
                }
                meta.and_then(|meta| Uid::parse(&meta.uid))
            }
            None => {
                view.deleted = deleted(connection, key)?;
                view.deleted.as_ref().map(|(uid, _)| uid.clone())
            }
        };
        if let Some(uid) = uid {
            around(connection, &uid, &mut view)?;
        }
        Ok(view)
    })
}

/// Adds the dependents of an object and the tasks about it.
fn around(connection: &Connection, uid: &Uid, view: &mut View) -> rusqlite::Result<()> {
    let blob = uid.to_blob();
    view.below = gc_load::below(connection, uid)?;
    let sql =
        "SELECT count(*) - coalesce(sum(labelled), 0), coalesce(sum(labelled), 0) FROM owner WHERE owner_uid = ?1";
    view.dependents = connection.query_row(sql, [&blob], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let sql = "SELECT labelled, key, block FROM owner WHERE owner_uid = ?1 ORDER BY labelled DESC, key LIMIT ?2";
    let mut statement = connection.prepare(sql)?;
    let dependents = statement.query_map(params![blob, NAMED], |row| {
        let place = Place { labelled: row.get(0)?, key: Bytes::copy_from_slice(row.get_ref(1)?.as_blob()?) };
        Ok(Dependent { place, block: row.get(2)? })
    })?;
    view.first_dependents = dependents.collect::<rusqlite::Result<_>>()?;
    let sql = format!("SELECT {} FROM gc_task WHERE uid = ?1 ORDER BY kind", TASK);
    let tasks: rusqlite::Result<Vec<Task>> = connection.prepare(&sql)?.query_map([blob], task)?.collect();
    view.tasks = tasks?;
    Ok(())
}

/// The object that a key had last. Tombstones are found by UID, so this reads all of them.
fn deleted(connection: &Connection, key: &[u8]) -> rusqlite::Result<Option<(Uid, i64)>> {
    let sql = "SELECT uid, revision FROM gc_tombstone WHERE key = ?1 ORDER BY id DESC LIMIT 1";
    let found = connection.query_row(sql, [key], |row| Ok((Uid::from_blob(row.get_ref(0)?.as_blob()?), row.get(1)?)));
    Ok(found.optional()?.and_then(|(uid, revision)| Some((uid?, revision))))
}

fn revision(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT revision FROM meta", [], |row| row.get(0))
}

/// Reads in one snapshot of a file that has our tables.
fn read<T>(path: &Path, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
    let connection = super::connect_reader(path)?;
    let snapshot = connection.unchecked_transaction().map_err(failed)?;
    read(&snapshot).map_err(failed)
}
