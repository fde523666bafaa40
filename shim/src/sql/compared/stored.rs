//! Everything that a database holds, in words that are the same for each of them.
//!
//! What may differ is left out: the numbers of names, field indexes, tasks and tombstones (their order stays), how late
//! it is, the number of the last batch, values that a compaction freed but did not remove yet, entries of a field index
//! that is being removed, and the calendar's seconds in a `deletionTimestamp`.

use std::collections::BTreeMap;

use super::Whole;
use super::steps::{LEASES, keys, names, uids};
use crate::engine::Revision;
use crate::gc::{Task, Uid};
use crate::sql::failure::Result;
use crate::sql::index::names::index_of;
use crate::sql::session::{Head, IndexState, Log, Posting, Span, StoredEdge, StoredIndex, Which};

/// How many rows a page has: few, so that there are several.
const PAGE: usize = 7;
/// More of anything than there is.
const ALL: usize = 100_000;

/// All of it, a line for each row.
pub(super) fn stored(whole: &mut dyn Whole) -> Result<Vec<String>> {
    let head = whole.snapshot()?;
    let mut lines = vec![format!("head {} {}", head.revision, head.compact_revision)];
    lines.extend(values(whole)?);
    lines.extend(history(whole, head)?);
    lines.extend(directories(whole)?);
    lines.extend(entries(whole)?);
    lines.extend(owners(whole)?);
    lines.extend(queue(whole)?);
    lines.extend(leases(whole)?);
    whole.end();
    Ok(lines.iter().map(|line| timeless(line)).collect())
}

/// The text without the digits of the moments at which objects were marked as being deleted.
pub(super) fn timeless(text: &str) -> String {
    const MARK: &str = "deletionTimestamp";
    let mut parts = text.split(MARK);
    let mut blanked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        blanked.push_str(MARK);
        let digits = part.char_indices().map(|(at, c)| if at < 30 && c.is_ascii_digit() { '0' } else { c });
        blanked.extend(digits);
    }
    blanked
}

/// The live rows, with what is derived from their values.
fn values(whole: &mut dyn Whole) -> Result<Vec<String>> {
    let (mut lines, mut after) = (Vec::new(), Vec::new());
    loop {
        let page = whole.live_after(&after, PAGE)?;
        let Some(last) = page.last() else { return Ok(lines) };
        after.clone_from(&last.key);
        let keys: Vec<&[u8]> = page.iter().map(|live| &live.key[..]).collect();
        let mut rows = whole.rows(&keys)?;
        rows.sort_by(|a, b| a.kv.key.cmp(&b.kv.key));
        assert_eq!(rows.len(), page.len(), "each row is found by its key");
        for (live, row) in page.iter().zip(rows) {
            assert_eq!((&live.key[..], &live.value[..]), (&row.kv.key[..], &row.kv.value[..]));
            let uid = live.uid.as_deref().and_then(Uid::from_blob);
            lines.push(format!("live {row:?} hidden {:?} {uid:?}", live.hidden));
        }
    }
}

/// What was superseded, and all changes in their order.
fn history(whole: &mut dyn Whole, head: Head) -> Result<Vec<String>> {
    let compacted = head.compact_revision;
    let freed =
        |span: &Span| span.end.is_some_and(|((end, _), deleted)| end < compacted || (end == compacted && !deleted));
    let mut lines = Vec::new();
    whole.spans(&mut |span| {
        if !freed(&span) {
            lines.push(format!("span {span:?}"));
        }
    })?;
    let (after, until) = ((0, -1), Revision::MAX);
    let log = Log { range: None, after, until, above: compacted, limit: ALL, previous: true };
    for mut change in whole.log(&log)? {
        // What was there before a change that is compacted is freed.
        change.previous = change.previous.filter(|_| change.at.0 > compacted);
        lines.push(format!("change {change:?}"));
    }
    Ok(lines)
}

