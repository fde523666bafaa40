//! The numbers of labels' names in the index.

use std::collections::HashMap;

use super::failure::{Failure, Result};
use super::session::Commit;
use crate::engine::Error;

/// How many names are remembered. Kubernetes has thousands; a client may use a new one for each object.
pub(super) const MOST: usize = 16_384;

/// Forgets all names when there are too many: those that are in use are soon known again. Not within a transaction that
/// gives out numbers.
pub(super) fn bound(names: &mut HashMap<Box<str>, i64>) {
    if names.len() > MOST {
        names.clear();
    }
}

/// The numbers that are known. A number never changes, so it is asked for once.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    known: HashMap<Box<str>, i64>,
    /// Names whose numbers the transaction under way may have given out.
    added: Vec<Box<str>>,
}

impl Numbers {
    /// The numbers of names, in their order.
    pub(super) fn of<'a>(
        &mut self,
        session: &mut dyn Commit,
        names: impl Iterator<Item = &'a str> + Clone,
    ) -> Result<Vec<i64>> {
        let mut unknown: Vec<&str> = names.clone().filter(|name| !self.known.contains_key(*name)).collect();
        if !unknown.is_empty() {
            unknown.sort_unstable();
            unknown.dedup();
            let numbers = session.labels(&unknown)?;
            for (name, number) in unknown.into_iter().zip(numbers) {
                self.known.insert(name.into(), number);
                self.added.push(name.into());
            }
        }
        let unnumbered = |name: &str| Failure::Final(Error::Broken(format!("the label name {name:?} got no number")));
        names.map(|name| self.known.get(name).copied().ok_or_else(|| unnumbered(name))).collect()
    }

    /// Keeps what the transaction gave out, which was committed.
    pub(super) fn keep(&mut self) {
        self.added.clear();
        bound(&mut self.known);
    }

    /// Forgets what the transaction gave out, of which nothing is left.
    pub(super) fn forget(&mut self) {
        for name in self.added.drain(..) {
            self.known.remove(&name);
        }
        bound(&mut self.known);
    }

    /// How many are known.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}
