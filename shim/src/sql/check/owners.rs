//! What the collector derives from the live values: the column `uid` and the table of owners.

use super::pages::{LOOKED_UP, Look, PAGE, facets_of};
use super::{Report, shown, stale};
use crate::engine::catalog::Catalog;
use crate::engine::store::Facets;
use crate::gc::Uid;
use crate::sql::Damage;
use crate::sql::failure::Result;
use crate::sql::session::{Audit, EdgeRow, Live, StoredEdge};

/// Compares both with the live values, page by page.
#[derive(Default)]
pub(super) struct Owners {
    /// How many rows of the table there should be and are.
    found: usize,
}

impl Owners {
    pub(super) fn check(
        &mut self,
        audit: &mut dyn Audit,
        rows: &[(Live, Facets)],
        report: &mut Report<'_>,
    ) -> Result<()> {
        for (Live { key, uid, .. }, facets) in rows {
            let expected = facets.node.as_ref().map(|node| node.uid.to_blob());
            if uid.as_deref() != expected.as_deref() {
                let is = uid.as_deref().and_then(Uid::from_blob);
                let is = is.map_or_else(|| "none".to_owned(), |uid| uid.to_string());
                report(wrong(key, &format!("its row has another UID than the object: {is}")));
            }
        }
        let expected: Vec<EdgeRow<'_>> = rows.iter().flat_map(|(live, facets)| edges(&live.key, facets)).collect();
        for (edge, is_there) in expected.iter().zip(audit.has_edges(&expected)?) {
            if is_there {
                self.found += 1;
            } else {
                report(wrong(edge.key, &format!("the table of owners misses {}", edge.owner)));
            }
        }
        Ok(())
    }

    /// Tells of the rows of the table that no live value has, if there are more than those that were found.
    pub(super) fn finish(self, audit: &mut dyn Audit, report: &mut Report<'_>) -> Result<()> {
        let mut all = 0;
        each_edge(audit, PAGE, &mut |_, page| {
            all += page.len();
            Ok(())
        })?;
        if all == self.found {
            return Ok(());
        }
        each_edge(audit, LOOKED_UP, &mut |audit, page| {
            let facets = facets_of(audit, page.iter().map(|edge| &edge.key[..]), &Catalog::default())?;
            for StoredEdge { owner, labelled, key, .. } in &page {
                let facets = facets.get(&key[..]);
                let owners = facets.and_then(|facets| facets.node.as_ref()).map(|node| &node.owners);
                let is_owner = owners.is_some_and(|owners| owners.iter().any(|edge| *edge.owner.to_blob() == **owner));
                if !is_owner || facets.is_some_and(|facets| facets.hidden != *labelled) {
                    let owner = Uid::from_blob(owner);
                    let owner = owner.map_or_else(|| "an unreadable UID".to_owned(), |uid| uid.to_string());
                    report(wrong(key, &format!("the table of owners has {owner}, which the object has not")));
                }
            }
            Ok(())
        })
    }
}

fn wrong(key: &[u8], what: &str) -> Damage {
    stale(format!("key {}: {what}", shown(key)))
}

/// The rows that an object has in the table of owners.
fn edges<'a>(key: &'a [u8], facets: &'a Facets) -> impl Iterator<Item = EdgeRow<'a>> {
    facets.node.iter().flat_map(move |node| {
        let (labelled, waits) = (facets.hidden, node.deletion.waits());
        node.owners.iter().map(move |edge| EdgeRow { owner: &edge.owner, labelled, key, block: edge.block, waits })
    })
}

fn each_edge(audit: &mut dyn Audit, limit: usize, look: &mut Look<'_, StoredEdge>) -> Result<()> {
    let mut after = StoredEdge::default();
    loop {
        let page = audit.edges_after(&after, limit)?;
        let Some(last) = page.last() else { return Ok(()) };
        after.clone_from(last);
        look(audit, page)?;
    }
}
