//! Builds anew what is derived from the live values.

use std::collections::BTreeMap;

use super::pages::each_page;
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
use crate::sql::session::{Delta, Head, IndexChange, IndexState, Live, NewHead, PostingRow, Rebuild};

/// Builds all of it anew, in one transaction.
pub(super) fn rebuild(session: &mut dyn Rebuild) -> Result<()> {
    let rebuilt = within_transaction(session);
    if rebuilt.is_err() {
        session.rollback();
    }
    rebuilt
}

fn within_transaction(session: &mut dyn Rebuild) -> Result<()> {
    let Head { revision, batch, now, .. } = session.begin(&Footprint::default())?.head;
    session.clear_derived()?;
    first_pass(session)?;
    let catalog = declare::catalog(&session.indexes()?);
    each_page(session, &mut |session, page| {
        let rows: Vec<RowChange> = page.iter().map(|live| row(&catalog, live)).collect();
        derive(session, &rows)
    })?;
    // Not before all owners have their dependents.
    each_page(session, &mut |session, page| {
        let mut heard = Vec::new();
        for live in page {
            let Facets { node, hidden, .. } = facets(&Catalog::default(), &live.key, &live.value);
            let seen = node.as_ref().map(|node| Seen { node, labelled: hidden });
            signals(&Rules::default(), (&live.key.into(), revision), None, seen, &mut heard);
        }
        let started = hear(session, &heard)?;
        session.tell(&started, now, None)
    })?;
    let head = NewHead { revision, compact_revision: 0, now, batch };
    session.apply(&Delta::default(), Some(&head)).map(drop)
}

/// Counts the directories, and makes the indexes that the stored definitions declare.
fn first_pass(session: &mut dyn Rebuild) -> Result<()> {
    let (mut directories, mut declared) = (BTreeMap::<Vec<u8>, [i64; 3]>::new(), Vec::new());
    each_page(session, &mut |_, page| {
        for Live { key, value, .. } in page {
            let more = counts(Some(&facets(&Catalog::default(), &key, &value)));
            let counted = directories.entry(directory(&key).to_vec()).or_default();
            *counted = std::array::from_fn(|at| counted[at] + more[at]);
            if is_of_definitions(directory(&key)) {
                declared.extend(declaration(&key, Some(&value)));
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
fn derive(session: &mut dyn Rebuild, rows: &[RowChange]) -> Result<()> {
    let of = |row: &RowChange| row.after.as_ref().map(|(_, facets)| facets).cloned().unwrap_or_default();
    let derived: Vec<(&[u8], Facets)> = rows.iter().map(|row| (&row.key[..], of(row))).collect();
    let mut names: Vec<&str> = derived.iter().flat_map(|(_, facets)| &facets.labels).map(|(name, _)| &**name).collect();
    names.sort_unstable();
    names.dedup();
    let numbers = session.labels(&names)?;
    let mut delta = Delta { hides: derived.iter().any(|(_, facets)| facets.hidden), ..Delta::default() };
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
