//! A file of an older version becomes one of ours, at once or not at all.

use std::path::Path;

use rusqlite::Connection;
use sluice_shim::engine::{KeyRange, RangeQuery};
use sluice_shim::sql;

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
    let folder = tempfile::tempdir().unwrap();
    let database = endpoint(folder.path(), "state.db");
    let path = file(folder.path(), "state.db");
    fill_version_1(&path);
    let engine = open(&database).await.unwrap();
    let all = engine.range(RangeQuery { range: all(), ..RangeQuery::default() }).await.unwrap();
    assert_eq!((all.revision, all.kvs.len()), (5, 4));
    let one = RangeQuery { range: KeyRange::single("/registry/example.com/shirts/a"), ..RangeQuery::default() };
    assert_eq!(engine.range(one).await.unwrap().kvs[0].value, object("red"));
    engine.shutdown().await;
    drop(engine);
    let mut wrong = Vec::new();
    let checked = sql::check(&database, false, &mut |damage| wrong.push(damage.what)).unwrap();
    assert_eq!((checked.keys, wrong), (4, Vec::new()));
    let connection = Connection::open(&path).unwrap();
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM field_index WHERE field = 'spec.color'"), 1);
    assert_eq!(count("SELECT misplaced FROM directory WHERE path = CAST('/registry/example.com/shirts/' AS BLOB)"), 1);
    let fresh = open(&endpoint(folder.path(), "fresh.db")).await.unwrap();
    fresh.write(put("/registry/example.com/shirts/a", object("red"), 0)).await.unwrap();
    fresh.shutdown().await;
    drop(fresh);
    assert_eq!(columns(&path), columns(&file(folder.path(), "fresh.db")));
}

/// What ends it in the middle leaves the file as it was.
#[tokio::test]
async fn an_upgrade_that_fails_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let database = endpoint(folder.path(), "state.db");
    let path = file(folder.path(), "state.db");
    fill_version_1(&path);
    let connection = Connection::open(&path).unwrap();
    let stop = "CREATE TRIGGER stop BEFORE INSERT ON directory BEGIN SELECT raise(ABORT, 'stopped here'); END;";
    connection.execute_batch(stop).unwrap();
    let before = columns(&path);
    let error = open(&database).await.unwrap_err();
    assert!(error.to_string().contains("stopped here"), "{error}");
    assert_eq!(columns(&path), before);
    let version =
        |connection: &Connection| connection.pragma_query_value(None, "user_version", |row| row.get::<_, i32>(0));
    assert_eq!(version(&connection).unwrap(), 1);
    assert_eq!(connection.query_row("SELECT count(*) FROM directory", [], |row| row.get::<_, i64>(0)).unwrap(), 2);
    connection.execute_batch("DROP TRIGGER stop").unwrap();
    drop(open(&database).await.unwrap());
    assert_eq!(version(&connection).unwrap(), 3);
}

#[tokio::test]
async fn a_file_of_a_later_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "state.db");
    fill_version_1(&path);
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 1000).unwrap();
    let error = open(&endpoint(folder.path(), "state.db")).await.unwrap_err().to_string();
    assert!(error.contains("schema version 1000") && error.contains("start the release that wrote it"), "{error}");
}
