//! Everything, for checks.

use super::Tables;
use super::row::Cells;
use super::script::Script;
use super::text::{Bytes, Maybe, Packet};
use crate::engine::store::Facets;
use crate::sql::Damage;
use crate::sql::failure::Result;
use crate::sql::session::{Audit, EdgeRow, Live, Posting, PostingRow, Rebuild, Span, StoredEdge};

/// How many rows are read at a time.
const PAGE: usize = 2000;

/// What the tables promise that no key of theirs does: a name, and a statement that counts what breaks the promise.
const PROMISES: [(&str, &str); 7] = [
    (
        "values have no row in the table of changes",
        "SELECT (SELECT COUNT(*) FROM current v WHERE NOT EXISTS (SELECT 1 FROM `change` c WHERE c.revision = v.mod_revision
            AND c.sub = v.sub AND c.k = v.k AND NOT c.deleted))
          + (SELECT COUNT(*) FROM history v WHERE NOT EXISTS (SELECT 1 FROM `change` c WHERE c.revision = v.mod_revision
            AND c.sub = v.sub AND c.k = v.k AND NOT c.deleted))",
    ),
    (
        "deletions have no row in the table of changes",
        "SELECT COUNT(*) FROM history v, meta m WHERE v.deleted AND v.end_revision >= m.compact_revision AND NOT EXISTS
            (SELECT 1 FROM `change` c WHERE c.revision = v.end_revision AND c.sub = v.end_sub AND c.k = v.k AND c.deleted)",
    ),
    (
        "rows of the table of changes put what is neither live nor superseded",
        "SELECT COUNT(*) FROM `change` c WHERE NOT c.deleted AND NOT EXISTS (SELECT 1 FROM current v WHERE v.k = c.k
            AND v.mod_revision = c.revision AND v.sub = c.sub) AND NOT EXISTS (SELECT 1 FROM history v WHERE v.k = c.k
            AND v.mod_revision = c.revision AND v.sub = c.sub)",
    ),
    (
        "rows of the table of changes delete what was not there",
        "SELECT COUNT(*) FROM `change` c WHERE c.deleted AND NOT EXISTS (SELECT 1 FROM history v WHERE v.k = c.k
            AND v.end_revision = c.revision AND v.end_sub = c.sub AND v.deleted)",
    ),
    (
        "keys are attached to a lease, but not in the table of that",
        "SELECT COUNT(*) FROM current v WHERE v.lease <> 0 AND NOT EXISTS
            (SELECT 1 FROM attached a WHERE a.lease = v.lease AND a.k = v.k)",
    ),
    (
        "rows of the table of attached keys are of no such key",
        "SELECT COUNT(*) FROM attached a WHERE NOT EXISTS (SELECT 1 FROM current v WHERE v.k = a.k AND v.lease = a.lease)",
    ),
    (
        "numbers are in use that are still to be given",
        "SELECT (SELECT COUNT(*) FROM attribute_name, meta WHERE attribute_name.id >= next_id)
            + (SELECT COUNT(*) FROM gc_task, meta WHERE gc_task.id >= next_id)
            + (SELECT COUNT(*) FROM gc_tombstone, meta WHERE gc_tombstone.id >= next_id)
            + (SELECT COUNT(*) FROM field_index, meta WHERE field_index.id >= next_id)",
    ),
];

/// A value without its bytes, which ends at the columns behind the first five.
fn span(cells: &mut Cells, live: bool) -> Result<Span> {
    let (key, create) = (cells.bytes()?, cells.int()?);
    let (begin, version) = ((cells.int()?, cells.int()?), cells.int()?);
    let end = if live { None } else { Some(((cells.int()?, cells.int()?), cells.flag()?)) };
    Ok(Span { key, create, begin, version, end })
}

