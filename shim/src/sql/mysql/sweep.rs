//! Removes the history that compactions freed.

use super::Tables;
use super::script::Script;
use super::text::Bytes;
use crate::sql::failure::Result;

/// A change that is looked at, with the value that it ended, if that is there still.
struct Swept {
    at: (i64, i64),
    key: Vec<u8>,
    deleted: bool,
    /// Where that value began.
    ended: Option<(i64, i64)>,
}

impl Tables {
    /// Looks at the next changes up to the last compaction, and removes what they ended; returns how many it looked at.
    /// Deletions at the very revision of the compaction stay until the next one, which begins with them again.
    pub(super) fn sweep(&mut self, limit: usize) -> Result<usize> {
        self.ready()?;
        let sql = "SELECT m.compact_revision, s.revision, s.sub, s.compacted FROM meta m, sweep s WHERE m.id = 1 AND s.id = 1";
        let at = self
            .connection
            .first("sweep", sql, |cells| Ok((cells.int()?, cells.int()?, cells.int()?, cells.int()?)))?;
        let Some((compacted, mut revision, mut sub, before)) = at else { return Ok(0) };
        if compacted > before {
            (revision, sub) = (revision.min(before), if revision >= before { -1 } else { sub });
        }
        let sql = format!(
            "SELECT d.revision, d.sub, d.k, d.deleted, h.mod_revision, h.sub FROM (
                SELECT * FROM `change` FORCE INDEX (PRIMARY) WHERE revision >= {revision} AND (revision > {revision} OR
                sub > {sub}) AND revision <= {compacted} ORDER BY revision, sub LIMIT {limit}) d
             LEFT JOIN history h FORCE INDEX (PRIMARY) ON h.k = d.k AND h.end_revision = d.revision AND h.end_sub = d.sub
             ORDER BY d.revision, d.sub"
        );
        let swept = self.connection.all("swept", sql, |cells| {
            let (at, key, deleted) = ((cells.int()?, cells.int()?), cells.bytes()?, cells.flag()?);
            Ok(Swept { at, key, deleted, ended: cells.maybe_int()?.zip(cells.maybe_int()?) })
        })?;
        let Some(last) = swept.last() else { return Ok(0) };
        self.remove(&swept, last.at, compacted)?;
        Ok(swept.len())
    }

    fn remove(&mut self, swept: &[Swept], (revision, sub): (i64, i64), compacted: i64) -> Result<()> {
        let freed = |swept: &&Swept| !(swept.deleted && swept.at.0 == compacted);
        let mut script = Script::new(self.connection.packet_bytes());
        script.add("begin", "BEGIN");
        let values = swept.iter().filter(freed).filter(|swept| swept.ended.is_some());
        let values = values.map(|Swept { at, key, .. }| format!("({},{},{})", Bytes(key), at.0, at.1));
        script.rows("free values", "DELETE h FROM history h WHERE (k, end_revision, end_sub) IN (", values, ")");
        let began = swept.iter().filter(freed).filter_map(|swept| swept.ended);
        let deletions = swept.iter().filter(freed).filter(|swept| swept.deleted).map(|swept| swept.at);
        let changes = began.chain(deletions).map(|(revision, sub)| format!("({revision},{sub})"));
        script.rows("free changes", "DELETE `change` FROM `change` WHERE (revision, sub) IN (", changes, ")");
        script.add(
            "swept",
            format_args!("UPDATE sweep SET revision = {revision}, sub = {sub}, compacted = {compacted} WHERE id = 1"),
        );
        script.commit();
        self.open = true;
        let removed = script.each(&mut self.connection, &mut |_, _| Ok(()));
        self.open = removed.is_err();
        removed.map(drop)
    }
}
