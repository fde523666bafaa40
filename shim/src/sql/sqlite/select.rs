//! Plans a range with a selector onto the index.
//!
//! The index may only be used when it knows every object of the range: one whose value could not be read has no entry in it, and
//! must be returned whatever the selector says. The directories count those.

use rusqlite::{Connection, OptionalExtension, Rows, ToSql};

use super::row::Range;
use crate::contract::SKIP_METADATA_CACHING_LABEL;
use crate::engine::metrics::Metrics;
use crate::engine::{KeyRange, KeyValue, Projection, RangeQuery, Revision};
use crate::selector::{Operator, Requirement, Selection};
use crate::sql::directory;

/// Up to how many entries of the index are counted to compare two requirements.
const COUNTED: i64 = 1000;

/// Where the candidates come from.
#[derive(Debug, PartialEq, Eq)]
enum Source<'a> {
    /// All keys of the range.
    Scan,
    /// Objects without the skip label.
    Visible,
    /// Objects that have the label, with one of the values if there are any given.
    Label { name: i64, values: &'a [String] },
    /// No object can match.
    Nothing,
}

/// The live keys of the query's range, last changed at or before `past` if given, in order, at most `wanted`.
pub(super) fn current(
    connection: &Connection,
    query: &RangeQuery,
    past: Option<Revision>,
    wanted: usize,
    metrics: &Metrics,
) -> rusqlite::Result<Vec<KeyValue>> {
    let source = match &query.selection {
        Some(selection) => plan(connection, &query.range, selection)?,
        None => Source::Scan,
    };
    if source != Source::Scan {
        metrics.index_reads.inc();
    }
    let bounds = Range::of(&query.range);
    let until = past.unwrap_or(Revision::MAX);
    let (name, values): (i64, &[String]) = match &source {
        Source::Nothing => return Ok(Vec::new()),
        Source::Label { name, values } => (*name, values),
        Source::Scan | Source::Visible => (0, &[]),
    };
    let sql = statement(&source, &bounds, query);
    let mut more: Vec<&dyn ToSql> = vec![&until];
    if matches!(source, Source::Label { .. }) {
        more.push(&name);
        more.extend(values.iter().map(|value| value as &dyn ToSql));
    }
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(bounds.params(&more).as_slice())?;
    take(&mut rows, query, wanted, metrics)
}

fn statement(source: &Source<'_>, bounds: &Range<'_>, query: &RangeQuery) -> String {
    // A value that nobody looks at need not be read from its pages.
    let value = if query.projection == Projection::Full || query.selection.is_some() { "c.value" } else { "x''" };
    let columns = format!("c.key, c.create_revision, c.mod_revision, c.version, c.lease, {value}");
    match source {
        Source::Label { values, .. } => {
            let marks: Vec<String> = (0..values.len()).map(|at| format!("?{}", at + 5)).collect();
            let of_value =
                if values.is_empty() { String::new() } else { format!("AND a.value IN ({})", marks.join(", ")) };
            format!(
                "SELECT {columns} FROM attribute a CROSS JOIN current c INDEXED BY current_key ON c.key = a.key
                 WHERE a.name = ?4 {of_value} AND {} AND c.mod_revision <= ?3 ORDER BY a.key",
                bounds.condition("a.key")
            )
        }
        source => {
            let (index, visible) = match source {
                Source::Visible => ("current_visible", "AND c.hidden = 0"),
                _ => ("current_key", ""),
            };
            format!(
                "SELECT {columns} FROM current c INDEXED BY {index}
                 WHERE {} AND c.mod_revision <= ?3 {visible} ORDER BY c.key",
                bounds.condition("c.key")
            )
        }
    }
}

/// Takes rows until `wanted` of them may match the query's selection.
pub(super) fn take(
    rows: &mut Rows<'_>,
    query: &RangeQuery,
    wanted: usize,
    metrics: &Metrics,
) -> rusqlite::Result<Vec<KeyValue>> {
    let mut kvs = Vec::new();
    let mut read = 0;
    while kvs.len() < wanted {
        let Some(row) = rows.next()? else { break };
        read += 1;
        let value = row.get_ref(5)?.as_blob()?;
        if query.selection.as_ref().is_none_or(|selection| selection.may_match(value)) {
            kvs.push(KeyValue {
                key: bytes::Bytes::copy_from_slice(row.get_ref(0)?.as_blob()?),
                create_revision: row.get(1)?,
                mod_revision: row.get(2)?,
                version: row.get(3)?,
                lease: row.get(4)?,
                value: bytes::Bytes::copy_from_slice(value),
            });
        }
    }
    metrics.rows_read.inc_by(read);
    Ok(kvs)
}

