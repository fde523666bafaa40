//! What the planner of reads with a selector asks.

use tokio_postgres::Row;

use super::link::{Ask, get};
use super::row::{Bounds, below, blob, blobs, bytes, int, ints, limit, text};
use super::session::Session;
use crate::engine::catalog::FieldIndex;
use crate::engine::{Error, KeyRange};
use crate::sql::codes::{self, DROPPING};
use crate::sql::failure::{Failure, Result};
use crate::sql::session::{Field, Odd, Probe, Source, StoredIndex};

/// The columns of [`stored`].
const INDEX: &str = "f.id, f.prefix, f.api_version, f.field, f.state, f.cursor, f.objects";

impl Probe for Session {
    fn odd(&mut self, range: &KeyRange, besides: &[&[u8]], odd: Odd) -> Result<i64> {
        let bounds = Bounds::of(range);
        let column = match odd {
            Odd::Opaque => "opaque",
            Odd::Misplaced => "misplaced",
        };
        let sql = format!(
            "SELECT (SELECT coalesce(sum({column}), 0) FROM directory WHERE {column} > 0 AND path >= $1 AND path <
                $2)::bigint
             + (SELECT coalesce(sum({column}), 0) FROM directory WHERE path = ANY($3))::bigint"
        );
        self.number(Ask::new("odd keys", &sql, vec![blob(&bounds.start), blob(&bounds.end), blobs(&besides)]))
    }

    fn directories(&mut self, range: &KeyRange, most: usize) -> Result<Vec<Vec<u8>>> {
        let (bounds, most) = (Bounds::of(range), limit(most));
        let sql = "SELECT path FROM directory WHERE path >= $1 AND path < $2 ORDER BY path LIMIT $3";
        let params = vec![blob(&bounds.start), blob(&bounds.end), int(&most)];
        self.ask(Ask::new("directories", sql, params))?.iter().map(|found| get(found, 0)).collect()
    }

    fn live(&mut self, prefix: &[u8]) -> Result<i64> {
        let bounds = below(prefix);
        let sql = "SELECT coalesce(sum(live), 0)::bigint FROM directory WHERE path >= $1 AND path < $2";
        self.number(Ask::new("live keys", sql, vec![blob(&bounds.start), blob(&bounds.end)]))
    }

    fn label(&mut self, name: &str) -> Result<Option<i64>> {
        if let Some(id) = self.names.get(name) {
            return Ok(Some(*id));
        }
        let bytes = name.as_bytes();
        let sql = "SELECT id FROM attribute_name WHERE name = $1";
        let found = self.ask(Ask::new("label", sql, vec![blob(&bytes)]))?;
        let id = found.first().map(|found| get(found, 0)).transpose()?;
        if let Some(id) = id {
            self.names.insert(name.into(), id);
        }
        Ok(id)
    }

    fn counts(&mut self, range: &KeyRange, sources: &[(&Source, i64)]) -> Result<Vec<i64>> {
        let bounds = Bounds::of(range);
        let lists: Vec<(Vec<i64>, Vec<&[u8]>)> = sources.iter().map(|(source, _)| columns_of(source)).collect();
        let mut asks = Vec::new();
        for ((source, most), (names, values)) in sources.iter().zip(&lists) {
            let mut params = vec![blob(&bounds.start), blob(&bounds.end), int(most)];
            let sql = match source {
                Source::Keys(_) => continue,
                Source::Scan => "SELECT count(*) FROM (SELECT 1 FROM current WHERE key >= $1 AND key < $2 LIMIT $3) n",
                Source::Visible => {
                    "SELECT count(*) FROM (SELECT 1 FROM current WHERE key >= $1 AND key < $2 AND NOT hidden
                     ORDER BY key LIMIT $3) n"
                }
                Source::Postings(_) => {
                    params.extend([ints(names), blobs(values)]);
                    "SELECT count(*) FROM (SELECT 1 FROM unnest($4::bigint[], $5::bytea[]) l(name, value)
                     JOIN attribute a ON a.name = l.name AND a.value = l.value AND a.key >= $1 AND a.key < $2 LIMIT
                         $3) n"
                }
            };
            asks.push(Ask::new("counts", sql, params));
        }
        let mut answers = if asks.is_empty() { Vec::new() } else { self.all(&asks)? }.into_iter();
        let count = |(source, most): &(&Source, i64)| match source {
            Source::Keys(keys) => Ok(limit(keys.len()).min(*most)),
            Source::Scan | Source::Visible | Source::Postings(_) => {
                answers.next().and_then(|answer| answer.rows.into_iter().next()).map_or(Ok(0), |found| get(&found, 0))
            }
        };
        sources.iter().map(count).collect()
    }

    fn values(&mut self, name: i64, most: usize) -> Result<Option<Vec<String>>> {
        // From one value to the next by the index, however many keys have it.
        let sql = "WITH RECURSIVE v(value) AS (
                (SELECT value FROM attribute WHERE name = $1 ORDER BY value LIMIT 1)
                UNION ALL
                SELECT (SELECT a.value FROM attribute a WHERE a.name = $1 AND a.value > v.value ORDER BY a.value
                    LIMIT 1)
                FROM v WHERE v.value IS NOT NULL
            ) SELECT value FROM v WHERE value IS NOT NULL LIMIT $2";
        let more = limit(most).saturating_add(1);
        let found = self.ask(Ask::new("values", sql, vec![int(&name), int(&more)]))?;
        if found.len() > most {
            return Ok(None);
        }
        found.iter().map(|found| text(found, 0)).collect::<Result<_>>().map(Some)
    }

    fn entries(&mut self, name: i64, most: usize, take: &mut dyn FnMut(&str, &[u8])) -> Result<bool> {
        let sql = "SELECT value, key FROM attribute WHERE name = $1 LIMIT $2";
        let more = limit(most).saturating_add(1);
        let found = self.ask(Ask::new("entries", sql, vec![int(&name), int(&more)]))?;
        for found in found.iter().take(most) {
            take(&text(found, 0)?, get(found, 1)?);
        }
        Ok(found.len() <= most)
    }

    fn entries_count(&mut self, name: i64) -> Result<i64> {
        self.number(Ask::new("count entries", "SELECT count(*) FROM attribute WHERE name = $1", vec![int(&name)]))
    }

    fn index(&mut self, prefixes: &[&[u8]], field: Field<'_>) -> Result<Option<StoredIndex>> {
        let sql = format!(
            "SELECT {INDEX} FROM unnest($1::bytea[]) WITH ORDINALITY p(prefix, place)
             JOIN field_index f ON f.prefix = p.prefix AND f.api_version = $2 AND f.field = $3 AND f.state < {DROPPING}
             ORDER BY p.place LIMIT 1"
        );
        let (version, name) = (field.api_version.as_bytes(), field.field.as_bytes());
        let found = self.ask(Ask::new("index", &sql, vec![blobs(&prefixes), blob(&version), blob(&name)]))?;
        found.first().map(stored).transpose()
    }

    fn indexes(&mut self) -> Result<Vec<StoredIndex>> {
        let sql = format!("SELECT {INDEX} FROM field_index f ORDER BY f.id");
        self.ask(Ask::new("indexes", &sql, vec![]))?.iter().map(stored).collect()
    }

    fn tells_visible(&mut self) -> Result<bool> {
        Ok(true)
    }
}

fn columns_of(source: &Source) -> (Vec<i64>, Vec<&[u8]>) {
    match source {
        Source::Postings(lists) => lists.iter().map(|list| (list.name, list.value.as_bytes())).unzip(),
        Source::Scan | Source::Visible | Source::Keys(_) => Default::default(),
    }
}

fn stored(row: &Row) -> Result<StoredIndex> {
    let state: i64 = get(row, 4)?;
    let unknown = || Failure::Final(Error::Damaged(format!("an index of a field has the state {state}")));
    let index =
        FieldIndex { id: get(row, 0)?, prefix: bytes(row, 1)?, api_version: text(row, 2)?, field: text(row, 3)? };
    Ok(StoredIndex {
        index,
        state: codes::index(state).ok_or_else(unknown)?,
        cursor: get(row, 5)?,
        objects: get(row, 6)?,
    })
}
