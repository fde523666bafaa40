//! Live keys in order, from wherever they come.

use std::fmt::Write as _;
use std::ops::ControlFlow;

use super::Tables;
use super::row::borrowed;
use super::text::{Bytes, In, Packet, Within};
use crate::engine::KeyRange;
use crate::sql::failure::Result;
use crate::sql::session::{Find, Postings, Source, Take};

/// The least and the most keys that are read at a time.
const PAGE: (usize, usize) = (16, 2048);

/// What a page of keys had.
pub(super) struct Found {
    /// How many keys, and the last one.
    count: usize,
    last: Option<Vec<u8>>,
    /// Whether nobody wants more.
    enough: bool,
}

/// Reads page after page, behind the last key of the one before. `page`: reads that many keys of a range.
pub(super) fn paged(
    range: &KeyRange,
    wanted: usize,
    page: &mut dyn FnMut(&KeyRange, usize) -> Result<Found>,
) -> Result<()> {
    let (mut rest, mut size) = (range.clone(), wanted.clamp(PAGE.0, PAGE.1));
    loop {
        let Found { count, last, enough } = page(&rest, size)?;
        let Some(last) = last.filter(|_| count == size && !enough) else { return Ok(()) };
        rest = rest.after(&last);
        size = (size * 4).min(PAGE.1);
    }
}

/// The columns of a row of the table that is called so in a statement.
pub(super) fn columns(table: &str, values: bool) -> String {
    let value = if values { format!("{table}.value") } else { "_binary''".to_owned() };
    format!(
        "{table}.k, {table}.create_revision, {table}.mod_revision, {table}.version, {table}.lease, {value}, {table}.sub"
    )
}

impl Tables {
    /// Hands on what a statement finds: a key, then the row that it has, if it has one.
    pub(super) fn page(&mut self, name: &'static str, sql: String, take: &mut Take<'_>) -> Result<Found> {
        let mut found = Found { count: 0, last: None, enough: false };
        self.connection.each(&Packet::of(name, sql), &mut |_, mut cells| {
            found.count += 1;
            found.last = Some(cells.bytes()?);
            if !found.enough
                && let Some(row) = cells.maybe_row()?
            {
                found.enough = take(borrowed(&row)) == ControlFlow::Break(());
            }
            Ok(())
        })?;
        Ok(found)
    }

    pub(super) fn find_keys(&mut self, find: &Find<'_>, take: &mut Take<'_>) -> Result<()> {
        let Source::Keys(keys) = find.source else {
            return paged(find.range, find.wanted, &mut |rest, size| {
                self.page("find", statement(find, rest, size), take)
            });
        };
        let keys: Vec<&Vec<u8>> = keys.iter().filter(|key| find.range.contains(key)).collect();
        for keys in keys.chunks(find.wanted.clamp(PAGE.0, PAGE.1)) {
            let sql = format!(
                "SELECT a.k, {} FROM current a FORCE INDEX (PRIMARY) WHERE {} AND a.mod_revision <= {}{} ORDER BY a.k",
                columns("a", find.values),
                In("a.k", keys),
                find.until,
                in_all(find.probes)
            );
            if self.page("find keys", sql, take)?.enough {
                break;
            }
        }
        Ok(())
    }
}

fn statement(find: &Find<'_>, range: &KeyRange, size: usize) -> String {
    let Find { source, probes, until, values, .. } = find;
    let columns = |table: &str| columns(table, *values);
    let scan = |index: &str, more: &str| {
        format!(
            "SELECT c.k, {} FROM current c FORCE INDEX ({index}) WHERE {}{more} AND c.mod_revision <= {until} ORDER BY c.k \
             LIMIT {size}",
            columns("c"),
            Within("c.k", range)
        )
    };
    let live = format!("current c FORCE INDEX (PRIMARY) ON c.mod_revision <= {until} AND c.k =");
    match source {
        Source::Visible => scan("current_visible", " AND c.hidden = 0"),
        Source::Postings(lists) if lists.len() == 1 => lists.iter().fold(String::new(), |_, one| {
            let (from, end) = (of(one, range), format!("ORDER BY a.k LIMIT {size}"));
            let columns = columns("c");
            format!(
                "SELECT a.k, {columns} FROM attribute a FORCE INDEX (PRIMARY) LEFT JOIN {live} a.k WHERE {from}{} {end}",
                in_all(probes)
            )
        }),
        Source::Postings(lists) => {
            // The first of each list hold the first of all.
            let mut all = String::new();
            for one in lists {
                let between = if all.is_empty() { "" } else { " UNION ALL " };
                let _ = write!(
                    all,
                    "{between}(SELECT a.k FROM attribute a FORCE INDEX (PRIMARY) WHERE {}{} ORDER BY a.k LIMIT {size})",
                    of(one, range),
                    in_all(probes)
                );
            }
            format!(
                "SELECT p.k, {} FROM (SELECT u.k FROM ({all}) u GROUP BY u.k ORDER BY u.k LIMIT {size}) p LEFT JOIN {live} p.k \
                 ORDER BY p.k",
                columns("c")
            )
        }
        Source::Scan | Source::Keys(_) => scan("PRIMARY", ""),
    }
}

/// The condition for the keys of a posting list in a range.
pub(super) fn of(postings: &Postings, range: &KeyRange) -> String {
    let Postings { name, value } = postings;
    format!("a.name = {name} AND a.value = {} AND {}", Bytes(value.as_bytes()), Within("a.k", range))
}

/// The condition that a key is in one of the posting lists of each of these.
fn in_all(probes: &[&[Postings]]) -> String {
    let mut conditions = String::new();
    for lists in probes {
        let in_one = |Postings { name, value }: &Postings| {
            format!(
                "EXISTS (SELECT 1 FROM attribute b WHERE b.name = {name} AND b.value = {} AND b.k = a.k)",
                Bytes(value.as_bytes())
            )
        };
        let any: Vec<String> = lists.iter().map(in_one).collect();
        let any = if any.is_empty() { "FALSE".to_owned() } else { any.join(" OR ") };
        let _ = write!(conditions, " AND ({any})");
    }
    conditions
}
