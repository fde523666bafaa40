//! A file of an older version becomes one of ours, at once or not at all.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::Connection;
use sluice_shim::engine::{KeyRange, RangeQuery};
use sluice_shim::sql;

use crate::database::Database;
use crate::support::*;

/// Some objects as version 1 stored them: one is unreadable, one has another name than its key, one is a definition.
fn fill_version_1(path: &Path) {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(include_str!("version1.sql")).unwrap();
    let definition =
        r#"{"spec":{"versions":[{"name":"v1","storage":true,"selectableFields":[{"jsonPath":".spec.color"}]}]}}"#;
    let rows = [
        ("/registry/apiextensions.k8s.io/customresourcedefinitions/shirts.example.com", definition.to_owned(), None, 1),
        ("/registry/example.com/shirts/a", object("red"), Some(true), 0),
        ("/registry/example.com/shirts/other", object("red"), Some(true), 0),
        ("/registry/example.com/shirts/sealed", "k8s:enc:".to_owned(), None, 1),
    ];
    for (revision, (key, value, hidden, opaque)) in (2i64..).zip(rows) {
        let sql = "INSERT INTO current (key, create_revision, mod_revision, sub, version, lease, hidden, value) VALUES (CAST(?1 AS BLOB), ?2, ?2, 0, 1, 0, ?3, CAST(?4 AS BLOB))";
        connection.execute(sql, (key, revision, hidden, value)).unwrap();
        let directory = &key[..key.rfind('/').unwrap() + 1];
        let sql = "INSERT INTO directory VALUES (CAST(?1 AS BLOB), 1, ?2) ON CONFLICT DO UPDATE SET live = live + 1, opaque = opaque + excluded.opaque";
        connection.execute(sql, (directory, opaque)).unwrap();
        for label in [("color", "red"), ("skip-controller-manager-metadata-caching", "")] {
            if hidden.is_some() {
                connection.execute("INSERT OR IGNORE INTO attribute_name (name) VALUES (?1)", [label.0]).unwrap();
                let sql = "INSERT INTO attribute SELECT id, ?2, CAST(?3 AS BLOB) FROM attribute_name WHERE name = ?1";
                connection.execute(sql, (label.0, label.1, key)).unwrap();
            }
        }
    }
}

fn columns(path: &Path) -> Vec<(String, String, String)> {
    let connection = Connection::open(path).unwrap();
    let sql = "SELECT s.name, coalesce(c.name, ''), coalesce(c.type, '') FROM sqlite_schema s LEFT JOIN pragma_table_xinfo(s.name) c ORDER BY 1, 2";
    let mut statement = connection.prepare(sql).unwrap();
    let read = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    read.collect::<rusqlite::Result<_>>().unwrap()
}

#[tokio::test]
async fn a_file_of_version_1_is_upgraded() {
    let database = Database::sqlite();
    let path = database.file();
    fill_version_1(path);
    let engine = open(&database).await.unwrap();
    let all = engine.range(RangeQuery { range: all(), ..RangeQuery::default() }).await.unwrap();
    assert_eq!((all.revision, all.kvs.len()), (5, 4));
    let one = RangeQuery { range: KeyRange::single("/registry/example.com/shirts/a"), ..RangeQuery::default() };
    assert_eq!(engine.range(one).await.unwrap().kvs[0].value, object("red"));
    engine.shutdown().await;
    drop(engine);
    let mut wrong = Vec::new();
    let checked = sql::check(database.endpoint(), false, &mut |damage| wrong.push(damage.what)).unwrap();
    assert_eq!((checked.keys, wrong), (4, Vec::new()));
    let connection = Connection::open(path).unwrap();
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM field_index WHERE field = 'spec.color'"), 1);
    assert_eq!(count("SELECT misplaced FROM directory WHERE path = CAST('/registry/example.com/shirts/' AS BLOB)"), 1);
    let new = Database::sqlite();
    let fresh = open(&new).await.unwrap();
    fresh.write(put("/registry/example.com/shirts/a", object("red"), 0)).await.unwrap();
    fresh.shutdown().await;
    drop(fresh);
    assert_eq!(columns(path), columns(new.file()));
}

/// What ends it in the middle leaves the file as it was.
#[tokio::test]
async fn an_upgrade_that_fails_changes_nothing() {
    let database = Database::sqlite();
    let path = database.file();
    fill_version_1(path);
    let connection = Connection::open(path).unwrap();
    let stop = "CREATE TRIGGER stop BEFORE INSERT ON directory BEGIN SELECT raise(ABORT, 'stopped here'); END;";
    connection.execute_batch(stop).unwrap();
    let before = columns(path);
    let error = open(&database).await.unwrap_err();
    assert!(error.to_string().contains("stopped here"), "{error}");
    assert_eq!(columns(path), before);
    let version =
        |connection: &Connection| connection.pragma_query_value(None, "user_version", |row| row.get::<_, i32>(0));
    assert_eq!(version(&connection).unwrap(), 1);
    assert_eq!(connection.query_row("SELECT count(*) FROM directory", [], |row| row.get::<_, i64>(0)).unwrap(), 2);
    connection.execute_batch("DROP TRIGGER stop").unwrap();
    all_in_the_file(&connection);
    drop(open(&database).await.unwrap());
    assert_eq!(version(&connection).unwrap(), 5);
}

/// Milliseconds since 1970, as version 3 had them.
fn calendar() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

