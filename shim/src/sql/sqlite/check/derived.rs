//! What is derived from the live values: directory counts, the index of labels and fields, and the column `hidden`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::super::field_index::{self, DROPPING, READY, Stored, attribute, index_of};
use super::super::hiding;
use super::{Report, shown};
use crate::engine::catalog::{Catalog, FieldEntry, FieldIndex};
use crate::engine::facets;
use crate::engine::store::Facets;
use crate::sql::select::directories::counts;
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
        opaque INTEGER NOT NULL,
        misplaced INTEGER NOT NULL
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
pub(in super::super) fn check(connection: &Connection, report: &mut Report<'_>) -> rusqlite::Result<u64> {
    let mut directories = Directories::new(connection)?;
    let indexes = Indexes::load(connection)?;
    indexes.check(connection, report)?;
    let (mut keys, mut entries, mut hidden) = (0, 0, 0);
    each(connection, &indexes.catalog, |live| {
        keys += 1;
        hidden += u64::from(live.expected_hidden() == Some(true));
        directories.add(connection, &live)?;
        if live.hidden != live.expected_hidden() {
            let (is, expected) = (live.hidden, live.expected_hidden());
            report(derived(format!("key {}: hidden is {is:?} instead of {expected:?}", shown(&live.key))));
        }
        for (name, value) in &live.facets.labels {
            if has_attribute(connection, &live.key, name, value)? {
                entries += 1;
            } else {
                report(derived(format!("key {}: the index misses the label {name}={value}", shown(&live.key))));
            }
        }
        for entry in &live.facets.fields {
            if has_entry(connection, &live.key, entry)? {
                entries += 1;
            } else if indexes.must_have(entry, &live.key) {
                let field = indexes.shown(entry);
                report(derived(format!("key {}: the index misses the field {field}", shown(&live.key))));
            }
        }
        Ok(())
    })?;
    if hidden > 0 && !hiding::is_indexed(connection)? {
        report(derived(format!("{hidden} objects have the skip label, but the indexes for that are missing")));
    }
    // An index that is being removed has some entries left.
    let sql = "SELECT count(*) FROM attribute WHERE name > 0 OR -name / 2 NOT IN (SELECT id FROM field_index WHERE state = 2)";
    let attributes: i64 = connection.query_row(sql, [], |row| row.get(0))?;
    if attributes != entries {
        superfluous(connection, &indexes, report)?;
    }
    directories.compare(connection, report)?;
    Ok(keys)
}

/// Builds all of it anew, in one transaction.
pub(super) fn rebuild(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    recount(&transaction)?;
    transaction.execute_batch("DELETE FROM attribute; DELETE FROM field_index;")?;
    for declared in field_index::declared(&transaction)? {
        field_index::declare(&transaction, &declared)?;
    }
    let catalog = field_index::catalog(&transaction)?;
    each(&transaction, &catalog, |live| store(&transaction, &live))?;
    hiding::adjust(&transaction)?;
    transaction.execute("UPDATE field_index SET state = ?1", [READY])?;
    transaction.commit()
}

/// Counts the keys of all directories anew.
pub(in super::super) fn recount(connection: &Connection) -> rusqlite::Result<()> {
    let mut directories = Directories::new(connection)?;
    each(connection, &Catalog::default(), |live| directories.add(connection, &live))?;
    directories.flush(connection)?;
    connection.execute_batch(
        "DELETE FROM directory;
         INSERT INTO directory (path, live, opaque, misplaced) SELECT path, live, opaque, misplaced FROM temp.expected;
         DROP TABLE temp.expected;",
    )
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
    for (name, value) in live.facets.fields.iter().map(attribute) {
        let sql = "INSERT INTO attribute (name, value, key) VALUES (?1, ?2, ?3)";
        transaction.prepare_cached(sql)?.execute(params![name, value, live.key])?;
    }
    Ok(())
}

/// Calls `look` for every live value, in no order.
fn each(
    connection: &Connection,
    catalog: &Catalog,
    mut look: impl FnMut(Live) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let sql = "SELECT id, key, hidden, value FROM current WHERE id > ?1 ORDER BY id LIMIT ?2";
    let mut last = i64::MIN;
    loop {
        let mut statement = connection.prepare_cached(sql)?;
        let page: Vec<Live> =
            statement.query_map([last, PAGE], |row| live(row, catalog))?.collect::<rusqlite::Result<_>>()?;
        let Some(end) = page.last() else { return Ok(()) };
        last = end.id;
        for live in page {
            look(live)?;
        }
    }
}

fn live(row: &rusqlite::Row<'_>, catalog: &Catalog) -> rusqlite::Result<Live> {
    let facets = facets(catalog, row.get_ref(1)?.as_blob()?, row.get_ref(3)?.as_blob()?);
    Ok(Live { id: row.get(0)?, key: row.get(1)?, hidden: row.get(2)?, facets })
}

fn has_attribute(connection: &Connection, key: &[u8], name: &str, value: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM attribute
        WHERE name = (SELECT id FROM attribute_name WHERE name = ?1) AND value = ?2 AND key = ?3)";
    connection.prepare_cached(sql)?.query_row(params![name, value, key], |row| row.get(0))
}

fn has_entry(connection: &Connection, key: &[u8], entry: &FieldEntry) -> rusqlite::Result<bool> {
    let (name, value) = attribute(entry);
    let sql = "SELECT EXISTS (SELECT 1 FROM attribute WHERE name = ?1 AND value = ?2 AND key = ?3)";
    connection.prepare_cached(sql)?.query_row(params![name, value, key], |row| row.get(0))
}

