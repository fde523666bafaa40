//! The values of a key follow one another: where one ends the next begins, unless the key was deleted between them.

use super::{Report, damaged, shown};
use crate::sql::failure::Result;
use crate::sql::session::{Audit, Head, Span};

/// Checks each value, and that it goes with the one before it.
pub(super) fn check(audit: &mut dyn Audit, head: Head, report: &mut Report<'_>) -> Result<()> {
    let mut previous: Option<Span> = None;
    audit.spans(&mut |span| {
        let before = previous.take();
        if before.as_ref().is_some_and(|before| before.key != span.key) {
            ends(before.as_ref(), report);
        }
        let before = before.filter(|before| before.key == span.key);
        if let Some(what) = span.wrong(head).or_else(|| span.wrong_after(before.as_ref(), head)) {
            report(damaged(format!("key {} at {}: {what}", shown(&span.key), span.begin.0)));
        }
        previous = Some(span);
    })?;
    ends(previous.as_ref(), report);
    Ok(())
}

/// The last value of a key is live or was deleted.
fn ends(last: Option<&Span>, report: &mut Report<'_>) {
    if let Some(Span { key, begin, end: Some(((end, _), false)), .. }) = last {
        let what = format!("it ends at revision {end}, but what replaced it is missing");
        report(damaged(format!("key {} at {}: {what}", shown(key), begin.0)));
    }
}

impl Span {
    /// What is wrong with the value alone.
    fn wrong(&self, head: Head) -> Option<String> {
        let Self { key, create, begin, version, end } = self;
        let last = end.map_or(begin.0, |((end, _), _)| end);
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
        if last > head.revision && head.revision > 0 {
            return Some(format!("revision {last}, but the store is at {}", head.revision));
        }
        match end {
            Some((end, _)) if end <= begin => Some(format!("it ends at revision {}, before it begins", end.0)),
            _ => None,
        }
    }

    /// What is wrong between the value and the one before it, if that is there still.
    fn wrong_after(&self, before: Option<&Self>, head: Head) -> Option<String> {
        let Some(before) = before else {
            // Compacted: what it replaced ended when it began.
            let lost = self.version > 1 && self.begin.0 > head.compact_revision;
            return lost.then(|| "what it replaced is missing".to_owned());
        };
        match before.end {
            None => Some("it is newer than the live value".to_owned()),
            Some((end, true)) if end >= self.begin => Some(format!("the key was deleted later, at revision {}", end.0)),
            Some((_, true)) if self.version != 1 => Some(format!("version {} after a deletion", self.version)),
            Some((end, false)) if end != self.begin => Some(format!("the value before it ends at revision {}", end.0)),
            Some((_, false)) if (self.create, self.version) != (before.create, before.version + 1) => Some(format!(
                "created at {}, version {}; the value before it: {}, {}",
                self.create, self.version, before.create, before.version
            )),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::StoreTime;

    type End = Option<((i64, i64), bool)>;

    const HEAD: Head = Head { revision: 20, compact_revision: 5, now: StoreTime::from_millis(0), batch: 0 };

    fn value(create: i64, begin: i64, version: i64, end: End) -> Span {
        Span { key: b"a".to_vec(), create, begin: (begin, 0), version, end }
    }

    fn until(end: i64, deleted: bool) -> End {
        Some(((end, 0), deleted))
    }

    #[test]
    fn a_value_alone() {
        let table = [
            (value(2, 2, 1, None), ""),
            (value(2, 7, 3, until(20, true)), ""),
            (value(2, 7, 1, None), "version 1, but created at 2"),
            (value(7, 7, 2, None), "version 2, but created at 7"),
            (value(8, 7, 2, None), "create revision 8"),
            (value(0, 7, 2, None), "create revision 0"),
            (value(2, 21, 3, None), "revision 21, but the store is at 20"),
            (value(2, 7, 3, until(21, false)), "revision 21, but the store is at 20"),
            (value(2, 7, 3, until(7, false)), "before it begins"),
            (Span { key: vec![], ..value(2, 2, 1, None) }, "the key is empty"),
        ];
        for (span, expected) in table {
            let wrong = span.wrong(HEAD).unwrap_or_default();
            assert_eq!(wrong.is_empty(), expected.is_empty(), "{span:?}: {wrong}");
            assert!(wrong.contains(expected), "{span:?}: {wrong}");
        }
    }

    #[test]
    fn one_after_the_other() {
        let table = [
            (None, value(2, 5, 3, None), ""),
            (None, value(2, 6, 3, None), "what it replaced is missing"),
            (Some(value(2, 2, 1, until(6, false))), value(2, 6, 2, None), ""),
            (Some(value(2, 2, 1, until(6, true))), value(8, 8, 1, None), ""),
            (Some(value(2, 2, 1, until(6, false))), value(2, 7, 2, None), "ends at revision 6"),
            (Some(value(2, 2, 1, until(8, false))), value(2, 7, 2, None), "ends at revision 8"),
            (Some(value(2, 2, 1, until(6, false))), value(2, 6, 3, None), "version 3"),
            (Some(value(2, 2, 1, until(6, false))), value(3, 6, 2, None), "created at 3"),
            (Some(value(2, 2, 1, until(8, true))), value(7, 7, 1, None), "deleted later"),
            (Some(value(2, 2, 1, until(6, true))), value(2, 8, 2, None), "version 2 after a deletion"),
        ];
        for (before, span, expected) in table {
            let wrong = span.wrong_after(before.as_ref(), HEAD).unwrap_or_default();
            assert_eq!(wrong.is_empty(), expected.is_empty(), "{span:?}: {wrong}");
            assert!(wrong.contains(expected), "{span:?}: {wrong}");
        }
    }
}
