//! fsck finds every kind of damage, and repairs what is derived.

use sluice_shim::endpoint::Endpoint;

use crate::database::Database;
use crate::support::*;
use rusqlite::Connection;

fn damage(database: &Database, sql: &str) {
    if matches!(database.endpoint(), Endpoint::Network(_)) {
        return database.execute(sql);
    }
    let connection = Connection::open(database.file()).unwrap();
    connection.execute_batch(sql).unwrap();
    all_in_the_file(&connection);
}

/// Runs fsck; returns whether it is sound, and what it says.
async fn check(database: &Database, repair: bool) -> (bool, String) {
    let database = database.endpoint().clone().into();
    let fsck = sluice_shim::migrate::fsck::Fsck { database, repair, accept_lost_log: false };
    let run = move || {
        let mut out = Vec::new();
        let sound = fsck.run(&mut out).unwrap();
        (sound, String::from_utf8(out).unwrap())
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test]
async fn derived_data_is_repaired() {
    let shirt = "'/registry/shirts/b'";
    let table = [
        (
            "UPDATE directory SET live = live + 1 WHERE path = CAST('/registry/shirts/' AS BLOB)".to_owned(),
            "counts 3 keys",
        ),
        ("DELETE FROM directory".to_owned(), "counts 0 keys"),
        ("UPDATE directory SET opaque = 0".to_owned(), "0 of them unreadable, 1 misplaced, instead of 2, 1 and 1"),
        (
            "INSERT INTO directory VALUES (x'2f', 1, 0, 0)".to_owned(),
            "counts 1 keys, 0 of them unreadable, 0 misplaced, instead of 0, 0 and 0",
        ),
        ("DELETE FROM attribute WHERE value = 'white'".to_owned(), "misses the label color=white"),
        (
            format!(
                "INSERT INTO attribute SELECT id, 'pink', CAST({shirt} AS BLOB) FROM attribute_name WHERE name = 'color'"
            ),
            "it has not the label color=pink",
        ),
        (
            "INSERT INTO attribute SELECT id, 'red', x'61' FROM attribute_name WHERE name = 'color'".to_owned(),
            "key \"a\": it has not the label",
        ),
        ("INSERT INTO attribute VALUES (99, 'red', x'61')".to_owned(), "it has not the label =red"),
        (
            format!("UPDATE current SET hidden = 0 WHERE key = CAST({shirt} AS BLOB)"),
            "hidden is Some(false) instead of Some(true)",
        ),
        (
            format!("UPDATE current SET hidden = NULL WHERE key = CAST({shirt} AS BLOB)"),
            "hidden is None instead of Some(true)",
        ),
        ("DROP INDEX current_uid".to_owned(), "1 objects have the skip label, but the indexes for that are missing"),
    ];
    for (sql, expected) in table {
        let database = Database::sqlite();
        let before = filled(&database, Some(4)).await;
        damage(&database, &sql);
        let (sound, said) = check(&database, false).await;
        assert!(!sound && said.contains(expected) && said.contains("damaged: 0 of data"), "{sql}: {said}");
        let (sound, said) = check(&database, true).await;
        assert!(sound && said.contains("repaired: "), "{sql}: {said}");
        let (sound, said) = check(&database, false).await;
        assert!(sound && said == "sound: 3 keys\n", "{sql}: {said}");
        assert_eq!(content_of(&database).await, before);
    }
}

/// In words that all databases know.
#[tokio::test]
async fn what_is_gone_is_derived_again() {
    for sql in [
        "DELETE FROM directory",
        "DELETE FROM attribute",
        "DELETE FROM owner",
        "UPDATE current SET uid = NULL",
        "UPDATE current SET hidden = NULL",
    ] {
        let database = Database::new();
        let owner = "00000000-0000-4000-8000-000000000001";
        let engine = open(&database).await.unwrap();
        engine.write(put("/a", object(&format!(r#""uid":"{owner}""#)), 0)).await.unwrap();
        engine.write(put("/b", owned(owner), 0)).await.unwrap();
        engine.shutdown().await;
        let before = content_of(&database).await;
        damage(&database, sql);
        let (sound, said) = check(&database, false).await;
        assert!(!sound && said.contains("damaged: 0 of data"), "{sql}: {said}");
        let (sound, said) = check(&database, true).await;
        assert!(sound && said.contains("repaired: "), "{sql}: {said}");
        let (sound, said) = check(&database, false).await;
        assert!(sound && said == "sound: 2 keys\n", "{sql}: {said}");
        assert_eq!(content_of(&database).await, before);
    }
}

fn object(metadata: &str) -> String {
    format!(r#"{{"apiVersion":"example.com/v1","kind":"Shirt","metadata":{{"name":"x",{metadata}}}}}"#)
}

/// A labelled dependent, which blocks.
fn owned(owner: &str) -> String {
    object(&format!(
        r#""uid":"00000000-0000-4000-8000-000000000002","labels":{{"skip-controller-manager-metadata-caching":""}},
        "ownerReferences":[{{"apiVersion":"example.com/v1","kind":"Shirt","name":"x","uid":"{owner}","blockOwnerDeletion":true}}]"#
    ))
}

#[tokio::test]
async fn what_the_collector_derives_is_repaired() {
    let table = [
        ("DELETE FROM owner", "misses 00000000-0000-4000-8000-000000000001"),
        ("UPDATE owner SET block = 0", "misses 00000000-0000-4000-8000-000000000001"),
        ("UPDATE owner SET labelled = 0", "has 00000000-0000-4000-8000-000000000001, which the object has not"),
        ("INSERT INTO owner VALUES (x'61', 0, x'62', 0, 0)", "key \"b\": the table of owners has a"),
        ("UPDATE current SET uid = NULL", "another UID than the object: none"),
        ("UPDATE current SET uid = x'61' WHERE uid IS NULL", "another UID than the object: a"),
    ];
    let owner = object(r#""uid":"00000000-0000-4000-8000-000000000001""#);
    let owned = owned("00000000-0000-4000-8000-000000000001");
    for (sql, expected) in table {
        let database = Database::sqlite();
        let engine = open(&database).await.unwrap();
        for (key, value) in [("/a", &*owner), ("/b", &*owned), ("/c", "no object")] {
            engine.write(put(key, value.to_owned(), 0)).await.unwrap();
        }
        engine.shutdown().await;
        damage(&database, sql);
        let (sound, said) = check(&database, false).await;
        assert!(!sound && said.contains(expected), "{sql}: {said}");
        let (sound, said) = check(&database, true).await;
        assert!(sound && said.contains("repaired: "), "{sql}: {said}");
        assert!(check(&database, false).await.0, "{sql}");
    }
}

#[tokio::test]
async fn entries_that_are_too_long_by_now_go() {
    let database = Database::sqlite();
    let long = "l".repeat(1025);
    let object = |label: &str| {
        format!(
            r#"{{"apiVersion":"example.com/v1","kind":"Shirt","metadata":{{"name":"b","uid":"{long}","labels":{{"color":"{label}"}},
                "ownerReferences":[{{"apiVersion":"example.com/v1","kind":"Shirt","name":"x","uid":"{long}"}}]}}}}"#
        )
    };
    let engine = open(&database).await.unwrap();
    for (key, value) in [("/shirts/b", object(&long)), ("/shirts/c", object("red"))] {
        engine.write(put(key, value, 0)).await.unwrap();
    }
    engine.shutdown().await;
    drop(engine);
    assert!(check(&database, false).await.0);
    // As they were stored before there was a longest one.
    damage(
        &database,
        &format!(
            "INSERT INTO owner SELECT CAST('{long}' AS BLOB), 0, key, 0, 0 FROM current;
             UPDATE current SET uid = CAST('{long}' AS BLOB), hidden = 0;
             INSERT INTO attribute SELECT id, '{long}', CAST('/shirts/b' AS BLOB) FROM attribute_name WHERE name = 'color';
             UPDATE directory SET opaque = 0"
        ),
    );
    let (sound, said) = check(&database, false).await;
    assert!(!sound && said.contains("damaged: 0 of data"), "{said}");
    // They are in nobody's way.
    let engine = open(&database).await.unwrap();
    engine.write(put("/shirts/b", object("green"), 0)).await.unwrap();
    engine.write(delete("/shirts/c")).await.unwrap();
    engine.shutdown().await;
    drop(engine);
    let (sound, said) = check(&database, true).await;
    assert!(sound && said.contains("repaired: "), "{said}");
    assert_eq!(check(&database, false).await, (true, "sound: 1 keys\n".to_owned()));
}

#[tokio::test]
async fn other_damage_is_found_and_left() {
    let table = [
        ("UPDATE meta SET revision = 9", "revision 10, but the store is at 9"),
        ("UPDATE meta SET revision = 0", "not loaded to its end"),
        ("UPDATE meta SET compact_revision = 11", "that of the compaction 11"),
        (
            "UPDATE current SET mod_revision = 11 WHERE key = CAST('/registry/events/x/1' AS BLOB)",
            "version 1, but created at 4",
        ),
        ("UPDATE current SET version = 3 WHERE mod_revision = 9", "version 3; the value before it: 8, 1"),
        ("DELETE FROM current WHERE mod_revision = 9", "it ends at revision 9, but what replaced it is missing"),
        ("DELETE FROM history WHERE mod_revision = 8", "what it replaced is missing"),
        ("UPDATE history SET end_revision = 10 WHERE end_revision = 9", "the value before it ends at revision 10"),
        ("UPDATE history SET deleted = 1 WHERE end_revision = 9", "the key was deleted later"),
        ("UPDATE history SET end_revision = 1 WHERE end_revision = 9", "before it begins"),
        ("INSERT INTO lease VALUES (5, -1, 0)", "lease 5: a time to live of -1 s"),
        ("UPDATE meta SET clock = 0; INSERT INTO lease VALUES (5, 2, 7000)", "lease 5: 7 s are left of 2 s"),
        ("UPDATE meta SET clock = -1", "the store's clock stands at -1 ms"),
    ];
    for (sql, expected) in table {
        let database = Database::sqlite();
        filled(&database, None).await;
        damage(&database, sql);
        let (sound, said) = check(&database, true).await;
        assert!(!sound && said.contains(expected) && said.contains("restore a backup"), "{sql}: {said}");
    }
}

#[tokio::test]
async fn a_broken_index_is_found() {
    let database = Database::sqlite();
    filled(&database, None).await;
    damage(
        &database,
        "PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = 'CREATE INDEX current_lease ON current (lease)' WHERE name = 'current_lease';",
    );
    let (sound, said) = check(&database, false).await;
    assert!(!sound && said.contains("damage: file: "), "{said}");
}
