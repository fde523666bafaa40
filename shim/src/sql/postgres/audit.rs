//! Everything, for checks.

use std::borrow::Cow;
use std::ops::ControlFlow;

use tokio_postgres::Row;

use super::link::{Ask, get};
use super::row::{blob, blobs, flag, int, ints, limit, text};
use super::session::Session;
use super::set::Kind::{Blob, Flag, Int};
use super::set::{Kind, Set};
use crate::engine::store::Facets;
use crate::sql::Damage;
use crate::sql::failure::Result;
use crate::sql::session::{Audit, EdgeRow, Live, Posting, PostingRow, Rebuild, Span, StoredEdge};

const DERIVED: &[(&str, Kind)] = &[("key", Blob), ("hidden", Flag), ("uid", Blob)];

const EDGE: &[(&str, Kind)] =
    &[("place", Int), ("owner_uid", Blob), ("labelled", Flag), ("key", Blob), ("block", Flag), ("waits", Flag)];

/// What the tables promise one another: how a row is called that breaks it, and the statement that finds those rows,
/// each with a key and a revision.
const PROMISES: [(&str, &str); 6] = [
    (
        "the value has no place in the order of changes",
        "SELECT v.key, v.mod_revision FROM
            (SELECT key, mod_revision, sub FROM current UNION ALL SELECT key, mod_revision, sub FROM history) v
         WHERE NOT EXISTS (SELECT 1 FROM change y WHERE y.revision = v.mod_revision AND y.sub = v.sub AND y.key = v.key
            AND NOT y.deleted)",
    ),
    (
        "the change put a value that is missing",
        "SELECT y.key, y.revision FROM change y WHERE NOT y.deleted
         AND NOT EXISTS (SELECT 1 FROM current c WHERE c.key = y.key AND c.mod_revision = y.revision AND c.sub = y.sub)
         AND NOT EXISTS (SELECT 1 FROM history h WHERE h.key = y.key AND h.mod_revision = y.revision AND h.sub =
             y.sub)",
    ),
    (
        "the deletion has no place in the order of changes",
        "SELECT h.key, h.end_revision FROM history h WHERE h.deleted AND NOT EXISTS
            (SELECT 1 FROM change y WHERE y.revision = h.end_revision AND y.sub = h.end_sub AND y.key = h.key AND
                y.deleted)",
    ),
    (
        "what the change deleted is missing",
        "SELECT y.key, y.revision FROM change y, meta m WHERE y.deleted AND y.revision > m.compact_revision AND NOT
            EXISTS
            (SELECT 1 FROM history h WHERE h.key = y.key AND h.end_revision = y.revision AND h.end_sub = y.sub AND
                h.deleted)",
    ),
    (
        "its lease does not know it",
        "SELECT c.key, c.mod_revision FROM current c WHERE c.lease <> 0
         AND NOT EXISTS (SELECT 1 FROM attached a WHERE a.lease = c.lease AND a.key = c.key)",
    ),
    (
        "a lease has it that it is not attached to",
        "SELECT a.key, 0::bigint FROM attached a
         WHERE NOT EXISTS (SELECT 1 FROM current c WHERE c.key = a.key AND c.lease = a.lease)",
    ),
];

impl Audit for Session {
    fn integrity(&mut self, report: &mut dyn FnMut(Damage)) -> Result<()> {
        // In a transaction a pooler has no standby answer.
        self.begin_read()?;
        for (what, sql) in PROMISES {
            self.on(|link| {
                link.each(&Ask::new("integrity", sql, vec![]), &mut |found| {
                    let key = String::from_utf8_lossy(get(&found, 0)?);
                    let revision: i64 = get(&found, 1)?;
                    report(Damage { what: format!("key {key:?} at {revision}: {what}"), derived: false });
                    Ok(ControlFlow::Continue(()))
                })
            })?;
        }
        self.rollback();
        Ok(())
    }

    fn live_after(&mut self, key: &[u8], most: usize) -> Result<Vec<Live>> {
        let most = limit(most);
        let sql = "SELECT key, hidden, uid, value FROM current WHERE key > $1 ORDER BY key LIMIT $2";
        let live = |found: &Row| {
            Ok(Live { key: get(found, 0)?, hidden: get(found, 1)?, uid: get(found, 2)?, value: get(found, 3)? })
        };
        self.ask(Ask::new("live rows", sql, vec![blob(&key), int(&most)]))?.iter().map(live).collect()
    }

    fn spans(&mut self, take: &mut dyn FnMut(Span)) -> Result<()> {
        let sql =
            "SELECT key, create_revision, mod_revision, sub, version, end_revision, end_sub, deleted, false AS live
                FROM history
            UNION ALL
            SELECT key, create_revision, mod_revision, sub, version, 0, 0, false, true FROM current
            ORDER BY key, live, end_revision, end_sub";
        let span = |found: &Row| -> Result<Span> {
            let live: bool = get(found, 8)?;
            let end = if live { None } else { Some(((get(found, 5)?, get(found, 6)?), get(found, 7)?)) };
            Ok(Span {
                key: get(found, 0)?,
                create: get(found, 1)?,
                begin: (get(found, 2)?, get(found, 3)?),
                version: get(found, 4)?,
                end,
            })
        };
        self.on(|link| {
            link.each(&Ask::new("spans", sql, vec![]), &mut |found| {
                take(span(&found)?);
                Ok(ControlFlow::Continue(()))
            })
        })
        .map(drop)
    }

