//! Plans a range with a selector onto the index.
//!
//! Every requirement that an index knows gives a candidate: keys, in order, among which all that may match are. The
//! candidate with the fewest keys is taken, and the others are asked for each of its keys before the value is fetched.
//! What no index knows is decided on the value.
//!
//! The index of labels may only be used when it knows every object of the range: an object whose value could not be
//! read has no entry in it, and must be returned whatever the selector says. The directories count those objects. The
//! index of a field knows all objects by itself.

use std::fmt;

use bytes::Bytes;

use super::directories::{self, end_of, is_within};
use crate::contract::SKIP_METADATA_CACHING_LABEL;
use crate::engine::metrics::ReadSource;
use crate::engine::{KeyRange, RangeEnd};
use crate::selector::{FieldRequirement, Operator, Requirement, Selection};
use crate::sql::failure::Result;
use crate::sql::index::names::{foreign_of, values_of};
use crate::sql::session::{Field, IndexState, Odd, Postings, Probe, Source, StoredIndex};

/// Up to how many keys of the candidates are counted to compare them, in rounds: a candidate with few keys is known
/// after the first.
const ROUNDS: [i64; 3] = [64, 1024, 16384];
/// How many values of a name are told apart, so that their keys come in order.
const VALUES: usize = 64;
/// How many entries of a name with more values are collected and sorted at most.
const COLLECTED: usize = 8192;
/// How many directories are looked into for a name.
const DIRECTORIES: usize = 100_000;
/// How many posting lists a key is looked up in before its value is fetched.
const PROBED: usize = 8;

/// A requirement of a selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted<'a> {
    Label(&'a Requirement),
    Field(&'a FieldRequirement),
}

impl fmt::Display for Wanted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Label(requirement) => requirement.fmt(f),
            Self::Field(requirement) => requirement.fmt(f),
        }
    }
}

/// How many keys a candidate has in the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Estimate {
    /// Nobody counted.
    Unknown,
    Exactly(i64),
    AtLeast(i64),
}

/// A way to find the keys that may match.
#[derive(Debug)]
pub(super) struct Candidate<'a> {
    /// The requirement it answers; none for a scan.
    pub(super) wanted: Option<Wanted<'a>>,
    pub(super) kind: ReadSource,
    pub(super) source: Source,
    pub(super) estimate: Estimate,
}

impl Candidate<'_> {
    /// Whether a key that is not among its keys can't match, and that is told without reading the value.
    fn is_probe(&self) -> bool {
        matches!(&self.source, Source::Postings(postings) if postings.len() <= PROBED)
    }
}

/// Why no index answers a requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// The range holds objects that can't be read, as many as that.
    Opaque(i64),
    /// The range holds objects that have another name than their key, as many as that.
    Misplaced(i64),
    /// An index would have to list what lacks something.
    Negative,
    /// The label or field has too many values.
    Values,
    /// There is no index of the field in the version that is asked for.
    NoIndex,
    /// The index of the field is being built: that many objects of how many are done.
    Building(i64, i64),
}

/// How a range is read.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// The part of the range that is left to read.
    pub(super) range: KeyRange,
    /// The way to be gone is the first.
    pub(super) candidates: Vec<Candidate<'a>>,
    /// How many of those after the first are asked about each key of the first.
    pub(super) probes: Vec<usize>,
    pub(super) unanswered: Vec<(Wanted<'a>, Unanswered)>,
    /// Whether nothing in the range can match.
    pub(super) nothing: bool,
}

impl Plan<'_> {
    /// What the keys are found with.
    pub(super) fn kind(&self) -> ReadSource {
        self.candidates.first().map_or(ReadSource::Scan, |candidate| candidate.kind)
    }

    /// The posting lists that a key must be in one of, for each probe.
    pub(super) fn probes(&self) -> impl Iterator<Item = &[Postings]> {
        let candidates = self.probes.iter().filter_map(|at| self.candidates.get(*at));
        candidates.filter_map(|candidate| match &candidate.source {
            Source::Postings(postings) => Some(&postings[..]),
            _ => None,
        })
    }
}

/// Plans a read. `thorough`: count all candidates, even if there is no choice, for people to see.
pub(super) fn plan<'a>(
    probe: &mut dyn Probe,
    range: &KeyRange,
    selection: &'a Selection,
    thorough: bool,
) -> Result<Plan<'a>> {
    let mut planner = Planner::new(probe, range)?;
    let wanted = selection.field_requirements().iter().map(Wanted::Field);
    for wanted in wanted.chain(selection.label_requirements().iter().map(Wanted::Label)) {
        match wanted {
            Wanted::Field(requirement) => planner.field(requirement, selection.group_version())?,
            Wanted::Label(requirement) => planner.label(requirement)?,
        }
    }
    planner.decide(thorough)
}

struct Planner<'p, 'a> {
    probe: &'p mut dyn Probe,
    opaque: i64,
    plan: Plan<'a>,
}

