//! What is derived from the live values: directory counts, attributes and the column `hidden`.

use std::collections::BTreeMap;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::{Report, shown};
use crate::engine::facets;
use crate::engine::store::Facets;
use crate::sql::{Damage, directory};

/// How many rows are read at a time, so that others may be changed between.
const PAGE: i64 = 1000;
/// How many directories are counted in memory.
const DIRECTORIES: usize = 10_000;

/// What the live values should make of the directories.
const EXPECTED: &str = "
    DROP TABLE IF EXISTS temp.expected;
    CREATE TEMP TABLE expected (
        path BLOB PRIMARY KEY,
        live INTEGER NOT NULL,
        opaque INTEGER NOT NULL
    ) WITHOUT ROWID;";

/// A live value.
struct Live {
    id: i64,
    key: Vec<u8>,
    hidden: Option<bool>,
    facets: Facets,
}

impl Live {
    fn expected_hidden(&self) -> Option<bool> {
        (!self.facets.opaque).then_some(self.facets.hidden)
    }
}

fn derived(what: String) -> Damage {
    Damage { what, derived: true }
}

/// Compares all of it with the live values; returns how many there are.
pub(super) fn check(connection: &Connection, report: &mut Report<'_>) -> rusqlite::Result<u64> {
    let mut directories = Directories::new(connection)?;
    let (mut keys, mut labels) = (0, 0);
    each(connection, |live| {
        keys += 1;
        directories.add(connection, &live)?;
        if live.hidden != live.expected_hidden() {
            let (is, expected) = (live.hidden, live.expected_hidden());
            report(derived(format!("key {}: hidden is {is:?} instead of {expected:?}", shown(&live.key))));
        }
        for (name, value) in &live.facets.labels {
            if has_attribute(connection, &live.key, name, value)? {
                labels += 1;
            } else {
                report(derived(format!("key {}: the index misses the label {name}={value}", shown(&live.key))));
            }
        }
        Ok(())
    })?;
    let attributes: i64 = connection.query_row("SELECT count(*) FROM attribute", [], |row| row.get(0))?;
    if attributes != labels {
        superfluous(connection, report)?;
    }
    directories.compare(connection, report)?;
    Ok(keys)
}

/// Builds all of it anew, in one transaction.
pub(super) fn rebuild(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch("DELETE FROM attribute; DELETE FROM directory;")?;
    let mut directories = Directories::new(&transaction)?;
    each(&transaction, |live| {
        directories.add(&transaction, &live)?;
        store(&transaction, &live)
    })?;
    directories.flush(&transaction)?;
    transaction.execute_batch("INSERT INTO directory SELECT path, live, opaque FROM temp.expected")?;
    transaction.commit()
}

fn store(transaction: &Transaction<'_>, live: &Live) -> rusqlite::Result<()> {
    if live.hidden != live.expected_hidden() {
        let sql = "UPDATE current SET hidden = ?2 WHERE id = ?1";
        transaction.prepare_cached(sql)?.execute(params![live.id, live.expected_hidden()])?;
    }
    for (name, value) in &live.facets.labels {
        let sql = "INSERT INTO attribute_name (name) VALUES (?1) ON CONFLICT (name) DO NOTHING";
        transaction.prepare_cached(sql)?.execute([name])?;
        let sql = "INSERT INTO attribute (name, value, key) SELECT id, ?2, ?3 FROM attribute_name WHERE name = ?1";
        transaction.prepare_cached(sql)?.execute(params![name, value, live.key])?;
    }
    Ok(())
}

/// Calls `look` for every live value, in no order.
fn each(connection: &Connection, mut look: impl FnMut(Live) -> rusqlite::Result<()>) -> rusqlite::Result<()> {
    let sql = "SELECT id, key, hidden, value FROM current WHERE id > ?1 ORDER BY id LIMIT ?2";
    let mut last = i64::MIN;
    loop {
        let mut statement = connection.prepare_cached(sql)?;
        let page: Vec<Live> = statement.query_map([last, PAGE], live)?.collect::<rusqlite::Result<_>>()?;
        let Some(end) = page.last() else { return Ok(()) };
        last = end.id;
        for live in page {
            look(live)?;
        }
    }
}

