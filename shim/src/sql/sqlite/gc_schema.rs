//! The collector's tables, and how they are added to a file of an older version.

use std::sync::Arc;

use rusqlite::{Connection, params};

use super::error::Made;
use super::graph_write;
use super::tables::Tables;
use crate::clock::StoreTime;
use crate::engine::catalog::Catalog;
use crate::engine::facets;
use crate::engine::store::{Facets, Row, RowChange};
use crate::gc::{Rules, Seen, signals};
use crate::sql::collector;
use crate::sql::session::Delta;

/// For a fresh file and for one of version 1 alike.
const TABLES: &str = "
-- The UID of the object: 16 bytes of a UUID, or its text. NULL for what is no object.
ALTER TABLE current ADD COLUMN uid BLOB;
CREATE INDEX current_uid ON current (uid) WHERE uid IS NOT NULL;

-- Who is whose dependent, by the UIDs in the owner references of the live objects. labelled: whether the dependent has
-- the label; block: whether a foreground deletion of the owner waits for it; waits: whether it is itself being deleted
-- and waits for its own dependents.
CREATE TABLE owner (
    owner_uid BLOB NOT NULL,
    labelled INTEGER NOT NULL,
    key BLOB NOT NULL,
    block INTEGER NOT NULL,
    waits INTEGER NOT NULL,
    PRIMARY KEY (owner_uid, labelled, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX owner_waits ON owner (owner_uid) WHERE waits = 1;

-- The collector's queue. kind: 1 cascade, 2 orphan, 3 foreground, 4 recheck. state: 0 ready, 1 waiting, 2 parked. uid:
-- the owner; of a recheck, the object. created_at and not_before are moments on the store's clock (meta.clock).
CREATE TABLE gc_task (
    id INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    uid BLOB NOT NULL,
    key BLOB NOT NULL,
    hidden INTEGER NOT NULL,
    cause_revision INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0,
    not_before INTEGER NOT NULL DEFAULT 0,
    swept INTEGER NOT NULL DEFAULT 0,
    -- The last dependent that was looked at: its place in the table owner.
    cursor_labelled INTEGER,
    cursor_key BLOB,
    failures INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    UNIQUE (uid, kind)
) STRICT;
CREATE INDEX gc_task_due ON gc_task (not_before) WHERE state <> 1;
CREATE INDEX gc_task_age ON gc_task (created_at);

-- Objects that were deleted not long ago.
CREATE TABLE gc_tombstone (
    id INTEGER PRIMARY KEY,
    uid BLOB NOT NULL,
    key BLOB NOT NULL,
    namespaced INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    -- When, on the store's clock.
    at INTEGER NOT NULL
) STRICT;
CREATE INDEX gc_tombstone_uid ON gc_tombstone (uid);
";

/// How many rows are read at a time while the tables are filled.
const PAGE: i64 = 1000;

/// Makes the tables and fills them from the live values, in the transaction that is under way.
pub(super) fn add(connection: &Connection, now: StoreTime) -> Made<()> {
    connection.execute_batch(TABLES)?;
    fill(connection, now)
}

/// What the collector needs of a value: the rest of the facets depends on the key and the fields that are indexed.
pub(super) fn graph(value: &[u8]) -> Facets {
    facets(&Catalog::default(), b"", value)
}

/// Fills the column `uid`, the table `owner` and, for deletions under way, the queue.
pub(super) fn fill(connection: &Connection, now: StoreTime) -> Made<()> {
    let mut last = i64::MIN;
    let rules = Rules::default();
    loop {
        let sql = "SELECT id, key, mod_revision, value FROM current WHERE id > ?1 ORDER BY id LIMIT ?2";
        let mut statement = connection.prepare_cached(sql)?;
        let page: Vec<(i64, Vec<u8>, i64, Facets)> = statement
            .query_map([last, PAGE], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, graph(row.get_ref(3)?.as_blob()?)))
            })?
            .collect::<rusqlite::Result<_>>()?;
        let Some((end, ..)) = page.last() else { return Ok(()) };
        last = *end;
        let (mut rows, mut heard) = (Vec::new(), Vec::new());
        for (id, key, revision, facets) in page {
            let Some(node) = &facets.node else { continue };
            let sql = "UPDATE current SET uid = ?2 WHERE id = ?1 AND uid IS NOT ?2";
            connection.prepare_cached(sql)?.execute(params![id, node.uid.to_blob()])?;
            let key = key.into();
            signals(&rules, (&key, revision), None, Some(Seen { node, labelled: facets.hidden }), &mut heard);
            rows.push(RowChange { key, before: None, after: Some((Row::default(), facets)) });
        }
        let mut delta = Delta::default();
        collector::edges(&rows, &mut delta);
        graph_write::store_edges(connection, &delta)?;
        let mut session = Tables::new(connection, Arc::default());
        let started = collector::hear(&mut session, &heard)?;
        graph_write::store_started(connection, &started, now)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: &str = "00000000-0000-4000-8000-000000000001";

    fn object(uid: &str, more: &str) -> String {
        format!(r#"{{"apiVersion":"example.com/v1","kind":"Shirt","metadata":{{"name":"x","uid":"{uid}"{more}}}}}"#)
    }

    /// The part of a file of version 1 that matters here.
    fn version_1(values: &[(&str, &str)]) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        let table = "CREATE TABLE current (id INTEGER PRIMARY KEY, key BLOB NOT NULL, mod_revision INTEGER NOT NULL,
            value BLOB NOT NULL, create_revision INTEGER NOT NULL DEFAULT 1, sub INTEGER NOT NULL DEFAULT 0,
            version INTEGER NOT NULL DEFAULT 1, lease INTEGER NOT NULL DEFAULT 0) STRICT";
        connection.execute_batch(table).unwrap();
        for (key, value) in values {
            let sql = "INSERT INTO current (key, mod_revision, value) VALUES (?1, 7, ?2)";
            connection.execute(sql, params![key.as_bytes(), value.as_bytes()]).unwrap();
        }
        connection
    }

    #[test]
    fn an_older_file_gets_its_owners_and_the_work_that_is_under_way() {
        let label = r#","labels":{"skip-controller-manager-metadata-caching":""}"#;
        let reference = format!(
            r#"{{"apiVersion":"example.com/v1","kind":"Shirt","name":"x","uid":"{OWNER}","blockOwnerDeletion":true}}"#
        );
        let waits = r#","deletionTimestamp":"2026-01-01T00:00:00Z","finalizers":["foregroundDeletion"]"#;
        let owner = object(OWNER, &format!("{label}{waits}"));
        let owned = object("other", &format!(r#"{label},"ownerReferences":[{reference}]"#));
        let visible = object("third", &format!(r#","ownerReferences":[{reference}]{waits}"#));
        let connection = version_1(&[("/a", &owner), ("/b", &owned), ("/c", &visible), ("/d", "no object")]);
        add(&connection, StoreTime::from_millis(1)).unwrap();
        let all = |sql: &str| -> Vec<(Vec<u8>, Vec<u8>, i64)> {
            let mut statement = connection.prepare(sql).unwrap();
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
            rows.collect::<rusqlite::Result<_>>().unwrap()
        };
        let uid = crate::gc::Uid::parse(OWNER).unwrap().to_blob().into_owned();
        let row = |uid: &[u8], key: &str, number| (uid.to_vec(), key.as_bytes().to_vec(), number);
        let uids = all("SELECT uid, key, 0 FROM current WHERE uid IS NOT NULL ORDER BY id");
        assert_eq!(uids, [row(&uid, "/a", 0), row(b"other", "/b", 0), row(b"third", "/c", 0)]);
        let owners = all("SELECT owner_uid, key, labelled * 100 + block * 10 + waits FROM owner ORDER BY key");
        assert_eq!(owners, [row(&uid, "/b", 110), row(&uid, "/c", 11)]);
        // A visible object without hidden dependents is the controller manager's.
        assert_eq!(all("SELECT uid, key, kind FROM gc_task"), [row(&uid, "/a", 3)]);
        fill(&connection, StoreTime::from_millis(2)).unwrap();
        assert_eq!(all("SELECT owner_uid, key, 0 FROM owner").len(), 2, "filling again changes nothing");
    }
}