impl<'p, 'a> Planner<'p, 'a> {
    fn new(probe: &'p mut dyn Probe, range: &KeyRange) -> Result<Self> {
        let opaque = directories::count(probe, range, Odd::Opaque)?;
        let plan = Plan {
            range: range.clone(),
            candidates: Vec::new(),
            probes: Vec::new(),
            unanswered: Vec::new(),
            nothing: false,
        };
        Ok(Self { probe, opaque, plan })
    }

    fn add(&mut self, wanted: Wanted<'a>, kind: ReadSource, source: Source) {
        // No index has an entry: no object can match.
        self.plan.nothing |= match &source {
            Source::Postings(postings) => postings.is_empty(),
            Source::Keys(keys) => keys.is_empty(),
            Source::Scan | Source::Visible => false,
        };
        self.plan.candidates.push(Candidate { wanted: Some(wanted), kind, source, estimate: Estimate::Unknown });
    }

    fn not(&mut self, wanted: Wanted<'a>, why: Unanswered) {
        self.plan.unanswered.push((wanted, why));
    }

    fn label(&mut self, requirement: &'a Requirement) -> Result<()> {
        let wanted = Wanted::Label(requirement);
        let skips = requirement.operator == Operator::DoesNotExist && requirement.key == SKIP_METADATA_CACHING_LABEL;
        let negative = matches!(requirement.operator, Operator::NotIn(_) | Operator::DoesNotExist) && !skips;
        if negative {
            self.not(wanted, Unanswered::Negative);
            return Ok(());
        }
        if self.opaque > 0 {
            self.not(wanted, Unanswered::Opaque(self.opaque));
            return Ok(());
        }
        if skips {
            let source = if self.probe.tells_visible()? { Source::Visible } else { Source::Scan };
            self.add(wanted, ReadSource::Visible, source);
            return Ok(());
        }
        let Some(name) = self.probe.label(&requirement.key)? else {
            self.add(wanted, ReadSource::Label, Source::Postings(Vec::new()));
            return Ok(());
        };
        let postings = |value: &str| Postings { name, value: value.into() };
        if let Operator::In(values) = &requirement.operator {
            let postings = values.iter().map(|value| postings(value)).collect();
            self.add(wanted, ReadSource::Label, Source::Postings(postings));
            return Ok(());
        }
        let allows = |value: &str| requirement.operator.allows(Some(value));
        if let Some(values) = self.probe.values(name, VALUES)? {
            let postings = values.iter().filter(|value| allows(value)).map(|value| postings(value)).collect();
            self.add(wanted, ReadSource::Label, Source::Postings(postings));
        } else if let Some(keys) = self.collect(name, allows)? {
            self.add(wanted, ReadSource::Label, Source::Keys(keys));
        } else {
            self.not(wanted, Unanswered::Values);
        }
        Ok(())
    }

    fn field(&mut self, requirement: &'a FieldRequirement, api_version: Option<&str>) -> Result<()> {
        match &*requirement.field {
            "metadata.name" | "metadata.namespace" => self.place(requirement),
            _ => self.value(requirement, api_version),
        }
    }

    /// A requirement on a field that custom resources choose.
    fn value(&mut self, requirement: &'a FieldRequirement, api_version: Option<&str>) -> Result<()> {
        let wanted = Wanted::Field(requirement);
        let field = Field { api_version: api_version.unwrap_or_default(), field: &requirement.field };
        let id = match self.probe.index(&prefixes(&self.plan.range), field)? {
            None => {
                self.not(wanted, Unanswered::NoIndex);
                return Ok(());
            }
            Some(StoredIndex { index, state: IndexState::Ready, .. }) => index.id,
            Some(StoredIndex { index, objects, .. }) => {
                let of = self.probe.live(&index.prefix)?;
                self.not(wanted, Unanswered::Building(objects, of));
                return Ok(());
            }
        };
        let postings = |value: &str| Postings { name: values_of(id), value: value.into() };
        let mut lists = if requirement.negated {
            let Some(values) = self.probe.values(values_of(id), VALUES)? else {
                self.not(wanted, Unanswered::Values);
                return Ok(());
            };
            values.iter().filter(|value| **value != requirement.value).map(|value| postings(value)).collect()
        } else {
            vec![postings(&requirement.value)]
        };
        lists.push(Postings { name: foreign_of(id), value: "".into() });
        self.add(wanted, ReadSource::Field, Source::Postings(lists));
        Ok(())
    }

