//! What the planner asks of SQLite.

use std::ops::Deref;

use rusqlite::{Connection, OptionalExtension, ToSql, params};

use super::field_index::{INDEX, stored};
use super::row::Range;
use super::tables::Tables;
use super::{field_index, hiding};
use crate::engine::KeyRange;
use crate::sql::codes::DROPPING;
use crate::sql::failure::Result;
use crate::sql::select::directories::end_of;
use crate::sql::session::{Field, Odd, Postings, Probe, Source, StoredIndex};

impl<C: Deref<Target = Connection>> Probe for Tables<C> {
    fn odd(&mut self, range: &KeyRange, besides: &[&[u8]], odd: Odd) -> Result<i64> {
        let column = match odd {
            Odd::Opaque => "opaque",
            Odd::Misplaced => "misplaced",
        };
        let bounds = Range::of(range);
        let sql = format!(
            "SELECT coalesce(sum({column}), 0) FROM directory INDEXED BY directory_{column} WHERE {column} > 0 AND {}",
            bounds.condition("path")
        );
        let mut within = self.connection.prepare_cached(&sql)?;
        let mut counted: i64 = within.query_row(bounds.params(&[]).as_slice(), |row| row.get(0))?;
        let sql = format!("SELECT coalesce(sum({column}), 0) FROM directory WHERE path = ?1");
        let mut one = self.connection.prepare_cached(&sql)?;
        for path in besides {
            counted += one.query_row([path], |row| row.get::<_, i64>(0))?;
        }
        Ok(counted)
    }

    fn directories(&mut self, range: &KeyRange, limit: usize) -> Result<Vec<Vec<u8>>> {
        let bounds = Range::of(range);
        let sql = format!("SELECT path FROM directory WHERE {} ORDER BY path LIMIT ?3", bounds.condition("path"));
        let mut statement = self.connection.prepare_cached(&sql)?;
        let paths = statement.query_map(bounds.params(&[&as_limit(limit)]).as_slice(), |row| row.get(0))?;
        Ok(paths.collect::<rusqlite::Result<_>>()?)
    }

    fn live(&mut self, prefix: &[u8]) -> Result<i64> {
        let sql = "SELECT coalesce(sum(live), 0) FROM directory WHERE path >= ?1 AND path < ?2";
        Ok(self.connection.prepare_cached(sql)?.query_row(params![prefix, end_of(prefix)], |row| row.get(0))?)
    }

    fn label(&mut self, name: &str) -> Result<Option<i64>> {
        let sql = "SELECT id FROM attribute_name WHERE name = ?1";
        Ok(self.connection.prepare_cached(sql)?.query_row([name], |row| row.get(0)).optional()?)
    }

    fn counts(&mut self, range: &KeyRange, sources: &[(&Source, i64)]) -> Result<Vec<i64>> {
        let counted = sources.iter().map(|(source, limit)| count(&self.connection, range, source, *limit));
        Ok(counted.collect::<rusqlite::Result<_>>()?)
    }

    fn values(&mut self, name: i64, limit: usize) -> Result<Option<Vec<String>>> {
        let mut values: Vec<String> = Vec::new();
        let mut first =
            self.connection.prepare_cached("SELECT value FROM attribute WHERE name = ?1 ORDER BY value LIMIT 1")?;
        let mut next = self
            .connection
            .prepare_cached("SELECT value FROM attribute WHERE name = ?1 AND value > ?2 ORDER BY value LIMIT 1")?;
        loop {
            let value = match values.last() {
                None => first.query_row([name], |row| row.get(0)).optional()?,
                Some(last) => next.query_row(params![name, last], |row| row.get(0)).optional()?,
            };
            let Some(value) = value else { return Ok(Some(values)) };
            if values.len() == limit {
                return Ok(None);
            }
            values.push(value);
        }
    }

    fn entries(&mut self, name: i64, limit: usize, take: &mut dyn FnMut(&str, &[u8])) -> Result<bool> {
        let mut statement =
            self.connection.prepare_cached("SELECT value, key FROM attribute WHERE name = ?1 LIMIT ?2")?;
        let mut rows = statement.query([name, as_limit(limit.saturating_add(1))])?;
        let mut taken = 0;
        while let Some(row) = rows.next()? {
            if taken == limit {
                return Ok(false);
            }
            taken += 1;
            let (value, key) = (row.get_ref(0)?.as_str(), row.get_ref(1)?.as_blob());
            take(value.map_err(rusqlite::Error::from)?, key.map_err(rusqlite::Error::from)?);
        }
        Ok(true)
    }

    fn entries_count(&mut self, name: i64) -> Result<i64> {
        let sql = "SELECT count(*) FROM attribute WHERE name = ?1";
        Ok(self.connection.prepare_cached(sql)?.query_row([name], |row| row.get(0))?)
    }

    fn index(&mut self, prefixes: &[&[u8]], Field { api_version, field }: Field<'_>) -> Result<Option<StoredIndex>> {
        let sql = format!(
            "SELECT {INDEX} FROM field_index WHERE prefix = ?1 AND api_version = ?2 AND field = ?3 AND state < {DROPPING}"
        );
        let mut one = self.connection.prepare_cached(&sql)?;
        for prefix in prefixes {
            if let Some(found) = one.query_row(params![prefix, api_version, field], stored).optional()? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn indexes(&mut self) -> Result<Vec<StoredIndex>> {
        Ok(field_index::all(&self.connection)?)
    }

    fn tells_visible(&mut self) -> Result<bool> {
        Ok(hiding::is_indexed(&self.connection)?)
    }
}

/// How many keys the source has in the range, counted up to a limit.
fn count(connection: &Connection, range: &KeyRange, source: &Source, limit: i64) -> rusqlite::Result<i64> {
    let of_range = |sql: &dyn Fn(&Range<'_>) -> String, limit: i64, more: &[&dyn ToSql]| -> rusqlite::Result<i64> {
        let bounds = Range::of(range);
        let sql = format!("SELECT count(*) FROM (SELECT 1 FROM {} LIMIT ?3)", sql(&bounds));
        let params = [&[&limit as &dyn ToSql], more].concat();
        connection.prepare_cached(&sql)?.query_row(bounds.params(&params).as_slice(), |row| row.get(0))
    };
    match source {
        Source::Scan => {
            of_range(&|bounds| format!("current INDEXED BY current_key WHERE {}", bounds.condition("key")), limit, &[])
        }
        Source::Visible => {
            let sql = |bounds: &Range<'_>| {
                format!("current INDEXED BY current_visible WHERE hidden = 0 AND {}", bounds.condition("key"))
            };
            of_range(&sql, limit, &[])
        }
        Source::Keys(keys) => Ok(limit.min(as_limit(keys.len()))),
        Source::Postings(postings) => {
            let mut counted = 0;
            for Postings { name, value } in postings {
                if counted >= limit {
                    break;
                }
                let sql = |bounds: &Range<'_>| {
                    format!("attribute WHERE name = ?4 AND value = ?5 AND {}", bounds.condition("key"))
                };
                counted += of_range(&sql, limit - counted, &[name, value])?;
            }
            Ok(counted)
        }
    }
}

/// A number for `LIMIT`.
fn as_limit(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
