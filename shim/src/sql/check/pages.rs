//! Rows are read in pages.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::catalog::Catalog;
use crate::engine::facets;
use crate::engine::store::{Facets, Row};
use crate::sql::failure::Result;
use crate::sql::session::{Audit, Live};

/// The most rows that are read at a time.
pub(super) const PAGE: usize = 1000;
/// How many of them if values are needed whose size is not known.
pub(super) const LOOKED_UP: usize = 100;
/// About how many bytes of values are read at a time.
const PAGE_BYTES: usize = 16 << 20;

/// Gets pages of rows, and may read more.
pub(super) type Look<'a, T> = dyn FnMut(&mut dyn Audit, Vec<T>) -> Result<()> + 'a;

/// Calls `look` for pages of all live rows, in order.
pub(super) fn each_page<S: Audit + ?Sized>(
    audit: &mut S,
    look: &mut dyn FnMut(&mut S, Vec<Live>) -> Result<()>,
) -> Result<()> {
    let (mut after, mut limit) = (Vec::new(), LOOKED_UP);
    loop {
        let page = audit.live_after(&after, limit)?;
        let Some(last) = page.last() else { return Ok(()) };
        after.clone_from(&last.key);
        // As many rows as should fit, if the next ones are like these.
        let bytes: usize = page.iter().map(|live| live.value.len() + 1).sum();
        limit = (PAGE_BYTES * page.len() / bytes).clamp(1, PAGE);
        look(audit, page)?;
    }
}

/// What the live values of some keys say.
pub(super) fn facets_of<'a>(
    audit: &mut dyn Audit,
    keys: impl Iterator<Item = &'a [u8]>,
    catalog: &Catalog,
) -> Result<BTreeMap<Vec<u8>, Facets>> {
    let keys: BTreeSet<&[u8]> = keys.collect();
    let keys: Vec<&[u8]> = keys.into_iter().collect();
    let rows = audit.rows(&keys)?.into_iter();
    Ok(rows.map(|Row { kv, .. }| (kv.key.to_vec(), facets(catalog, &kv.key, &kv.value))).collect())
}
