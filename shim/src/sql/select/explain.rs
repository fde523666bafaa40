//! Shows how a range with a selector is read. Beside a server as well: it takes no lock and writes nothing.

use super::Wish;
use super::directories::{self, is_within};
use super::plan::{Candidate, Estimate, Plan, Unanswered, plan};
use crate::engine::metrics::ReadSource;
use crate::engine::{RangeQuery, Revision};
use crate::sql::explain::{self, Explanation};
use crate::sql::failure::Result;
use crate::sql::index::names::foreign_of;
use crate::sql::session::{IndexState, Odd, Probe, Reading, Source};

/// Plans a read, does it, and says how.
pub(in crate::sql) fn explain(session: &mut dyn Reading, query: &RangeQuery) -> Result<Explanation> {
    let Some(selection) = &query.selection else { return Ok(Explanation::default()) };
    session.snapshot()?;
    let plan = plan(session, &query.range, selection, true)?;
    let wanted = if query.limit == 0 { usize::MAX } else { query.limit };
    let found = Wish { query, until: Revision::MAX, wanted }.planned(session, &plan)?;
    let candidates = plan.candidates.iter().enumerate().map(|(at, candidate)| explain::Candidate {
        source: source(candidate, &plan),
        keys: keys(candidate.estimate),
        probe: plan.probes.contains(&at),
    });
    let explanation = Explanation {
        candidates: candidates.collect(),
        unanswered: plan.unanswered.iter().map(|(wanted, why)| (wanted.to_string(), reason(*why))).collect(),
        indexes: indexes(session, query)?,
        odd: (
            directories::count(session, &query.range, Odd::Opaque)?,
            directories::count(session, &query.range, Odd::Misplaced)?,
        ),
        nothing: plan.nothing,
        rows: (found.rows(), found.kvs.len()),
    };
    session.end();
    Ok(explanation)
}

fn source(candidate: &Candidate<'_>, plan: &Plan<'_>) -> String {
    let wanted = candidate.wanted.map(|wanted| wanted.to_string()).unwrap_or_default();
    let lists = match &candidate.source {
        Source::Postings(postings) if postings.len() != 1 => format!(", {} lists", postings.len()),
        _ => String::new(),
    };
    match candidate.kind {
        ReadSource::Scan | ReadSource::Nothing => {
            format!("all keys from {}", plan.range.start.escape_ascii())
        }
        ReadSource::Visible => format!("objects without the skip label ({wanted})"),
        ReadSource::Label => format!("index of labels ({wanted}{lists})"),
        ReadSource::Field => format!("index of fields ({wanted}{lists})"),
        ReadSource::Names => format!("keys of that name ({wanted})"),
    }
}

fn keys(estimate: Estimate) -> String {
    match estimate {
        Estimate::Unknown => "not counted".to_owned(),
        Estimate::Exactly(keys) => keys.to_string(),
        Estimate::AtLeast(keys) => format!("{keys} or more"),
    }
}

fn reason(why: Unanswered) -> String {
    match why {
        Unanswered::Opaque(objects) => {
            format!("{objects} objects of the range can't be read, so the index can't be used")
        }
        Unanswered::Misplaced(objects) => {
            format!("{objects} objects of the range have another name than their key, so the key can't be used")
        }
        Unanswered::Negative => "no index lists what lacks something".to_owned(),
        Unanswered::Values => "too many values to put their keys in order".to_owned(),
        Unanswered::NoIndex => "the field has no index in that version".to_owned(),
        Unanswered::Building(done, of) => format!("the index is being built, {done} of {of} objects are done"),
    }
}

/// The field indexes whose prefix holds the range, or part of it.
fn indexes(probe: &mut dyn Probe, query: &RangeQuery) -> Result<Vec<(String, String)>> {
    let touches = |prefix: &[u8]| is_within(&query.range, prefix) || query.range.contains(prefix);
    let mut indexes = Vec::new();
    for stored in probe.indexes()?.iter().filter(|stored| touches(&stored.index.prefix)) {
        let state = match stored.state {
            IndexState::Ready => {
                let foreign = probe.entries_count(foreign_of(stored.index.id))?;
                format!("ready, {foreign} foreign objects")
            }
            IndexState::Building => {
                let of = probe.live(&stored.index.prefix)?;
                format!("being built, {} of {of} objects", stored.objects)
            }
            IndexState::Dropping => "being removed".to_owned(),
        };
        indexes.push((format!("{} in {}", stored.index.field, stored.index.api_version), state));
    }
    Ok(indexes)
}
