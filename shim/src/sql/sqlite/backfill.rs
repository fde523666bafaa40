//! Builds field indexes of objects that were there before, and removes the entries of those that are gone: in steps between commits.
//!
//! Each step is a transaction that moves the cursor as well, so a kill loses nothing. Writes maintain the entries of an index from its
//! declaration on, so a step may find some of its own there already.

use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::field_index::{self, BUILDING, DROPPING, READY, Stored, attribute, end_of, foreign_of, values_of};
use crate::engine::catalog::{Catalog, FieldIndex};
use crate::engine::facets;
use crate::engine::metrics::Metrics;

/// The least and the most objects or entries of a step.
const ROWS: (i64, i64) = (32, 16384);

/// The work on field indexes; its pace follows the speed of the machine.
#[derive(Debug)]
pub(super) struct Backfill {
    rows: i64,
}

impl Backfill {
    pub(super) fn new() -> Self {
        Self { rows: 128 }
    }

    /// Does a step of about that time; returns whether there is more to do.
    pub(super) fn step(
        &mut self,
        connection: &mut Connection,
        metrics: &Metrics,
        time: Duration,
    ) -> rusqlite::Result<bool> {
        let started = Instant::now();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let indexes = field_index::all(&transaction)?;
        let more = if let Some(gone) = indexes.iter().find(|stored| stored.state == DROPPING) {
            remove(&transaction, &gone.index, self.rows)?;
            true
        } else if let Some(first) = indexes.iter().find(|stored| stored.state == BUILDING) {
            let together: Vec<&Stored> = indexes.iter().filter(|stored| goes_with(first, stored)).collect();
            build(&transaction, &together, self.rows)?;
            true
        } else {
            false
        };
        transaction.commit()?;
        field_index::measure(connection, metrics)?;
        if more {
            let elapsed = started.elapsed();
            if elapsed > time {
                self.rows = (self.rows / 2).max(ROWS.0);
            } else if elapsed < time / 2 {
                self.rows = (self.rows * 2).min(ROWS.1);
            }
        }
        Ok(more)
    }
}

/// Whether two indexes can be built in one pass over the objects.
fn goes_with(first: &Stored, other: &Stored) -> bool {
    let of = |stored: &Stored| (stored.state, stored.index.prefix.clone(), stored.index.api_version.clone());
    of(first) == of(other) && first.cursor == other.cursor
}

/// Adds the entries of the next objects.
fn build(transaction: &Transaction<'_>, together: &[&Stored], limit: i64) -> rusqlite::Result<()> {
    let Some(first) = together.first() else { return Ok(()) };
    let catalog = Catalog::new(together.iter().map(|stored| stored.index.clone()).collect());
    let (mut entries, mut done, mut last) = (Vec::new(), 0, first.cursor.clone());
    let sql = "SELECT key, value FROM current INDEXED BY current_key WHERE key > ?1 AND key < ?2 ORDER BY key LIMIT ?3";
    let mut statement = transaction.prepare_cached(sql)?;
    let mut rows = statement.query(params![first.cursor, end_of(&first.index.prefix), limit])?;
    while let Some(row) = rows.next()? {
        let (key, value) = (row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?);
        for entry in facets(&catalog, key, value).fields {
            let (name, value) = attribute(&entry);
            entries.push((name, value.to_owned(), key.to_vec()));
        }
        done += 1;
        last = key.to_vec();
    }
    // In the order of the index, so that neighbours are written together.
    entries.sort_unstable();
    let mut insert =
        transaction.prepare_cached("INSERT OR IGNORE INTO attribute (name, value, key) VALUES (?1, ?2, ?3)")?;
    for (name, value, key) in &entries {
        insert.execute(params![name, value, key])?;
    }
    let state = if done < limit { READY } else { BUILDING };
    for Stored { index, objects, .. } in together {
        let sql = "UPDATE field_index SET state = ?2, cursor = ?3, objects = ?4 WHERE id = ?1";
        transaction.prepare_cached(sql)?.execute(params![index.id, state, last, objects + done])?;
        if state == READY {
            let FieldIndex { prefix, api_version, field, .. } = index;
            let objects = objects + done;
            tracing::info!(prefix = %prefix.escape_ascii(), api_version, field, objects, "an index of a field is ready");
        }
    }
    Ok(())
}

