//! Reads of a range with a selector, the way that they are planned.

pub(in crate::sql) mod directories;
mod explain;
mod found;
mod plan;

pub(in crate::sql) use explain::explain;
pub(in crate::sql) use found::Found;
use plan::{Plan, plan};

use super::failure::Result;
use super::session::{Find, Postings, Read, Reading, Source};
use crate::engine::metrics::{Metrics, ReadSource};
use crate::engine::{KeyRange, Projection, RangeQuery, Revision};

/// What is read, and how much of it.
#[derive(Debug, Clone, Copy)]
pub(in crate::sql) struct Wish<'q> {
    pub(in crate::sql) query: &'q RangeQuery,
    /// Keys that changed after this revision are left out.
    pub(in crate::sql) until: Revision,
    /// How many keys to find at most.
    pub(in crate::sql) wanted: usize,
}

/// The live keys of a query's range, in order.
pub(in crate::sql) fn current<'q>(session: &mut dyn Reading, wish: &Wish<'q>, metrics: &Metrics) -> Result<Found<'q>> {
    let found = match &wish.query.selection {
        None => wish.read(session, &wish.query.range, &Source::Scan, &[])?,
        Some(selection) => {
            let plan = plan(session, &wish.query.range, selection, false)?;
            let kind = if plan.nothing { ReadSource::Nothing } else { plan.kind() };
            metrics.reads(kind).inc();
            if kind != ReadSource::Scan {
                metrics.index_reads.inc();
            }
            wish.planned(session, &plan)?
        }
    };
    metrics.rows_read.inc_by(found.rows());
    Ok(found)
}

impl<'q> Wish<'q> {
    fn planned(&self, session: &mut dyn Read, plan: &Plan<'_>) -> Result<Found<'q>> {
        if plan.nothing {
            return Ok(Found::new(self.query, self.wanted));
        }
        let source = plan.candidates.first().map_or(&Source::Scan, |candidate| &candidate.source);
        let probes: Vec<&[Postings]> = plan.probes().collect();
        self.read(session, &plan.range, source, &probes)
    }

    fn read(
        &self,
        session: &mut dyn Read,
        range: &KeyRange,
        source: &Source,
        probes: &[&[Postings]],
    ) -> Result<Found<'q>> {
        // A value that nobody looks at need not be read from its pages.
        let values = self.query.projection == Projection::Full || self.query.selection.is_some();
        let find = Find { range, source, probes, until: self.until, values, wanted: self.wanted };
        let mut found = Found::new(self.query, self.wanted);
        session.find(&find, &mut |row| found.take(row))?;
        Ok(found)
    }
}