impl Tables {
    /// Which of the rows there are, in their order.
    fn has(&mut self, rows: impl Iterator<Item = String>) -> Result<Vec<bool>> {
        let mut packet = Packet::default();
        for row in rows {
            packet.add("has", format_args!("SELECT EXISTS (SELECT 1 FROM {row})"));
        }
        let mut has = Vec::new();
        self.connection.each(&packet, &mut |_, mut cells| {
            has.push(cells.flag()?);
            Ok(())
        })?;
        Ok(has)
    }

    /// Hands on the values of keys behind one, of both tables.
    fn spans_after(&mut self, after: Option<&[u8]>, spans: &mut Vec<Span>) -> Result<Option<Vec<u8>>> {
        let behind = after.map_or_else(|| "TRUE".to_owned(), |key| format!("k > {}", Bytes(key)));
        // The last key of a page, that all of its values may be read together.
        let last = |table: &str| {
            let keys = format!("SELECT k FROM {table} FORCE INDEX (PRIMARY) WHERE {behind} ORDER BY k LIMIT {PAGE}");
            format!("SELECT MAX(p.k) AS k FROM ({keys}) p HAVING COUNT(*) = {PAGE}")
        };
        let sql = format!("SELECT MIN(e.k) FROM ({} UNION ALL {}) e", last("current"), last("history"));
        let end = self.connection.first("last key", sql, Cells::maybe_bytes)?.flatten();
        let until = end.as_ref().map_or_else(|| "TRUE".to_owned(), |key| format!("k <= {}", Bytes(key)));
        let live = "SELECT k, create_revision, mod_revision, sub, version FROM current FORCE INDEX (PRIMARY)";
        let old = "SELECT k, create_revision, mod_revision, sub, version, end_revision, end_sub, deleted FROM history \
            FORCE INDEX (PRIMARY)";
        let mut packet = Packet::of("live values", format_args!("{live} WHERE {behind} AND {until}"));
        packet.add("old values", format_args!("{old} WHERE {behind} AND {until}"));
        self.connection.each(&packet, &mut |nth, mut cells| {
            spans.push(span(&mut cells, nth == 0)?);
            Ok(())
        })?;
        Ok(end)
    }
}

impl Audit for Tables {
    fn integrity(&mut self, report: &mut dyn FnMut(Damage)) -> Result<()> {
        for (what, sql) in PROMISES {
            let broken = self.connection.number("promise", sql)?;
            if broken > 0 {
                report(Damage { what: format!("{broken} {what}"), derived: false });
            }
        }
        Ok(())
    }

    fn live_after(&mut self, key: &[u8], limit: usize) -> Result<Vec<Live>> {
        let sql = format!(
            "SELECT k, hidden, uid, value FROM current FORCE INDEX (PRIMARY) WHERE k > {} ORDER BY k LIMIT {limit}",
            Bytes(key)
        );
        self.connection.all("live values", sql, |cells| {
            let (key, hidden) = (cells.bytes()?, cells.maybe_int()?.map(|hidden| hidden != 0));
            Ok(Live { key, hidden, uid: cells.maybe_bytes()?, value: cells.bytes()? })
        })
    }