/// Entries of the index that no live value has.
fn superfluous(connection: &Connection, indexes: &Indexes, report: &mut Report<'_>) -> rusqlite::Result<()> {
    let sql = "SELECT coalesce(attribute_name.name, ''), attribute.value, attribute.key, current.value, attribute.name
        FROM attribute LEFT JOIN attribute_name ON attribute_name.id = attribute.name
        LEFT JOIN current ON current.key = attribute.key";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (name, value): (Box<str>, Box<str>) = (row.get(0)?, row.get(1)?);
        let (key, number): (Vec<u8>, i64) = (row.get(2)?, row.get(4)?);
        let stored = row.get_ref(3)?.as_blob_or_null()?;
        let facets = stored.map(|stored| facets(&indexes.catalog, &key, stored)).unwrap_or_default();
        if number < 0 {
            let mut of_object = facets.fields.iter().filter(|entry| attribute(entry) == (number, &value));
            if !indexes.is_dropping(number) && of_object.next().is_none() {
                let what = format!("it has not the value {value:?} of the entry {number} in an index of a field");
                report(derived(format!("key {}: {what}", shown(&key))));
            }
            continue;
        }
        let label = (name, value);
        if !facets.labels.contains(&label) {
            let (name, value) = label;
            report(derived(format!("key {}: it has not the label {name}={value} of the index", shown(&key))));
        }
    }
    Ok(())
}

/// The field indexes of the file.
struct Indexes {
    stored: Vec<Stored>,
    catalog: Arc<Catalog>,
}

impl Indexes {
    fn load(connection: &Connection) -> rusqlite::Result<Self> {
        Ok(Self { stored: field_index::all(connection)?, catalog: field_index::catalog(connection)? })
    }

    /// Whether they are those that the definitions declare.
    fn check(&self, connection: &Connection, report: &mut Report<'_>) -> rusqlite::Result<()> {
        let declared = field_index::declared(connection)?.into_iter().flat_map(|declared| {
            let fields = declared.fields.into_iter();
            fields.map(move |field| (declared.prefix.clone(), declared.api_version.clone(), field))
        });
        let declared: BTreeSet<_> = declared.collect();
        let live = self.stored.iter().filter(|stored| stored.state != DROPPING).map(|stored| {
            let FieldIndex { prefix, api_version, field, .. } = &stored.index;
            (prefix.clone(), api_version.clone(), field.clone())
        });
        let live: BTreeSet<_> = live.collect();
        for (what, them) in
            [("is missing", declared.difference(&live)), ("is not declared", live.difference(&declared))]
        {
            for (prefix, api_version, field) in them {
                report(derived(format!("the index of {field} in {api_version} below {} {what}", shown(prefix))));
            }
        }
        Ok(())
    }

    fn of(&self, index: i64) -> Option<&Stored> {
        self.stored.iter().find(|stored| stored.index.id == index)
    }

    /// Whether the entry of this key may not be missing.
    fn must_have(&self, entry: &FieldEntry, key: &[u8]) -> bool {
        self.of(entry.index).is_some_and(|stored| stored.state == READY || key <= &stored.cursor[..])
    }

    fn is_dropping(&self, name: i64) -> bool {
        self.of(index_of(name)).is_some_and(|stored| stored.state == DROPPING)
    }

    fn shown(&self, entry: &FieldEntry) -> String {
        let field = self.of(entry.index).map_or("", |stored| &stored.index.field);
        entry.value.as_ref().map_or_else(|| format!("{field}, which is foreign"), |value| format!("{field}={value}"))
    }
}

/// Counts keys by directory, in a temporary table.
struct Directories {
    counted: BTreeMap<Vec<u8>, [i64; 3]>,
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
            self.counted.insert(path.to_vec(), [0; 3]);
        }
        if let Some(counted) = self.counted.get_mut(path) {
            let more = counts(Some(&live.facets));
            *counted = std::array::from_fn(|at| counted[at] + more[at]);
        }
        Ok(())
    }

    fn flush(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let sql = "INSERT INTO temp.expected (path, live, opaque, misplaced) VALUES (?1, ?2, ?3, ?4)
            ON CONFLICT (path) DO UPDATE
            SET live = live + excluded.live, opaque = opaque + excluded.opaque, misplaced = misplaced + excluded.misplaced";
        let mut statement = connection.prepare_cached(sql)?;
        for (path, [live, opaque, misplaced]) in std::mem::take(&mut self.counted) {
            statement.execute(params![path, live, opaque, misplaced])?;
        }
        Ok(())
    }

    fn compare(mut self, connection: &Connection, report: &mut Report<'_>) -> rusqlite::Result<()> {
        self.flush(connection)?;
        let sql = "SELECT coalesce(e.path, d.path), coalesce(d.live, 0), coalesce(d.opaque, 0), coalesce(e.live, 0), coalesce(e.opaque, 0),
            coalesce(d.misplaced, 0), coalesce(e.misplaced, 0)
            FROM temp.expected AS e FULL JOIN directory AS d ON d.path = e.path
            WHERE d.live IS NOT e.live OR d.opaque IS NOT e.opaque OR d.misplaced IS NOT e.misplaced";
        let mut statement = connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let path: Vec<u8> = row.get(0)?;
            let count = |column| row.get::<_, i64>(column);
            report(derived(format!(
                "directory {}: counts {} keys, {} of them unreadable, {} misplaced, instead of {}, {} and {}",
                shown(&path),
                count(1)?,
                count(2)?,
                count(5)?,
                count(3)?,
                count(4)?,
                count(6)?,
            )));
        }
        Ok(())
    }
}
