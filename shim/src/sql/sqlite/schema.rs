//! The tables of a fresh file.

use std::path::Path;
use std::time::Instant;

use rusqlite::Connection;

use super::error::{Failed, Made, at};
use super::upgrade::{self, VERSION};
use crate::engine::{Error, Result};
use crate::sql::random;

/// Marks the file as ours: "SLCE".
const APPLICATION_ID: i32 = 0x534c_4345;

/// The tables of version 1; [`upgrade`] makes those of later versions of them, in a fresh file as in an old one. A
/// fresh store is at revision 1, as etcd is, so that the first write is revision 2.
const TABLES: &str = "
CREATE TABLE meta (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    revision INTEGER NOT NULL,
    compact_revision INTEGER NOT NULL,
    cluster_id INTEGER NOT NULL
) STRICT;

-- The newest value of each live key.
CREATE TABLE current (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL,
    create_revision INTEGER NOT NULL,
    mod_revision INTEGER NOT NULL,
    sub INTEGER NOT NULL,
    version INTEGER NOT NULL,
    lease INTEGER NOT NULL,
    -- Whether the object has the skip label; NULL if the value is not a readable object.
    hidden INTEGER,
    value BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX current_key ON current (key);
CREATE INDEX current_mod ON current (mod_revision);
CREATE INDEX current_lease ON current (lease) WHERE lease <> 0;
CREATE INDEX current_visible ON current (key) WHERE hidden = 0;

-- Values that were superseded at end_revision; `deleted` if that change deleted the key.
CREATE TABLE history (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL,
    create_revision INTEGER NOT NULL,
    mod_revision INTEGER NOT NULL,
    sub INTEGER NOT NULL,
    version INTEGER NOT NULL,
    lease INTEGER NOT NULL,
    value BLOB NOT NULL,
    end_revision INTEGER NOT NULL,
    end_sub INTEGER NOT NULL,
    deleted INTEGER NOT NULL
) STRICT;
CREATE INDEX history_key ON history (key, end_revision);
CREATE INDEX history_end ON history (end_revision);
CREATE INDEX history_mod ON history (mod_revision);

-- How many live keys each directory has, and how many of them hold no readable object.
CREATE TABLE directory (
    path BLOB PRIMARY KEY,
    live INTEGER NOT NULL,
    opaque INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX directory_opaque ON directory (path) WHERE opaque > 0;

-- The labels of the live objects, as an inverted index. The key is part of it, so that a page of a range comes in
-- order. Negative names are those of fields (field_index.rs).
CREATE TABLE attribute_name (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE attribute (
    name INTEGER NOT NULL,
    value TEXT NOT NULL,
    key BLOB NOT NULL,
    PRIMARY KEY (name, value, key)
) STRICT, WITHOUT ROWID;

-- expires_at: a moment on the store's clock (meta.clock).
CREATE TABLE lease (
    id INTEGER PRIMARY KEY,
    ttl INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX lease_end ON lease (expires_at);
";

/// Makes sure that the file has our tables in our version, in WAL mode.
pub(super) fn prepare(connection: &mut Connection, path: &Path) -> Result<()> {
    let failed = |error| at(path, error);
    let not_made = |error| match error {
        Failed::File(error) => at(path, error),
        Failed::Store(error) => error,
    };
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (application, version) = (pragma("application_id").map_err(failed)?, pragma("user_version").map_err(failed)?);
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    if application != APPLICATION_ID && tables > 0 {
        return Err(Error::Broken(format!(
            "{} is a SQLite database of another program; name another file",
            path.display()
        )));
    }
    if tables > 0 && !(1..=VERSION).contains(&version) {
        return Err(other_version(path, version));
    }
    if tables == 0 {
        create(connection).map_err(not_made)?;
    }
    connection.pragma_update(None, "journal_mode", "wal").map_err(failed)?;
    connection.pragma_update(None, "synchronous", "full").map_err(failed)?;
    if tables > 0 && version < VERSION {
        tracing::info!(path = %path.display(), from = version, to = VERSION, "the database is upgraded");
        let started = Instant::now();
        upgrade::upgrade(connection, version).map_err(not_made)?;
        tracing::info!(path = %path.display(), seconds = started.elapsed().as_secs_f64(), "the database is upgraded: done");
    }
    // Fails now, not at the first request, if the file can't be written.
    connection.execute_batch("BEGIN IMMEDIATE; UPDATE meta SET revision = revision; ROLLBACK;").map_err(failed)
}

/// A file that may only be read, of our version.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<()> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    match (
        pragma("application_id").map_err(|error| at(path, error))?,
        pragma("user_version").map_err(|error| at(path, error))?,
    ) {
        (APPLICATION_ID, VERSION) => Ok(()),
        (APPLICATION_ID, version) => Err(other_version(path, version)),
        _ => Err(Error::Broken(format!("{} is not a database of sluice-shim", path.display()))),
    }
}

fn other_version(path: &Path, version: i32) -> Error {
    let advice = if version < VERSION && version > 0 {
        "it is upgraded when this sluice-shim serves it"
    } else {
        "start the release that wrote it, or restore a backup that fits"
    };
    Error::Broken(format!(
        "the database {} has schema version {version}, this sluice-shim knows version {VERSION}; {advice}",
        path.display()
    ))
}

fn create(connection: &Connection) -> Made<()> {
    connection.pragma_update(None, "auto_vacuum", "incremental")?;
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let created = connection
        .execute_batch(TABLES)
        .and_then(|()| {
            let sql = "INSERT INTO meta (id, revision, compact_revision, cluster_id) VALUES (1, 1, 0, ?1)";
            connection.execute(sql, [random()])
        })
        .and_then(|_| connection.pragma_update(None, "application_id", APPLICATION_ID))
        .map_err(Failed::from)
        .and_then(|()| upgrade::steps(connection, 1));
    match created {
        Ok(()) => Ok(connection.execute_batch("COMMIT")?),
        Err(error) => {
            // The first error says more than one of the rollback.
            let _ = connection.execute_batch("ROLLBACK");
            Err(error)
        }
    }
}
