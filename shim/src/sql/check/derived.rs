//! What is derived from the live values, compared with them.

use std::collections::BTreeMap;

use super::directories::Directories;
use super::indexes::Indexes;
use super::owners::Owners;
use super::pages::{LOOKED_UP, Look, PAGE, each_page, facets_of};
use super::{Report, shown, stale};
use crate::engine::facets;
use crate::engine::store::Facets;
use crate::sql::failure::Result;
use crate::sql::index::names::attribute;
use crate::sql::session::{Audit, Live, Posting, PostingRow};

/// How many names of labels are kept with their numbers.
const NAMES: usize = 10_000;

/// Compares all of it; returns how many live values there are.
pub(in crate::sql) fn check(audit: &mut dyn Audit, report: &mut Report<'_>) -> Result<u64> {
    let mut indexes = Indexes::load(audit)?;
    let (mut directories, mut owners, mut names) = (Directories::default(), Owners::default(), Names::default());
    let (mut keys, mut entries) = (0, 0);
    each_page(audit, &mut |audit, page| {
        let mut rows = Vec::with_capacity(page.len());
        for live in page {
            let facets = facets(&indexes.catalog, &live.key, &live.value);
            indexes.note(&live.key, &live.value);
            directories.add(&live.key, &facets);
            hidden(&live, &facets, report);
            rows.push((Live { value: Vec::new(), ..live }, facets));
        }
        keys += rows.len() as u64;
        entries += missing(audit, &indexes, &mut names, &rows, report)?;
        owners.check(audit, &rows, report)
    })?;
    indexes.compare(report);
    superfluous(audit, &indexes, entries, report)?;
    owners.finish(audit, report)?;
    directories.compare(audit, report)?;
    Ok(keys)
}

fn hidden(live: &Live, facets: &Facets, report: &mut Report<'_>) {
    let expected = (!facets.opaque).then_some(facets.hidden);
    if live.hidden != expected {
        let (key, is) = (shown(&live.key), live.hidden);
        report(stale(format!("key {key}: hidden is {is:?} instead of {expected:?}")));
    }
}

/// The numbers of labels' names.
#[derive(Default)]
struct Names {
    known: BTreeMap<Box<str>, Option<i64>>,
}

impl Names {
    /// Learns those of a page.
    fn learn(&mut self, audit: &mut dyn Audit, rows: &[(Live, Facets)]) -> Result<()> {
        if self.known.len() > NAMES {
            self.known.clear();
        }
        let names = rows.iter().flat_map(|(_, facets)| &facets.labels).map(|(name, _)| name);
        for name in names {
            if !self.known.contains_key(name) {
                self.known.insert(name.clone(), audit.label(name)?);
            }
        }
        Ok(())
    }

    fn of(&self, name: &str) -> Option<i64> {
        self.known.get(name).copied().flatten()
    }
}

/// Tells of the entries that the rows should have in the index and have not; returns how many they have.
fn missing(
    audit: &mut dyn Audit,
    indexes: &Indexes,
    names: &mut Names,
    rows: &[(Live, Facets)],
    report: &mut Report<'_>,
) -> Result<usize> {
    names.learn(audit, rows)?;
    let mut expected = Vec::new();
    for (Live { key, .. }, facets) in rows {
        for (name, value) in &facets.labels {
            // A name without a number has no entries, and no entry has the number 0.
            expected.push(PostingRow { name: names.of(name).unwrap_or(0), value, key });
        }
        for (name, value) in facets.fields.iter().map(attribute) {
            expected.push(PostingRow { name, value, key });
        }
    }
    let there = audit.has_postings(&expected)?;
    let mut found = there.iter().copied();
    for (Live { key, .. }, facets) in rows {
        for (name, value) in &facets.labels {
            if !found.next().unwrap_or_default() {
                report(stale(format!("key {}: the index misses the label {name}={value}", shown(key))));
            }
        }
        for entry in &facets.fields {
            if !found.next().unwrap_or_default() && indexes.must_have(entry, key) {
                let field = indexes.shown(entry);
                report(stale(format!("key {}: the index misses the field {field}", shown(key))));
            }
        }
    }
    Ok(there.into_iter().filter(|there| *there).count())
}

/// Tells of the entries of the index that no live value has, if there are more than those that were found.
fn superfluous(audit: &mut dyn Audit, indexes: &Indexes, found: usize, report: &mut Report<'_>) -> Result<()> {
    let mut all = 0;
    each_posting(audit, PAGE, &mut |_, page| {
        // An index that is being removed has some entries left.
        all += page.iter().filter(|posting| !indexes.is_dropping(posting.name)).count();
        Ok(())
    })?;
    if all == found {
        return Ok(());
    }
    let mut label = (0, String::new());
    each_posting(audit, LOOKED_UP, &mut |audit, page| {
        let facets = facets_of(audit, page.iter().map(|posting| &posting.key[..]), &indexes.catalog)?;
        for Posting { name, value, key } in &page {
            let facets = facets.get(&key[..]);
            if *name < 0 {
                let fields = facets.into_iter().flat_map(|facets| &facets.fields);
                if !indexes.is_dropping(*name) && !fields.map(attribute).any(|entry| entry == (*name, value)) {
                    let what = format!("it has not the value {value:?} of the entry {name} in an index of a field");
                    report(stale(format!("key {}: {what}", shown(key))));
                }
                continue;
            }
            if label.0 != *name {
                label = (*name, audit.label_of(*name)?.unwrap_or_default());
            }
            let mut labels = facets.into_iter().flat_map(|facets| &facets.labels);
            if !labels.any(|(name, has)| **name == *label.1 && **has == **value) {
                let what = format!("it has not the label {}={value} of the index", label.1);
                report(stale(format!("key {}: {what}", shown(key))));
            }
        }
        Ok(())
    })
}

fn each_posting(audit: &mut dyn Audit, limit: usize, look: &mut Look<'_, Posting>) -> Result<()> {
    let mut after = Posting { name: i64::MIN, value: String::new(), key: Vec::new() };
    loop {
        let page = audit.postings_after(&after, limit)?;
        let Some(last) = page.last() else { return Ok(()) };
        after.clone_from(last);
        look(audit, page)?;
    }
}
