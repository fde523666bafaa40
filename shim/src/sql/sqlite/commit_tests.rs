//! Field indexes are built and removed beside writes.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rusqlite::Connection;

use super::commit::Changing;
use super::log::Guarded;
use super::tables::Tables;
use super::{connect_writer, field_index};
use crate::clock::{Steady, StoreClock, StoreTime};
use crate::engine::metrics::Metrics;
use crate::engine::store::{Before, Changes, Footprint, Row, RowChange, Writer as _, declarations};
use crate::engine::{KeyValue, facets};
use crate::sql::index::backfill;
use crate::sql::session::IndexState::{self, Building, Dropping, Ready};
use crate::sql::turn::Turn;
use crate::sql::writer::SqlWriter;

struct Database {
    folder: tempfile::TempDir,
    /// `None` for a moment: a database has one writer at a time.
    writer: Option<SqlWriter>,
}

impl Database {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut database = Self { folder, writer: None };
        database.open();
        database
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("state.db")
    }

    fn clock() -> StoreClock {
        StoreClock::from(StoreTime::default(), Arc::new(Steady::default()))
    }

    fn tables(&self) -> Tables<Changing> {
        let path = self.path();
        let guarded = Guarded::new(connect_writer(&path).unwrap(), &path).unwrap();
        let lock = File::create(self.folder.path().join("lock")).unwrap();
        Tables::new(Changing::new(guarded, lock, &path, Self::clock()).unwrap(), Arc::default())
    }

    fn open(&mut self) {
        self.writer =
            Some(SqlWriter::new(Box::new(self.tables()), Self::clock(), Arc::default(), Turn::fixed(Duration::ZERO)));
    }

    fn put(&mut self, key: &str, value: Option<String>) {
        let key: Bytes = key.to_owned().into();
        let footprint = Footprint { keys: [key.clone()].into(), ..Footprint::default() };
        let decide = &mut |before: Before| {
            let revision = before.revision + 1;
            let of = |value: &[u8]| facets(&before.catalog, &key, value);
            let after = value.clone().map(|value| {
                let kv = KeyValue {
                    key: key.clone(),
                    value: value.into(),
                    create_revision: revision,
                    mod_revision: revision,
                    version: 1,
                    lease: 0,
                };
                let facets = of(&kv.value);
                (Row { kv, sub: 0 }, facets)
            });
            let before = before.rows.get(&key).map(|row| of(&row.kv.value));
            let rows = vec![RowChange { key: key.clone(), before, after }];
            Ok(Changes { revision, declarations: declarations(&rows), rows, ..Changes::default() })
        };
        self.writer.as_mut().unwrap().commit(&footprint, decide).unwrap();
    }

    /// A step over three objects or entries, by another process; says whether there is more to do.
    fn step(&mut self) -> bool {
        self.writer = None;
        let more = backfill::step(&mut self.tables(), &Metrics::default(), 3).unwrap();
        self.open();
        more
    }

    fn is_sound(&mut self) {
        self.writer = None;
        let endpoint = crate::endpoint::Endpoint::Sqlite(self.path());
        crate::sql::check(&endpoint, false, &mut |damage| panic!("{}", damage.what)).unwrap();
        self.open();
    }

    fn states(&self) -> Vec<IndexState> {
        let connection = Connection::open(self.path()).unwrap();
        field_index::all(&connection).unwrap().iter().map(|stored| stored.state).collect()
    }
}

const DEFINITION: &str = "/r/apiextensions.k8s.io/customresourcedefinitions/shirts.example.com";

fn definition(fields: &[&str]) -> Option<String> {
    let fields: Vec<_> = fields.iter().map(|field| format!(r#"{{"jsonPath":".spec.{field}"}}"#)).collect();
    Some(format!(
        r#"{{"spec":{{"versions":[{{"name":"v1","storage":true,"selectableFields":[{}]}}]}}}}"#,
        fields.join(",")
    ))
}

fn shirt(number: usize, color: &str) -> (String, Option<String>) {
    let value = format!(
        r#"{{"apiVersion":"example.com/v1","kind":"Shirt","metadata":{{"name":"{number:02}"}},"spec":{{"color":"{color}","size":{number}}}}}"#
    );
    (format!("/r/example.com/shirts/{number:02}"), Some(value))
}

/// Whatever is written between two steps, on either side of the cursor, and wherever the process is killed.
#[test]
fn an_index_is_built_and_removed_beside_writes() {
    let mut database = Database::new();
    for number in 0..20 {
        let (key, value) = shirt(number, "red");
        database.put(&key, value);
    }
    database.put(DEFINITION, definition(&["color", "size"]));
    assert_eq!(database.states(), [Building, Building]);
    database.is_sound();
    let mut steps = 0;
    while database.states().contains(&Building) {
        assert!(database.step());
        database.is_sound();
        for number in [steps, 10 + steps, 19 - steps] {
            let (key, value) = shirt(number, "green");
            database.put(&key, value.filter(|_| steps % 3 != 2));
        }
        database.is_sound();
        steps += 1;
    }
    assert!((5..9).contains(&steps), "{steps} steps");
    // One field goes, one stays, one is new.
    database.put(DEFINITION, definition(&["size", "weight"]));
    assert_eq!(database.states(), [Dropping, Ready, Building]);
    while database.step() {
        let (key, value) = shirt(4, "blue");
        database.put(&key, value);
        database.is_sound();
    }
    assert_eq!(database.states(), [Ready, Ready]);
    database.put(DEFINITION, None);
    while database.step() {
        database.is_sound();
    }
    let connection = Connection::open(database.path()).unwrap();
    let left: i64 = connection.query_row("SELECT count(*) FROM attribute", [], |row| row.get(0)).unwrap();
    assert_eq!((left, database.states()), (0, vec![]));
}