    fn spans(&mut self, take: &mut dyn FnMut(Span)) -> Result<()> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let mut spans = Vec::new();
            after = self.spans_after(after.as_deref(), &mut spans)?;
            spans.sort_by(|a, b| (&a.key, a.end.is_none(), a.end).cmp(&(&b.key, b.end.is_none(), b.end)));
            spans.into_iter().for_each(&mut *take);
            if after.is_none() {
                return Ok(());
            }
        }
    }

    fn has_postings(&mut self, postings: &[PostingRow<'_>]) -> Result<Vec<bool>> {
        self.has(postings.iter().map(|PostingRow { name, value, key }| {
            format!("attribute WHERE name = {name} AND value = {} AND k = {}", Bytes(value.as_bytes()), Bytes(key))
        }))
    }

    fn postings_after(&mut self, after: &Posting, limit: usize) -> Result<Vec<Posting>> {
        let Posting { name, value, key } = after;
        let (value, key) = (Bytes(value.as_bytes()), Bytes(key));
        let sql = format!(
            "SELECT name, value, k FROM attribute FORCE INDEX (PRIMARY) WHERE name > {name} OR (name = {name} AND
                (value > {value} OR (value = {value} AND k > {key}))) ORDER BY name, value, k LIMIT {limit}"
        );
        let read = |cells: &mut Cells| Ok(Posting { name: cells.int()?, value: cells.text()?, key: cells.bytes()? });
        self.connection.all("postings", sql, read)
    }

    fn label_of(&mut self, name: i64) -> Result<Option<String>> {
        let sql = format!("SELECT name FROM attribute_name WHERE id = {name}");
        self.connection.first("name of a label", sql, Cells::text)
    }

    fn directories_after(&mut self, path: Option<&[u8]>, limit: usize) -> Result<Vec<(Vec<u8>, [i64; 3])>> {
        let behind = path.map_or_else(|| "TRUE".to_owned(), |path| format!("path > {}", Bytes(path)));
        let sql =
            format!("SELECT path, live, opaque, misplaced FROM directory WHERE {behind} ORDER BY path LIMIT {limit}");
        let read = |cells: &mut Cells| Ok((cells.bytes()?, [cells.int()?, cells.int()?, cells.int()?]));
        self.connection.all("directories", sql, read)
    }

    fn has_edges(&mut self, edges: &[EdgeRow<'_>]) -> Result<Vec<bool>> {
        self.has(edges.iter().map(|EdgeRow { owner, labelled, key, block, waits }| {
            let (owner, [labelled, block, waits]) = (owner.to_blob(), [labelled, block, waits].map(|flag| i64::from(*flag)));
            format!(
                "owner WHERE owner_uid = {} AND labelled = {labelled} AND k = {} AND block = {block} AND waits = {waits}",
                Bytes(&owner),
                Bytes(key)
            )
        }))
    }

    fn edges_after(&mut self, after: &StoredEdge, limit: usize) -> Result<Vec<StoredEdge>> {
        let (owner, labelled, key) = (Bytes(&after.owner), i64::from(after.labelled), Bytes(&after.key));
        let sql = format!(
            "SELECT owner_uid, labelled, k, block, waits FROM owner FORCE INDEX (PRIMARY) WHERE owner_uid > {owner}
                OR (owner_uid = {owner} AND (labelled > {labelled} OR (labelled = {labelled} AND k > {key})))
             ORDER BY owner_uid, labelled, k LIMIT {limit}"
        );
        self.connection.all("owners", sql, |cells| {
            let (owner, labelled, key) = (cells.bytes()?, cells.flag()?, cells.bytes()?);
            Ok(StoredEdge { owner, labelled, key, block: cells.flag()?, waits: cells.flag()? })
        })
    }
}

impl Rebuild for Tables {
    fn clear_derived(&mut self) -> Result<()> {
        let mut packet = Packet::of("clear", "DELETE FROM directory");
        for table in ["attribute", "field_index", "owner"] {
            packet.add("clear", format_args!("DELETE FROM {table}"));
        }
        packet.add("clear UIDs", "UPDATE current SET uid = NULL WHERE uid IS NOT NULL");
        self.connection.run(&packet).map(drop)
    }

    fn set_derived(&mut self, rows: &[(&[u8], &Facets)]) -> Result<()> {
        let mut script = Script::new(self.connection.packet_bytes());
        for (key, facets) in rows {
            let hidden = Maybe((!facets.opaque).then_some(i64::from(facets.hidden)));
            let uid = facets.node.as_ref().map(|node| node.uid.to_blob());
            let (uid, key) = (Maybe(uid.as_deref().map(Bytes)), Bytes(key));
            script
                .add("set derived", format_args!("UPDATE current SET hidden = {hidden}, uid = {uid} WHERE k = {key}"));
        }
        script.each(&mut self.connection, &mut |_, _| Ok(())).map(drop)
    }
}
