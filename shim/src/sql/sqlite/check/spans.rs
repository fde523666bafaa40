//! The values of a key follow one another: where one ends the next begins, unless the key was deleted between them.

use rusqlite::{Connection, Row};

use super::{Meta, Report, damaged, shown};
use crate::engine::Revision;

/// A value, and when it was the newest of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    key: Vec<u8>,
    create: Revision,
    /// The revision that put it, and the place in it.
    begin: (Revision, i64),
    version: i64,
    end: End,
}

/// How a value ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is live.
    Never,
    /// At the revision and the place in it; by a deletion?
    At((Revision, i64), bool),
}

/// Checks each value, and that it goes with the one before it.
pub(super) fn check(connection: &Connection, meta: Meta, report: &mut Report<'_>) -> rusqlite::Result<()> {
    // A live value comes after all that its key had before.
    let sql = "
        SELECT key, create_revision, mod_revision, sub, version, end_revision, end_sub, deleted, 0 AS live FROM history
        UNION ALL
        SELECT key, create_revision, mod_revision, sub, version, 0, 0, 0, 1 FROM current
        ORDER BY key, live, end_revision, end_sub";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut previous: Option<Span> = None;
    loop {
        let span = rows.next()?.map(span).transpose()?;
        let before = previous.take();
        if let Some(before) = &before
            && span.as_ref().is_none_or(|span| span.key != before.key)
            && let End::At((end, _), false) = before.end
        {
            let what = format!("it ends at revision {end}, but what replaced it is missing");
            report(damaged(format!("key {} at {}: {what}", shown(&before.key), before.begin.0)));
        }
        let Some(span) = span else { return Ok(()) };
        let before = before.filter(|before| before.key == span.key);
        let wrong = span.wrong(meta).or_else(|| span.wrong_after(before.as_ref(), meta));
        if let Some(what) = wrong {
            report(damaged(format!("key {} at {}: {what}", shown(&span.key), span.begin.0)));
        }
        previous = Some(span);
    }
}

fn span(row: &Row<'_>) -> rusqlite::Result<Span> {
    let live: bool = row.get(8)?;
    let end = if live { End::Never } else { End::At((row.get(5)?, row.get(6)?), row.get(7)?) };
    let begin = (row.get(2)?, row.get(3)?);
    Ok(Span { key: row.get(0)?, create: row.get(1)?, begin, version: row.get(4)?, end })
}

impl Span {
    /// What is wrong with the value alone.
    fn wrong(&self, meta: Meta) -> Option<String> {
        let Self { key, create, begin, version, end } = self;
        let last = if let End::At((end, _), _) = end { *end } else { begin.0 };
        if key.is_empty() {
            return Some("the key is empty".to_owned());
        }
        if !(1..=begin.0).contains(create) || *version < 1 || begin.1 < 0 {
            return Some(format!("create revision {create}, version {version}, place {}", begin.1));
        }
        if (*version == 1) != (*create == begin.0) {
            return Some(format!("version {version}, but created at {create}"));
        }
        // A store that is being loaded is at revision 0.
        if last > meta.revision && meta.revision > 0 {
            return Some(format!("revision {last}, but the store is at {}", meta.revision));
        }
        match end {
            End::At(end, _) if end <= begin => Some(format!("it ends at revision {}, before it begins", end.0)),
            _ => None,
        }
    }

    /// What is wrong between the value and the one before it, if that is there still.
    fn wrong_after(&self, before: Option<&Self>, meta: Meta) -> Option<String> {
        let Some(before) = before else {
            // Compacted: what it replaced ended when it began.
            let lost = self.version > 1 && self.begin.0 > meta.compact_revision;
            return lost.then(|| "what it replaced is missing".to_owned());
        };
        match before.end {
            End::Never => Some("it is newer than the live value".to_owned()),
            End::At(end, true) if end >= self.begin => {
                Some(format!("the key was deleted later, at revision {}", end.0))
            }
            End::At(_, true) if self.version != 1 => Some(format!("version {} after a deletion", self.version)),
            End::At(end, false) if end != self.begin => Some(format!("the value before it ends at revision {}", end.0)),
            End::At(_, false) if (self.create, self.version) != (before.create, before.version + 1) => Some(format!(
                "created at {}, version {}; the value before it: {}, {}",
                self.create, self.version, before.create, before.version
            )),
            End::At(..) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const META: Meta = Meta { revision: 20, compact_revision: 5 };

    fn value(create: i64, begin: i64, version: i64, end: End) -> Span {
        Span { key: b"a".to_vec(), create, begin: (begin, 0), version, end }
    }

    fn until(end: i64, deleted: bool) -> End {
        End::At((end, 0), deleted)
    }

    #[test]
    fn a_value_alone() {
        let table = [
            (value(2, 2, 1, End::Never), ""),
            (value(2, 7, 3, until(20, true)), ""),
            (value(2, 7, 1, End::Never), "version 1, but created at 2"),
            (value(7, 7, 2, End::Never), "version 2, but created at 7"),
            (value(8, 7, 2, End::Never), "create revision 8"),
            (value(0, 7, 2, End::Never), "create revision 0"),
            (value(2, 21, 3, End::Never), "revision 21, but the store is at 20"),
            (value(2, 7, 3, until(21, false)), "revision 21, but the store is at 20"),
            (value(2, 7, 3, until(7, false)), "before it begins"),
            (Span { key: vec![], ..value(2, 2, 1, End::Never) }, "the key is empty"),
        ];
        for (span, expected) in table {
            let wrong = span.wrong(META).unwrap_or_default();
            assert_eq!(wrong.is_empty(), expected.is_empty(), "{span:?}: {wrong}");
            assert!(wrong.contains(expected), "{span:?}: {wrong}");
        }
    }

    #[test]
    fn one_after_the_other() {
        let table = [
            (None, value(2, 5, 3, End::Never), ""),
            (None, value(2, 6, 3, End::Never), "what it replaced is missing"),
            (Some(value(2, 2, 1, until(6, false))), value(2, 6, 2, End::Never), ""),
            (Some(value(2, 2, 1, until(6, true))), value(8, 8, 1, End::Never), ""),
            (Some(value(2, 2, 1, until(6, false))), value(2, 7, 2, End::Never), "ends at revision 6"),
            (Some(value(2, 2, 1, until(8, false))), value(2, 7, 2, End::Never), "ends at revision 8"),
            (Some(value(2, 2, 1, until(6, false))), value(2, 6, 3, End::Never), "version 3"),
            (Some(value(2, 2, 1, until(6, false))), value(3, 6, 2, End::Never), "created at 3"),
            (Some(value(2, 2, 1, until(8, true))), value(7, 7, 1, End::Never), "deleted later"),
            (Some(value(2, 2, 1, until(6, true))), value(2, 8, 2, End::Never), "version 2 after a deletion"),
        ];
        for (before, span, expected) in table {
            let wrong = span.wrong_after(before.as_ref(), META).unwrap_or_default();
            assert_eq!(wrong.is_empty(), expected.is_empty(), "{span:?}: {wrong}");
            assert!(wrong.contains(expected), "{span:?}: {wrong}");
        }
    }
}
