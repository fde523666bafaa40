//! Answers the planner of reads with a selector.

use bytes::Bytes as Buffer;

use super::find::of;
use super::row::Cells;
use super::text::{Bytes, In, List, Packet, Within};
use super::{Tables, error};
use crate::engine::KeyRange;
use crate::engine::catalog::FieldIndex;
use crate::sql::codes::{self, DROPPING};
use crate::sql::failure::Result;
use crate::sql::select::directories::end_of;
use crate::sql::session::{Field, Odd, Probe, Source, StoredIndex};

/// How many values are looked for with the first packet, and with each after it.
const VALUES: [usize; 2] = [8, 60];

const INDEX: &str = "SELECT id, prefix, api_version, field, state, `cursor`, objects FROM field_index";

fn read_index(cells: &mut Cells) -> Result<StoredIndex> {
    let (id, prefix) = (cells.int()?, Buffer::from(cells.bytes()?));
    let index = FieldIndex { id, prefix, api_version: cells.text()?, field: cells.text()? };
    let state = codes::index(cells.int()?).ok_or_else(error::unreadable)?;
    Ok(StoredIndex { index, state, cursor: cells.bytes()?, objects: cells.int()? })
}

/// How many keys a source has in the range, counted up to a limit.
fn count(range: &KeyRange, source: &Source, limit: i64) -> String {
    let upto = |from: String| format!("(SELECT COUNT(*) FROM (SELECT 1 FROM {from} LIMIT {limit}) t)");
    match source {
        Source::Scan => upto(format!("current FORCE INDEX (PRIMARY) WHERE {}", Within("k", range))),
        Source::Visible => {
            upto(format!("current FORCE INDEX (current_visible) WHERE hidden = 0 AND {}", Within("k", range)))
        }
        Source::Keys(keys) => keys.len().to_string(),
        Source::Postings(lists) if lists.is_empty() => "0".to_owned(),
        Source::Postings(lists) => {
            let counted = |one| upto(format!("attribute a FORCE INDEX (PRIMARY) WHERE {}", of(one, range)));
            lists.iter().map(counted).collect::<Vec<_>>().join(" + ")
        }
    }
}

impl Probe for Tables {
    fn odd(&mut self, range: &KeyRange, besides: &[&[u8]], odd: Odd) -> Result<i64> {
        let column = match odd {
            Odd::Opaque => "opaque",
            Odd::Misplaced => "misplaced",
        };
        let sql = format!(
            "SELECT (SELECT COALESCE(SUM({column}), 0) FROM directory FORCE INDEX (directory_{column}) WHERE {column} > 0 AND {})
                + (SELECT COALESCE(SUM({column}), 0) FROM directory WHERE {})",
            Within("path", range),
            In("path", besides)
        );
        self.connection.number("odd", sql)
    }

    fn directories(&mut self, range: &KeyRange, limit: usize) -> Result<Vec<Vec<u8>>> {
        let within = Within("path", range);
        let sql =
            format!("SELECT path FROM directory FORCE INDEX (PRIMARY) WHERE {within} ORDER BY path LIMIT {limit}");
        self.connection.all("directories", sql, Cells::bytes)
    }

    fn live(&mut self, prefix: &[u8]) -> Result<i64> {
        let end = end_of(prefix);
        let sql = "SELECT COALESCE(SUM(live), 0) FROM directory FORCE INDEX (PRIMARY) WHERE path >=";
        self.connection.number("live", format_args!("{sql} {} AND path < {}", Bytes(prefix), Bytes(&end)))
    }

    fn label(&mut self, name: &str) -> Result<Option<i64>> {
        if let Some(id) = self.names.get(name) {
            return Ok(Some(*id));
        }
        let sql = format!("SELECT id FROM attribute_name WHERE name = {}", Bytes(name.as_bytes()));
        let found = self.connection.first("label", sql, Cells::int)?;
        // What a transaction has not committed yet is not known for good.
        if let Some(id) = found
            && !self.transaction.changes
        {
            self.names.insert(name.into(), id);
        }
        Ok(found)
    }

