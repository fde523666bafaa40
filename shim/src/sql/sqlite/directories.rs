//! What the counts of directories say of a range.

use rusqlite::{Connection, params};

use super::field_index::end_of;
use super::row::Range;
use crate::engine::store::Facets;
use crate::engine::{KeyRange, RangeEnd};
use crate::sql::directory;

/// Keys that a directory counts apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Odd {
    /// Their values are no readable objects: the index does not know them.
    Opaque,
    /// Their objects have another name or namespace than the key says.
    Misplaced,
}

impl Odd {
    fn column(self) -> &'static str {
        match self {
            Self::Opaque => "opaque",
            Self::Misplaced => "misplaced",
        }
    }
}

/// What a key adds to the counts of its directory: live keys, opaque ones, misplaced ones.
pub(super) fn counts(facets: Option<&Facets>) -> [i64; 3] {
    facets.map_or([0; 3], |facets| [1, i64::from(facets.opaque), i64::from(facets.misplaced)])
}

/// Whether all keys of the range begin with this directory.
pub(super) fn is_within(range: &KeyRange, directory: &[u8]) -> bool {
    range.start.starts_with(directory)
        && match &range.end {
            RangeEnd::Single => true,
            RangeEnd::Before(end) => directory.is_empty() || **end <= *end_of(directory),
            RangeEnd::Unbounded => directory.is_empty(),
        }
}

/// The directories that hold keys of the range and begin before it: that of its start, and those around it as far as the range goes on in
/// them. The innermost is first.
pub(super) fn around(range: &KeyRange) -> impl Iterator<Item = &[u8]> {
    let first = directory(&range.start);
    std::iter::successors(Some(first), move |inner| outer(range, inner)).filter(|path| **path != *range.start)
}

/// The directory around one, if the range goes on in it.
fn outer<'a>(range: &KeyRange, inner: &'a [u8]) -> Option<&'a [u8]> {
    if is_within(range, inner) { None } else { Some(directory(&inner[..inner.len().checked_sub(1)?])) }
}

/// How many keys of that sort the directories count that the range touches.
pub(super) fn count(connection: &Connection, range: &KeyRange, odd: Odd) -> rusqlite::Result<i64> {
    let (bounds, column) = (Range::of(range), odd.column());
    let sql = format!(
        "SELECT coalesce(sum({column}), 0) FROM directory INDEXED BY directory_{column} WHERE {column} > 0 AND {}",
        bounds.condition("path")
    );
    let mut counted: i64 =
        connection.prepare_cached(&sql)?.query_row(bounds.params(&[]).as_slice(), |row| row.get(0))?;
    let sql = format!("SELECT coalesce(sum({column}), 0) FROM directory WHERE path = ?1");
    let mut one = connection.prepare_cached(&sql)?;
    for path in around(range) {
        counted += one.query_row([path], |row| row.get::<_, i64>(0))?;
    }
    Ok(counted)
}

/// The directories that may hold keys of the range, in no order; at most `limit` of them and those around.
pub(super) fn paths(connection: &Connection, range: &KeyRange, limit: i64) -> rusqlite::Result<Vec<Vec<u8>>> {
    let mut paths: Vec<Vec<u8>> = around(range).map(<[u8]>::to_vec).collect();
    let bounds = Range::of(range);
    let sql = format!("SELECT path FROM directory WHERE {} ORDER BY path LIMIT ?3", bounds.condition("path"));
    let mut statement = connection.prepare_cached(&sql)?;
    let within = statement.query_map(bounds.params(&[&limit]).as_slice(), |row| row.get(0))?;
    for path in within {
        paths.push(path?);
    }
    Ok(paths)
}

/// How many live keys the directories of a prefix have.
pub(super) fn live(connection: &Connection, prefix: &[u8]) -> rusqlite::Result<i64> {
    let sql = "SELECT coalesce(sum(live), 0) FROM directory WHERE path >= ?1 AND path < ?2";
    connection.prepare_cached(sql)?.query_row(params![prefix, end_of(prefix)], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directories_around_a_range_are_those_with_keys_of_it() {
        let range = |start: &'static str, end: &'static str| KeyRange::from_wire(start.into(), end.into());
        let table: [(KeyRange, &[&str]); 6] = [
            // A prefix has none around it: what lies there begins otherwise.
            (range("/r/g/p/", "/r/g/p0"), &[]),
            (range("/r/g/p/s", "/r/g/p0"), &["/r/g/p/"]),
            (range("/r/g/p/ns/s", "/r/g/p0"), &["/r/g/p/ns/", "/r/g/p/"]),
            (range("/r/g/p/ns/s", "/r/g/p/ns0"), &["/r/g/p/ns/"]),
            (range("/r/g/p/s", ""), &["/r/g/p/"]),
            (range("a", "z"), &[""]),
        ];
        for (range, expected) in table {
            let around: Vec<_> = around(&range).map(|path| std::str::from_utf8(path).unwrap()).collect();
            assert_eq!(around, expected, "{range:?}");
        }
    }
}