/// Moments of the calendar become moments of the store's clock, which begins at 0. Those that a calendar left behind
/// which was set do no harm.
#[tokio::test]
async fn moments_of_version_3_are_put_on_the_clock() {
    let database = Database::sqlite();
    let path = database.file();
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(include_str!("version3.sql")).unwrap();
    let before = calendar();
    const AGES: i64 = 1 << 50;
    // What it is, the moment from now in seconds, and the moment on the clock in milliseconds. Of a lease: the time
    // to live.
    let leases = [
        ("is under way", 3600, 1800, 1_800_000),
        ("is over", 600, -100, 0),
        ("was granted before the calendar was set back", 600, 7200, 600_000),
        ("is as long as can be", i64::MAX, i64::MAX, i64::MAX - before),
    ];
    let tombstones = [("old", -60, -60_000), ("of the future", 7200, 0)];
    let tasks = [
        ("due", -60, -60_000, -60, 0),
        ("parked", -60, -60_000, 10, 10_000),
        ("parked for ages", 7200, 0, AGES, 300_000),
    ];
    for (id, (_, ttl, end, _)) in (1..).zip(leases) {
        let end = end.saturating_mul(1000).saturating_add(before);
        connection.execute("INSERT INTO lease VALUES (?1, ?2, ?3)", [id, ttl, end]).unwrap();
    }
    for (id, (_, at, _)) in (1..).zip(tombstones) {
        let sql = "INSERT INTO gc_tombstone VALUES (?1, x'01', x'02', 1, 3, ?2)";
        connection.execute(sql, [id, before + at * 1000]).unwrap();
    }
    for (id, (_, created, _, due, _)) in (1..).zip(tasks) {
        let sql = "INSERT INTO gc_task (id, kind, uid, key, hidden, cause_revision, created_at, not_before)
            VALUES (?1, ?1, x'01', x'02', 1, 3, ?2, ?3)";
        connection.execute(sql, [id, before + created * 1000, before + due * 1000]).unwrap();
    }
    drop(connection);
    drop(sql::open(database.endpoint(), Arc::default()).unwrap());
    let took = calendar() - before;
    let connection = Connection::open(path).unwrap();
    let all = |sql: &str| -> Vec<i64> {
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.collect::<rusqlite::Result<_>>().unwrap()
    };
    let check = |what: &str, found: i64, expected: i64| {
        // What lies in the past or the future of the upgrade moves with it; what had to be cut off does not.
        let exact = found == expected;
        assert!(exact || (expected - took..=expected).contains(&found), "{what}: {found} instead of {expected}");
    };
    for (found, (what, .., expected)) in all("SELECT expires_at FROM lease ORDER BY id").into_iter().zip(leases) {
        check(what, found, expected);
    }
    for (found, (what, _, expected)) in all("SELECT at FROM gc_tombstone ORDER BY id").into_iter().zip(tombstones) {
        check(what, found, expected);
    }
    for (found, (what, _, expected, ..)) in all("SELECT created_at FROM gc_task ORDER BY id").into_iter().zip(tasks) {
        check(what, found, expected);
    }
    for (found, (what, .., expected)) in all("SELECT not_before FROM gc_task ORDER BY id").into_iter().zip(tasks) {
        check(what, found, expected);
    }
    assert_eq!(all("SELECT clock FROM meta"), [0]);
    drop(connection);
    let mut wrong = Vec::new();
    sql::check(database.endpoint(), false, &mut |damage| wrong.push(damage.what)).unwrap();
    assert_eq!(wrong, [""; 0]);
    let new = Database::sqlite();
    drop(sql::open(new.endpoint(), Arc::default()).unwrap());
    assert_eq!(columns(path), columns(new.file()));
}

/// Before version 5 nothing was too long for an index.
#[tokio::test]
async fn labels_and_uids_of_version_4_that_are_too_long_go() {
    let database = Database::sqlite();
    let long = "l".repeat(1025);
    let object = |name: &str, label: &str, uid: &str| {
        format!(
            r#"{{"apiVersion":"example.com/v1","kind":"Shirt","metadata":{{"name":"{name}","uid":"{uid}","labels":{{
                "color":"{label}"}},"ownerReferences":[{{"apiVersion":"v1","kind":"A","name":"x","uid":"{long}"}}]}}}}"#
        )
    };
    let engine = open(&database).await.unwrap();
    for (name, label, uid) in [("a", "red", "short"), ("b", &long, "other"), ("c", "red", &long)] {
        engine.write(put(&format!("/shirts/{name}"), object(name, label, uid), 0)).await.unwrap();
    }
    engine.shutdown().await;
    drop(engine);
    let connection = Connection::open(database.file()).unwrap();
    let as_before = format!(
        "INSERT INTO owner SELECT CAST('{long}' AS BLOB), 0, key, 0, 0 FROM current;
         UPDATE current SET uid = CAST('{long}' AS BLOB) WHERE uid IS NULL;
         UPDATE current SET hidden = 0;
         INSERT INTO attribute SELECT id, '{long}', CAST('/shirts/b' AS BLOB) FROM attribute_name WHERE name = 'color';
         UPDATE directory SET opaque = 0;
         PRAGMA user_version = 4"
    );
    connection.execute_batch(&as_before).unwrap();
    all_in_the_file(&connection);
    drop(connection);
    open(&database).await.unwrap().shutdown().await;
    let mut wrong = Vec::new();
    let checked = sql::check(database.endpoint(), false, &mut |damage| wrong.push(damage.what)).unwrap();
    assert_eq!((checked.keys, wrong), (3, Vec::new()));
}

#[tokio::test]
async fn a_file_of_a_later_version_is_refused() {
    let database = Database::sqlite();
    let path = database.file();
    fill_version_1(path);
    Connection::open(path).unwrap().pragma_update(None, "user_version", 1000).unwrap();
    let error = open(&database).await.unwrap_err().to_string();
    assert!(error.contains("schema version 1000") && error.contains("start the release that wrote it"), "{error}");
}
