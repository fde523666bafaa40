//! How the tables that hold keys are divided, and what was asked for.

use crate::endpoint::Layout;
use crate::engine::Error;
use crate::sql::failure::{Failure, Result};

/// The tables that hold keys: those whose primary key has the key in it, and whose rows are found by it.
pub(super) const DIVIDED: [&str; 3] = ["current", "history", "attribute"];

/// How each of these tables is divided.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Stored(pub(super) [Layout; 3]);

impl Stored {
    /// How all of them are, if that is the same.
    pub(super) fn one(&self) -> Option<&Layout> {
        let first = &self.0[0];
        self.0.iter().all(|layout| layout == first).then_some(first)
    }

    /// Whether any of them is.
    pub(super) fn is_divided(&self) -> bool {
        self.0.iter().any(|layout| *layout != Layout::Whole)
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        if let Some(one) = self.one() {
            return one.to_string();
        }
        let each: Vec<String> =
            DIVIDED.iter().zip(&self.0).map(|(table, layout)| format!("{table}: {layout}")).collect();
        format!("partitioned in several ways ({})", each.join("; "))
    }

    /// Refuses what is not as it was asked for.
    pub(super) fn fits(&self, wanted: Option<&Layout>) -> Result<()> {
        let stored = self.text();
        match (wanted, self.one()) {
            (Some(wanted), Some(one)) if wanted == one => {}
            (Some(wanted), _) => {
                let flags = wanted.flags();
                return Err(Failure::Final(Error::Broken(format!(
                    "the store is {stored}; the flags want {flags}; change the flags, or convert the store while it is \
                     not served: sluice-shim partition {flags}"
                ))));
            }
            (None, None) => tracing::warn!(
                "the store is {stored}: its conversion was cut off; all works, but end it with sluice-shim partition"
            ),
            (None, Some(_)) => {}
        }
        if wanted.is_some() || self.one() != Some(&Layout::Whole) {
            tracing::info!("the store is {stored}");
        }
        Ok(())
    }
}

/// A bound, as statements have it.
pub(super) fn hex(bound: &[u8]) -> String {
    bound.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What became of a store whose tables were divided anew.
#[derive(Debug, Clone, Default)]
pub struct Divided {
    pub(super) before: Stored,
    pub(super) after: Stored,
    /// Of each table, counted afterwards as before.
    pub(super) rows: [i64; DIVIDED.len()],
}

/// For people.
impl std::fmt::Display for Divided {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { before, after, rows: [current, history, attribute] } = self;
        if before == after {
            writeln!(f, "the store is {} already", after.text())?;
        } else {
            writeln!(f, "the store was {}", before.text())?;
            writeln!(f, "it is {} now", after.text())?;
        }
        write!(f, "keys: {current}, superseded values: {history}, entries of the index: {attribute}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_as_the_flags_say_or_they_say_nothing() {
        let [whole, eight] = [Layout::Whole, Layout::Hashed(8)];
        let stored = |layout: &Layout| Stored([layout.clone(), layout.clone(), layout.clone()]);
        stored(&whole).fits(None).unwrap();
        stored(&eight).fits(None).unwrap();
        stored(&eight).fits(Some(&eight)).unwrap();
        let refused = format!("{:?}", stored(&whole).fits(Some(&eight)).unwrap_err());
        for says in ["the store is not partitioned; ", "sluice-shim partition --partition-by key --partitions 8"] {
            assert!(refused.contains(says), "{refused}");
        }
        let mixed = Stored([eight.clone(), whole.clone(), whole]);
        assert_eq!(
            mixed.text(),
            "partitioned in several ways (current: partitioned by key into 8; history: not partitioned; attribute: not \
             partitioned)"
        );
        mixed.fits(None).unwrap();
        mixed.fits(Some(&eight)).unwrap_err();
    }
}
