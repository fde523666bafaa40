//! Writes the rows of a commit, one statement a row: a call of SQLite costs no more than a row of a longer statement.

use rusqlite::types::Null;
use rusqlite::{Connection, ToSql, params};

use super::field_index;
use crate::engine::store::Superseded;
use crate::sql::session::{Delta, NewHead, PostingRow, StoredRow};

/// Writes all but what is the collector's.
pub(super) fn store(connection: &Connection, delta: &Delta<'_>) -> rusqlite::Result<()> {
    put_aside(connection, delta.history)?;
    create(connection, &delta.created)?;
    update(connection, &delta.updated)?;
    remove(connection, delta)?;
    index(connection, delta)?;
    count(connection, delta)?;
    field_index::change(connection, &delta.indexes)?;
    store_leases(connection, delta)
}

/// Writes the head.
pub(super) fn store_head(connection: &Connection, head: &NewHead) -> rusqlite::Result<()> {
    let sql = "UPDATE meta SET revision = ?1, compact_revision = max(compact_revision, ?2), clock = ?3";
    connection.prepare_cached(sql)?.execute(params![head.revision, head.compact_revision, head.now]).map(drop)
}

fn put_aside(connection: &Connection, history: &[Superseded]) -> rusqlite::Result<()> {
    if history.is_empty() {
        return Ok(());
    }
    let mut insert = connection.prepare_cached(
        "INSERT INTO history
            (key, create_revision, mod_revision, sub, version, lease, value, end_revision, end_sub, deleted)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    for Superseded { row, end_revision, end_sub, deleted } in history {
        let kv = &row.kv;
        insert.execute(params![
            &kv.key[..],
            kv.create_revision,
            kv.mod_revision,
            row.sub,
            kv.version,
            kv.lease,
            &kv.value[..],
            end_revision,
            end_sub,
            deleted,
        ])?;
    }
    Ok(())
}

fn create(connection: &Connection, rows: &[StoredRow<'_>]) -> rusqlite::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut insert = connection.prepare_cached(
        "INSERT INTO current (key, create_revision, mod_revision, sub, version, lease, hidden, value, uid)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    rows.iter().try_for_each(|row| write_row(&mut insert, row))
}

fn update(connection: &Connection, rows: &[StoredRow<'_>]) -> rusqlite::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    // Nearly always an update changes no UID, and then it does not touch that index.
    for new_uid in [false, true] {
        let mut these = rows.iter().filter(|row| row.new_uid == new_uid).peekable();
        if these.peek().is_some() {
            let uid = if new_uid { ", uid = ?9 WHERE key = ?1" } else { " WHERE key = ?1 AND (?9 IS NULL OR TRUE)" };
            let mut update = connection.prepare_cached(&format!(
                "UPDATE current SET create_revision = ?2, mod_revision = ?3, sub = ?4, version = ?5, lease = ?6,
                    hidden = ?7, value = ?8{uid}"
            ))?;
            these.try_for_each(|row| write_row(&mut update, row))?;
        }
    }
    Ok(())
}

fn write_row(statement: &mut rusqlite::Statement<'_>, stored: &StoredRow<'_>) -> rusqlite::Result<()> {
    let (kv, sub) = (&stored.row.kv, stored.row.sub);
    let hidden: &dyn ToSql = stored.hidden.as_ref().map_or(&Null, |hidden| hidden);
    let uid = stored.uid.map(|uid| uid.to_blob());
    let values = params![
        &kv.key[..],
        kv.create_revision,
        kv.mod_revision,
        sub,
        kv.version,
        kv.lease,
        hidden,
        &kv.value[..],
        uid,
    ];
    statement.execute(values).map(drop)
}

fn remove(connection: &Connection, delta: &Delta<'_>) -> rusqlite::Result<()> {
    if delta.removed.is_empty() {
        return Ok(());
    }
    let mut delete = connection.prepare_cached("DELETE FROM current WHERE key = ?1")?;
    delta.removed.iter().try_for_each(|(key, _)| delete.execute([key]).map(drop))
}

fn index(connection: &Connection, delta: &Delta<'_>) -> rusqlite::Result<()> {
    if !delta.postings_gone.is_empty() {
        let sql = "DELETE FROM attribute WHERE name = ?1 AND value = ?2 AND key = ?3";
        let mut delete = connection.prepare_cached(sql)?;
        for PostingRow { name, value, key } in &delta.postings_gone {
            delete.execute(params![name, value, key])?;
        }
    }
    if !delta.postings_new.is_empty() {
        let sql = "INSERT OR IGNORE INTO attribute (name, value, key) VALUES (?1, ?2, ?3)";
        let mut insert = connection.prepare_cached(sql)?;
        for PostingRow { name, value, key } in &delta.postings_new {
            insert.execute(params![name, value, key])?;
        }
    }
    Ok(())
}

fn count(connection: &Connection, delta: &Delta<'_>) -> rusqlite::Result<()> {
    for (path, [live, opaque, misplaced]) in &delta.directories {
        let sql = "INSERT INTO directory (path, live, opaque, misplaced) VALUES (?1, ?2, ?3, ?4)
            ON CONFLICT (path) DO UPDATE SET live = live + excluded.live, opaque = opaque + excluded.opaque,
                misplaced = misplaced + excluded.misplaced";
        connection.prepare_cached(sql)?.execute(params![path, live, opaque, misplaced])?;
        if *live < 0 {
            connection.prepare_cached("DELETE FROM directory WHERE path = ?1 AND live = 0")?.execute([path])?;
        }
    }
    Ok(())
}

fn store_leases(connection: &Connection, delta: &Delta<'_>) -> rusqlite::Result<()> {
    for (id, lease) in &delta.leases {
        match lease {
            Some(lease) => {
                let sql = "INSERT INTO lease (id, ttl, expires_at) VALUES (?1, ?2, ?3)
                    ON CONFLICT (id) DO UPDATE SET ttl = excluded.ttl, expires_at = excluded.expires_at";
                connection.prepare_cached(sql)?.execute(params![id, lease.ttl, lease.expires_at])?
            }
            None => connection.prepare_cached("DELETE FROM lease WHERE id = ?1")?.execute([id])?,
        };
    }
    Ok(())
}