/// Picks the requirement that leaves the fewest candidates.
fn plan<'a>(connection: &Connection, range: &KeyRange, selection: &'a Selection) -> rusqlite::Result<Source<'a>> {
    let candidates: Vec<&Requirement> = selection.label_requirements().iter().filter(|one| is_indexed(one)).collect();
    if candidates.is_empty() || has_opaque(connection, range)? {
        return Ok(Source::Scan);
    }
    let mut best = (i64::MAX, Source::Scan);
    for requirement in &candidates {
        let source = source(connection, requirement)?;
        let cost = match &source {
            Source::Nothing => return Ok(source),
            _ if candidates.len() == 1 => return Ok(source),
            source => size(connection, range, source)?,
        };
        if cost < best.0 {
            best = (cost, source);
        }
    }
    Ok(best.1)
}

fn is_indexed(requirement: &Requirement) -> bool {
    match &requirement.operator {
        Operator::In(_) | Operator::Exists | Operator::GreaterThan(_) | Operator::LessThan(_) => true,
        Operator::DoesNotExist => requirement.key == SKIP_METADATA_CACHING_LABEL,
        Operator::NotIn(_) => false,
    }
}

fn source<'a>(connection: &Connection, requirement: &'a Requirement) -> rusqlite::Result<Source<'a>> {
    if requirement.operator == Operator::DoesNotExist {
        return Ok(Source::Visible);
    }
    let sql = "SELECT id FROM attribute_name WHERE name = ?1";
    let name = connection.prepare_cached(sql)?.query_row([&requirement.key], |row| row.get(0)).optional()?;
    let values: &[String] = if let Operator::In(values) = &requirement.operator { values } else { &[] };
    Ok(name.map_or(Source::Nothing, |name| Source::Label { name, values }))
}

/// How many candidates the source has in the range, counted up to [`COUNTED`].
fn size(connection: &Connection, range: &KeyRange, source: &Source<'_>) -> rusqlite::Result<i64> {
    let bounds = Range::of(range);
    let (name, values): (i64, &[String]) = match source {
        Source::Label { name, values } => (*name, values),
        _ => (0, &[]),
    };
    let from = match source {
        Source::Label { values, .. } => {
            let marks: Vec<String> = (0..values.len()).map(|at| format!("?{}", at + 5)).collect();
            let of_value =
                if values.is_empty() { String::new() } else { format!("AND value IN ({})", marks.join(", ")) };
            format!("attribute WHERE name = ?4 {of_value} AND {}", bounds.condition("key"))
        }
        _ => format!("current INDEXED BY current_visible WHERE hidden = 0 AND ?4 = 0 AND {}", bounds.condition("key")),
    };
    let sql = format!("SELECT count(*) FROM (SELECT 1 FROM {from} LIMIT ?3)");
    let mut more: Vec<&dyn ToSql> = vec![&COUNTED, &name];
    more.extend(values.iter().map(|value| value as &dyn ToSql));
    connection.prepare_cached(&sql)?.query_row(bounds.params(&more).as_slice(), |row| row.get(0))
}

/// Whether a directory that the range touches holds an object that could not be read.
fn has_opaque(connection: &Connection, range: &KeyRange) -> rusqlite::Result<bool> {
    let bounds = Range::of(range);
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM directory INDEXED BY directory_opaque WHERE opaque > 0 AND {})",
        bounds.condition("path")
    );
    let within: bool = connection.prepare_cached(&sql)?.query_row(bounds.params(&[]).as_slice(), |row| row.get(0))?;
    if within {
        return Ok(true);
    }
    // A range that starts inside a directory has keys of that directory, and of those around it.
    let mut around = directory(&range.start);
    let mut one =
        connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM directory WHERE path = ?1 AND opaque > 0)")?;
    loop {
        if one.query_row([around], |row| row.get(0))? {
            return Ok(true);
        }
        let Some(inner) = around.len().checked_sub(1) else { return Ok(false) };
        around = directory(&around[..inner]);
    }
}