    /// A requirement on what the key says: the last of its segments is the name, the one before it the namespace.
    fn place(&mut self, requirement: &'a FieldRequirement) -> Result<()> {
        let wanted = Wanted::Field(requirement);
        if requirement.negated {
            self.not(wanted, Unanswered::Negative);
            return Ok(());
        }
        let misplaced = directories::count(self.probe, &self.plan.range, Odd::Misplaced)?;
        if self.opaque > 0 || misplaced > 0 {
            let why = if self.opaque > 0 { Unanswered::Opaque(self.opaque) } else { Unanswered::Misplaced(misplaced) };
            self.not(wanted, why);
            return Ok(());
        }
        let paths = directories::paths(self.probe, &self.plan.range, DIRECTORIES + 1)?;
        if paths.len() > DIRECTORIES {
            self.not(wanted, Unanswered::Values);
            return Ok(());
        }
        let value = requirement.value.as_bytes();
        if requirement.field == "metadata.name" {
            let keys = paths.iter().map(|path| [path, value].concat());
            let mut keys: Vec<_> = keys.filter(|key| self.plan.range.contains(key)).collect();
            keys.sort_unstable();
            keys.dedup();
            self.add(wanted, ReadSource::Names, Source::Keys(keys));
        } else if !value.is_empty() {
            let segment = [b"/", value, b"/"].concat();
            let mut of_namespace = paths.iter().filter(|path| path.ends_with(&segment));
            match (of_namespace.next(), of_namespace.next()) {
                (None, _) => self.plan.nothing = true,
                (Some(path), None) => self.plan.range = part(&self.plan.range, path),
                // One prefix holds several resources with such a namespace.
                (Some(_), Some(_)) => self.not(wanted, Unanswered::Values),
            }
        } else {
            self.not(wanted, Unanswered::Negative);
        }
        Ok(())
    }

    /// Puts the candidate with the fewest keys first.
    fn decide(mut self, thorough: bool) -> Result<Plan<'a>> {
        let choices = self.plan.candidates.len();
        // A scan reads each value that it passes; only its own keys are better than few of an index.
        let scan =
            Candidate { wanted: None, kind: ReadSource::Scan, source: Source::Scan, estimate: Estimate::Unknown };
        self.plan.candidates.push(scan);
        if !thorough && (choices == 0 || self.plan.nothing) {
            self.plan.candidates.swap(0, choices);
            return Ok(self.plan);
        }
        if choices == 1 && !thorough {
            return Ok(self.plan);
        }
        let mut smallest = None;
        for limit in ROUNDS {
            self.count(limit)?;
            smallest = smallest.or(self.smallest());
            if smallest.is_some() && !thorough {
                break;
            }
        }
        let first = smallest.unwrap_or(0);
        let chosen = self.plan.candidates.remove(first);
        let small = matches!(chosen.estimate, Estimate::Exactly(keys) if keys < ROUNDS[0]);
        self.plan.candidates.insert(0, chosen);
        if !small && matches!(self.plan.candidates[0].source, Source::Postings(_) | Source::Keys(_)) {
            let probes = self.plan.candidates.iter().enumerate().skip(1).filter(|(_, candidate)| candidate.is_probe());
            self.plan.probes = probes.map(|(at, _)| at).collect();
        }
        Ok(self.plan)
    }

    /// Counts the candidates that are not yet counted to their end, up to a limit.
    fn count(&mut self, limit: i64) -> Result<()> {
        let is_open = |candidate: &Candidate<'_>| !matches!(candidate.estimate, Estimate::Exactly(_));
        let open = self.plan.candidates.iter().filter(|candidate| is_open(candidate));
        let sources: Vec<_> = open.map(|candidate| (&candidate.source, limit)).collect();
        let counted = self.probe.counts(&self.plan.range, &sources)?;
        let open = self.plan.candidates.iter_mut().filter(|candidate| is_open(candidate));
        for (candidate, counted) in open.zip(counted) {
            candidate.estimate = if counted < limit { Estimate::Exactly(counted) } else { Estimate::AtLeast(counted) };
        }
        Ok(())
    }

    /// The keys of a name in the range with the values that are allowed, in order, if the name has not too many
    /// entries.
    fn collect(&mut self, name: i64, allows: impl Fn(&str) -> bool) -> Result<Option<Vec<Vec<u8>>>> {
        let (range, mut keys) = (&self.plan.range, Vec::new());
        let all = self.probe.entries(name, COLLECTED, &mut |value, key| {
            if range.contains(key) && allows(value) {
                keys.push(key.to_vec());
            }
        })?;
        keys.sort_unstable();
        Ok(all.then_some(keys))
    }

    /// The candidate with the fewest keys, of those that are counted to their end; of equal ones the first.
    fn smallest(&self) -> Option<usize> {
        let counted = self.plan.candidates.iter().enumerate().filter_map(|(at, candidate)| match candidate.estimate {
            Estimate::Exactly(keys) => Some((keys, at)),
            Estimate::Unknown | Estimate::AtLeast(_) => None,
        });
        counted.min().map(|(_, at)| at)
    }
}

/// The paths that hold the whole range, the longest first.
fn prefixes(range: &KeyRange) -> Vec<&[u8]> {
    let slashes = range.start.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/');
    slashes.map(|(at, _)| &range.start[..=at]).take_while(|prefix| is_within(range, prefix)).collect()
}

/// The part of a range that lies in a directory.
fn part(range: &KeyRange, directory: &[u8]) -> KeyRange {
    if range.end == RangeEnd::Single || is_within(range, directory) {
        return range.clone();
    }
    let (start, end) = range.bounds();
    let last = Bytes::from(end_of(directory));
    let end = end.map_or_else(|| last.clone(), |end| end.min(last.clone()));
    KeyRange { start: start.max(Bytes::copy_from_slice(directory)), end: RangeEnd::Before(end) }
}