fn live(row: &rusqlite::Row<'_>) -> rusqlite::Result<Live> {
    let facets = facets(row.get_ref(3)?.as_blob()?);
    Ok(Live { id: row.get(0)?, key: row.get(1)?, hidden: row.get(2)?, facets })
}

fn has_attribute(connection: &Connection, key: &[u8], name: &str, value: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM attribute
        WHERE name = (SELECT id FROM attribute_name WHERE name = ?1) AND value = ?2 AND key = ?3)";
    connection.prepare_cached(sql)?.query_row(params![name, value, key], |row| row.get(0))
}

/// Entries of the index that no live value has.
fn superfluous(connection: &Connection, report: &mut Report<'_>) -> rusqlite::Result<()> {
    let sql = "SELECT coalesce(attribute_name.name, ''), attribute.value, attribute.key, current.value
        FROM attribute LEFT JOIN attribute_name ON attribute_name.id = attribute.name
        LEFT JOIN current ON current.key = attribute.key";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (name, value): (Box<str>, Box<str>) = (row.get(0)?, row.get(1)?);
        let label = (name, value);
        let stored = row.get_ref(3)?.as_blob_or_null()?;
        if !stored.is_some_and(|stored| facets(stored).labels.contains(&label)) {
            let key: Vec<u8> = row.get(2)?;
            let (name, value) = label;
            report(derived(format!("key {}: it has not the label {name}={value} of the index", shown(&key))));
        }
    }
    Ok(())
}

/// Counts keys by directory, in a temporary table.
struct Directories {
    counted: BTreeMap<Vec<u8>, (i64, i64)>,
}

impl Directories {
    fn new(connection: &Connection) -> rusqlite::Result<Self> {
        connection.execute_batch(EXPECTED)?;
        Ok(Self { counted: BTreeMap::new() })
    }

    fn add(&mut self, connection: &Connection, live: &Live) -> rusqlite::Result<()> {
        let path = directory(&live.key);
        if !self.counted.contains_key(path) {
            if self.counted.len() >= DIRECTORIES {
                self.flush(connection)?;
            }
            self.counted.insert(path.to_vec(), (0, 0));
        }
        if let Some((keys, opaque)) = self.counted.get_mut(path) {
            *keys += 1;
            *opaque += i64::from(live.facets.opaque);
        }
        Ok(())
    }

    fn flush(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let sql = "INSERT INTO temp.expected (path, live, opaque) VALUES (?1, ?2, ?3)
            ON CONFLICT (path) DO UPDATE SET live = live + excluded.live, opaque = opaque + excluded.opaque";
        let mut statement = connection.prepare_cached(sql)?;
        for (path, (live, opaque)) in std::mem::take(&mut self.counted) {
            statement.execute(params![path, live, opaque])?;
        }
        Ok(())
    }

    fn compare(mut self, connection: &Connection, report: &mut Report<'_>) -> rusqlite::Result<()> {
        self.flush(connection)?;
        let sql = "SELECT coalesce(e.path, d.path), coalesce(d.live, 0), coalesce(d.opaque, 0), coalesce(e.live, 0), coalesce(e.opaque, 0)
            FROM temp.expected AS e FULL JOIN directory AS d ON d.path = e.path
            WHERE d.live IS NOT e.live OR d.opaque IS NOT e.opaque";
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let path: Vec<u8> = row.get(0)?;
            let [live, opaque, keys, unreadable] = [1, 2, 3, 4].map(|column| row.get::<_, i64>(column));
            report(derived(format!(
                "directory {}: counts {} keys, {} of them unreadable, instead of {} and {}",
                shown(&path),
                live?,
                opaque?,
                keys?,
                unreadable?
            )));
        }
        Ok(())
    }
}