fn directories(whole: &mut dyn Whole) -> Result<Vec<String>> {
    let (mut lines, mut after): (_, Option<Vec<u8>>) = (Vec::new(), None);
    loop {
        let page = whole.directories_after(after.as_deref(), PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(lines) };
        after = Some(last.clone());
        lines.extend(page.iter().map(|(path, counts)| format!("directory {} {counts:?}", path.escape_ascii())));
    }
}

/// The field indexes, and the entries of labels and fields.
fn entries(whole: &mut dyn Whole) -> Result<Vec<String>> {
    let indexes = whole.indexes()?;
    let shown = |stored: &StoredIndex| {
        let StoredIndex { index, state, cursor, objects } = stored;
        let cursor = cursor.escape_ascii();
        format!("{:?} {} {} {state:?} up to {cursor}, {objects}", index.prefix, index.api_version, index.field)
    };
    let mut lines: Vec<String> = indexes.iter().map(|stored| format!("index {}", shown(stored))).collect();
    let (mut entries, mut after) = (Vec::new(), Posting { name: i64::MIN, value: String::new(), key: Vec::new() });
    loop {
        let page = whole.postings_after(&after, PAGE)?;
        let Some(last) = page.last() else { break };
        after.clone_from(last);
        for Posting { name, value, key } in page {
            let index = indexes.iter().find(|stored| name < 0 && stored.index.id == index_of(name));
            let of = match index {
                Some(stored) if stored.state == IndexState::Dropping => continue,
                Some(stored) => format!("{} {}", shown(stored), if name % 2 == 0 { "value" } else { "foreign" }),
                None => format!("{:?}", whole.label_of(name)?),
            };
            entries.push(format!("entry {of} = {value:?} {}", key.escape_ascii()));
        }
    }
    entries.sort();
    lines.extend(entries);
    for name in names() {
        lines.push(format!("name {name} has a number: {}", whole.label(name)?.is_some()));
    }
    Ok(lines)
}

fn owners(whole: &mut dyn Whole) -> Result<Vec<String>> {
    let (mut lines, mut after) = (Vec::new(), StoredEdge::default());
    loop {
        let page = whole.edges_after(&after, PAGE)?;
        let Some(last) = page.last() else { break };
        after.clone_from(last);
        lines.extend(page.iter().map(|edge| format!("owner {:?} {edge:?}", Uid::from_blob(&edge.owner))));
    }
    lines.push(format!("unknown owners {:?}", whole.unknown_owners()?));
    Ok(lines)
}

/// The collector's tasks in order of their numbers, and the objects that it remembers.
fn queue(whole: &mut dyn Whole) -> Result<Vec<String>> {
    let uids = uids();
    let mut tasks: BTreeMap<i64, Task> = BTreeMap::new();
    for uid in &uids {
        tasks.extend(whole.tasks(Which::Of(uid), ALL)?.into_iter().map(|task| (task.id, task)));
    }
    let shown = |task: &Task| format!("task {:?}", Task { id: 0, ..task.clone() });
    let mut lines: Vec<String> = tasks.values().map(shown).collect();
    let mut status = whole.queue()?;
    assert_eq!(status.tasks.iter().map(|(.., count)| count).sum::<i64>(), tasks.len() as i64, "no task is of another");
    status.tasks.sort();
    lines.push(format!("queue {status:?}, next due {:?}", whole.next_due()?));
    let borrowed: Vec<&Uid> = uids.iter().collect();
    lines.extend(whole.tombstones(&borrowed)?.iter().map(|tombstone| format!("tombstone {tombstone:?}")));
    for key in keys() {
        let deleted = whole.deleted(&key)?;
        lines.extend(deleted.map(|deleted| format!("deleted {} {deleted:?}", key.escape_ascii())));
    }
    Ok(lines)
}

/// The leases, and the keys that they have.
fn leases(whole: &mut dyn Whole) -> Result<Vec<String>> {
    let mut lines: Vec<String> = whole.leases(0)?.iter().map(|lease| format!("{lease:?}")).collect();
    for id in LEASES {
        lines.push(format!("lease {id} has {:?}", whole.lease_keys(id)?));
    }
    Ok(lines)
}