    fn counts(&mut self, range: &KeyRange, sources: &[(&Source, i64)]) -> Result<Vec<i64>> {
        if sources.is_empty() {
            return Ok(Vec::new());
        }
        let counts = sources.iter().map(|(source, limit)| format!("LEAST({limit}, {})", count(range, source, *limit)));
        let sql = format!("SELECT {}", List(counts.collect::<Vec<_>>().iter()));
        let all = self.connection.first("counts", sql, |cells| sources.iter().map(|_| cells.int()).collect())?;
        all.ok_or_else(error::unreadable)
    }

    /// Each value is looked for behind the one before it, many with one packet: no plan of the database does that for
    /// sure.
    fn values(&mut self, name: i64, limit: usize) -> Result<Option<Vec<String>>> {
        let mut values: Vec<String> = Vec::new();
        let mut rounds = VALUES.into_iter();
        let mut round = VALUES[1];
        loop {
            round = rounds.next().unwrap_or(round);
            let mut packet = Packet::default();
            for nth in 0..round {
                // A variable that a statement sets is no constant to it, so two take turns.
                let (last, next) = if nth % 2 == 0 { ("@a", "@b") } else { ("@b", "@a") };
                let behind = match values.last() {
                    _ if nth > 0 => format!(" AND value > {last}"),
                    Some(value) => format!(" AND value > {}", Bytes(value.as_bytes())),
                    None => String::new(),
                };
                let value = format!("SELECT value FROM attribute WHERE name = {name}{behind} ORDER BY value LIMIT 1");
                packet.add("next value", format_args!("SET {next} = ({value})"));
                packet.add("value", format_args!("SELECT {next}"));
            }
            let mut ended = false;
            self.connection.each(&packet, &mut |_, mut cells| {
                match cells.maybe_bytes()? {
                    Some(value) => values.push(String::from_utf8(value).map_err(|_| error::unreadable())?),
                    None => ended = true,
                }
                Ok(())
            })?;
            if values.len() > limit {
                return Ok(None);
            }
            if ended {
                return Ok(Some(values));
            }
        }
    }

    fn entries(&mut self, name: i64, limit: usize, take: &mut dyn FnMut(&str, &[u8])) -> Result<bool> {
        let more = limit.saturating_add(1);
        let sql = format!("SELECT value, k FROM attribute FORCE INDEX (PRIMARY) WHERE name = {name} LIMIT {more}");
        let mut count = 0;
        self.connection.each(&Packet::of("entries", sql), &mut |_, mut cells| {
            count += 1;
            if count <= limit {
                take(&cells.text()?, &cells.bytes()?);
            }
            Ok(())
        })?;
        Ok(count <= limit)
    }

    fn entries_count(&mut self, name: i64) -> Result<i64> {
        self.connection.number("count entries", format_args!("SELECT COUNT(*) FROM attribute WHERE name = {name}"))
    }

    fn index(&mut self, prefixes: &[&[u8]], field: Field<'_>) -> Result<Option<StoredIndex>> {
        let (api_version, field) = (Bytes(field.api_version.as_bytes()), Bytes(field.field.as_bytes()));
        let is_one = In("prefix", prefixes);
        let sql = format!(
            "{INDEX} WHERE {is_one} AND api_version = {api_version} AND field = {field} AND state < {DROPPING}"
        );
        let found = self.connection.all("index of a field", sql, read_index)?;
        let place = |found: &StoredIndex| prefixes.iter().position(|prefix| **prefix == found.index.prefix);
        Ok(found.into_iter().min_by_key(place))
    }

    fn indexes(&mut self) -> Result<Vec<StoredIndex>> {
        self.connection.all("indexes", format_args!("{INDEX} ORDER BY id"), read_index)
    }

    /// The index is there from the beginning: a statement that makes one would commit. It costs each new object an
    /// entry.
    fn tells_visible(&mut self) -> Result<bool> {
        Ok(true)
    }
}