/// Removes entries of an index, and the index itself when there are none left.
fn remove(transaction: &Transaction<'_>, index: &FieldIndex, limit: i64) -> rusqlite::Result<()> {
    let sql = "DELETE FROM attribute WHERE (name, value, key) IN (SELECT name, value, key FROM attribute WHERE name = ?1 LIMIT ?2)";
    let mut delete = transaction.prepare_cached(sql)?;
    let mut left = limit;
    for name in [values_of(index.id), foreign_of(index.id)] {
        left -= i64::try_from(delete.execute([name, left])?).unwrap_or(left);
    }
    if left > 0 {
        transaction.prepare_cached("DELETE FROM field_index WHERE id = ?1")?.execute([index.id])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::sync::Arc;

    use bytes::Bytes;

    use super::super::{connect_writer, log::Guarded, tables::Tables, write::SqliteWriter};
    use super::*;
    use crate::clock::{Steady, StoreClock, StoreTime};
    use crate::engine::KeyValue;
    use crate::engine::store::{Changes, Footprint, Row, RowChange, Writer, declarations};
    use crate::sql::check;

    struct Database {
        folder: tempfile::TempDir,
        /// `None` for a moment: a database has one writer at a time.
        writer: Option<SqliteWriter>,
    }

    impl Database {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let writer = Some(Self::open(&folder));
            Self { folder, writer }
        }

        fn open(folder: &tempfile::TempDir) -> SqliteWriter {
            let path = folder.path().join("state.db");
            let connection = Guarded::new(connect_writer(&path).unwrap(), &path).unwrap();
            let lock = File::create(folder.path().join("lock")).unwrap();
            let clock = StoreClock::from(StoreTime::default(), Arc::new(Steady::default()));
            SqliteWriter::new(connection, lock, &path, clock, Arc::default()).unwrap()
        }

        fn put(&mut self, key: &str, value: Option<String>) {
            let key: Bytes = key.to_owned().into();
            let footprint = Footprint { keys: [key.clone()].into(), ..Footprint::default() };
            let decide = &mut |before: crate::engine::store::Before| {
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
                let rows = vec![RowChange {
                    key: key.clone(),
                    before: before.rows.get(&key).map(|row| of(&row.kv.value)),
                    after,
                }];
                Ok(Changes { revision, declarations: declarations(&rows), rows, ..Changes::default() })
            };
            self.writer.as_mut().unwrap().commit(&footprint, decide).unwrap();
        }

        /// A step over three objects or entries; says whether there is more to do.
        fn step(&mut self) -> bool {
            let path = self.folder.path().join("state.db");
            Backfill { rows: 3 }
                .step(&mut Connection::open(path).unwrap(), &Metrics::default(), Duration::ZERO)
                .unwrap()
        }

        fn is_sound(&self) {
            let connection = Connection::open(self.folder.path().join("state.db")).unwrap();
            let mut tables = Tables::new(Box::new(connection), Arc::default());
            check::derived::check(&mut tables, &mut |damage| panic!("{}", damage.what)).unwrap();
        }

        fn states(&self) -> Vec<i64> {
            let connection = Connection::open(self.folder.path().join("state.db")).unwrap();
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
        assert_eq!(database.states(), [BUILDING, BUILDING]);
        database.is_sound();
        let mut steps = 0;
        while database.states().contains(&BUILDING) {
            assert!(database.step());
            database.is_sound();
            for number in [steps, 10 + steps, 19 - steps] {
                let (key, value) = shirt(number, "green");
                database.put(&key, value.filter(|_| steps % 3 != 2));
            }
            if steps % 2 == 0 {
                database.writer = None;
                database.writer = Some(Database::open(&database.folder));
            }
            database.is_sound();
            steps += 1;
        }
        assert!((5..9).contains(&steps), "{steps} steps");
        // One field goes, one stays, one is new.
        database.put(DEFINITION, definition(&["size", "weight"]));
        assert_eq!(database.states(), [DROPPING, READY, BUILDING]);
        while database.step() {
            let (key, value) = shirt(4, "blue");
            database.put(&key, value);
            database.is_sound();
        }
        assert_eq!(database.states(), [READY, READY]);
        database.put(DEFINITION, None);
        while database.step() {
            database.is_sound();
        }
        let connection = Connection::open(database.folder.path().join("state.db")).unwrap();
        let left: i64 = connection.query_row("SELECT count(*) FROM attribute", [], |row| row.get(0)).unwrap();
        assert_eq!((left, database.states()), (0, vec![]));
    }
}