    fn has_postings(&mut self, postings: &[PostingRow<'_>]) -> Result<Vec<bool>> {
        let names: Vec<i64> = postings.iter().map(|posting| posting.name).collect();
        let values: Vec<&[u8]> = postings.iter().map(|posting| posting.value.as_bytes()).collect();
        let keys: Vec<&[u8]> = postings.iter().map(|posting| posting.key).collect();
        let sql = "SELECT EXISTS (SELECT 1 FROM attribute a WHERE a.name = p.name AND a.value = p.value AND a.key =
            p.key)
            FROM unnest($1::bigint[], $2::bytea[], $3::bytea[]) WITH ORDINALITY p(name, value, key, place) ORDER BY
                p.place";
        let params = vec![ints(&names), blobs(&values), blobs(&keys)];
        self.ask(Ask::new("has entries", sql, params))?.iter().map(|found| get(found, 0)).collect()
    }

    fn postings_after(&mut self, after: &Posting, most: usize) -> Result<Vec<Posting>> {
        let (value, most) = (after.value.as_bytes(), limit(most));
        let sql = "SELECT name, value, key FROM attribute WHERE (name, value, key) > ($1, $2, $3)
            ORDER BY name, value, key LIMIT $4";
        let posting = |found: &Row| Ok(Posting { name: get(found, 0)?, value: text(found, 1)?, key: get(found, 2)? });
        let params = vec![int(&after.name), blob(&value), blob(&after.key), int(&most)];
        self.ask(Ask::new("entries", sql, params))?.iter().map(posting).collect()
    }

    fn label_of(&mut self, name: i64) -> Result<Option<String>> {
        let found = self.ask(Ask::new("name", "SELECT name FROM attribute_name WHERE id = $1", vec![int(&name)]))?;
        found.first().map(|found| text(found, 0)).transpose()
    }

    fn directories_after(&mut self, path: Option<&[u8]>, most: usize) -> Result<Vec<(Vec<u8>, [i64; 3])>> {
        // The first one may be empty.
        let (from, most) = (path.map_or(Vec::new(), |path| [path, &[0]].concat()), limit(most));
        let sql = "SELECT path, live, opaque, misplaced FROM directory WHERE path >= $1 ORDER BY path LIMIT $2";
        let directory = |found: &Row| Ok((get(found, 0)?, [get(found, 1)?, get(found, 2)?, get(found, 3)?]));
        self.ask(Ask::new("directories", sql, vec![blob(&from), int(&most)]))?.iter().map(directory).collect()
    }

    fn has_edges(&mut self, edges: &[EdgeRow<'_>]) -> Result<Vec<bool>> {
        let mut set = Set::new(EDGE);
        for (place, edge) in (0..).zip(edges) {
            let owner = edge.owner.to_blob();
            let place: i64 = place;
            set.push([
                place.into(),
                owner.into(),
                edge.labelled.into(),
                edge.key.into(),
                edge.block.into(),
                edge.waits.into(),
            ]);
        }
        let sql = format!(
            "SELECT EXISTS (SELECT 1 FROM owner o WHERE o.owner_uid = t.owner_uid AND o.labelled = t.labelled
                AND o.key = t.key AND o.block = t.block AND o.waits = t.waits) FROM {} ORDER BY t.place",
            set.table()
        );
        self.ask(Ask::new("has owners", &sql, set.params()))?.iter().map(|found| get(found, 0)).collect()
    }

    fn edges_after(&mut self, after: &StoredEdge, most: usize) -> Result<Vec<StoredEdge>> {
        let most = limit(most);
        let sql =
            "SELECT owner_uid, labelled, key, block, waits FROM owner WHERE (owner_uid, labelled, key) > ($1, $2, $3)
            ORDER BY owner_uid, labelled, key LIMIT $4";
        let edge = |found: &Row| {
            Ok(StoredEdge {
                owner: get(found, 0)?,
                labelled: get(found, 1)?,
                key: get(found, 2)?,
                block: get(found, 3)?,
                waits: get(found, 4)?,
            })
        };
        let params = vec![blob(&after.owner), flag(&after.labelled), blob(&after.key), int(&most)];
        self.ask(Ask::new("owners", sql, params))?.iter().map(edge).collect()
    }
}

impl Rebuild for Session {
    fn clear_derived(&mut self) -> Result<()> {
        let tables = "DELETE FROM directory; DELETE FROM attribute; DELETE FROM field_index; DELETE FROM owner";
        let asks = [
            Ask::plain("clear", tables),
            Ask::new("clear UIDs", "UPDATE current SET uid = NULL WHERE uid IS NOT NULL", vec![]),
        ];
        self.all(&asks).map(drop)
    }

    fn set_derived(&mut self, rows: &[(&[u8], &Facets)]) -> Result<()> {
        let mut set = Set::new(DERIVED);
        for (key, facets) in rows {
            let uid: Option<Cow<'_, [u8]>> = facets.node.as_ref().map(|node| node.uid.to_blob());
            set.push([(*key).into(), (!facets.opaque).then_some(facets.hidden).into(), uid.into()]);
        }
        let sql =
            format!("UPDATE current c SET hidden = t.hidden, uid = t.uid FROM {} WHERE c.key = t.key", set.table());
        self.ask(Ask::new("set derived", &sql, set.params())).map(drop)
    }
}
