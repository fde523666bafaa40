//! Builds anew what is derived from the live values.

use std::collections::BTreeMap;

use super::pages::LOOKED_UP;
use crate::engine::catalog::{Catalog, declaration, is_of_definitions};
use crate::engine::facets;
use crate::engine::store::{Facets, Footprint, Row, RowChange};
use crate::gc::{Rules, Seen, signals};
use crate::sql::collector::{edges, hear};
use crate::sql::directory;
use crate::sql::failure::Result;
use crate::sql::index::declare;
use crate::sql::index::names::attribute;
use crate::sql::select::directories::counts;
use crate::sql::session::{Audit, Commit, Delta, Head, IndexChange, IndexState, Live, NewHead, PostingRow};

/// A database whose derived data can be taken away and written again, within one transaction.
pub(in crate::sql) trait Derive: Commit + Audit {
    /// Empties the index, the tables of directories, field indexes and owners, and gives no row a UID.
    fn clear_derived(&mut self) -> Result<()>;

    /// Sets what live rows say of their values.
    fn set_derived(&mut self, rows: &[(&[u8], &Facets)]) -> Result<()>;
}

/// Builds all of it anew.
pub(in crate::sql) fn rebuild(session: &mut dyn Derive) -> Result<()> {
    let Head { revision, batch, now, .. } = session.begin(&Footprint::default())?.head;
    session.clear_derived()?;
    first_pass(session)?;
    let catalog = declare::catalog(&session.indexes()?);
    let (rules, mut heard) = (Rules::default(), Vec::new());
    each_page(session, &mut |session, page| {
        let rows: Vec<RowChange> = page.iter().map(|live| row(&catalog, live)).collect();
        for RowChange { key, after, .. } in &rows {
            let facets = after.as_ref().map(|(_, facets)| facets);
            if let Some((facets, node)) = facets.and_then(|facets| Some((facets, facets.node.as_ref()?))) {
                let seen = Seen { node, labelled: facets.hidden };
                signals(&rules, (key, revision), None, Some(seen), &mut heard);
            }
        }
        derive(session, &rows)
    })?;
    let started = hear(session, &heard)?;
    session.tell(&started, &NewHead { revision, compact_revision: 0, now, batch })
}

/// Counts the directories, and makes the indexes that the stored definitions declare.
fn first_pass(session: &mut dyn Derive) -> Result<()> {
    let (mut directories, mut declared) = (BTreeMap::<Vec<u8>, [i64; 3]>::new(), Vec::new());
    each_page(session, &mut |_, page| {
        for Live { key, value, .. } in page {
            let more = counts(Some(&facets(&Catalog::default(), key, value)));
            let counted = directories.entry(directory(key).to_vec()).or_default();
            *counted = std::array::from_fn(|at| counted[at] + more[at]);
            if is_of_definitions(directory(key)) {
                declared.extend(declaration(key, Some(value)));
            }
        }
        Ok(())
    })?;
    let directories: BTreeMap<&[u8], [i64; 3]> =
        directories.iter().map(|(path, counts)| (&path[..], *counts)).collect();
    let held = declare::held(session, &declared, &directories)?;
    let mut indexes = declare::changes(&[], &declared, &held);
    for index in &mut indexes {
        if let IndexChange::Add { state, .. } = index {
            *state = IndexState::Ready;
        }
    }
    session.apply(&Delta { directories, indexes, ..Delta::default() }, None).map(drop)
}

fn row(catalog: &Catalog, live: &Live) -> RowChange {
    let facets = facets(catalog, &live.key, &live.value);
    RowChange { key: live.key.clone().into(), before: None, after: Some((Row::default(), facets)) }
}

/// Writes what is derived of some rows.
fn derive(session: &mut dyn Derive, rows: &[RowChange]) -> Result<()> {
    let of = |row: &RowChange| row.after.as_ref().map(|(_, facets)| facets).cloned().unwrap_or_default();
    let derived: Vec<(&[u8], Facets)> = rows.iter().map(|row| (&row.key[..], of(row))).collect();
    let mut names: Vec<&str> = derived.iter().flat_map(|(_, facets)| &facets.labels).map(|(name, _)| &**name).collect();
    names.sort_unstable();
    names.dedup();
    let numbers = session.labels(&names)?;
    let mut delta = Delta::default();
    for (key, facets) in &derived {
        for (name, value) in &facets.labels {
            if let Ok(at) = names.binary_search(&&**name) {
                delta.postings_new.push(PostingRow { name: numbers[at], value, key });
            }
        }
        for (name, value) in facets.fields.iter().map(attribute) {
            delta.postings_new.push(PostingRow { name, value, key });
        }
    }
    edges(rows, &mut delta);
    session.set_derived(&derived.iter().map(|(key, facets)| (*key, facets)).collect::<Vec<_>>())?;
    session.apply(&delta, None).map(drop)
}

/// Gets pages of live rows, and may write what is derived of them.
type Look<'a> = dyn FnMut(&mut dyn Derive, &[Live]) -> Result<()> + 'a;

fn each_page(session: &mut dyn Derive, look: &mut Look<'_>) -> Result<()> {
    let mut last = Vec::new();
    loop {
        let page = session.live_after(&last, LOOKED_UP)?;
        let Some(end) = page.last() else { return Ok(()) };
        last.clone_from(&end.key);
        look(session, &page)?;
    }
}
