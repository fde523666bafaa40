//! What ties a part of a store to the rest.

use std::collections::HashSet;

use anyhow::Result;
use bytes::Bytes;

use super::compare::Live;
use super::part::Ranges;
use crate::engine::catalog::{Catalog, declaration};
use crate::engine::facets;
use crate::engine::store::Source;
use crate::gc::Uid;

/// Objects of some kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// How many.
    pub count: u64,
    /// The key of the first of them.
    pub first: Bytes,
}

impl Found {
    fn add(&mut self, key: &Bytes) {
        if self.count == 0 {
            self.first = key.clone();
        }
        self.count += 1;
    }
}

/// What is in the way when a part of a store goes to a database of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bonds {
    /// How many live keys the part has.
    pub keys: u64,
    /// Definitions in the part. All definitions stay in the main database.
    pub definitions: Found,
    /// Keys of the part with a lease, which counts on in the source alone.
    pub leased: Found,
    /// Labelled objects of the part with an owner among the rest.
    pub to_rest: Found,
    /// Labelled objects of the rest with an owner in the part.
    pub to_part: Found,
}

/// A labelled object's reference to an owner that may be on the other side.
struct Reference {
    key: Bytes,
    owner: Uid,
    in_part: bool,
}

impl Bonds {
    /// Reads all live keys of a store.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn of(source: &mut dyn Source, ranges: &Ranges) -> Result<Self> {
        let (revision, _) = source.begin()?;
        let found = Self::at(&mut Live::new(source, revision), ranges);
        source.end();
        found
    }

    fn at(live: &mut Live<'_>, ranges: &Ranges) -> Result<Self> {
        let (mut bonds, catalog) = (Self::default(), Catalog::default());
        let (mut part, mut rest, mut references) = (HashSet::new(), HashSet::new(), Vec::new());
        while let Some(kv) = live.next()? {
            let in_part = ranges.contains(&kv.key);
            if in_part {
                bonds.keys += 1;
                if declaration(&kv.key, None).is_some() {
                    bonds.definitions.add(&kv.key);
                }
                if kv.lease != 0 {
                    bonds.leased.add(&kv.key);
                }
            }
            let facets = facets(&catalog, &kv.key, &kv.value);
            let Some(node) = facets.node else { continue };
            let own = if in_part { &mut part } else { &mut rest };
            own.insert(node.uid);
            // Most owners come before their dependents.
            let others = node.owners.into_iter().filter(|edge| facets.hidden && !own.contains(&edge.owner));
            references.extend(others.map(|edge| Reference { key: kv.key.clone(), owner: edge.owner, in_part }));
        }
        for Reference { key, owner, in_part } in references {
            match in_part {
                true if rest.contains(&owner) => bonds.to_rest.add(&key),
                false if part.contains(&owner) => bonds.to_part.add(&key),
                _ => {}
            }
        }
        Ok(bonds)
    }

    /// Why the part is not to leave, a line for each reason. `accepts_uncollected`: also if labelled objects and their
    /// owners would then be in two databases.
    pub fn refusals(&self, accepts_uncollected: bool) -> Vec<String> {
        let owners = [
            (
                &self.to_rest,
                "of these labelled objects have an owner that would stay behind: nobody would collect them",
            ),
            (&self.to_part, "labelled objects would stay behind without their owner: nobody would collect them"),
        ];
        let always = [
            (&self.definitions, "of these keys are definitions, which belong into the main database"),
            (&self.leased, "of these keys have a lease, which goes on in the main database alone"),
        ];
        let reasons = always.into_iter().chain(owners.into_iter().filter(|_| !accepts_uncollected));
        let found = reasons.filter(|(found, _)| found.count > 0);
        found
            .map(|(Found { count, first }, why)| format!("{count} {why}; the first: {}", first.escape_ascii()))
            .collect()
    }
}
