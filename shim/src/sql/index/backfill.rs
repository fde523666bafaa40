//! Builds field indexes of objects that were there before, and removes the entries of those that are gone: in steps
//! between commits.
//!
//! Each step is a transaction that moves the cursor as well, so a kill loses nothing. Writes maintain the entries of an
//! index from its declaration on, so a step may find some of its own there already.

use std::ops::ControlFlow;

use super::declare::measure;
use super::names::attribute;
use crate::engine::catalog::{Catalog, FieldEntry, FieldIndex};
use crate::engine::metrics::Metrics;
use crate::engine::store::Footprint;
use crate::engine::{KeyRange, RangeEnd, Revision, facets};
use crate::sql::failure::Result;
use crate::sql::select::directories::end_of;
use crate::sql::session::{
    Commit, Delta, Find, Head, IndexChange, IndexState, NewHead, PostingRow, Source, StoredIndex,
};

/// Does a step over at most so many objects or entries; returns whether there is more to do. After a failure the
/// transaction is still to be rolled back.
pub(in crate::sql) fn step(session: &mut dyn Commit, metrics: &Metrics, limit: usize) -> Result<bool> {
    let head = session.begin(&Footprint::default())?.head;
    let indexes = session.indexes()?;
    if let Some(gone) = indexes.iter().find(|stored| stored.state == IndexState::Dropping) {
        session.rollback();
        session.remove_index(gone.index.id, limit)?;
        measure(&indexes, &[], metrics);
        return Ok(true);
    }
    let Some(first) = indexes.iter().find(|stored| stored.state == IndexState::Building) else {
        session.rollback();
        measure(&indexes, &[], metrics);
        return Ok(false);
    };
    let together: Vec<&StoredIndex> = indexes.iter().filter(|stored| goes_with(first, stored)).collect();
    let changes = build(session, &head, &together, limit)?;
    measure(&indexes, &changes, metrics);
    Ok(true)
}

/// Whether two indexes can be built in one pass over the objects.
fn goes_with(first: &StoredIndex, other: &StoredIndex) -> bool {
    let of = |stored: &StoredIndex| (stored.state, stored.index.prefix.clone(), stored.index.api_version.clone());
    of(first) == of(other) && first.cursor == other.cursor
}

/// Adds the entries of the next objects, and says how far the indexes are.
fn build(session: &mut dyn Commit, head: &Head, together: &[&StoredIndex], limit: usize) -> Result<Vec<IndexChange>> {
    let Some(first) = together.first() else { return Ok(Vec::new()) };
    let catalog = Catalog::new(together.iter().map(|stored| stored.index.clone()).collect());
    let behind = [&first.cursor[..], b"\0"].concat();
    let range = KeyRange { start: behind.into(), end: RangeEnd::Before(end_of(&first.index.prefix).into()) };
    let find =
        Find { range: &range, source: &Source::Scan, probes: &[], until: Revision::MAX, values: true, wanted: limit };
    let mut entries: Vec<(FieldEntry, usize)> = Vec::new();
    let mut keys: Vec<Vec<u8>> = Vec::new();
    session.find(&find, &mut |row| {
        let of_row = facets(&catalog, row.key, row.value).fields;
        entries.extend(of_row.into_iter().map(|entry| (entry, keys.len())));
        keys.push(row.key.to_vec());
        if keys.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    let mut postings: Vec<PostingRow<'_>> = Vec::with_capacity(entries.len());
    for (entry, at) in &entries {
        let (name, value) = attribute(entry);
        postings.push(PostingRow { name, value, key: &keys[*at] });
    }
    // In the order of the index, so that neighbours are written together.
    postings.sort_unstable();
    let state = if keys.len() < limit { IndexState::Ready } else { IndexState::Building };
    let done = i64::try_from(keys.len()).unwrap_or(i64::MAX);
    let set = |stored: &&StoredIndex| IndexChange::Set {
        id: stored.index.id,
        state,
        cursor: keys.last().unwrap_or(&stored.cursor).clone(),
        objects: stored.objects + done,
    };
    let indexes: Vec<IndexChange> = together.iter().map(set).collect();
    let delta = Delta { postings_new: postings, indexes: indexes.clone(), ..Delta::default() };
    let Head { revision, now, batch, .. } = *head;
    session.apply(&delta, Some(&NewHead { revision, compact_revision: 0, now, batch }))?;
    if state == IndexState::Ready {
        for StoredIndex { index, objects, .. } in together {
            let FieldIndex { prefix, api_version, field, .. } = index;
            let (prefix, objects) = (prefix.escape_ascii(), objects + done);
            tracing::info!(%prefix, api_version, field, objects, "an index of a field is ready");
        }
    }
    Ok(indexes)
}
